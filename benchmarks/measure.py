"""Take turns, take medians, say what was measured."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import Kind, conditions, cpu_matmul_rate, machine_kind


@dataclass(frozen=True)
class Line:
    """One ratio and the bound it was to meet.

    Attributes:
        ratio: `numerator` / `denominator`, of medians.
        seconds: numerator and denominator; seconds, or GiB where the names say so.
        bound: for instance ``<= 1.15`` or ``>= 4``.
        limit: the ratio that the machine allows at most, for instance 1 for a method over its own forward; see
            `matmul_limit`.
        why: what keeps the ratio from its bound, said only where it misses it.
    """

    name: str
    numerator: str
    denominator: str
    seconds: tuple[float, float]
    ratio: float
    bound: str
    limit: float | None = None
    why: str = ""

    @property
    def met(self) -> bool:
        """Whether the ratio keeps the bound."""
        sign, value = self.bound.split()
        return self.ratio <= float(value) if sign == "<=" else self.ratio >= float(value)


def medians(contestants: Mapping[str, Callable[[], object]], rounds: int, *, warm: bool = True) -> dict[str, float]:
    """Median wall seconds of each, in turns so that a noisy minute hits all alike.

    Args:
        warm: whether one round more comes first, which does not count.
    """
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(0 if warm else 1, rounds + 1):
        for name, work in contestants.items():
            gc.collect()
            start = time.perf_counter()
            work()
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def line(
    name: str,
    times: Mapping[str, float],
    numerator: str,
    denominator: str,
    bound: str,
    limit: float | None = None,
    why: str = "",
) -> Line:
    """The ratio of two medians."""
    seconds = (times[numerator], times[denominator])
    return Line(name, numerator, denominator, seconds, seconds[0] / seconds[1], bound, limit, why)


def flops_of(work: Callable[[], object]) -> int:
    """The floating-point operations of the matrix products and convolutions in `work`, which is carried out."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def matmul_seconds(flops: float, kind: torch.dtype = torch.float32) -> float:
    """How long this machine takes for as many operations of one matrix multiplication: nothing is faster."""
    return flops / (cpu_matmul_rate(kind) * 1e9)


def matmul_limit(peer_seconds: float, flops: float, kind: torch.dtype = torch.float32) -> float:
    """A peer's time over what our `flops` would take at the rate of a matrix multiplication: the ratio's limit."""
    return peer_seconds / matmul_seconds(flops, kind)


def report(part: str, parts: list[str], lines: list[Line], notes: list[str], path: Path) -> None:
    """Print the table of one part and put it into the JSON file, in the place of what this kind of machine had before.

    Args:
        parts: all there are, in their order.
    """
    width = max((len(item.name) for item in lines), default=0)
    surroundings, kind = conditions(), machine_kind()
    print(f"\n{kind}: " + ", ".join(f"{key} {value}" for key, value in surroundings.items()))
    for item in lines:
        first, second = (f"{value:.3f}" for value in item.seconds)
        mark = "met" if item.met else "NOT MET"
        limit = "" if item.limit is None else f"limit {item.limit:.2f}"
        terms = f"{item.numerator} {first} / {item.denominator} {second}"
        print(f"{item.name:<{width}}  {item.ratio:6.2f}  {item.bound:<8} {mark:<8} {limit:<12} {terms}")
    for note in notes:
        print(note)
    ratios = [asdict(item) | {"met": item.met, "part": part} for item in lines]
    told = [{"part": part, "text": note} for note in notes]
    machines = json.loads(path.read_text(encoding="utf-8"))["machines"] if path.exists() else []
    found = _of_kind(machines, kind)
    found["conditions"] = surroundings
    found["ratios"] = _replaced(found["ratios"], ratios, part, parts)
    found["notes"] = _replaced(found["notes"], told, part, parts)
    path.write_text(json.dumps({"machines": machines}, indent=1) + "\n", encoding="utf-8")


def _of_kind(machines: list[dict[str, Any]], kind: Kind) -> dict[str, Any]:
    """What was measured on that kind of machine; a new entry if it is the first of its kind."""
    for machine in machines:
        if machine["kind"] == asdict(kind):
            return machine
    machines.append({"kind": asdict(kind), "ratios": [], "notes": []})
    return machines[-1]


def _replaced(
    before: list[dict[str, Any]], now: list[dict[str, Any]], part: str, parts: list[str]
) -> list[dict[str, Any]]:
    kept = [item for item in before if item["part"] != part and item["part"] in parts]
    return sorted([*kept, *now], key=lambda item: parts.index(item["part"]))
