"""One image's sheet: what is left of it, with the marks of the curves, in any width."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from render.drawn import centre_crop
from render.evaluated import board
from render.laid import check_layout, dots, texts

from cnnviz_cli.core.evaluation import Curve, Leaderboard
from cnnviz_cli.core.figure_settings import parse_figure_size
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import Heatmap, SignedMap, SingleMap
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.axes import BLUE
from cnnviz_cli.render.charts import (
    AGAINST,
    CONTROLS,
    TINT,
    UPSIDE_DOWN,
    Plot,
    areas_between,
    describe_curves,
    draw_plot,
    turns_over,
)
from cnnviz_cli.render.charts import chart_axes as axes_for
from cnnviz_cli.render.figures import Scene, encode_figure, fit_width
from cnnviz_cli.render.judged import JudgedMap, Strip, compose_judged
from cnnviz_cli.render.layout import PAPER, Block, Polygon, Polyline, Raster
from cnnviz_cli.render.raster import rasterize
from cnnviz_cli.render.svg import encode_svg

RNG = np.random.default_rng(4)
PHOTO = Image.fromarray(RNG.integers(0, 256, (300, 451, 3), dtype=np.uint8))
SHARES = (0.1, 0.3, 0.5)
WIDTHS = ["8.5cm", "17cm", "auto", "source", "1280"]


def left_over(seed: int) -> tuple[Image.Image, ...]:
    """Three pictures, each of one colour of its own."""
    return tuple(Image.new("RGB", (224, 224), (40 * seed + 10, 60 * number + 20, 90)) for number in range(3))


def maps(count: int, one: Leaderboard) -> list[JudgedMap]:
    found = []
    for number, row in enumerate(one.rows[:count]):
        values = np.random.default_rng(number).normal(size=(1, 7, 7)).astype(np.float32)
        panel: SingleMap = SignedMap(values) if number % 2 else Heatmap(np.abs(values), np.abs(values).max())
        strips = tuple(
            Strip(name, f"{name} important removed first", left_over(order), SHARES, (0.4 - 0.3 * order, 0.3, 0.2))
            for order, name in enumerate(("least", "most"))
        )
        found.append(JudgedMap(panel, Caption(row.title, "features.8"), strips, row.curves))
    return found


def sheet(count: int, width: str, *, columns: int = 3) -> Block:
    one = replace(board(count, columns, images=1), agreement=None)
    scene = Scene(
        PHOTO,
        centre_crop(451, 300),
        PHOTO,
        Caption("evaluated", source="cats/chelsea.png"),
        Style(size=parse_figure_size(width)),
    )
    block, _ = fit_width(partial(compose_judged, maps(count, one), one), scene)
    return block


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("count", [1, 3])
def test_no_text_lies_over_another_and_nothing_is_cut_off(count: int, width: str) -> None:
    check_layout(sheet(count, width, columns=6 if count == 3 else 1))


@pytest.mark.parametrize("width", WIDTHS)
def test_where_nothing_was_removed_the_map_and_its_numbers_are_shown(width: str) -> None:
    one = replace(board(2, 2, images=1), agreement=None)
    bare = [replace(maps(1, one)[0], strips=(), curves={}), maps(2, one)[1]]
    scene = Scene(PHOTO, centre_crop(451, 300), PHOTO, Caption(""), Style(size=parse_figure_size(width)))
    for shown, numbers in (
        (bare, one),
        (bare[:1], replace(one, charts=(), rows=one.rows[:1])),
        (bare[:1], replace(one, rows=one.rows[:1])),
    ):
        block, _ = fit_width(partial(compose_judged, shown, numbers), scene)
        check_layout(block)
        assert sum(isinstance(item, Polygon) for _, _, item in block.leaves()) == len(shown) - 1


@pytest.mark.parametrize("width", ["8.5cm", "auto"])
@pytest.mark.parametrize("size", [(640, 120), (120, 640)])
def test_a_sliver_of_an_image_is_laid_out(size: tuple[int, int], width: str) -> None:
    one = replace(board(1, 2, images=1), agreement=None)
    photo = Image.new("RGB", size, (90, 80, 70))
    view = View(size, size, (0.0, 0.0, float(size[0]), float(size[1])))
    scene = Scene(photo, view, photo, Caption("", source="x.png"), Style(size=parse_figure_size(width)))
    block, _ = fit_width(partial(compose_judged, maps(1, one), one), scene)
    check_layout(block)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_picture_is_there_with_its_share_and_its_score(width: str) -> None:
    block = sheet(2, width)
    colours = {item.image.getpixel((5, 5)) for _, _, item in block.leaves() if isinstance(item, Raster)}
    assert {picture.getpixel((5, 5)) for order in (0, 1) for picture in left_over(order)} <= colours
    words = [item.text for _, _, item in texts(block)]
    for share in ("10 %", "30 %", "50 %"):
        assert words.count(share) >= 4
    assert words.count("least important removed first") == 2
    beside = [item.fill for _, _, item in dots(block) if len(item.points) == 1 and item.outline == BLUE]
    assert beside == [*[PAPER] * 3, *[BLUE] * 3] * 2


def test_the_curves_have_the_marks_of_the_pictures_at_their_scores() -> None:
    block = sheet(1, "auto")
    several = [(left, top, item) for left, top, item in dots(block) if len(item.points) == 3]
    assert [(item.fill, item.outline) for _, _, item in several] == [(PAPER, BLUE), (BLUE, BLUE)]
    lower = several[1][2].points
    upper = several[0][2].points
    assert [one[0] for one in upper] == [one[0] for one in lower]
    assert (upper[1][0] - upper[0][0]) / (upper[2][0] - upper[1][0]) == pytest.approx(1)
    # 0.4 against 0.1 at the first, the same at the others
    assert lower[0][1] > upper[0][1]
    assert [one[1] for one in lower[1:]] == [one[1] for one in upper[1:]]


def test_the_area_turns_red_where_the_order_is_upside_down() -> None:
    shares = (0.0, 0.5, 1.0)
    good, bad = Curve(shares, (0.5, 0.5, 0.1)), Curve(shares, (0.5, 0.1, 0.3))
    plot = Plot("", "", [good, bad])
    assert turns_over(plot)
    assert not turns_over(Plot("", "", [good, Curve(shares, (0.5, 0.1, 0.1))]))
    assert not turns_over(Plot("", "", [good]))
    drawn = draw_plot(plot, *axes_for([plot], 100, 60))
    assert [item.fill for _, _, item in drawn.leaves() if isinstance(item, Polygon)] == [TINT, AGAINST]
    said = [item.text for _, _, item in texts(sheet(11, "auto"))]
    assert UPSIDE_DOWN in said
    assert UPSIDE_DOWN not in [item.text for _, _, item in texts(sheet(1, "auto"))]


def test_what_found_no_room_is_told_by_where_it_lies() -> None:
    shares = (0.0, 1.0)
    plot = Plot("", "", [Curve(shares, (0.1, 0.2)), Curve(shares, (0.5, 0.1))])
    words = {CONTROLS: "controls", 0: "first", 1: "second"}
    assert describe_curves(plot, words) == ["upper curve: second", "lower curve: first", "grey: controls"]
    assert describe_curves(plot, {0: "first"}) == ["lower curve: first"]
    assert describe_curves(Plot("", "", [plot.curves[0]]), {0: "first"}) == ["the curve: first"]


def test_areas_end_where_lines_cross() -> None:
    (first, above), (second, below) = areas_between([(0, 0), (10, 10)], [(0, 10), (10, 0)])
    assert (above, below) == (True, False)
    assert max(across for across, _ in first) == 5 == min(across for across, _ in second)
    assert areas_between([(0, 1), (10, 1)], [(0, 1), (10, 1)]) == []
    ((area, above),) = areas_between([(0, 0), (10, 0)], [(0, 0), (5, 8), (10, 0)])
    assert above
    assert len(area) == 6


def test_words_stand_beside_the_curves_over_none_of_them() -> None:
    block = sheet(1, "auto")
    words = {"least important first", "most important first", "controls"}
    found = {item.text: (left, base, item.width) for left, base, item in texts(block) if item.text in words}
    assert set(found) == words
    lines = [
        [(left + across, top + down) for across, down in item.points]
        for left, top, item in block.leaves()
        if isinstance(item, Polyline) and len(item.points) > 2
    ]
    for left, base, width in found.values():
        for line in lines:
            for across, down in line:
                assert not (left < across < left + width and base - 9 < down < base + 2)


@pytest.mark.parametrize("size", [(150, 90), (200, 120), (320, 200), (420, 260)])
def test_a_word_is_nearest_to_its_own_curve(size: tuple[int, int]) -> None:
    row = board(1, 1).rows[0]
    plot = Plot("", "", [row.curves["least"], row.curves["most"]], [one.curves["most"] for one in board().control_rows])
    words = {0: "least important first", 1: "most important first"}
    drawn = draw_plot(plot, *axes_for([plot], *size), words)
    lines = [item.points for _, _, item in drawn.leaves() if isinstance(item, Polyline) and item.line == 2]
    placed = texts(drawn)
    assert len(placed) + len(words) == 2
    for left, base, item in placed:
        middle = left + item.width / 2, base - 4

        def away(points: tuple[tuple[float, float], ...], to: tuple[float, float] = middle) -> float:
            return min(abs(down - to[1]) for across, down in points if abs(across - to[0]) < 60)

        own = lines[0] if item.text.startswith("least") else lines[1]
        assert all(away(own) <= away(line) for line in lines)
    if size[0] > 300:
        assert not words


def test_the_sheet_is_the_same_each_time_and_in_every_format() -> None:
    pytest.importorskip("reportlab")
    for kind in ("png", "svg", "pdf"):
        assert encode_figure(sheet(1, "auto"), kind)[0].data == encode_figure(sheet(1, "auto"), kind)[0].data
    block = sheet(2, "17cm")
    tree = ElementTree.fromstring(encode_svg(block))
    leaves = [item for _, _, item in block.leaves()]
    for tag, kind_of in (("image", Raster), ("polyline", Polyline), ("polygon", Polygon)):
        count = len(tree.findall(f"{{http://www.w3.org/2000/svg}}{tag}"))
        assert count == sum(isinstance(item, kind_of) for item in leaves) > 0
    assert rasterize(block, 0.5).width == round(block.width * 0.5)
