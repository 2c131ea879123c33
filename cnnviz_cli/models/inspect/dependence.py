"""What each tensor of a forward depends on, position by position where positions stand in a list.

A number says it: each bit stands for a source. A map's positions all have the same number, since convolutions soon mix
them. In a list of tokens they do not: what a class token depends on is not what the patches behind it depend on, and a
classifier that reads the class token alone depends on no other position. So along one axis of a tensor `Spread` holds
runs of positions, each with its number. An operation without a rule gives every position everything, and is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from cnnviz_cli.models.inspect.receptive_rules import Track


class PositionRun(NamedTuple):
    """Positions that follow one another and depend on the same.

    Attributes:
        size: how many.
        bits: what they depend on.
        grid: rows and columns of the maps whose positions these are, row by row; None if they are no maps' as far as
            is known.
    """

    size: int
    bits: int
    grid: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """What a tensor depends on.

    Attributes:
        axis: the axis of `runs`, negative; None where every position depends on the same.
        runs: along `axis`; without one a single run, whose count means nothing.
        raw: the layers that have done nothing but weigh features to what stands here: no activation, no
            normalisation and no sum came after the first of them. Attention reads its queries, keys and values so.
        weighed: whether a linear layer or a convolution was the last to do anything.
        paired: whether it holds something for each pair of positions, or of channels, as attention weighs them.
    """

    axis: int | None
    runs: tuple[PositionRun, ...]
    raw: int = 0
    weighed: bool = False
    paired: bool = False

    @property
    def bits(self) -> int:
        """What any position depends on."""
        return reduce(or_, (run.bits for run in self.runs), 0)

    @property
    def is_even(self) -> bool:
        """Whether every position depends on the same."""
        return len({run.bits for run in self.runs}) == 1

    def mark(self, bits: int) -> Spread:
        """The same, and every position depends on `bits`."""
        raw = self.raw | bits if self.weighed else self.raw
        return replace(self, runs=tuple(run._replace(bits=run.bits | bits) for run in self.runs), raw=raw)


def source_spread(bits: int = 0) -> Spread:
    """A tensor of which every position depends on the same."""
    return Spread(None, (PositionRun(0, bits),))


class KnownTensor(NamedTuple):
    """A tensor as it was before the operation."""

    spread: Spread
    track: Track
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """An operation that was carried out.

    Attributes:
        args: with the first.
        known: of each input that depends on the source, by its id.
        outputs: the shapes of its results.
        index: which of them is asked about.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    known: Mapping[int, KnownTensor]
    outputs: Sequence[tuple[int, ...]]
    index: int = 0
    losses: list[str] = field(default_factory=list)

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by name or position."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    def known_of(self, value: Any) -> KnownTensor | None:
        """What was known of an argument."""
        return self.known.get(id(value))

    @property
    def output(self) -> tuple[int, ...]:
        return self.outputs[self.index]

    @property
    def first_known(self) -> KnownTensor:
        return next(iter(self.known.values()))

    @property
    def bits(self) -> int:
        return reduce(or_, (one.spread.bits for one in self.known.values()), 0)
