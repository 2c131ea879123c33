"""The leaderboard: every dot where its value is, nothing over anything else, nothing cut off, in any width."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import combinations, pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from render.evaluated import COLUMNS, METHODS, agreement, board
from render.laid import box_of, check_layout, dots, texts

from cnnviz_cli.core.evaluation import Agreement, CellValue, ColumnSpec, Leaderboard, MethodRow
from cnnviz_cli.core.figure_settings import parse_figure_size
from cnnviz_cli.render.axes import BAND, BLUE, DOT, decimals_for, format_fixed, make_axis, overlaps, round_ticks
from cnnviz_cli.render.figures import encode_figure, fit_block
from cnnviz_cli.render.insight import (
    FRONT,
    agreement_color,
    compose_agreement,
    compose_scatter,
    pareto,
    similarity_order,
)
from cnnviz_cli.render.layout import (
    ALERT,
    INK,
    PAPER,
    Block,
    Dots,
    Polyline,
    Rectangle,
)
from cnnviz_cli.render.leaderboard import column_axis, compose_leaderboard, compose_table, reliability
from cnnviz_cli.render.raster import rasterize
from cnnviz_cli.render.svg import encode_svg

WIDTHS = {"8.5cm": 482, "17cm": 964, "auto": 1600}


BOARDS = {
    "usual": board(),
    "one of all": board(1, 1, images=1),
    "two without controls": board(2, 3, images=1, controls=False),
    "no passes": board(5, 2, passes=False),
    "twelve columns": board(8, 12),
    "forty-one": board(41, 12),
    "long names": replace(
        board(3, 2),
        rows=tuple(
            replace(row, title=f"{row.title} of a family with a very long name indeed", layer="backbone.stage4." * 6)
            for row in board(3, 2).rows
        ),
        columns=tuple(
            replace(column, title=f"{column.title} Donaudampfschifffahrtsgesellschaft")
            for column in board(3, 2).columns
        ),
    ),
    "nothing judged": replace(
        board(3, 2), rows=tuple(MethodRow(row.title, {}, 2) for row in board(3, 2).rows), control_rows=()
    ),
}


def scaled(factor: float) -> Leaderboard:
    """The usual leaderboard with numbers of another size."""
    one = board(6, 3)

    def resize(row: MethodRow) -> MethodRow:
        cells = {
            name: replace(cell, mean=factor * cell.mean, error=factor * (cell.error or 0))
            for name, cell in row.cells.items()
        }
        return replace(row, cells=cells)

    columns = tuple(
        replace(each, controls=(factor * each.controls[0], factor * each.controls[1]) if each.controls else None)
        for each in one.columns
    )
    return replace(
        one, columns=columns, rows=tuple(map(resize, one.rows)), control_rows=tuple(map(resize, one.control_rows))
    )


BOARDS |= {f"times {factor:g}": scaled(factor) for factor in (1e-9, 1e-2, 300, 1e7)}
BOARDS["without rows"] = replace(board(1, 2), rows=(), agreement=None)
BOARDS["twenty-four columns"] = board(3, 24)


@pytest.mark.parametrize("room", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("name", BOARDS)
def test_no_text_lies_over_another_and_nothing_is_cut_off(name: str, room: int) -> None:
    check_layout(compose_leaderboard(BOARDS[name], room))


@pytest.mark.parametrize("room", [482, 700, 964])
def test_a_sheet_is_exactly_as_wide_as_it_was_asked_to_be(room: int) -> None:
    assert compose_leaderboard(board(), room).width == pytest.approx(room, abs=1)
    assert compose_leaderboard(board()).width <= 1600
    assert parse_figure_size("8.5cm").layout_width == WIDTHS["8.5cm"]


def test_a_leaderboard_has_the_width_that_is_asked_for() -> None:
    for width, dpi, pixels in (("8.5cm", 300, 1004), ("17cm", 300, 2008), ("900", 0, 900)):
        block, scale = fit_block(partial(compose_leaderboard, board()), parse_figure_size(width, dpi))
        assert encode_figure(block, "png", scale, dpi=dpi)[1][0] == pixels
    assert fit_block(partial(compose_leaderboard, board()), parse_figure_size("auto"))[1] == 1


def column_of(block: Block, row: str) -> float:
    """The baseline of a row's name."""
    return next(base for _, base, item in texts(block) if item.text == row)


