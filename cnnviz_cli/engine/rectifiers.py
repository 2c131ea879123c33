"""Choose how gradients pass rectifiers after the forward is over, without editing the model.

A rectifier is any activation function that lets large positive values through: ReLU and its relatives, GELU, SiLU,
Hardswish, `clamp(min=0)`, `maximum(x, 0)`. Gates that squash (sigmoid, tanh, softmax) are none. Module, function,
method and in-place form are all seen, since every one of them is a torch function call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from cnnviz_cli.core.needs import ReluRule
from cnnviz_cli.core.network import pass_through

Call = Callable[[Tensor], Tensor]
Slope = Callable[[Tensor, Tensor, "_Use"], Tensor]
"""(incoming gradient, saved tensor, the use) -> gradient times derivative."""

_ABOVE_ZERO = {functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}

_SIX = {functional.relu6}
_HARDTANH = {functional.hardtanh, functional.hardtanh_}

_SMOOTH_OR_LEAKY = {
    functional.leaky_relu,
    functional.leaky_relu_,
    functional.prelu,
    torch.prelu,
    Tensor.prelu,
    functional.rrelu,
    functional.rrelu_,
    torch.rrelu,
    torch.rrelu_,
    functional.elu,
    functional.elu_,
    functional.celu,
    functional.celu_,
    torch.celu,
    torch.celu_,
    functional.selu,
    functional.selu_,
    torch.selu,
    torch.selu_,
    functional.gelu,
    functional.silu,
    functional.mish,
    functional.hardswish,
    functional.softplus,
    functional.threshold,
    functional.threshold_,  # type: ignore[attr-defined]
    torch.threshold_,
    torch.threshold,
}

_NO_CODE = (lambda: None).__code__  # of builtins, which take no `inplace`

_CLAMPS = {
    torch.clamp,
    torch.clamp_,
    torch.clamp_min,
    torch.clamp_min_,
    Tensor.clamp,
    Tensor.clamp_,
    Tensor.clamp_min,
    Tensor.clamp_min_,
    torch.clip,
    torch.clip_,
    Tensor.clip,
    Tensor.clip_,
}

_MAXIMA = {torch.maximum, torch.fmax, Tensor.maximum, Tensor.fmax}


class RectifierMode(TorchFunctionMode):
    """Record every rectifier of a forward so that its rule can be chosen at each backward.

    Attributes:
        rule: the rule in force; set it before a backward.
        recorded: how many rectifiers autograd has recorded. Zero after a forward means that no rule can have an effect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rule: ReluRule = "exact"
        self.recorded = 0

    @pass_through
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        slope = _slope(func, args, named)
        source = args[0] if args else named.pop("input", None)
        if slope is None or not isinstance(source, Tensor) or not (torch.is_grad_enabled() and source.requires_grad):
            return func(*args, **(kwargs or {}))
        self.recorded += 1
        # The call must not hold the tensor it is made for: in place that tensor is also the result, whose graph holds
        # the call, and no collector sees a cycle that passes through autograd.
        rest = args[1:]
        in_place = works_in_place(func, rest, named)
        kind = source.device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        use = _Use(partial(_apply_function, func, rest, named), slope, in_place, autocast, self)
        return _Rectifier.apply(source, use)


@pass_through
def _apply_function(func: Callable[..., Any], rest: tuple[Any, ...], named: Mapping[str, Any], value: Tensor) -> Any:
    return func(value, *rest, **named)


