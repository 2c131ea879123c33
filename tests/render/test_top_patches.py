"""The squares of patches and projections: everything in its place at any width, and nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from render.test_unit_patches import BLUE, RED, inside, patch

from cnnviz_cli.render.layout import Block, Raster, Text
from cnnviz_cli.render.raster import rasterize
from cnnviz_cli.render.top_patches import (
    JOINT,
    KEPT_PATCH,
    PROJECTIONS,
    TopTile,
    TopUnit,
    columns_of,
    compose_top_page,
    compose_top_unit,
    describe_values,
    draw_squares,
    squares_on_page,
)


def top(found: int, count: int = 9, *, projected: bool = True) -> TopUnit:
    patches = [patch(number, projected=projected) for number in range(found)]
    return TopUnit("stages.4 channel 12", patches, count, "" if found else "silent in these images")


def words_of(block: Block) -> list[str]:
    return [item.text for _, _, item in block.leaves() if isinstance(item, Text)]


def places(block: Block, image: Image.Image) -> list[tuple[float, int]]:
    return [(left, down) for left, down, item in block.leaves() if isinstance(item, Raster) and item.image is image]


@pytest.mark.parametrize("room", [480, 700, 1000, 1600, 4000])
@pytest.mark.parametrize(("found", "count"), [(0, 9), (1, 1), (5, 9), (9, 9), (25, 25)])
@pytest.mark.parametrize("projected", [False, True])
def test_nothing_is_cut_off(room: int, found: int, count: int, *, projected: bool) -> None:
    unit = top(found, count, projected=projected)
    sheet = compose_top_unit(unit, ["a network", "9 images of photos"], ["a note"], room)
    assert not list(inside(sheet))
    assert sheet.width <= room
    assert len(places(sheet, RED)) == found
    assert len(places(sheet, BLUE)) == (found if projected else 0)
    assert ("Silent in these images" in words_of(sheet)) == (not found)
    assert (PROJECTIONS in words_of(sheet)) == (projected and found > 0)
    if found:
        tiles = [TopTile("channel 12", "10.0 to 2.00", draw_squares(unit))] * 7
        page = compose_top_page(tiles, "units of stages.4", ["a network"], ["a note"], room, projected=projected)
        assert not list(inside(page))
        assert page.width <= room
        assert len([1 for _, _, item in page.leaves() if isinstance(item, Raster)]) == 7


def test_a_projection_lies_in_its_square_where_its_patch_does_in_its_own() -> None:
    block = compose_top_unit(top(9), [], [], 1600)
    patches, projections = places(block, RED), places(block, BLUE)
    (across,) = {right - left for (left, _), (right, _) in zip(patches, projections, strict=True)}
    assert across > 3 * (patches[1][0] - patches[0][0])
    assert {down for _, down in patches} == {down for _, down in projections}
    assert [patches.index(one) for one in sorted(patches, key=lambda place: (place[1], place[0]))] == list(range(9))
    assert len({left for left, _ in patches}) == len({down for _, down in patches}) == 3


@pytest.mark.parametrize("projected", [False, True])
def test_what_is_said_of_a_patch_stands_under_its_column(*, projected: bool) -> None:
    block = compose_top_unit(top(5, projected=projected), [], [], 1600)
    patches = places(block, RED)
    for number in range(5):
        ((left, top_of),) = [
            (left, down)
            for left, down, item in block.leaves()
            if isinstance(item, Text) and item.text == str(number + 1)
        ]
        assert left == patches[number][0]
        assert top_of > max(down for _, down in patches)
    below = [down for _, down, item in block.leaves() if isinstance(item, Text) and item.text in set("12345")]
    assert (len(set(below[:3])), len(set(below))) == (1, 2)


def test_where_patches_are_small_the_list_reads_down_its_columns() -> None:
    block = compose_top_unit(top(25, 25), [], [], 1600)
    found = {item.text: (left, down) for left, down, item in block.leaves() if isinstance(item, Text)}
    assert found["1"][1] < found["2"][1] < found["3"][1]
    assert abs(found["1"][0] - found["2"][0]) < 1


def test_squares_are_patches_and_projections_and_nothing_else() -> None:
    image = np.asarray(draw_squares(top(9)))
    side = 3 * KEPT_PATCH + 2 * JOINT
    assert image.shape[0] == side
    red, blue = (image == (255, 0, 0)).all(2), (image == (0, 0, 255)).all(2)
    assert red.sum() == blue.sum() == 9 * KEPT_PATCH**2
    assert (red | blue | (image == 255).all(2)).all()
    assert red[:, :side].sum() == red.sum()
    assert not blue[:, :side].any()
    assert np.asarray(draw_squares(top(5))).shape[0] == 2 * KEPT_PATCH + JOINT
    assert np.asarray(draw_squares(top(5, projected=False))).shape[1] == side


@pytest.mark.parametrize("room", [480, 1600])
@pytest.mark.parametrize("projected", [False, True])
def test_full_rows_fill_a_page(room: int, *, projected: bool) -> None:
    tiles = [TopTile("channel 1", "", draw_squares(top(9, projected=projected)))] * 12
    page = compose_top_page(tiles, "units", [], [], room, projected=projected)
    edges = [left + item.width for left, _, item in page.leaves() if isinstance(item, Raster)]
    assert room - 40 - 8 <= max(edges) <= room - 40
    assert len({left for left, _, item in page.leaves() if isinstance(item, Raster)}) == squares_on_page(
        room, projected=projected
    )


def test_numbers_and_words() -> None:
    assert [columns_of(count) for count in (1, 2, 4, 5, 9, 10, 16, 17, 25)] == [1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert describe_values([(6.0, "a"), (6.0, "b")]) == "6.00"
    assert describe_values([(6.0, "a"), (2.5, "b")]) == "6.00 to 2.50"
    assert describe_values([]) == ""
    assert squares_on_page(1600, projected=True) == 3
    assert squares_on_page(1600, projected=False) == 6
    assert (squares_on_page(480, projected=True), squares_on_page(480, projected=False)) == (1, 2)
    rasterize(compose_top_unit(top(0), [], [], 480))
