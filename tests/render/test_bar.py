"""The texts below a colour bar: where they stand, by the boxes they take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cnnviz_cli.core.figure_settings import Scale
from cnnviz_cli.core.panels import Heatmap, InputProjection, PixelMap, SignedMap
from cnnviz_cli.render import Style, legends
from cnnviz_cli.render.layout import font, line_height
from cnnviz_cli.render.legends import APART, bar_labels, bar_width, color_bar, make_color_bar
from cnnviz_cli.render.raster import rasterize
from cnnviz_cli.render.scaling import color_table

SEEN = ["0", "0.00055", "0.00111 or more"]
"""What once ran together, under a map of VarGrad."""


def boxes(labels: Sequence[str], width: int, unit: int) -> list[tuple[int, float, float]]:
    """(row, left, right) of the ink of each text, as the font draws it."""
    found = []
    for left, row, label in bar_labels(labels, width, unit):
        ink = font(unit).getbbox(label, anchor="ls")
        found.append((row, left + ink[0], left + ink[2]))
    return found


def check(labels: Sequence[str], width: int, unit: int) -> None:
    found = sorted(boxes(labels, width, unit))
    for (row, _, right), (next_row, left, _) in pairwise(found):
        assert next_row > row or left - right >= (APART - 0.15) * unit  # ink may reach a little beyond its advance
    assert all(left >= -0.1 * unit for _, left, _ in found)
    assert all(right <= width + 0.1 * unit for *_, right in found)


@given(
    st.lists(st.text("0123456789.e- ormlsO", min_size=1, max_size=24), min_size=2, max_size=5),
    st.integers(60, 700),
    st.integers(10, 40),
)
@settings(max_examples=200, deadline=None)
@example(SEEN, 252, 14)
@example(SEEN, 18 * 14, 14)
@example(["-0.00111 or less", "0", "0.00111 or more"], 18 * 14, 14)
def test_texts_never_run_together_nor_leave_the_bar(labels: list[str], width: int, unit: int) -> None:
    check(labels, width, unit)


@pytest.mark.parametrize(
    ("labels", "width", "rows"),
    [
        (["0", "0.5", "1.0"], 252, [0, 0, 0]),
        (SEEN, 252, [0, 0]),
        (SEEN, 400, [0, 0, 0]),
        (["-0.00111 or less", "0", "0.00111 or more"], 200, [0, 1]),
        (["low", "high"], 30, [0, 1]),
    ],
)
def test_what_does_not_fit_is_left_out_in_the_middle_and_ends_go_into_two_rows(
    labels: list[str], width: int, rows: list[int]
) -> None:
    placed = bar_labels(labels, width, 14)
    assert [row for _, row, _ in placed] == rows
    bar = color_bar(color_table("viridis"), labels, width, 14)
    assert bar.height == color_bar(color_table("viridis"), ["0", "1"], 252, 14).height + max(rows) * line_height(14)


def test_between_two_texts_there_is_paper() -> None:
    bar = np.asarray(rasterize(color_bar(color_table("viridis"), SEEN, 252, 14)))[16:].min((0, 2)) < 250
    (_, _, zero), (_, most, _) = boxes(SEEN, 252, 14)
    assert not bar[round(zero) + 1 : round(most) - 1].any()
    assert bar[: round(zero)].any()
    assert bar[round(most) :].any()


@pytest.mark.parametrize("unit", [14, 23, 62])
@pytest.mark.parametrize("kind", [Heatmap, PixelMap, SignedMap, InputProjection])
def test_no_size_of_numbers_makes_them_collide(kind: type[Heatmap], unit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], int, int]] = []
    genuine = legends.bar_labels

    def spy(labels: Sequence[str], width: int, unit: int) -> list[tuple[float, int, str]]:
        asked.append((list(labels), width, unit))
        return genuine(labels, width, unit)

    monkeypatch.setattr(legends, "bar_labels", spy)
    heavy = np.linspace(0, 1, 3000).reshape(3, 20, 50)
    heavy[:, 19, 49] = 70
    for exponent in range(-30, 31):
        values = (heavy * 1.11 * 10.0**exponent).astype(np.float32)
        panel = kind(values if kind is InputProjection else values[:1])
        for width in (bar_width(20 * unit, unit), 12 * unit):
            make_color_bar(panel, Style(), width, unit)
            make_color_bar(panel, Style(), width, unit, Scale(-(10.0**exponent), 3 * 10.0**exponent, "the run's"))
    assert len(asked) >= 244
    for labels, width, size in asked:
        check(labels, width, size)