def _slope(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Slope | None:
    """How to multiply by the derivative of this call, or None if it is no rectifier."""
    second = args[1] if len(args) > 1 else None
    slope: Slope | None = None
    if func in _ABOVE_ZERO:
        slope = _above_zero
    elif func in _SIX:
        slope = partial(_between, 0.0, 6.0)
    elif func in _HARDTANH:
        low = kwargs.get("min_val", -1.0) if second is None else second
        high = args[2] if len(args) > 2 else kwargs.get("max_val", 1.0)
        # From -1 to 1 it squashes, as tanh does.
        slope = partial(_between, low, high) if _is_zero(low) else None
    elif (
        func in _SMOOTH_OR_LEAKY
        or (func in _CLAMPS and _is_zero(kwargs.get("min") if second is None else second))
        or (func in _MAXIMA and _is_zero(kwargs.get("other") if second is None else second))
    ):
        slope = _by_recomputing
    return slope


def _is_zero(bound: object) -> bool:
    """Whether a lower bound is a constant zero, as a number or as a tensor of zeros."""
    if isinstance(bound, Tensor):
        return not bound.requires_grad and not bool(bound.any())
    return isinstance(bound, int | float) and bound == 0


def works_in_place(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether the call rewrites its input; torch.nn passes `inplace` by position as well as by name."""
    if func.__name__.endswith("_"):
        return True
    if "inplace" in kwargs:
        return bool(kwargs["inplace"])
    places = list(getattr(func, "__code__", _NO_CODE).co_varnames)[1:]
    return dict(zip(places, args, strict=False)).get("inplace", False) is True


@dataclass(frozen=True, slots=True)
class _Use:
    """One call of a rectifier; its derivative is computed under the `autocast` in force when it was called."""

    call: Call
    slope: Slope
    in_place: bool
    autocast: torch.dtype | None
    mode: RectifierMode


class _Rectifier(Function):
    @staticmethod
    def forward(ctx: Any, source: Tensor, use: _Use) -> Tensor:
        # What the derivative is computed from: the input, saved before it can be overwritten, or else the output.
        before = (source.clone() if use.in_place else source) if use.slope is _by_recomputing else None
        result = use.call(source)
        if use.in_place:
            # In place: others may read `source` instead of the result, so it has to change, and be handed on itself.
            ctx.mark_dirty(source)
            result = source
        ctx.use = use
        ctx.save_for_backward(result if before is None else before)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        incoming = gradients[0]
        rule = ctx.use.mode.rule
        if rule == "rectify":
            return incoming.clamp(min=0), None
        guided = rule in ("guide", "guide-on")
        if guided:
            incoming = incoming.clamp(min=0)
        (saved,) = ctx.saved_tensors
        outgoing = ctx.use.slope(incoming, saved, ctx.use)
        if rule == "guide-on":
            at_ceiling = (saved > 0) & (ctx.use.slope(torch.ones_like(incoming), saved, ctx.use) == 0)
            outgoing = incoming.where(at_ceiling, outgoing)
        if rule == "open":
            outgoing = _open(incoming, outgoing, saved, ctx.use)
        # Where the derivative is negative (GELU, SiLU left of zero), a clamped gradient would come out negative.
        return (outgoing.clamp(min=0) if guided else outgoing), None


def _open(incoming: Tensor, outgoing: Tensor, saved: Tensor, use: _Use) -> Tensor:
    """`outgoing`; for an image of which nothing passes, the part of `incoming` along which the rectifier switches on:
    upwards where it is off, downwards where it has reached its ceiling (lucid's `redirected_relu_grad`)."""
    closed = (outgoing.flatten(1) == 0).all(1)
    if not bool(closed.any()):
        return outgoing
    flat = use.slope(torch.ones_like(incoming), saved, use) == 0
    low = saved <= 0
    useful = ((incoming > 0) & low) | ((incoming < 0) & ~low)
    opened = incoming.where(flat & useful, 0)
    return opened.where(closed.view(-1, *[1] * (incoming.dim() - 1)), outgoing)


def _above_zero(incoming: Tensor, result: Tensor, _use: _Use) -> Tensor:
    outgoing: Tensor = torch.ops.aten.threshold_backward(incoming, result, 0)
    return outgoing


def _between(low: float, high: float, incoming: Tensor, result: Tensor, _use: _Use) -> Tensor:
    outgoing: Tensor = torch.ops.aten.hardtanh_backward(incoming, result, low, high)
    return outgoing


def _by_recomputing(incoming: Tensor, source: Tensor, use: _Use) -> Tensor:
    autocast_context = torch.autocast(source.device.type, use.autocast) if use.autocast else nullcontext()
    with torch.enable_grad(), autocast_context:
        leaf = source.detach().requires_grad_()
        # The clone lets an in-place activation run on what would otherwise be a leaf.
        return torch.autograd.grad(use.call(leaf.clone()), leaf, incoming)[0]
