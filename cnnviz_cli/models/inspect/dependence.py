"""What is known of each tensor of a forward, and the operation that it came out of.

A `Track` says what part of the input a position sees, a `Spread` what a tensor depends on. There each bit of a number
stands for a source. A map's positions all have the same number, since convolutions soon mix them. In a list of tokens
they do not: what a class token depends on is not what the patches behind it depend on, and a classifier that reads the
class token alone depends on no other position. So along one axis of a tensor `Spread` holds runs of positions, each
with its number. An operation without a rule gives every position everything, and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from math import prod
from operator import or_
from types import EllipsisType
from typing import Any, NamedTuple, TypeVar

from cnnviz_cli.core.layers import ReceptiveField


@dataclass(frozen=True, slots=True)
class Track:
    """The `field` of a position (None: the whole input, or unknown); `axes` of rows and columns, negative, or None."""

    field: ReceptiveField | None
    axes: tuple[int, int] | None


UNKNOWN_TRACK = Track(None, None)


class PositionRun(NamedTuple):
    """Positions that follow one another and depend on the same `bits`.

    `grid` is rows and columns of the maps whose positions these are, row by row; None if none are known.
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
        return union(run.bits for run in self.runs)

    @property
    def is_even(self) -> bool:
        """Whether every position depends on the same."""
        return len({run.bits for run in self.runs}) == 1

    def add(self, bits: int) -> Spread:
        """The same, and every position depends on `bits`, too."""
        return replace(self, runs=tuple(run._replace(bits=run.bits | bits) for run in self.runs))

    def mark(self, bits: int) -> Spread:
        return replace(self.add(bits), raw=self.raw | bits if self.weighed else self.raw)


def words(text: str) -> frozenset[str]:
    """Names of operations that a text lists, without underscores: relu_ and F.relu, x + y and torch.add are one."""
    return frozenset(text.split())


def union(bits: Iterable[int]) -> int:
    """All bits that any of the numbers has."""
    return reduce(or_, bits, 0)


def source_spread(bits: int = 0) -> Spread:
    """A tensor of which every position depends on the same."""
    return Spread(None, (PositionRun(0, bits),))


def slice_runs(runs: Sequence[PositionRun], start: int, stop: int) -> tuple[PositionRun, ...]:
    """Positions from `start` to `stop`. Part of a grid is none."""
    found, at = [], 0
    for run in runs:
        count = min(stop, at + run.size) - max(start, at)
        if count > 0:
            found.append(run if count == run.size else PositionRun(count, run.bits))
        at += run.size
    return tuple(found)


class KnownTensor(NamedTuple):
    """A tensor as it was before the operation."""

    spread: Spread
    track: Track
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """An operation that was carried out.

    `known` has each input that depends on the source, by its id; `index` says which of the `outputs` is asked about.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    known: Mapping[int, KnownTensor]
    outputs: Sequence[tuple[int, ...]]
    index: int = 0
    losses: list[str] = field(default_factory=list)

    def get(self, position: int, name: str, default: Any = None) -> Any:
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    def known_of(self, value: Any) -> KnownTensor | None:
        return self.known.get(id(value))

    @property
    def output(self) -> tuple[int, ...]:
        return self.outputs[self.index]

    @property
    def first_known(self) -> KnownTensor:
        return next(iter(self.known.values()))

    @property
    def track(self) -> Track:
        """Of the first input that depends on the source."""
        return self.first_known.track

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the same input."""
        return self.first_known.shape

    @property
    def mixed(self) -> Spread:
        """A result of which every position depends on all that is known."""
        return source_spread(union(one.spread.bits for one in self.known.values()))

    def axes(self, dims: Any) -> set[int]:
        """One or several dimensions of that input as negative ones."""
        given = dims if isinstance(dims, Iterable) else (dims,)
        return {dim - len(self.shape) * (dim >= 0) for dim in given}

    def permutation(self) -> list[int]:
        """Of an operation that changes the order of dimensions: by dimension of the result which it was."""
        order = list(range(len(self.shape)))
        if self.name == "permute":
            dims = self.get(1, "dims")
            return list(dims if isinstance(dims, tuple | list) else self.args[1:])
        if self.name in ("t", "T"):
            return order[::-1]
        one, other = (self.get(at, f"dim{at - 1}", self.kwargs.get(f"axis{at - 1}", at - 1)) for at in (1, 2))
        if self.name == "mT":
            one, other = -2, -1
        order[one], order[other] = order[other], order[one]
        return order


def numel_behind(shape: Sequence[int], axis: int) -> int:
    """How many numbers there are for each position of a negative axis."""
    return prod(shape[axis + 1 :]) if axis != -1 else 1


def find_axis(shape: Sequence[int], size: int, behind: int) -> int | None:
    """The negative axis of so many positions with so many numbers for each behind it."""
    found = (axis for axis in range(-len(shape), 0) if shape[axis] == size and numel_behind(shape, axis) == behind)
    return next(found, None)


def full_index(index: Any, rank: int, kinds: tuple[type, ...] = (int, slice, EllipsisType)) -> list[Any] | None:
    """What stands between brackets with an item for each of `rank` dimensions; None if an item is of no such kind."""
    items = list(index) if isinstance(index, tuple) else [index]
    if not all(type(item) in kinds for item in items):
        return None
    at = next((place for place, item in enumerate(items) if item is ...), len(items))
    taken = sum(item is not None and item is not ... for item in items)
    items[at : at + 1] = [slice(None)] * (rank - taken)
    return items


RuleT = TypeVar("RuleT", bound=Callable[[Operation], Any])


def rules_by_name(rows: Mapping[str, RuleT]) -> dict[str, RuleT]:
    """Rules by each of the names in a row."""
    return {name: rule for names, rule in rows.items() for name in names.split()}


POINTWISE = """
    add iadd radd sub isub rsub mul imul rmul div idiv rdiv truediv itruediv rtruediv true_divide pow neg abs exp log
    sqrt rsqrt square maximum minimum clamp clamp_min clamp_max where masked_fill addcmul addcdiv lerp
    relu relu6 hardtanh leaky_relu rrelu prelu elu selu celu gelu silu mish softplus softsign logsigmoid sigmoid
    hardsigmoid hardswish hardshrink softshrink tanhshrink tanh threshold
    dropout dropout1d dropout2d alpha_dropout feature_dropout feature_alpha_dropout local_response_norm
    clone contiguous detach to type float double half bfloat16 requires_grad
"""
"""Operations of which each position of the result depends on the same position of every input."""

CONCAT_OPS = words("cat concat concatenate")