@pytest.mark.parametrize("width", [442, 884, 1300])
def test_a_dot_lies_at_its_value_between_the_ticks_of_its_axis(width: int) -> None:
    one = board(11, 1)
    block = compose_table(one, width)
    ticks = [
        (float(item.text), left + item.width / 2)
        for left, _, item in texts(block)
        if item.text in {"0.0", "0.2", "0.4", "0.5"}
    ]
    (low, start), (high, stop), *_ = sorted(ticks)
    unit = (stop - start) / (high - low)
    for row in one.rows:
        base = column_of(block, row.title)
        (place,) = [left for left, middle, _ in dots(block) if abs(middle - base + 5) < 4]
        assert place == pytest.approx(start + (row.cells["removal.gain"].mean - low) * unit, abs=0.75)


def test_error_bars_are_one_standard_error_to_either_side() -> None:
    one = board(11, 1)
    block = compose_table(one, 900)
    axis = column_axis(one.columns[0], (*one.rows, *one.control_rows), 1.0)
    assert axis is not None
    bars = [item for _, _, item in block.leaves() if isinstance(item, Polyline)]
    ends = [bar.points for bar in bars][: len(one.rows)]
    scale = (ends[0][1][0] - ends[0][0][0]) / 0.24
    places = [left for left, _, item in dots(block) if item.radius == DOT]
    left = next(place for place, _, item in block.leaves() if isinstance(item, Polyline))
    for row, place, (start, stop) in zip(one.rows, places, ends, strict=False):
        error = row.cells["removal.gain"].error or 0
        assert stop[0] - start[0] == pytest.approx(2 * error * scale, abs=0.01)
        assert left + (start[0] + stop[0]) / 2 == pytest.approx(place, abs=0.01)
    for single in (board(3, 3, images=1), board(1, 1, images=1)):
        assert not [item for _, _, item in compose_table(single, 900).leaves() if isinstance(item, Polyline)]


def test_the_band_reaches_from_the_lowest_control_to_the_highest() -> None:
    one = board(11, 1)
    block = compose_table(one, 900)
    (band, *_) = [(left, item) for left, _, item in block.leaves() if isinstance(item, Rectangle) and item.fill == BAND]
    controls = [left for left, _, _ in dots(block)][len(one.rows) : len(one.rows) + 4]
    assert band[0] == pytest.approx(min(controls), abs=1)
    assert band[0] + band[1].width == pytest.approx(max(controls), abs=1)


def test_a_method_that_does_not_beat_the_controls_is_open_and_red_and_so_is_its_number() -> None:
    one = board()
    block = compose_table(one, 1200)
    for row in one.rows:
        base = column_of(block, row.title)
        cells = [row.cells.get(column.name) for column in one.columns]
        marks = [item for _, middle, item in dots(block) if abs(middle - base + 5) < 4]
        numbers = [item for _, level, item in texts(block) if level == base and item.text[-3:-2] == "."]
        for cell, column, mark, number in zip(cells, one.columns, marks, numbers, strict=True):
            assert cell is not None
            assert number.text == f"{cell.mean:z.2f}"
            if not column.ranked:
                assert (mark.outline, number.color) == ("", INK)
            elif cell.beats_controls:
                assert (mark.fill, mark.outline, number.color) == (BLUE, "", INK)
            else:
                assert (mark.fill, mark.outline, number.color) == (PAPER, ALERT, ALERT)


def test_a_column_that_ranks_nothing_marks_nobody() -> None:
    one = board(1, 1)
    row = replace(one.rows[0], cells={"removal.gain": CellValue(0.1, None, 5, beats_controls=False)})
    shown = replace(one, rows=(row,), columns=(replace(one.columns[0], ranked=False),))
    block = compose_table(shown, 900)
    assert not [item for _, _, item in dots(block) if item.outline]
    assert not [item for _, _, item in texts(block) if item.color == ALERT]


