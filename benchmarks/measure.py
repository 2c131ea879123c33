"""Take turns, take medians, say what was measured."""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Line:
    """One ratio and the bound it was to meet.

    Attributes:
        ratio: `numerator` / `denominator`, of medians.
        seconds: numerator and denominator; seconds, or GiB where the names say so.
        bound: for instance ``<= 1.15`` or ``>= 4``.
    """

    name: str
    numerator: str
    denominator: str
    seconds: tuple[float, float]
    ratio: float
    bound: str

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


def line(name: str, times: Mapping[str, float], numerator: str, denominator: str, bound: str) -> Line:
    """The ratio of two medians."""
    seconds = (times[numerator], times[denominator])
    return Line(name, numerator, denominator, seconds, seconds[0] / seconds[1], bound)


def conditions() -> dict[str, str]:
    """What the numbers depend on."""
    found = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }
    for package in ("torch", "torchvision", "captum", "grad-cam"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def report(part: str, parts: list[str], lines: list[Line], notes: list[str], path: Path) -> None:
    """Print the table of one part and put it into the JSON file, in the place of what was measured of it before.

    Args:
        parts: all there are, in their order.
    """
    width = max((len(item.name) for item in lines), default=0)
    print("\n" + ", ".join(f"{key} {value}" for key, value in conditions().items()))
    for item in lines:
        first, second = (f"{value:.3f}" for value in item.seconds)
        mark = "met" if item.met else "NOT MET"
        terms = f"{item.numerator} {first} / {item.denominator} {second}"
        print(f"{item.name:<{width}}  {item.ratio:6.2f}  {item.bound:<8} {mark:<8} {terms}")
    for note in notes:
        print(note)
    ratios = [asdict(item) | {"met": item.met, "part": part} for item in lines]
    told = [{"part": part, "text": note} for note in notes]
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"ratios": [], "notes": []}
    content = {
        "conditions": conditions(),
        "ratios": _replaced(before["ratios"], ratios, part, parts),
        "notes": _replaced(before["notes"], told, part, parts),
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _replaced(
    before: list[dict[str, Any]], now: list[dict[str, Any]], part: str, parts: list[str]
) -> list[dict[str, Any]]:
    kept = [item for item in before if item["part"] != part]
    return sorted([*kept, *now], key=lambda item: parts.index(item["part"]))
