"""Multipliers of differences to a reference, by DeepLIFT's rescale rule, without editing the model.

Shrikumar et al., 2017, https://arxiv.org/abs/1704.02685, section 3.5.1. The batch and its reference run as one batch of
twice the size. A mode replaces each nonlinearity, as the torch function call that it is, by one whose backward
multiplies by difference out / difference in instead of the derivative; module, function, method and in-place forms and
modules used twice are all alike. The sum of multiplier * (input - reference) is then the difference of the scores, also
through two rules that the paper does not have:

- of a maximum over a window, what the larger of the two maxima adds goes to the position that holds it;
- of a product of two signals each counts with the mean of the other: a b - a' b' = (a - a') (b + b') / 2
  + (b - b') (a + a') / 2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cnnviz_cli.core.needs import Multipliers
from cnnviz_cli.core.scores import to_two_classes
from cnnviz_cli.engine import operations as ops
from cnnviz_cli.engine.answers import PassContext, answers
from cnnviz_cli.engine.operations import Call, OperationMode, Step
from cnnviz_cli.engine.passes import Pass, answer

TINY = 1e-10
"""Differences below it are none: there the derivative holds."""

_ACTIVATION_OPS = ops.ACTIVATIONS | frozenset(
    ["exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "square", "reciprocal", "abs", "sin", "cos", "erf"]
)

_LINEAR_OPS = ops.MOVES | ops.AVERAGES | ops.SUMS | ops.DIFFERENCES | {"neg", "rsub"}
"""Linear in all its signals together, so that the derivative is the rule."""


@answers(Multipliers)
def run_multipliers(context: PassContext, need: Multipliers) -> Tensor:
    """(B, 3, H, W) multipliers of the input's difference to the reference. Raises UsageError as `run_relevance`."""
    ops.check_visible(context.net)
    batch = context.batch
    evidence = context.evidence.only(need.sources)
    made = [need.reference.make(evidence, image, 0, 1) for image in range(len(batch))]
    leaf = torch.cat([batch, torch.cat(made).to(batch)]).requires_grad_()
    with torch.enable_grad():
        source = leaf.clone()
        with RescaleMode():
            output = context.net(source)
            # The reference is read as the image is: of the same region, the same box.
            anchor = None if context.anchor is None else torch.cat([context.anchor, context.anchor])
            scores = context.readout.scores(output, anchor)
        ops.check_recorded(scores)
        value = need.of.value(Pass(to_two_classes(scores[: len(batch)]), context.targets, {}, {})).sum()
    (found,) = torch.autograd.grad(value, leaf)
    return answer(found[: len(batch)])


class RescaleMode(OperationMode):
    """Record the forward of a batch whose second half is the reference of the first, for a backward by the rule."""

    def record(self, call: Call) -> Any:
        name, count = call.name, len(call.signals)
        if name in _LINEAR_OPS or (count == 1 and _is_linear_in_signal(call)):
            return call.plain()
        if count == 1 and ops.is_signal(call.get(0, "input")):
            if name in _ACTIVATION_OPS or name in ("pow", "maximum", "minimum", "fmax", "fmin"):
                return _apply_activation(call)
            if name in ops.MAXIMA:
                return _apply_maximum(call)
        if count == 2 and name in ops.PRODUCTS | ops.MATRIX_PRODUCTS:
            return _apply_product(call)
        return call.plain_or_refuse("a difference to a reference")


def _is_linear_in_signal(call: Call) -> bool:
    """Whether a call is linear in the one signal it has, the rest being constants."""
    if call.name in ops.CONVOLUTIONS | ops.PRODUCTS | ops.MATRIX_PRODUCTS | {"linear", "scatter_add"}:
        return True
    if call.name == "batch_norm":
        return call.get(1, "running_mean") is not None and not call.get(5, "training", False)
    return call.name in ops.QUOTIENTS and ops.is_signal(call.get(0, "input"))


def _apply_activation(call: Call) -> Tensor:
    (source,), again = call.taking("input")
    return Step(again, partial(_secant, again), ops.keep_copies, call.in_place)(source)


def _secant(curve: Callable[[Tensor], Tensor], arriving: Tensor, source: Tensor) -> tuple[Tensor]:
    with torch.enable_grad():
        leaf = source.detach().requires_grad_()
        # The clone lets an in-place function run on what would otherwise be a leaf.
        result = curve(leaf.clone())
        (exact,) = torch.autograd.grad(result, leaf, arriving)
    inside, outside = _difference(source), _difference(result.detach())
    moved = inside.abs() > TINY
    slope = arriving[: len(inside)] * outside / torch.where(moved, inside, 1)
    return (_first_half(torch.where(moved, slope, exact[: len(inside)])),)


def _apply_maximum(call: Call) -> Any:
    (source,), again = call.taking("input")
    return Step(again, partial(_winners, again), ops.keep_copies)(source)


def _winners(largest: Callable[[Tensor], Tensor], arriving: Tensor, source: Tensor) -> tuple[Tensor]:
    half = len(source) // 2
    with torch.enable_grad():
        leaf = source.detach().requires_grad_()
        result = largest(leaf)
    one, other = result.detach()[:half], result.detach()[half:]
    top, incoming = torch.maximum(one, other), arriving[:half]
    # What the input's maximum adds beyond the reference's belongs to where the input has it, and the other way round.
    parts = torch.cat([incoming * (top - other), incoming * (one - top)])
    (sent,) = torch.autograd.grad(result, leaf, parts, retain_graph=True)
    (exact,) = torch.autograd.grad(result, leaf, arriving)
    inside = _difference(source)
    moved = inside.abs() > TINY
    share = (sent[:half] + sent[half:]) / torch.where(moved, inside, 1)
    return (_first_half(torch.where(moved, share, exact[:half])),)


def _apply_product(call: Call) -> Tensor:
    (one, other), again = call.taking("input", "other")
    if len(one) != len(other) or one.dim() != other.dim():
        call.refuse("a difference to a reference")
    return Step(again, partial(_halves, again, call.in_place), ops.keep_copies, call.in_place)(one, other)


def _halves(
    product: Callable[[Tensor, Tensor], Tensor], in_place: bool, arriving: Tensor, one: Tensor, other: Tensor
) -> tuple[Tensor, ...]:
    half = len(arriving) // 2
    means = [(t[:half] + t[half:]) / 2 for t in (one, other)]
    with torch.enable_grad():
        leaves = [mean.requires_grad_() for mean in means]
        # Bilinear, so that its derivative by each at the means is the other's mean.
        result = product(leaves[0].clone() if in_place else leaves[0], leaves[1])
    return tuple(_first_half(slope) for slope in torch.autograd.grad(result, leaves, arriving[:half]))


def _difference(values: Tensor) -> Tensor:
    half = len(values) // 2
    return values[:half] - values[half:]


def _first_half(values: Tensor) -> Tensor:
    """Nothing goes back to the reference."""
    return torch.cat([values, torch.zeros_like(values)])