def test_rows_stand_in_the_order_given_and_the_column_that_orders_them_is_strong() -> None:
    one = board()
    block = compose_table(one, 1200)
    places = [column_of(block, row.title) for row in (*one.rows, *one.control_rows)]
    assert places == sorted(places)
    strong = {item.text for _, _, item in texts(block) if item.strong}
    assert strong == {"removal gain"}


def test_what_could_not_be_judged_is_a_dash_and_is_explained() -> None:
    one = board(3, 2)
    row = replace(one.rows[1], cells={"removal.gain": one.rows[1].cells["removal.gain"]})
    block = compose_table(replace(one, rows=(one.rows[0], row, one.rows[2])), 900)
    base = column_of(block, row.title)
    assert [item.text for _, level, item in texts(block) if level == base][-1:] != []
    assert "-" in {item.text for _, level, item in texts(block) if level == base}
    assert any(item.text == "could not be judged" for _, _, item in texts(block))
    assert not any(item.text == "could not be judged" for _, _, item in texts(compose_table(one, 900)))


def test_bars_of_cost_are_logarithmic() -> None:
    rows = tuple(MethodRow(f"m{passes}", {}, passes) for passes in (0, 1, 3, 15, 255))
    block = compose_table(Leaderboard("t", (), (ColumnSpec("a", "a"),), rows), 900)
    bars = [item.width for _, _, item in block.leaves() if isinstance(item, Rectangle) and item.height == 10]
    longest = bars[-1]
    assert bars == [2, *(pytest.approx(longest * share, abs=1) for share in (1 / 8, 2 / 8, 4 / 8)), longest]


def test_marks_are_letters_that_the_foot_explains() -> None:
    block = compose_leaderboard(board())
    words = [item.text for _, _, item in texts(block)]
    assert words.count("a") == 1
    assert "a: judged by its own means: it covers the image as the measure does" in words


def test_a_number_that_is_not_finite_is_refused() -> None:
    bad = replace(board(), rows=(MethodRow("m", {"removal.gain": CellValue(float("nan"))}),))
    with pytest.raises(ValueError, match="is not finite"):
        compose_leaderboard(bad)


def test_what_the_foot_says_of_reliability() -> None:
    said = reliability(board())
    assert said[0].startswith(
        "Images agree well on in its own cell (0.71); somewhat on insertion (0.64), removal gain (0.57) and random "
        "subsets (0.40); hardly on deletion (0.19)"
    )
    assert said[0].endswith("(0.19): Krippendorff's alpha of the methods' order.")
    assert said[1] == (
        "5 images do not tell RISE and Grad-CAM apart: about 62 would, at two standard errors of the difference in the "
        "same image."
    )
    assert reliability(replace(board(), tell_apart=4))[1] == "5 images tell RISE and Grad-CAM apart: 4 would do."
    assert reliability(board(3, 1, images=1))[0].startswith("One image")


def test_the_same_leaderboard_gives_the_same_bytes_in_every_format() -> None:
    pytest.importorskip("reportlab")
    for kind in ("png", "svg", "pdf"):
        first, size = encode_figure(compose_leaderboard(board()), kind)
        assert first.data == encode_figure(compose_leaderboard(board()), kind)[0].data
        assert size == rasterize(compose_leaderboard(board())).size


def test_an_svg_holds_every_text_every_dot_and_every_line() -> None:
    block = compose_leaderboard(board())
    tree = ElementTree.fromstring(encode_svg(block))
    ns = {"s": "http://www.w3.org/2000/svg"}
    leaves = [item for _, _, item in block.leaves()]
    assert [one.text for one in tree.findall("s:text", ns)] == [item.text for _, _, item in texts(block)]
    assert len(tree.findall("s:circle", ns)) == sum(len(item.points) for item in leaves if isinstance(item, Dots))
    assert len(tree.findall("s:polyline", ns)) == sum(isinstance(item, Polyline) for item in leaves)


