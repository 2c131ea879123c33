"""How relevance passes the operations that have no weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from cnnviz_cli.engine import operations as ops
from cnnviz_cli.engine import relevance_rules as rules
from cnnviz_cli.engine.operations import Call, Step


def averaged(call: Call) -> Tensor:
    """A sum or mean over positions: in proportion."""
    (source,), again = call.taking("input")
    if len(call.signals) > 1:
        call.refuse("relevance")
    return Step(again, partial(_proportional, again), ops.copies)(source)


def _proportional(op: Callable[[Tensor], Tensor], relevance: Tensor, source: Tensor) -> tuple[Tensor]:
    return (rules.proportional(op, source, relevance),)


def handed_on(call: Call) -> Tensor:
    """A function of one signal alone, perhaps with a constant that takes nothing: all to the signal."""
    if len(call.signals) > 1:
        call.refuse("relevance")
    (one, other), both = call.taking("input", "other")
    if isinstance(one, Tensor) and ops.is_signal(one):
        (_,), again = call.taking("input")
        shape = one.shape
        return Step(again, lambda relevance: (relevance.sum_to_size(shape),), in_place=call.in_place)(one)
    straight = call.name in ops.SUMS | ops.DIFFERENCES | ops.PRODUCTS
    if not isinstance(other, Tensor) or not ops.is_signal(other) or not straight or call.in_place:
        call.refuse("relevance")
    place = other.shape
    return Step(lambda x: both(one, x), lambda relevance: (relevance.sum_to_size(place),))(other)


def summed(call: Call) -> Tensor:
    """The sum or difference of two signals: in proportion to what each brings."""
    if len(call.signals) == 1:
        return handed_on(call)
    (one, other), again = call.taking("input", "other")
    factor = call.kwargs.get("alpha", 1) * (-1 if call.name in ops.DIFFERENCES else 1)
    shapes = (one.shape, other.shape)

    def parts(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        total = rules.stabilised(one + factor * other)
        return one / total, factor * other / total

    def share(relevance: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        return tuple((relevance * part).sum_to_size(shape) for part, shape in zip(parts, shapes, strict=True))

    return Step(again, share, parts, call.in_place)(one, other)


def gated(call: Call, gates: Sequence[bool]) -> Tensor:
    """The product of a signal and a gate: all to the signal.

    Args:
        gates: whether each is known for a gate; if both or neither, the smaller is, for a gate is spread over what it
            weighs.
    """
    (one, other), again = call.taking("input", "other")
    if gates[0] == gates[1]:
        gates = [one.numel() < other.numel(), other.numel() < one.numel()]
    if gates[0] == gates[1]:
        call.refuse("relevance")
    shapes = (one.shape, other.shape)

    def share(relevance: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(None if gate else relevance.sum_to_size(shape) for gate, shape in zip(gates, shapes, strict=True))

    return Step(again, share, in_place=call.in_place)(one, other)


def collected(call: Call) -> Tensor:
    """Values added up in bins: to each in proportion. What was in the bins takes nothing."""
    (bins, dim, index, source), again = call.taking("input", "dim", "index", "src")
    if len(call.signals) > 1 or not isinstance(source, Tensor) or not ops.is_signal(source) or call.in_place:
        call.refuse("relevance")
    share = partial(_proportional, partial(again, bins.new_zeros(bins.shape), dim, index))
    return Step(partial(again, bins, dim, index), share, ops.copies)(source)


STEPS: Mapping[str, Callable[[Call], Any]] = {
    # Their gradient brings back what arrives, and that of a maximum gives it all to the winner.
    **dict.fromkeys(ops.MOVES | ops.MAXIMA, Call.plain),
    **dict.fromkeys(ops.AVERAGES, averaged),
    **dict.fromkeys(ops.ACTIVATIONS | ops.QUOTIENTS | {"maximum", "fmax", "rsub", "neg"}, handed_on),
    **dict.fromkeys(ops.SUMS | ops.DIFFERENCES, summed),
    "scatter_add": collected,
}
"""By name of the operation."""
