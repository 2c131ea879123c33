"""Maps under random weights, and maps of mosaics: frames, numbers and places, in any width."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image
from render.drawn import centre_crop, plain
from render.laid import check_layout, dots, texts

from cnnviz_cli.core.figure_settings import parse_figure_size
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import Heatmap, SignedMap
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.axes import BLUE
from cnnviz_cli.render.figures import Scene, encode_figure, fit_width
from cnnviz_cli.render.layout import ALERT, Block, Rectangle
from cnnviz_cli.render.mosaics import Mosaic, MosaicMaps, compose_mosaics, is_chance, own_cell
from cnnviz_cli.render.randomised import THICK, THIN, RandomisedMap, compose_randomised, frame_of

STAGES = ("classifier", "+ head", "+ stages 6 to 2 with a long name", "everything")
WIDTHS = ["8.5cm", "17cm", "auto", "1000"]


def heat(seed: int) -> Heatmap:
    values = np.random.default_rng(seed).random((1, 7, 7), np.float32)
    return Heatmap(values, values.max(), target=0)


def rows() -> list[RandomisedMap]:
    signed = SignedMap(np.random.default_rng(3).normal(size=(1, 32, 32)).astype(np.float32))
    return [
        RandomisedMap(tuple(heat(seed) for seed in range(5)), Caption("Grad-CAM", "head"), (0.02, 0.11, -0.2, -0.27)),
        RandomisedMap(
            (signed,) * 5, Caption("Layer-wise relevance propagation"), (0.99, 0.5, 0.91, 0.66), (-0.9, 0.2, -0.9, 0.6)
        ),
        RandomisedMap((heat(1), None, heat(1), heat(2), heat(3)), Caption("x" * 60), (None, 1.0, 0.3, 0.1)),
    ]


def randomised(width: str, given: list[RandomisedMap] | None = None, stages: tuple[str, ...] = STAGES) -> Block:
    image = plain(451, 300)
    scene = Scene(
        image, centre_crop(451, 300), image, Caption("", source="chelsea.png"), Style(size=parse_figure_size(width))
    )
    more = len(stages) - 4
    maps = [
        RandomisedMap((*one.panels, *one.panels[:more]), one.named, (*one.alike, *one.alike[:more]), one.signed)
        for one in given or rows()
    ]
    compose = partial(compose_randomised, maps, stages, "Does it notice?", ["tiger cat", "a model"])
    block, _ = fit_width(compose, scene)
    return block


@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_lies_over_another_and_nothing_is_cut_off(width: str) -> None:
    check_layout(randomised(width))
    check_layout(randomised(width, rows()[:1]))
    check_layout(randomised(width, rows()[:1], (*STAGES[:-1], "and more", STAGES[-1])))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [(640, 60), (60, 640)])
def test_slivers_are_laid_out(size: tuple[int, int], width: str) -> None:
    image, style = plain(*size), Style(size=parse_figure_size(width))
    view = View(size, size, (0.0, 0.0, float(size[0]), float(size[1])))
    scene = Scene(image, view, image, Caption(""), style)
    block, _ = fit_width(partial(compose_randomised, rows(), STAGES, "Does it notice?", []), scene)
    check_layout(block)
    check_layout(compose_mosaics([replace(one, picture=image) for one in mosaics()], "Where?", [], style))


def test_a_map_that_stays_has_a_red_frame_which_is_thick_where_all_is_random() -> None:
    grad, relevance, odd = rows()
    assert [frame_of(grad, stage) for stage in range(5)] == [0, 0, 0, 0, 0]
    assert [frame_of(relevance, stage) for stage in range(5)] == [0, THIN, 0, THIN, THICK]
    assert [frame_of(odd, stage) for stage in range(5)] == [0, 0, THIN, 0, 0]
    frames = [
        item.line for _, _, item in randomised("auto").leaves() if isinstance(item, Rectangle) and item.outline == ALERT
    ]
    assert sorted(frames) == [THIN, THIN, THIN, THICK]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_likeness_stands_below_its_map_red_where_it_is_framed(width: str) -> None:
    found = {item.text: item for _, _, item in texts(randomised(width))}
    for text, red in (("0.02", False), ("-0.27", False), ("0.99", True), ("0.50", False), ("0.66", True)):
        assert (found[text].color == ALERT) is red
    assert found["0.66"].strong
    assert "(-0.90)" in found
    assert "-" in found


def test_the_foot_says_what_frames_mean_only_where_there_are_any() -> None:
    def said(block: Block) -> str:
        return " ".join(item.text for _, _, item in texts(block))

    assert "Thick red frame" in said(randomised("auto"))
    assert "red frame" not in said(randomised("auto", rows()[:1]))
    assert "in brackets" in said(randomised("auto"))
    assert "in brackets" not in said(randomised("auto", rows()[:1]))


def test_dots_of_likeness_go_down_with_it() -> None:
    block = randomised("auto", rows()[:1])
    places = [(left, top) for left, top, item in dots(block) if item.radius == 4]
    assert [left for left, _ in places] == sorted(left for left, _ in places)
    assert len(places) == 5
    heights = [top for _, top in places]
    assert heights[0] < heights[2] < heights[1] < heights[3] < heights[4]


def mosaics() -> list[Mosaic]:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (448, 448, 3), dtype=np.uint8))
    names = ("tiger cat", "espresso with a name that goes on and on for lines", "missile", "tripod")
    maps = (
        MosaicMaps(Caption("Grad-CAM", "head"), tuple(heat(seed) for seed in range(4)), (0.76, 0.8, 0.68, 0.89)),
        MosaicMaps(Caption("Eigen-CAM", "head"), (heat(9),) * 4, (0.25, 0.2, 0.3, 0.25)),
        MosaicMaps(Caption("Another"), (None, heat(1), heat(2), heat(3)), (None, 0.5, 0.254, 1.0)),
    )
    return [Mosaic(photo, names, maps), Mosaic(photo, names, maps[:1])]


def mosaic_sheet(width: str) -> Block:
    return compose_mosaics(
        mosaics(), "Where is each class found?", ["a model", "2 of 50"], Style(size=parse_figure_size(width))
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_a_sheet_of_mosaics_is_legible(width: str) -> None:
    block = mosaic_sheet(width)
    check_layout(block)
    words = [item.text for _, _, item in texts(block)]
    assert words.count("0.76") == 2
    assert "-" in words


def test_a_share_that_is_no_more_than_chance_is_red_and_its_bar_open() -> None:
    one = mosaics()[0]
    assert [is_chance(share, one) for share in (None, 0.2, 0.25, 0.254, 0.26, 1.0)] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    block = mosaic_sheet("auto")
    red = [item.text for _, _, item in texts(block) if item.color == ALERT]
    assert red == ["0.25", "0.20", "0.25", "0.25"]
    bars = [item for _, _, item in block.leaves() if isinstance(item, Rectangle) and item.height == 6]
    assert sum(bar.outline == ALERT for bar in bars) == 4
    full = [bar.width for bar in bars if bar.fill == BLUE]
    track = max(bar.width for bar in bars)
    assert full[:4] == [round(track * share) for share in (0.76, 0.8, 0.68, 0.89)]


def test_the_cell_of_a_class_is_outlined() -> None:
    one = mosaics()[0]
    assert [own_cell(one, cell).box for cell in range(4)] == [
        (0, 0, 0.5, 0.5),
        (0.5, 0, 1, 0.5),
        (0, 0.5, 0.5, 1),
        (0.5, 0.5, 1, 1),
    ]
    three = Mosaic(one.picture, ("a",) * 6, (), (2, 3))
    assert own_cell(three, 5).box == pytest.approx((2 / 3, 0.5, 1, 1))


def test_the_sheets_are_the_same_each_time() -> None:
    pytest.importorskip("reportlab")
    for kind in ("png", "svg", "pdf"):
        assert encode_figure(randomised("auto"), kind)[0].data == encode_figure(randomised("auto"), kind)[0].data
        assert encode_figure(mosaic_sheet("auto"), kind)[0].data == encode_figure(mosaic_sheet("auto"), kind)[0].data