def test_dots_are_drawn_where_they_are_laid_out() -> None:
    block = compose_table(board(11, 1), 900)
    pixels = np.asarray(rasterize(block), int)
    blue = np.array(list(bytes.fromhex(BLUE[1:])))
    for left, top, item in dots(block):
        shown = pixels[round(top), int(left)]
        if item.fill == BLUE:
            assert np.abs(shown - blue).max() < 40
        elif item.fill == PAPER:
            assert shown.min() > 200


def test_the_front_joins_what_nothing_as_cheap_beats() -> None:
    costs, values = [256, 2, 49, 1, 2, 2], [0.48, 0.43, 0.42, 0.40, 0.40, 0.39]
    assert pareto(costs, values, "high") == [3, 1, 0]
    assert pareto(costs, [-value for value in values], "low") == [3, 1, 0]
    assert pareto([1, 1], [0.2, 0.2], "high") == [0]


@pytest.mark.parametrize("count", [2, 6, 11, 41])
@pytest.mark.parametrize("width", [442, 580])
def test_names_in_the_scatter_lie_over_no_dot_no_name_and_not_on_the_front(count: int, width: int) -> None:
    one = board(count, 2)
    block = compose_scatter(one.rows, one.columns[0], width)
    names = {row.full_title for row in one.rows}
    labels = [box_of(left, base, item) for left, base, item in texts(block) if item.text in names or "…" in item.text]
    assert len(labels) >= min(count, 6)
    for one_label, other in combinations(labels, 2):
        assert not overlaps(one_label, other)
    for label in labels:
        for left, top, _ in dots(block):
            assert not overlaps(label, (left - DOT, top - DOT, left + DOT, top + DOT))
    for left, top, item in block.leaves():
        if isinstance(item, Polyline) and item.color == FRONT:
            for (x0, y0), (x1, y1) in pairwise(item.points):
                wall = (left + min(x0, x1), top + min(y0, y1), left + max(x0, x1), top + max(y0, y1))
                assert not any(overlaps(label, wall) for label in labels)
    if count <= 11:
        assert len(labels) == count


def test_no_line_leads_through_what_costs_as_much_as_something_better() -> None:
    rows = [
        MethodRow(f"m{at}", {"a": CellValue(mean)}, cost) for at, (cost, mean) in enumerate([(1, 0), (2, 1), (2, 0.5)])
    ]
    block = compose_scatter(rows, ColumnSpec("a", "a"), 500)
    lines = [item.points for _, _, item in block.leaves() if isinstance(item, Polyline) and item.color == FRONT]
    assert len(lines) == 1
    assert lines[0][0][1] == lines[0][1][1]
    assert {"1", "2", "3"} <= {item.text for _, _, item in texts(block)}


@pytest.mark.parametrize(("width", "room"), [(580, "0.5"), (310, ".5")])
def test_of_ten_methods_the_matrix_still_has_its_numbers(width: int, room: str) -> None:
    rows = tuple(tuple(1.0 if one == other else 0.5 for other in range(10)) for one in range(10))
    block = compose_agreement(Agreement(tuple("abcdefghij"), rows), width)
    found = [item.text for _, _, item in texts(block) if item.text.endswith(".50")]
    assert len(found) == 90
    assert found[0].startswith(room)


def test_a_scatter_places_dots_by_the_logarithm_of_passes() -> None:
    rows = [MethodRow(f"m{cost}", {"a": CellValue(0.1)}, cost) for cost in (1, 10, 100)]
    block = compose_scatter(rows, ColumnSpec("a", "a"), 500)
    left, middle, right = (place for place, _, _ in dots(block))
    assert middle - left == pytest.approx(right - middle)


