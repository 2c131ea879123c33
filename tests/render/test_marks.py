"""Lines around what was explained: where they are, to the pixel, and that nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from render.drawn import centre_crop, comparison, draw, overview, plain, whole

from cnnviz_cli.core.geometry import Annotation, BoxAnnotation, RegionAnnotation, View
from cnnviz_cli.core.panels import Heatmap, PixelMap
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.canvas import (
    DARK,
    LIGHT,
    Canvas,
    box_in_image,
    draw_annotation,
    fit_canvas,
    make_canvas,
    widened,
)

GROUND = (120, 90, 60)


def canvas(width: int, height: int, view: View | None = None, unit: int = 14) -> Canvas:
    return Canvas(plain(width, height, GROUND), view or whole(width, height), 1, unit)


def drawn_on(on: Canvas, mark: Annotation | None, ground: tuple[int, int, int] = GROUND) -> str:
    """The sheet as text: ``.`` ground, ``o`` light, ``#`` dark."""
    sheet = draw_annotation(Image.new("RGB", on.image.size, ground), on, mark)
    return "\n".join("".join(_letter(sheet.getpixel((x, y)), ground) for x in range(sheet.width))
                     for y in range(sheet.height))  # fmt: skip


def _letter(pixel: object, ground: tuple[int, int, int]) -> str:
    if pixel == ground:
        return "."
    return {(255, 255, 255): "o", (0x16, 0x19, 0x1D): "#"}[pixel]


