"""The sheet of a folder's concepts and that of an image: nothing over anything else, every number there."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.render.concept_maps import COLORS, color_of, lay_concepts, rgb
from cnnviz_cli.render.concept_sheet import BREADTH, ConceptPart, ImageConcepts, compose_image_concepts
from cnnviz_cli.render.concepts import (
    ConceptBoard,
    ConceptColumn,
    ConceptCrop,
    ConceptRow,
    ErrorCurve,
    compose_concepts,
    signed,
)
from cnnviz_cli.render.layout import Rectangle
from cnnviz_cli.render.raster import rasterize

from .laid import check_layout, texts

VIEW = View((90, 60), (32, 32), (15.0, 0.0, 75.0, 60.0))
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))
DRAFT = 0.25  # pixels a unit: where things lie does not depend on it
ADDS = (3.25, -0.75, 0.001)


def board(images: int = 2, rows: int = 3, *, exact: bool = True) -> ConceptBoard:
    maps = [np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)] * images
    crops = [ConceptCrop(PHOTO.crop((0, 0, 40, 40)), 1 - 0.15 * at, f"a-long-name-{at}.jpg") for at in range(6)]
    listed = [
        ConceptRow(number, "tiger cat, Egyptian cat, tabby", [f"{number}.50 on average"], crops[: 7 - number % 6], maps,
                   [ADDS[(number - 1) % 3]] * images)
        for number in range(1, rows + 1)
    ]  # fmt: skip
    rest = ConceptRow(0, "not explained by these concepts", ["+1.00 on average"], crops[:3], maps, [1.0] * images)
    columns = [
        ConceptColumn(PHOTO, VIEW, f"holiday-number-{at}.jpg", "drilling platform", 3.5, -0.001) for at in range(images)
    ]
    return ConceptBoard("What the network looks for", ["tiny (random:0)", "layer head"], listed, columns, rest, exact)


@pytest.mark.parametrize("room", [480, 1000, 1600])
@pytest.mark.parametrize(("images", "rows"), [(1, 20), (2, 3), (6, 5)])
def test_no_text_lies_over_another(room: int, images: int, rows: int) -> None:
    for exact in (True, False):
        check_layout(compose_concepts(board(images, rows, exact=exact), room, DRAFT))


@pytest.mark.parametrize("room", [480, 760, 900, 1600])
@pytest.mark.parametrize("images", [1, 6])
def test_no_sheet_is_wider_than_its_room(room: int, images: int) -> None:
    block = compose_concepts(board(images), room, DRAFT)
    assert block.width <= room  # so its text is as large in print as it is set
    if room < 900:
        assert block.width == room


@pytest.mark.parametrize("room", [480, 1600])
def test_the_sheet_has_every_number_and_its_sum(room: int) -> None:
    words = [item.text for _, _, item in texts(compose_concepts(board(), room, DRAFT))]
    assert words.count("logit 3.50") == 2
    assert words.count("+3.25") == 2
    assert words.count("-0.75") == 2
    assert words.count("3.50") == 2
    assert words.count("0") == 4  # a concept that adds next to nothing, and a bias
    assert any("not explained" in text for text in words)


def test_a_narrow_sheet_names_each_concept_once_and_breaks_the_names_of_images() -> None:
    words = [item.text for _, _, item in texts(compose_concepts(board(), 480, DRAFT))]
    assert words.count("tiger cat, Egyptian cat, tabby") == 3
    assert words.count("holiday-") == 2
    assert {"num…-0.jpg", "num…-1.jpg"} <= set(words)


def test_what_does_not_add_up_has_no_sum() -> None:
    words = [item.text for _, _, item in texts(compose_concepts(board(exact=False), 1600, DRAFT))]
    assert "3.50" not in words
    assert words.count("logit 1.00") == 2  # of the rest alone


def test_the_curve_marks_the_chosen_number() -> None:
    curve = ErrorCurve(list(range(2, 21)), [0.9 / count for count in range(2, 21)], 7)
    block = compose_concepts(replace(board(), curve=curve), 1600, DRAFT)
    check_layout(block)
    assert any(item.text.startswith("7 concepts") for _, _, item in texts(block))


def sheet(adds: tuple[float, ...] = ADDS, *, exact: bool = True) -> ImageConcepts:
    maps = np.zeros((len(adds), 4, 4), np.float32)
    for number in range(len(adds)):
        maps[number, number % 4] = 1 - 0.01 * number
    parts = [ConceptPart(at + 1, f"what it is called {at}", maps[at], value) for at, value in enumerate(adds)]
    total = sum(adds)
    return ImageConcepts(
        PHOTO, VIEW, "photo.jpg", "tiger cat", ["tiny"], parts, total + 1.5 if exact else 9.0,
        0.5 if exact else None, 1.0 if exact else None, None if exact else 2.0,
    )  # fmt: skip


@pytest.mark.parametrize("room", [480, 1000, 1600])
@pytest.mark.parametrize("count", [1, 3, 20])
@pytest.mark.parametrize("exact", [True, False])
def test_no_text_of_an_images_sheet_lies_over_another(room: int, count: int, *, exact: bool) -> None:
    adds = tuple((-1) ** at * (at + 1) / 3 for at in range(count))
    block = compose_image_concepts(sheet(adds, exact=exact), room, DRAFT)
    words = [item for _, _, item in texts(block)]
    assert rasterize(block, 1.0).size == (block.width, block.height)
    assert words


def test_the_bars_of_an_image_end_where_the_score_is() -> None:
    block = compose_image_concepts(sheet(), 1600, DRAFT)
    words = [item.text for _, _, item in texts(block)]
    assert {"+3.25", "-0.75", "0", "+0.50", "+1.00", "4.00", "the logit"} <= set(words)


def test_each_bar_begins_where_the_one_before_ends() -> None:
    block = compose_image_concepts(sheet((3.0, -2.0, 1.0)), 1600, DRAFT)
    bars = sorted(
        (top, left, left + item.width)
        for left, top, item in block.leaves()
        if isinstance(item, Rectangle) and item.height == BREADTH
    )
    assert len(bars) == 6  # three concepts, the bias, the rest, and the sum
    for (_, *before), (_, *after) in pairwise(bars[:-1]):
        assert any(abs(one - other) <= 1 for one in before for other in after)
    # 3 - 2 + 1 + 0.5 + 1: the rest ends where the sum does, and the first begins where it begins.
    assert abs(bars[-2][2] - bars[-1][2]) <= 1
    assert abs(bars[0][1] - bars[-1][1]) <= 1


def test_many_concepts_share_a_bar_and_still_add_up() -> None:
    block = compose_image_concepts(sheet(tuple([0.1] * 30)), 1600, DRAFT)
    words = [item.text for _, _, item in texts(block)]
    assert "16 further concepts" in words
    assert "+1.60" in words
    assert "4.50" in words


def test_the_strongest_concept_gives_a_pixel_its_colour() -> None:
    from cnnviz_cli.render.concept_maps import thumbnail

    canvas = thumbnail(Image.new("RGB", (32, 32), "#808080"), View((32, 32), (32, 32), (0.0, 0.0, 32.0, 32.0)), 32, 1.0)
    left, right = np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 2), np.float32)
    left[0, :, 0], right[0, :, 1] = 1.0, 1.0
    drawn = np.asarray(lay_concepts(canvas, [left[0], right[0]], [COLORS[0], COLORS[1]]), np.float32)
    for column, color in ((1, COLORS[0]), (30, COLORS[1])):
        others = [np.abs(drawn[16, column] - rgb(one)).sum() for one in (COLORS[0], COLORS[1])]
        assert others.index(min(others)) == COLORS.index(color)
    none = np.asarray(lay_concepts(canvas, [left[0] * 0], [COLORS[0]]))
    assert np.ptp(none.astype(int), axis=2).max() == 0  # grey, where there is nothing of it


def test_colours_differ_and_end() -> None:
    assert len(set(COLORS)) == len(COLORS) == 20
    assert color_of(1) == COLORS[0]
    assert color_of(21) not in COLORS


def test_what_rounds_to_zero_has_no_sign() -> None:
    assert [signed(value) for value in (0.004, -0.004, 0.0, 0.006, -1.0)] == ["0", "0", "0", "+0.01", "-1.00"]