def test_the_alike_stand_side_by_side_in_the_matrix() -> None:
    alike = [[1.0, 0.1, 0.9, 0.0], [0.1, 1.0, 0.0, 0.8], [0.9, 0.0, 1.0, 0.2], [0.0, 0.8, 0.2, 1.0]]
    order = similarity_order(alike)
    assert sorted(order) == [0, 1, 2, 3]
    assert abs(order.index(0) - order.index(2)) == 1
    assert abs(order.index(1) - order.index(3)) == 1
    assert similarity_order([[1.0]]) == [0]
    noise = np.random.default_rng(1).uniform(-1, 1, (200, 200))
    assert sorted(similarity_order((noise + noise.T).tolist())) == list(range(200))


def test_groups_are_joined_by_their_mean_likeness() -> None:
    # 0 and 1 first (0.9); then their mean likeness to 2 is 0.35 and that of 2 and 3 is 0.4.
    alike = [[1.0, 0.9, 0.6, 0.0], [0.9, 1.0, 0.1, 0.0], [0.6, 0.1, 1.0, 0.4], [0.0, 0.0, 0.4, 1.0]]
    assert similarity_order(alike) in ([1, 0, 2, 3], [3, 2, 0, 1])


def test_the_matrix_goes_from_white_to_blue_and_its_cells_have_their_numbers() -> None:
    assert agreement_color(1.0) == BLUE
    assert agreement_color(0.0) == "#ffffff"
    assert agreement_color(-1.0) == "#969ca5"
    wide = compose_agreement(agreement(11), 600)
    assert sum(item.text == "0.97" for _, _, item in texts(wide)) % 2 == 0
    cells = [item for _, _, item in wide.leaves() if isinstance(item, Rectangle) and item.fill]
    assert len(cells) == 121
    assert sum(cell.fill == BLUE for cell in cells) == 11


def test_two_methods_without_an_image_in_common_have_a_dash() -> None:
    one = Agreement(("a", "b", "c"), ((1.0, None, 0.5), (None, 1.0, 0.2), (0.5, 0.2, 1.0)))
    for width in (200, 500):
        block = compose_agreement(one, width)
        check_layout(block)
        assert [item.text for _, _, item in texts(block)].count("-") == 2


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (-0.1, 0.6, 3, (0.0, 0.5)),
        (0, 1, 5, (0.0, 0.5, 1.0)),
        (0.02, 0.031, 4, (0.02, 0.025, 0.03)),
        (0.13, 0.85, 2, (0.2, 0.8)),
        (0.13, 0.85, 1, (0.5,)),
        (0, 512, 4, (0.0, 200.0, 400.0)),
    ],
)
def test_ticks_are_round(low: float, high: float, most: int, ticks: tuple[float, ...]) -> None:
    assert round_ticks(low, high, most)[0] == pytest.approx(ticks)


@pytest.mark.parametrize("room", WIDTHS.values())
def test_every_curve_is_told_once_beside_it_or_in_a_line_below(room: int) -> None:
    block = compose_leaderboard(board(), room)
    said = " ".join(item.text for _, _, item in texts(block))
    assert said.count("least important first") == said.count("most important first") == 1
    if "lower curve" in said:
        assert "lower curve: most important first" in said


def test_very_small_and_very_large_numbers_have_a_power_of_ten() -> None:
    assert [format_fixed(value, decimals_for([value])) for value in (2.3e-9, 0.04, -0.5, 12.34, 1234.5, 3e7)] == [
        "2.3e-9",
        "0.040",
        "-0.50",
        "12.3",
        "1,234",
        "3.0e7",
    ]
    assert format_fixed(0.0, decimals_for([0.0, 1e-9])) == "0"
    assert format_fixed(-0.001, 2) == "0.00"
    assert make_axis([0, 5e-8], 100, 3).label(2e-8) == "2.0e-8"


def test_an_axis_holds_equal_values() -> None:
    for value in (0.0, 0.25, -3.0):
        axis = make_axis([value, value], 100, 3)
        assert axis.low < value < axis.high
        assert axis.place(value) == pytest.approx(50)


def test_the_samples_are_those_of_the_columns() -> None:
    assert all(len(numbers) == len(COLUMNS) for _, _, numbers in METHODS)
