"""How large figures are: the width that was asked for, marks and maps that grow along, what stands in the file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from render.drawn import centre_crop, plain, row, whole

from cnnviz_cli.core.figure_settings import NATURAL_SIZE, FigureSize, parse_figure_size
from cnnviz_cli.core.geometry import BoxAnnotation
from cnnviz_cli.core.panels import FeatureMapGrid, Heatmap, Panel, PixelMap, Projections
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.canvas import LIGHT, LONGEST, SHORTEST, canvas_at
from cnnviz_cli.render.compare import compose_comparison
from cnnviz_cli.render.figures import Scene, compose_figure, encode_figure, fit_width, fit_widths
from cnnviz_cli.render.layout import Raster, Text
from cnnviz_cli.render.overview import compose_overview
from cnnviz_cli.render.raster import encode, rasterize

RNG = np.random.default_rng(8)
SEEN = Image.fromarray(RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8))
MAPS = RNG.random((12, 7, 7)).astype(np.float32)
PANELS: dict[str, Panel] = {
    "heatmap": Heatmap(RNG.random((1, 7, 7)).astype(np.float32)),
    "pixels": PixelMap(RNG.random((1, 32, 32)).astype(np.float32)),
    "mosaic": FeatureMapGrid(MAPS, np.arange(12), np.ones(12, np.float32), MAPS[:1], total=12, ranked_by="mean"),
    "projections": Projections((row([(0, 0, 9, 9)] * 9),)),
}
CAPTION = Caption("way", "layer", "a class with a long name, or two", "39.0 %", "a model", "cats/chelsea.png")


@pytest.mark.parametrize(
    ("width", "dpi", "size"),
    [
        ("auto", 0, FigureSize(source=False)),
        ("source", 0, NATURAL_SIZE),
        ("1200", 0, FigureSize(1200, 1200, source=False)),
        ("4000", 0, FigureSize(4000, 1600, source=False)),
        ("200", 0, FigureSize(200, 480, source=False)),
        ("990", 300, FigureSize(990, 480, source=False, dpi=300)),  # 3.3 inches, 475 units
        ("3.3in", 300, FigureSize(990, 480, source=False, dpi=300)),
        ("8.5cm", 0, FigureSize(1004, 482, source=False, dpi=300)),  # 85 / 25.4 = 3.346 inches
        ("170mm", 600, FigureSize(4016, 964, source=False, dpi=600)),
    ],
)
def test_widths_by_hand(width: str, dpi: int, size: FigureSize) -> None:
    assert parse_figure_size(width, dpi) == size


@pytest.mark.parametrize("width", ["12", "99999", "0.1mm", "999cm"])
def test_widths_that_no_figure_has_are_refused(width: str) -> None:
    with pytest.raises(ValueError, match="a figure has 64 to 20,000"):
        parse_figure_size(width)


@pytest.mark.parametrize("kind", PANELS)
@pytest.mark.parametrize("width", ["auto", "300", "777", "1600", "2500", "3.3in"])
@pytest.mark.parametrize("shape", [(60, 40), (451, 300), (200, 900)])
def test_a_figure_has_the_width_that_was_asked_for(kind: str, width: str, shape: tuple[int, int]) -> None:
    style = Style(size=parse_figure_size(width))
    photo = plain(*shape)
    scene = Scene(photo, whole(*shape), SEEN, CAPTION, style)
    block, scale = fit_width(partial(compose_figure, PANELS[kind]), scene)
    picture = rasterize(block, scale)
    assert picture.width == (style.size.pixels or picture.width) <= max(1600, style.size.pixels or 0)
    for left, top, item in block.leaves():
        assert left >= 0
        assert left + item.width <= block.width
        assert top >= 0
        assert top + (0 if isinstance(item, Text) else item.height) <= block.height


@pytest.mark.parametrize(
    ("shape", "across", "drawn"),
    [
        ((451, 300), 1, (902, 600)),  # twice: 451 is below the least, 902 is not
        ((451, 300), 2, (451, 300)),
        ((500, 375), 1, (500, 375)),
        ((60, 40), 1, (480, 320)),  # eight times
        ((1200, 800), 1, (1200, 800)),
        ((3000, 1996), 1, (1556, 1035)),
        ((3000, 1996), 2, (772, 514)),
        ((1000, 3000), 1, (518, 1556)),
    ],
)
def test_automatic_sizes_by_hand(shape: tuple[int, int], across: int, drawn: tuple[int, int]) -> None:
    canvas = canvas_at(plain(*shape), whole(*shape), parse_figure_size("auto"), across, 1)
    assert canvas.image.size == drawn
    assert SHORTEST <= max(canvas.image.width * across, canvas.image.height) <= LONGEST


def test_small_photographs_show_their_pixels_and_larger_ones_are_smooth() -> None:
    tiny = Image.fromarray(RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    shown = np.asarray(canvas_at(tiny, whole(60, 40), parse_figure_size("auto"), 1, 1).image)
    assert (shown == np.asarray(tiny).repeat(8, 0).repeat(8, 1)).all()
    small = Image.fromarray(RNG.integers(0, 256, (200, 300, 3), dtype=np.uint8))
    shown = np.asarray(canvas_at(small, whole(300, 200), parse_figure_size("auto"), 1, 1).image, int)
    assert (shown[::2] != shown[1::2]).any()


@pytest.mark.parametrize("width", ["auto", "source", "640", "1111", "8cm"])
def test_the_map_lies_where_it_lies_in_the_photograph_at_every_width(width: str) -> None:
    photo, view = plain(1500, 1000, (0, 0, 0)), centre_crop(1500, 1000)
    values = np.zeros((1, 8, 8), np.float32)
    values[0, 2, 5] = 1  # one cell: its centre is 5.5 / 8 of the way across the input and 2.5 / 8 down
    style = Style(palette="grey", overlay="none", interpolation="nearest", size=parse_figure_size(width))
    block, scale = fit_width(partial(compose_figure, Heatmap(values)), Scene(photo, view, SEEN, CAPTION, style))
    pixels = np.asarray(rasterize(block, scale), int)
    left, top, item = [part for part in block.leaves() if isinstance(part[2], Raster) and part[2].width > 100][-1]
    area = pixels[
        round(top * scale) : round((top + item.height) * scale),
        round(left * scale) : round((left + item.width) * scale),
    ]
    left_edge, top_edge, right_edge, bottom_edge = view.box
    inner = (
        slice(round(area.shape[0] * (top_edge + 40) / 1000), round(area.shape[0] * (bottom_edge - 40) / 1000)),
        slice(round(area.shape[1] * (left_edge + 40) / 1500), round(area.shape[1] * (right_edge - 40) / 1500)),
    )
    rows, columns = np.nonzero(area[inner].min(2) > 250)
    down = (rows.mean() + 0.5 + inner[0].start) / area.shape[0] * 1000
    across = (columns.mean() + 0.5 + inner[1].start) / area.shape[1] * 1500
    assert across == pytest.approx(left_edge + 5.5 / 8 * (right_edge - left_edge), abs=2)
    assert down == pytest.approx(top_edge + 2.5 / 8 * (bottom_edge - top_edge), abs=2)


@pytest.mark.parametrize("width", ["auto", "500", "2000"])
def test_a_box_lies_where_it_lies_in_the_photograph_at_every_width(width: str) -> None:
    photo, view = plain(1500, 1000), whole(1500, 1000)
    caption = replace(CAPTION, mark=BoxAnnotation((0.2, 0.3, 0.6, 0.9)))
    style = Style(size=parse_figure_size(width))
    flat = Heatmap(np.zeros((1, 2, 2), np.float32))
    block, scale = fit_width(partial(compose_figure, flat), Scene(photo, view, SEEN, caption, style))
    pixels = np.asarray(rasterize(block, scale))
    left, top, item = next(part for part in block.leaves() if isinstance(part[2], Raster) and part[2].width > 100)
    area = pixels[round(top * scale) :, round(left * scale) :][
        : round(item.height * scale), : round(item.width * scale)
    ]
    light = (area == np.array([255, 255, 255])).all(2)
    assert LIGHT == "#ffffff"
    rows, columns = np.flatnonzero(light.any(1)), np.flatnonzero(light.any(0))
    line = 2 + item.width * scale / 300
    assert columns[0] == pytest.approx(0.2 * area.shape[1], abs=line)
    assert columns[-1] == pytest.approx(0.6 * area.shape[1], abs=line)
    assert rows[0] == pytest.approx(0.3 * area.shape[0], abs=line)
    assert rows[-1] == pytest.approx(0.9 * area.shape[0], abs=line)


@pytest.mark.parametrize("width", ["auto", "900", "8.5cm", "2400"])
def test_sheets_have_the_width_that_was_asked_for(width: str) -> None:
    photo, view = plain(300, 200), centre_crop(300, 200)
    entries = [
        (
            Heatmap(RNG.random((1, 7, 7)).astype(np.float32), layer=f"l{layer}", target=rank),
            Caption("a", f"l{layer}", f"c{rank}"),
        )
        for layer in range(3)
        for rank in range(7)
    ]
    style = Style(size=parse_figure_size(width))
    scene = Scene(photo, view, SEEN, Caption("compared", source="x"), style)
    sheets = list(fit_widths(partial(compose_comparison, entries), scene))
    assert sheets
    for block, scale in sheets:
        wide = rasterize(block, scale).width
        assert wide == (style.size.pixels or wide) <= max(1600, style.size.pixels or 0)
    block, scale = fit_width(partial(compose_overview, [], entries), scene)
    assert rasterize(block, scale).width == (style.size.pixels or 1680)


def test_text_is_as_wide_at_any_scale_as_it_was_laid_out() -> None:
    panel, photo = PANELS["heatmap"], plain(300, 300)
    block = compose_figure(panel, Scene(photo, whole(300, 300), SEEN, CAPTION, Style()))
    one, three = np.asarray(rasterize(block), int), np.asarray(rasterize(block, 3), int)
    text = next((left, base, item) for left, base, item in block.leaves() if isinstance(item, Text))
    left, base, item = text
    ink = [
        np.flatnonzero((picture[round((base - item.size) * scale) : round((base + 4) * scale)] < 200).any((0, 2)))
        for picture, scale in ((one, 1), (three, 3))
    ]
    assert ink[1][0] / 3 == pytest.approx(ink[0][0], abs=1)
    assert ink[1][-1] / 3 == pytest.approx(ink[0][-1], abs=1)
    assert ink[0][-1] == pytest.approx(left + item.width, abs=3)


FACTS = {"Software": "cnnviz 1", "Method": "m", "Target": "Schäferhund 猫", "Settings": "ab" * 32}


def test_a_png_says_what_it_is_and_how_large_in_print() -> None:
    image = plain(30, 20)
    data = encode(image, "png", FACTS, 300).data
    with Image.open(BytesIO(data)) as opened:
        assert {name: opened.info[name] for name in FACTS} == FACTS
        assert opened.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert (
            opened.tobytes() == image.quantize(2).convert(opened.mode).tobytes()
            or opened.convert("RGB").tobytes() == image.tobytes()
        )
    assert data == encode(image, "png", FACTS, 300).data
    assert b"iTXt" not in encode(image, "png").data


def test_jpeg_and_webp_say_what_they_are() -> None:
    image = plain(30, 20)
    with Image.open(BytesIO(encode(image, "jpeg", FACTS, 200).data)) as opened:
        assert "Target: Schäferhund 猫" in opened.info["comment"].decode()
        assert opened.info["dpi"] == (200, 200)
    with Image.open(BytesIO(encode(image, "webp", {**FACTS, "Layer": "<a&b>"}).data)) as opened:
        assert b"<f:Method>m</f:Method>" in opened.info["xmp"]
        assert b"<f:Layer>&lt;a&amp;b&gt;</f:Layer>" in opened.info["xmp"]


def test_the_size_that_is_recorded_is_the_files() -> None:
    block = compose_figure(PANELS["heatmap"], Scene(plain(90, 60), whole(90, 60), SEEN, CAPTION, Style()))
    made, size = encode_figure(block, "png", 1.7)
    with Image.open(BytesIO(made.data)) as opened:
        assert opened.size == size
