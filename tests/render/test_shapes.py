"""Lines, areas and dots: where they are said to be, smooth, and the same in every format."""

from __future__ import annotations

import base64
import re
import zlib
from contextlib import suppress
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cnnviz_cli.render.layout import Block, Dots, Drawing, Polygon, Polyline, Text, text_width
from cnnviz_cli.render.pdf import encode_pdf
from cnnviz_cli.render.raster import rasterize
from cnnviz_cli.render.svg import encode_svg

NS = {"s": "http://www.w3.org/2000/svg"}


def ink(item: Drawing, scale: float = 1.0, place: tuple[float, int] = (0, 0)) -> np.ndarray:
    """How dark the pixels of a block of 40 x 30 units are, 0 to 1, with one black item in it."""
    block = Block(40, 30)
    block.put(item, *place)
    return 1 - np.asarray(rasterize(block, scale).convert("L"), float) / 255


def centre(dark: np.ndarray) -> tuple[float, float]:
    down, across = np.indices(dark.shape) + 0.5
    return float((dark * across).sum() / dark.sum()), float((dark * down).sum() / dark.sum())


@pytest.mark.parametrize("scale", [1, 2, 3.7])
def test_a_dot_lies_where_it_is_put_and_is_as_large(scale: float) -> None:
    dark = ink(Dots(((10.25, 7.5),), 4, "#000000"), scale, place=(2, 3))
    assert centre(dark) == pytest.approx((12.25 * scale, 10.5 * scale), abs=0.06)
    assert dark.sum() == pytest.approx(np.pi * (4 * scale) ** 2, rel=0.03)
    assert ((dark > 0.02) & (dark < 0.98)).sum() > 8  # smooth


def test_an_outline_lies_within_its_dot() -> None:
    for fill in ("", "#ffffff"):
        dark = ink(Dots(((20, 15),), 8, fill, "#000000", 2))
        assert dark.sum() == pytest.approx(np.pi * (8**2 - 6**2), rel=0.03)
        assert dark[15, 20] == 0
        assert dark[:, :11].sum() == 0


@pytest.mark.parametrize("scale", [1, 2.5])
def test_a_line_is_as_wide_as_it_is_told_and_smooth(scale: float) -> None:
    dark = ink(Polyline(((5, 5), (35, 5), (35, 25)), "#000000", 2), scale)
    assert dark.sum() == pytest.approx((50 * 2 + np.pi - 0.9) * scale**2, rel=0.03)
    slanted = ink(Polyline(((5, 5), (35, 25)), "#000000", 1.5), scale)
    assert slanted.sum() == pytest.approx((np.hypot(30, 20) * 1.5 + np.pi * 0.75**2) * scale**2, rel=0.03)
    assert centre(slanted) == pytest.approx((20 * scale, 15 * scale), abs=0.05)


@pytest.mark.parametrize("scale", [1, 2.5])
def test_an_area_covers_what_lies_within_its_corners(scale: float) -> None:
    dark = ink(Polygon(((5, 5), (30, 5), (5, 25)), "#000000"), scale)
    assert dark.sum() == pytest.approx(0.5 * 25 * 20 * scale**2, rel=0.03)
    assert centre(dark) == pytest.approx(((5 + 25 / 3) * scale, (5 + 20 / 3) * scale), abs=0.3)


@pytest.mark.parametrize(
    "item",
    [
        Polyline(((-50, -50), (90, 90)), "#000000", 3),
        Polygon(((-50, 0), (90, 0), (90, 80)), "#000000"),
        Dots(((-9, -9), (40, 30), (300, 300)), 4, "#000000"),
        Polyline(((7, 7), (7, 7)), "#000000", 0.2),
    ],
)
def test_what_reaches_beyond_the_sheet_is_cut_off(item: Drawing) -> None:
    assert ink(item).shape == (30, 40)


def test_a_strong_text_is_darker_and_stands_where_it_stood() -> None:
    def sums(strong: bool, scale: float) -> np.ndarray:
        block = Block(80, 30)
        block.put(Text("0.48", 14, "#000000", text_width("0.48", 14), strong), 4, 20)
        return 1 - np.asarray(rasterize(block, scale).convert("L"), float) / 255

    for scale in (1, 2.5):
        thin, thick = sums(False, scale), sums(True, scale)
        assert 1.1 * thin.sum() < thick.sum() < 2 * thin.sum()
        assert np.abs(np.flatnonzero(thin.sum(0))[0] - np.flatnonzero(thick.sum(0))[0]) <= 1


def shapes() -> Block:
    block = Block(40, 30)
    inner = Block(20, 20)
    inner.put(Polygon(((0, 0), (8, 0), (0, 8.5)), "#dde5f0"), 1, 1)
    inner.put(Polyline(((0, 0), (8, 4.25), (12, 2)), "#1f5fa8", 1.25), 1, 1)
    inner.put(Dots(((2, 2), (9.5, 3)), 3, "#ffffff", "#a33b00", 1.5), 1, 1)
    block.put(inner, 10, 5)
    block.put(Text("a", 12, "#000000", text_width("a", 12), True), 3, 20)
    return block


def test_an_svg_has_every_shape_in_its_place() -> None:
    tree = ElementTree.fromstring(encode_svg(shapes()))
    (line,) = tree.findall("s:polyline", NS)
    assert line.attrib["points"] == "11,6 19,10.25 23,8"
    assert line.attrib["stroke-width"] == "1.25"
    (area,) = tree.findall("s:polygon", NS)
    assert area.attrib["points"] == "11,6 19,6 11,14.5"
    dots = tree.findall("s:circle", NS)
    assert [(dot.attrib["cx"], dot.attrib["cy"], dot.attrib["r"]) for dot in dots] == [
        ("13", "8", "2.25"),
        ("20.5", "9", "2.25"),
    ]
    assert [one.attrib.get("font-weight") for one in tree.findall("s:text", NS)] == ["bold"]


def test_a_pdf_has_every_shape_in_its_place() -> None:
    pytest.importorskip("reportlab")
    data = encode_pdf(shapes())
    assert data == encode_pdf(shapes())
    text = b"".join(_streams(data)).decode("latin-1").replace("\n", " ")
    assert "11 24 m 19 19.75 l 23 22 l S" in text  # a page counts up from the bottom: 30 - 6
    assert "11 24 m 19 24 l 11 15.5 l h" in text
    assert len(re.findall(r" c\b", text)) == 8  # two circles of four curves
    assert len(re.findall(r"\bTj\b", text)) == 2


def _streams(data: bytes) -> list[bytes]:
    found = []
    for part in re.findall(rb"stream\r?\n(.*?)endstream", data, re.S):
        with suppress(ValueError, zlib.error):
            found.append(zlib.decompress(base64.a85decode(b"<~" + part.strip(), adobe=True)))
    return found


def test_shapes_are_the_same_pixels_each_time() -> None:
    assert rasterize(shapes(), 2.1).tobytes() == rasterize(shapes(), 2.1).tobytes()
    assert isinstance(rasterize(shapes()), Image.Image)
