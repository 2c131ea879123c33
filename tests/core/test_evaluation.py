"""The plain values of a leaderboard, and what is told from them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cnnviz_cli.core.evaluation import (
    CellValue,
    ColumnSpec,
    Leaderboard,
    MethodRow,
    agreement_word,
    best_of,
    check_finite,
    controls_band,
    margin,
)


def test_the_values_need_neither_torch_nor_pydantic() -> None:
    code = "import sys, cnnviz_cli.core.evaluation; print({'torch', 'pydantic', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_band_of_the_controls_goes_from_the_lowest_mean_to_the_highest() -> None:
    rows = [MethodRow("edges", {"gain": CellValue(0.12, 0.14)}), MethodRow("centre", {"gain": CellValue(0.18)})]
    assert controls_band("gain", rows) == (0.12, 0.18)
    assert controls_band("grid", rows) is None


def test_a_control_is_beaten_by_a_standard_error_of_the_difference() -> None:
    assert margin(0.13, 0.12, "high") == pytest.approx(0.01)
    assert margin(0.12, 0.12, "high") == 0
    assert margin(0.01, None, "high") == 0.01
    assert margin(-0.05, 0.04, "low") == pytest.approx(0.01)
    assert margin(-0.05, 0.06, "low") == pytest.approx(-0.01)


def test_the_best_are_told_by_what_is_shown() -> None:
    assert best_of([0.231, None, 0.234, 0.1], "high") == {0, 2}
    assert best_of([0.2, None, 0.3, 0.1], "low") == {3}
    assert best_of([0.2, 0.2], "high") == set()
    assert best_of([0.2, None], "high") == set()
    assert best_of([0.2, 0.1], "none") == set()


def test_alpha_in_a_word() -> None:
    assert [agreement_word(alpha) for alpha in (0.9, 0.667, 0.57, 0.34, 0.19, -0.3)] == [
        "well",
        "well",
        "somewhat",
        "somewhat",
        "hardly",
        "hardly",
    ]


def test_a_number_that_is_not_finite_is_refused_with_its_place() -> None:
    columns = (ColumnSpec("gain", "removal gain"),)
    check_finite(Leaderboard("t", (), columns, (MethodRow("a", {"gain": CellValue(0.1, 0.2)}),)))
    bad = MethodRow("a", {"gain": CellValue(0.1, float("nan"))}, layer="head")
    with pytest.raises(ValueError, match="a head, gain"):
        check_finite(Leaderboard("t", (), columns, (), (bad,)))
