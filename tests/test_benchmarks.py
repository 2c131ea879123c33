"""The benchmarks' own bookkeeping: what a part replaces in the results, and how they become a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import generate
import pytest
import torch

from benchmarks import machine, measure
from benchmarks.measure import Line

ROOT = Path(__file__).parents[1]

OLD = machine.Kind("AVX2", False, 4)
NEW = machine.Kind("AVX512", True, 2)


def ratio(name: str, value: float = 1.0, **more: Any) -> Line:
    return Line(name, "a", "b", (value, 1.0), value, "<= 1.5", **more)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two kinds of machines, of which the second measured one part again."""
    monkeypatch.setattr(measure, "conditions", lambda: {"torch": "2"})
    path = tmp_path / "benchmarks" / "results.json"
    path.parent.mkdir()
    for kind, part, lines, notes in (
        (OLD, "one", [ratio("x", 1.25), ratio("y", 2.0)], ["said"]),
        (OLD, "two", [ratio("z")], []),
        (NEW, "two", [ratio("z", 1.1), ratio("last", 1.2)], []),
        (NEW, "one", [ratio("x", 9.0)], []),
        (NEW, "one", [ratio("x", 1.75, limit=1.0, why="the sea is deep"), ratio("between", 1.3)], []),
    ):
        monkeypatch.setattr(measure, "machine_kind", lambda kind=kind: kind)
        measure.report(part, ["one", "two"], lines, notes, path)
    return path


def test_a_part_replaces_its_own_rows_on_its_own_kind_of_machine(results: Path) -> None:
    old, new = json.loads(results.read_text(encoding="utf-8"))["machines"]
    assert [(row["part"], row["name"], row["ratio"], row["met"]) for row in old["ratios"]] == [
        ("one", "x", 1.25, True), ("one", "y", 2.0, False), ("two", "z", 1.0, True),
    ]  # fmt: skip
    assert old["notes"] == [{"part": "one", "text": "said"}]
    assert [(row["part"], row["name"], row["ratio"]) for row in new["ratios"]] == [
        ("one", "x", 1.75), ("one", "between", 1.3), ("two", "z", 1.1), ("two", "last", 1.2),
    ]  # fmt: skip
    assert (old["kind"], new["kind"]) == ({"cpu": "AVX2", "bf16": False, "cores": 4}, vars(NEW))


def test_the_table_has_a_column_for_each_kind_and_marks_what_misses(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "ROOT", results.parents[1])
    lines = generate.ratios().splitlines()
    start = next(number for number, text in enumerate(lines) if text.startswith("| what"))
    assert lines[start:] == [
        "| what | AVX2, no bf16 arithmetic, 4 cores | limit | AVX512, with bf16 arithmetic, 2 cores | limit | wanted |",
        "|---|---|---|---|---|---|",
        "| x | 1.25 | — | *1.75* | 1.00 | <= 1.5 |",
        "| between | — | — | 1.30 | — | <= 1.5 |",
        "| y | *2.00* | — | — | — | <= 1.5 |",
        "| z | 1.00 | — | 1.10 | — | <= 1.5 |",
        "| last | — | — | 1.20 | — | <= 1.5 |",
        "",
        "- AVX2, no bf16 arithmetic, 4 cores: said",
        "- AVX512, with bf16 arithmetic, 2 cores: x: 1.75 is not <= 1.5: the sea is deep",
    ]


def test_the_limit_is_the_time_of_a_matrix_multiplication_of_as_many_operations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measure, "cpu_matmul_rate", lambda _kind: 2.0)  # GFLOP/s
    left, right = torch.ones(10, 20), torch.ones(20, 30)
    flops = measure.flops_of(lambda: left @ right)
    assert flops == 2 * 10 * 20 * 30
    assert measure.matmul_limit(0.3, 4e8) == pytest.approx(1.5)


def test_a_rate_counts_two_operations_for_each_product(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, *(float(n) for n in range(1, 100))])
    monkeypatch.setattr(machine, "_MATMUL_SIZE", 10)
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(ticks))
    assert machine.matmul_rate(seconds=0.0) == pytest.approx(2 * 10**3 / 1 / 1e9)
