"""Figures as SVG and PDF: safe, the same each time, and nothing over anything else."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from render.drawn import centre_crop, plain, row

from cnnviz_cli.core.figure_settings import parse_figure_size
from cnnviz_cli.core.panels import FeatureMapGrid, Filters, Heatmap, InputProjection, Panel, PixelMap, Projections
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.figures import Scene, at_density, compose_figure, encode_figure
from cnnviz_cli.render.layout import Block, Raster, Text, text_width
from cnnviz_cli.render.raster import rasterize
from cnnviz_cli.render.scaling import color_table
from cnnviz_cli.render.svg import encode_svg, gradient_stops

RNG = np.random.default_rng(9)
SEEN = Image.fromarray(RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8))
MAPS = RNG.random((5, 7, 7)).astype(np.float32)
PANELS: dict[str, Panel] = {
    "heatmap": Heatmap(RNG.random((1, 7, 7)).astype(np.float32)),
    "pixels": PixelMap(RNG.random((1, 32, 32)).astype(np.float32)),
    "picture": InputProjection(RNG.normal(size=(3, 32, 32)).astype(np.float32)),
    "mosaic": FeatureMapGrid(MAPS, np.arange(5), np.ones(5, np.float32), MAPS[:1], total=5, ranked_by="mean"),
    "filters": Filters(RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)),
    "projections": Projections((row([(0, 0, 9, 9)] * 2),)),
}
HOSTILE = Caption(
    "<script>alert(1)</script>",
    "a&b]]>",
    "</text><image href='http://x/'/>",
    "1 %",
    'm" onload="x',
    "\x00\x1b[31m猫🐈.png",
)
NS = {"s": "http://www.w3.org/2000/svg"}
HREF = "{http://www.w3.org/1999/xlink}href"


def block_of(kind: str, style: Style | None = None) -> Block:
    return compose_figure(PANELS[kind], Scene(plain(120, 90), centre_crop(120, 90), SEEN, HOSTILE, style or Style()))


@pytest.mark.parametrize("kind", PANELS)
def test_an_svg_is_sound_safe_and_the_same_each_time(kind: str) -> None:
    data = encode_svg(block_of(kind), 1.5, {"Method": "<&>\x00\ud800"})
    assert data == encode_svg(block_of(kind), 1.5, {"Method": "<&>\x00\ud800"})
    tree = ElementTree.fromstring(data)
    allowed = {"svg", "desc", "defs", "linearGradient", "stop", "rect", "text", "image"}
    assert {element.tag.split("}")[1] for element in tree.iter()} <= allowed
    for element in tree.iter():
        for name, value in element.attrib.items():
            assert not name.lower().startswith("on")
            if name == HREF:
                assert value.startswith("data:image/png;base64,")
            elif "url(" in value:
                assert re.fullmatch(r"url\(#ramp\d+\)", value)
    assert not re.search(rb"http://(?!www\.w3\.org/)", re.sub(rb">[^<]*<", b"><", data))


@pytest.mark.parametrize("kind", PANELS)
def test_every_text_and_every_image_of_a_figure_is_in_its_svg(kind: str) -> None:
    block = block_of(kind)
    tree = ElementTree.fromstring(encode_svg(block))
    texts = [(left, base, item) for left, base, item in block.leaves() if isinstance(item, Text) and item.text.strip()]
    found = tree.findall("s:text", NS)
    assert [one.text for one in found] == [item.text for _, _, item in texts]
    for one, (left, base, item) in zip(found, texts, strict=True):
        assert float(one.attrib["x"]) == pytest.approx(left, abs=1e-3)
        assert int(one.attrib["y"]) == base
        assert float(one.attrib["textLength"]) == pytest.approx(text_width(item.text, item.size), abs=1e-3)
    rasters = [item for _, _, item in block.leaves() if isinstance(item, Raster)]
    images = tree.findall("s:image", NS)
    assert len(images) == len(rasters) > 0
    for one, item in zip(images, rasters, strict=True):
        assert (int(one.attrib["width"]), int(one.attrib["height"])) == (item.width, item.height)
        with Image.open(BytesIO(base64.b64decode(one.attrib[HREF].split(",")[1]))) as opened:
            small = opened.convert("RGB").resize(item.image.size, Image.Resampling.NEAREST)
        assert small.tobytes() == item.image.convert("RGB").tobytes()


def test_an_svg_has_a_size_in_print() -> None:
    style = Style(size=parse_figure_size("8.5cm"))
    block = block_of("heatmap", style)
    tree = ElementTree.fromstring(encode_svg(block, 1004 / block.width, dpi=300))
    assert tree.attrib["width"] == "3.347in"
    assert tree.attrib["viewBox"].split()[2] == "482"


@pytest.mark.parametrize("name", ["inferno", "viridis", "jet", "grey", "turbo", "blue-red"])
def test_a_gradient_gives_every_colour_of_its_palette(name: str) -> None:
    colours = color_table(name)
    places = gradient_stops(colours)
    assert places[0][0] == 0
    assert places[-1][0] == 1
    assert len(places) < 100
    exact = np.array([list(bytes.fromhex(colour[1:])) for _, colour in places], float)
    across = np.linspace(0, 1, len(colours))
    shown = np.stack([np.interp(across, [place for place, _ in places], exact[:, part]) for part in range(3)], 1)
    assert np.abs(shown - colours).max() <= 1.01


def test_images_are_finer_in_vector_files_as_far_as_the_photograph_has_pixels() -> None:
    panel, photo = PANELS["heatmap"], plain(3000, 2000)
    style = Style(size=parse_figure_size("auto"))
    scene = at_density(Scene(photo, centre_crop(3000, 2000), SEEN, HOSTILE, style), 2)
    one = compose_figure(panel, scene)
    (large,) = [item for _, _, item in one.leaves() if isinstance(item, Raster) and item.width > 100]
    assert large.image.width == round(large.width * 3000 / 1556)
    few = compose_figure(panel, replace(scene, image=plain(300, 200), view=centre_crop(300, 200)))
    (small,) = [item for _, _, item in few.leaves() if isinstance(item, Raster) and item.width > 100]
    assert small.image.width == small.width


@pytest.mark.parametrize("kind", PANELS)
def test_a_pdf_is_the_same_each_time_and_shows_the_figure(kind: str) -> None:
    pytest.importorskip("reportlab")
    block = block_of(kind)
    made, size = encode_figure(block, "pdf", facts={"Method": "m"})
    assert made.data == encode_figure(block, "pdf", facts={"Method": "m"})[0].data
    assert made.data.startswith(b"%PDF-")
    assert made.suffix == "pdf"
    assert size == rasterize(block).size
    (box,) = re.findall(rb"/MediaBox \[ 0 0 ([0-9.]+) ([0-9.]+) \]", made.data)
    assert [float(side) for side in box] == pytest.approx([block.width / 2, block.height / 2], abs=0.01)
    for word in (b"/JavaScript", b"/URI", b"/Launch", b"/OpenAction"):
        assert word not in made.data
