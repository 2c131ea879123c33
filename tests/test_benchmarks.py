"""The benchmarks' own bookkeeping: what a part replaces in the results, and how they become a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import generate
import pytest
import torch

from benchmarks import gpu, machine, measure
from benchmarks.measure import Line

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
        "| what | AVX2, bf16 no faster than fp32, 4 cores | limit | AVX512, bf16 faster than fp32, 2 cores | limit "
        "| wanted |",
        "|---|---|---|---|---|---|",
        "| x | 1.25 | — | *1.75* | 1.00 | <= 1.5 |",
        "| between | — | — | 1.30 | — | <= 1.5 |",
        "| y | *2.00* | — | — | — | <= 1.5 |",
        "| z | 1.00 | — | 1.10 | — | <= 1.5 |",
        "| last | — | — | 1.20 | — | <= 1.5 |",
        "",
        "- AVX2, bf16 no faster than fp32, 4 cores: said",
        "- AVX512, bf16 faster than fp32, 2 cores: x: 1.75 is not <= 1.5: the sea is deep",
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
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(ticks))
    assert machine.matmul_rate(seconds=0.0, size=10) == pytest.approx(2 * 10**3 / 1 / 1e9)


TINY = gpu.Size("squeezenet1_1", "squeezenet1_1", (1,), 2, 2, 1, compiled=False)


def test_a_section_that_fails_leaves_the_others_and_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[list[str]] = []
    path = tmp_path / "benchmarks" / "gpu.json"
    path.parent.mkdir()

    def sound(_bench: gpu.Bench) -> Iterator[gpu.Row]:
        yield gpu.Row("a", 1.5, "ms")

    def broken(_bench: gpu.Bench) -> Iterator[gpu.Row]:
        yield gpu.Row("b", 2.5, "%")
        written.append(list(json.loads(path.read_text(encoding="utf-8"))["sections"]))
        raise RuntimeError("no kernel")

    monkeypatch.setattr(gpu, "SECTIONS", {"sound": (sound, 0.5), "broken": (broken, 0.5)})
    gpu.measure(["sound", "broken"], torch.device("cpu"), TINY, 100.0, path)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert written == [["sound"]]
    assert found["complete"] is True
    assert found["sections"]["broken"]["rows"] == [{"name": "b", "value": 2.5, "unit": "%"}]
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.accelerator().splitlines()[2:] == [
        "| what | figure |", "|---|---|", "| a | 1.5 ms |", "| b | 2.5 % |", "", "- broken: RuntimeError: no kernel",
    ]  # fmt: skip
    path.unlink()
    assert generate.accelerator().startswith("Not measured yet")


def test_sections_that_come_after_the_time_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SECTIONS", {"late": (lambda _bench: iter([gpu.Row("a", 1.0, "")]), 1.0)})
    found = gpu.measure(["late"], torch.device("cpu"), TINY, -1.0, None)
    assert found["sections"]["late"]["rows"] == []
    assert found["sections"]["late"]["error"] == "TimeoutError: -1 seconds were up"


def test_the_shares_of_the_sections_are_no_more_than_the_whole() -> None:
    assert sum(share for _, share in gpu.SECTIONS.values()) <= 1.0 + 1e-9


@pytest.mark.parametrize("name", ["gradcam", "families"])
def test_a_section_runs_on_a_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_spec", lambda _package: None)
    monkeypatch.setattr(gpu, "_ROUNDS", 1)
    found = gpu.measure([name], torch.device("cpu"), TINY, 10_000.0, None)["sections"][name]
    assert "error" not in found
    assert all(row["value"] > 0 and row["name"].startswith("squeezenet1_1: ") for row in found["rows"])
    assert found["rows"]