def picture(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


def inside(text: str) -> NDArray[np.bool_]:
    return np.array([[letter == "x" for letter in line] for line in picture(text).splitlines()])


def test_a_box_has_a_light_line_between_two_dark_ones() -> None:
    found = drawn_on(canvas(12, 9), BoxAnnotation((4 / 12, 3 / 9, 9 / 12, 6 / 9)))
    # The box itself is columns 4 to 8 and rows 3 to 5: its line lies around it, and an inner one on its own edge.
    assert found == picture("""
        ............
        ..#########.
        ..#ooooooo#.
        ..#o#####o#.
        ..#o#...#o#.
        ..#o#####o#.
        ..#ooooooo#.
        ..#########.
        ............
    """)


def test_a_region_has_the_same_lines() -> None:
    found = drawn_on(canvas(12, 9), RegionAnnotation(inside("""
        ............
        ............
        ............
        ....xxxxx...
        ....xxxxx...
        ....xxxxx...
        ............
        ............
        ............
    """)))  # fmt: skip
    assert found == drawn_on(canvas(12, 9), BoxAnnotation((4 / 12, 3 / 9, 9 / 12, 6 / 9)))


def test_at_the_photographs_border_a_box_keeps_its_line_and_a_region_has_none() -> None:
    found = drawn_on(canvas(10, 8), BoxAnnotation((0, 0, 1, 1)))
    assert found == picture("""
        ##########
        #oooooooo#
        #o######o#
        #o#....#o#
        #o#....#o#
        #o######o#
        #oooooooo#
        ##########
    """)
    left = np.zeros((8, 10), bool)
    left[:, :4] = True
    assert set(drawn_on(canvas(10, 8), RegionAnnotation(left)).splitlines()) == {"...#o#...."}


@pytest.mark.parametrize("everything", [True, False])
def test_a_region_of_everything_or_nothing_has_no_line(everything: bool) -> None:
    assert set(drawn_on(canvas(20, 10), RegionAnnotation(np.full((5, 5), everything)))) == {".", "\n"}


def test_nothing_is_drawn_of_what_has_no_place() -> None:
    assert set(drawn_on(canvas(20, 10), None)) == {".", "\n"}


@pytest.mark.parametrize(
    "box", [(-0.4, 0.2, -0.1, 0.6), (0.2, -0.5, 0.6, 0.0), (1.0, 0.2, 1.4, 0.6), (0.2, 1.1, 0.6, 1.4)]
)
def test_a_box_beside_the_photograph_is_not_drawn(box: tuple[float, float, float, float]) -> None:
    assert set(drawn_on(canvas(30, 30), BoxAnnotation(box))) == {".", "\n"}


@pytest.mark.parametrize("box", [(0.5, 0.5, 0.5, 0.5), (0.001, 0.001, 0.002, 0.002), (0.999, 0.999, 1.0, 1.0)])
def test_a_box_without_room_is_still_to_be_seen(box: tuple[float, float, float, float]) -> None:
    found = drawn_on(canvas(30, 30), BoxAnnotation(box))
    assert found.count("o") >= 6
    assert found.count("#") >= found.count("o")


@pytest.mark.parametrize("ground", [(255, 255, 255), (0, 0, 0)])
def test_on_white_and_on_black_the_line_shows(ground: tuple[int, int, int]) -> None:
    on = canvas(40, 40)
    sheet = draw_annotation(Image.new("RGB", (40, 40), ground), on, BoxAnnotation((0.25, 0.25, 0.75, 0.75)))
    row = np.asarray(sheet.convert("L"))[20].astype(int)
    assert np.abs(np.diff(row)).max() > 200  # somewhere light and dark meet
    assert {tuple(pixel) for pixel in np.asarray(sheet).reshape(-1, 3).tolist()} == {
        ground, *(tuple(bytes.fromhex(colour[1:])) for colour in (LIGHT, DARK))
    }  # fmt: skip


def test_lines_grow_with_the_type() -> None:
    found = drawn_on(canvas(60, 60, unit=36), BoxAnnotation((0.4, 0.4, 0.6, 0.6)))
    assert found.splitlines()[30] == "." * 18 + "###ooo###" + "." * 6 + "###ooo###" + "." * 18


def test_where_the_input_is_a_part_of_the_photograph_a_box_lies_in_that_part() -> None:
    view = centre_crop(64, 48)
    on = canvas(64, 48, view)
    left, top, right, bottom = box_in_image(BoxAnnotation((0.0, 0.0, 1.0, 1.0)), on)
    assert (left, top, right, bottom) == view.box == (11, 3, 53, 45)
    rows = drawn_on(on, BoxAnnotation((0.5, 0.5, 1.0, 1.0))).splitlines()
    # The lower right quarter of the part: columns 32 to 52, rows 24 to 44.
    assert rows[35] == "." * 30 + "#o#" + "." * 19 + "#o#" + "." * 9
    assert [row[40] for row in rows] == list("." * 22 + "#o#" + "." * 19 + "#o#" + ".")


def test_where_the_input_is_a_part_of_the_photograph_a_region_lies_in_that_part() -> None:
    on = canvas(64, 48, centre_crop(64, 48))
    rows = drawn_on(on, RegionAnnotation(np.arange(14)[None] >= np.full((14, 1), 7))).splitlines()
    # The right half of the part; at its edge the region goes on for all that is known, and has no line.
    assert rows[20] == "." * 30 + "#o#" + "." * 31
    assert {row for number, row in enumerate(rows) if 3 <= number < 45} == {rows[20]}
    assert set(rows[2] + rows[45]) == {"."}


def test_where_the_input_is_more_than_the_photograph_both_lie_in_the_photograph() -> None:
    view = View((40, 20), (40, 40), (0.0, -10.0, 40.0, 30.0))
    on = canvas(40, 20, view)
    rows = drawn_on(on, BoxAnnotation((0.25, 0.1, 0.75, 0.6))).splitlines()  # from 6 above the photograph to its row 13
    assert rows[10] == "." * 8 + "#o#" + "." * 18 + "#o#" + "." * 8
    assert [row[20] for row in rows] == list("#o#" + "." * 10 + "#o#" + "." * 4)
    lower = np.zeros((4, 4), bool)
    lower[2:] = True
    rows = drawn_on(on, RegionAnnotation(lower)).splitlines()
    assert [row[20] for row in rows] == list("." * 8 + "#o#" + "." * 9)


def test_a_tiny_photograph_is_marked_as_large_as_it_is_shown() -> None:
    on = make_canvas(plain(8, 6), whole(8, 6))
    assert (on.factor, on.image.size) == (36, (288, 216))
    sheet = draw_annotation(on.image.copy(), on, BoxAnnotation((2 / 8, 2 / 6, 4 / 8, 4 / 6)))
    changed = np.argwhere(np.asarray(sheet) != np.asarray(on.image))
    assert changed[:, :2].min(0).tolist() == [70, 70]
    assert changed[:, :2].max(0).tolist() == [145, 145]
    inner = np.asarray(sheet)[73:143, 73:143]
    assert (inner == np.array([120, 90, 60])).all()


def test_what_is_given_is_not_changed() -> None:
    on = canvas(40, 30)
    region = np.zeros((3, 4), bool)
    region[1, 1] = True
    area, before = RegionAnnotation(region), region.copy()
    photo = on.image.copy()
    panel = Heatmap(np.ones((1, 3, 4), np.float32), layer="conv", target=0)
    draw(panel, on.image, on.view, on.image, Caption(title="gradcam", target="cat", mark=area), Style())
    assert on.image.tobytes() == photo.tobytes()
    np.testing.assert_array_equal(region, before)


def test_in_sheets_each_map_has_the_mark_of_its_own_target() -> None:
    photo, view = plain(400, 300), whole(400, 300)
    rectangle = BoxAnnotation((0.25, 0.25, 0.5, 0.75))
    for panel in (
        Heatmap(np.zeros((1, 3, 4), np.float32), layer="conv", target=0),
        PixelMap(np.zeros((1, 30, 40), np.float32), target=0),
    ):
        sheets = []
        for mark in (None, rectangle):
            entries = [
                (panel, Caption(title="one", target="cat, box 1", mark=mark)),
                (panel, Caption(title="two", target="cat, box 1", mark=mark)),
            ]
            caption = Caption(title="overview", model="net", source="a.png")
            whole_sheet = overview(photo, view, photo, [], entries, caption, Style())
            compared = list(comparison(photo, view, entries, caption, Style()))
            sheets.append([whole_sheet, *compared])
        for plain_sheet, marked_sheet in zip(*sheets, strict=True):
            assert plain_sheet.size == marked_sheet.size
            changed = (np.asarray(plain_sheet.convert("RGB")) != np.asarray(marked_sheet.convert("RGB"))).any(2)
            boxes = _boxes(changed)
            assert len(boxes) == 2
            for top, left, bottom, right in boxes:
                # A quarter by a half of a picture of 4 by 3, and the lines around it.
                assert (bottom - top - 4) / (right - left - 4) == pytest.approx(1.5, abs=0.06)


def _boxes(changed: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Top, left, bottom, right of each group of columns in which something is, beside one another."""
    columns = np.flatnonzero(np.diff(np.concatenate([[0], changed.any(0).astype(int), [0]])))
    found = []
    for left, right in zip(columns[::2], columns[1::2], strict=True):
        rows = np.flatnonzero(changed[:, left:right].any(1))
        found.append((int(rows[0]), int(left), int(rows[-1]) + 1, int(right)))
    return found


def test_a_mark_in_a_fitted_picture_lies_where_it_lies_in_the_photograph() -> None:
    on = fit_canvas(plain(400, 300), whole(400, 300), 200, 200, 14)
    assert box_in_image(BoxAnnotation((0.25, 0.5, 0.5, 1.0)), on) == (50, 75, 100, 150)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (40, 31), (7, 60)])
def test_a_mask_is_widened_and_narrowed_as_pillow_does_it(size: tuple[int, int]) -> None:
    draws = np.random.default_rng(0)
    for levels in ((draws.random(size[::-1]) < 0.1) * 255, draws.integers(0, 256, size[::-1])):
        mask = Image.fromarray(levels.astype(np.uint8))
        assert np.array_equal(widened(mask, 0), mask)
        for by in range(1, 6):
            assert np.array_equal(widened(mask, by), mask.filter(ImageFilter.MaxFilter(2 * by + 1)))
            assert np.array_equal(widened(mask, -by), mask.filter(ImageFilter.MinFilter(2 * by + 1)))
