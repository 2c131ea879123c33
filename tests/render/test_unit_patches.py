"""The sheets of units: everything in its place at any width, and nothing where there is nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from cnnviz_cli.render.dreamed import DreamTile
from cnnviz_cli.render.layout import Block, Raster, Text
from cnnviz_cli.render.raster import rasterize
from cnnviz_cli.render.unit_patches import GROUND, UnitFigure, UnitPatch, compose_page, compose_unit

RED, BLUE = Image.new("RGB", (24, 24), "#ff0000"), Image.new("RGB", (24, 24), "#0000ff")
DREAM = DreamTile(Image.new("RGB", (32, 32), "#00ff00"), "", ["answer 3, before 1", "percentile 50 of 9 images"])


def patch(
    number: int, place: tuple[float, float, float, float] = (0, 0, 20, 20), *, projected: bool = True
) -> UnitPatch:
    name = f"{'a long name of a folder/' * number}{number}.png"
    return UnitPatch(RED, BLUE if projected else None, 10.0 - number, name, (20, 20), place)


def unit(count: int, note: str = "") -> UnitFigure:
    return UnitFigure("stages.4 channel 12", [DREAM], [patch(number) for number in range(count)], note)


def inside(block: Block) -> Iterator[str]:
    """What of a figure reaches out of it."""
    for left, top, item in block.leaves():
        if isinstance(item, Text):
            reach, foot = left + item.width, top
        else:
            reach, foot = left + item.width, top + item.height
        if left < 0 or top < 0 or reach > block.width + 0.5 or foot > block.height:
            yield f"{item} at {left}, {top}"


def pixels_of(block: Block, color: str) -> int:
    return int(
        (np.asarray(rasterize(block)) == np.array(Image.new("RGB", (1, 1), color).getpixel((0, 0)))).all(2).sum()
    )


@pytest.mark.parametrize("room", [420, 700, 1000, 1600, 4000])
@pytest.mark.parametrize("count", [0, 1, 5, 9])
def test_nothing_is_cut_off(room: int, count: int) -> None:
    sheet = compose_unit(unit(count), ["a network", "9 images of photos"], ["a note"], room)
    page = compose_page([unit(count), unit(9)], "units of stages.4", ["a network"], ["a note"], room)
    for block in (sheet, page):
        assert not list(inside(block))
    assert sheet.width <= max(room, 420 + 80)
    for block, many in ((sheet, count), (page, count + 9)):
        shown = [item for _, _, item in block.leaves() if isinstance(item, Raster)]
        assert len([item for item in shown if item.image is RED]) == many
        assert len([item for item in shown if item.image is BLUE]) == many


def test_a_silent_unit_shows_its_dream_alone() -> None:
    block = compose_unit(unit(0, "silent in these images"), [], [], 1600)
    words = [item.text for _, _, item in block.leaves() if isinstance(item, Text)]
    assert "Silent in these images" in words
    assert not any("projects" in word for word in words)
    assert pixels_of(block, "#00ff00") > 400 * 400


def test_a_patch_that_ends_at_the_border_lies_where_it_is_seen() -> None:
    cut = UnitFigure("unit", [DREAM], [patch(1, (5, 0, 20, 10), projected=False)])
    block = compose_unit(cut, [], [], 1600)
    image = np.asarray(rasterize(block))
    red = (image == (255, 0, 0)).all(2)
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert len(rows) == 66
    assert len(columns) == 99
    assert pixels_of(block, GROUND) == 132 * 132 - 66 * 99
    assert pixels_of(block, "#0000ff") == 0


def test_pages_hold_values_above_their_patches() -> None:
    block = compose_page([unit(9)], "units", [], [], 1600)
    values = [(left, top) for left, top, item in block.leaves() if isinstance(item, Text) and item.text == "10.0"]
    places = [(left, top) for left, top, item in block.leaves() if isinstance(item, Raster) and item.image is RED]
    assert values[0][0] == places[0][0]
    assert values[0][1] < places[0][1]


def test_a_page_says_the_state_of_a_dream() -> None:
    noted = DreamTile(DREAM.picture, "", DREAM.facts, "unmoved: no more than what it started from")
    figures = [UnitFigure("one", [noted], [patch(0)]), UnitFigure("two", [DREAM], [patch(1)])]
    words = [
        item.text for _, _, item in compose_page(figures, "units", [], [], 1600).leaves() if isinstance(item, Text)
    ]
    assert words.count("Unmoved: no more than what it started from") == 1
