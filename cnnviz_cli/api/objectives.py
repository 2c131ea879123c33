"""What can be painted, as values that are added up and weighed: ``channel("high", 12) - 0.5 * target("espresso")``."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from cnnviz_cli.core.errors import UsageError


@dataclass(frozen=True, eq=False)
class Term:
    """One objective and its weight.

    Attributes:
        about: what it is read of, under the keys that a term has in YAML.
        vector: a number for each channel, where it is a direction.
    """

    about: dict[str, Any]
    weight: float = 1.0
    vector: Any = None


@dataclass(frozen=True, eq=False)
class Objective:
    """Something to paint: what `target`, `channel`, `direction`, `energy` and `likeness` give, and their sums and
    differences, times numbers. Which network it is asked of is said to `dream`."""

    terms: tuple[Term, ...]

    def __add__(self, other: object) -> Objective:
        if not isinstance(other, Objective):
            return NotImplemented
        return Objective(self.terms + other.terms)

    def __radd__(self, other: object) -> Objective:
        return self if other == 0 else NotImplemented  # what `sum` begins with

    def __sub__(self, other: object) -> Objective:
        return self + -other if isinstance(other, Objective) else NotImplemented

    def __neg__(self) -> Objective:
        return -1 * self

    def __mul__(self, weight: object) -> Objective:
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            return NotImplemented
        return Objective(tuple(Term(term.about, weight * term.weight, term.vector) for term in self.terms))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Objective:
        return self * (1 / divisor)


def target(name: str | int) -> Objective:
    """The score of a class, by index or name."""
    return _single({"target": name})


def channel(layer: str, number: int, at: str | tuple[int, int] | None = None) -> Objective:
    """A channel of a layer: the mean of its map, or one position of that, ``"centre"`` or a row and a column."""
    place = "" if at is None else f"@{at}" if isinstance(at, str) else "@{},{}".format(*at)
    return _single({"layer": layer, "unit": f"{number}{place}"})


def direction(layer: str, vector: Any) -> Objective:
    """How far a layer's maps go along a direction: a number for each channel, or a file of numpy's."""
    if isinstance(vector, str | PathLike):
        return _single({"layer": layer, "direction": Path(vector)})
    return Objective((Term({"layer": layer}, vector=vector),))


def energy(layer: str) -> Objective:
    """Half the mean square of a layer's maps: whatever it sees, more of it."""
    return _single({"layer": layer})


def likeness(layer: str, image: str | PathLike[str]) -> Objective:
    """How much a layer's maps resemble those of an image, wherever in it."""
    return _single({"layer": layer, "like": Path(image)})


def as_settings(of: Any) -> tuple[list[dict[str, Any]], dict[Path, Any]]:
    """The terms as settings, and by the names that these give them the arrays of directions. Raises UsageError for what
    is no objective."""
    if not isinstance(of, Objective):
        what = f"what is painted is no {type(of).__name__}"
        raise UsageError(what, where="of", fix="Add up objectives: channel('high', 12) - 0.5 * target('espresso')")
    found, vectors = [], {}
    for number, term in enumerate(of.terms, 1):
        named = dict(term.about)
        if term.vector is not None:
            named["direction"] = Path(f"direction {number}")
            vectors[named["direction"]] = term.vector
        found.append({**named, "weight": float(term.weight)})
    return found, vectors


def _single(about: dict[str, Any]) -> Objective:
    return Objective((Term(about),))
