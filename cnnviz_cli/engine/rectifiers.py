"""Choose how gradients pass rectifiers after the forward is over, without editing the model.

A rectifier is any activation function that lets large positive values through: ReLU and its relatives, GELU, SiLU,
Hardswish, and `clamp(min=0)`. Gates that squash (sigmoid, tanh, softmax) are none. Module, function, tensor method and
in-place form are all seen, since every one of them is a torch function call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from cnnviz_cli.core.evidence import ReluRule

Call = Callable[[Tensor], Tensor]
Slope = Callable[[Tensor, Tensor, Call], Tensor]
"""(incoming gradient, saved tensor, the activation) -> gradient times derivative."""

_ABOVE_ZERO = {functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}

_BETWEEN = {
    functional.relu6,
    functional.hardtanh,
    functional.hardtanh_,
}

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
}


class RectifierMode(TorchFunctionMode):
    """Record every rectifier of a forward so that its rule can be chosen at each backward.

    Attributes:
        rule: the rule in force; set it before a backward.
        seen: how many rectifiers autograd has recorded. Zero after a forward means that no rule can have an effect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rule: ReluRule = "exact"
        self.seen = 0

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
        self.seen += 1
        # The call must not hold the tensor it is made for: in place that tensor is also the result, whose graph holds
        # the call, and no collector sees a cycle that passes through autograd.
        rest = args[1:]
        in_place = _works_in_place(func, rest, named)
        use = _Use(partial(_applied, func, rest, named), slope, in_place, self)
        return _Rectifier.apply(source, use)


def _applied(func: Callable[..., Any], rest: tuple[Any, ...], named: Mapping[str, Any], value: Tensor) -> Any:
    return func(value, *rest, **named)


def _slope(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Slope | None:
    """How to multiply by the derivative of this call, or None if it is no rectifier."""
    if func in _ABOVE_ZERO:
        return _above_zero
    if func in _BETWEEN:
        return _between
    if func in _SMOOTH_OR_LEAKY:
        return _by_recomputing
    if func in _CLAMPS:
        low = args[1] if len(args) > 1 else kwargs.get("min")
        return _by_recomputing if isinstance(low, int | float) and low == 0 else None
    return None


def _works_in_place(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether the call rewrites its input; torch.nn passes `inplace` by position as well as by name."""
    if func.__name__.endswith("_"):
        return True
    if "inplace" in kwargs:
        return bool(kwargs["inplace"])
    places = list(getattr(func, "__code__", _NO_CODE).co_varnames)[1:]
    return dict(zip(places, args, strict=False)).get("inplace", False) is True


@dataclass(frozen=True, slots=True)
class _Use:
    """One call of a rectifier: the function of its input alone, how to follow its derivative, and whose rule holds."""

    call: Call
    slope: Slope
    in_place: bool
    mode: RectifierMode


class _Rectifier(Function):
    """One rectifier call, its rule looked up when the gradient arrives."""

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
        if rule == "guide":
            incoming = incoming.clamp(min=0)
        (saved,) = ctx.saved_tensors
        outgoing = ctx.use.slope(incoming, saved, ctx.use.call)
        # Where the derivative is negative (GELU, SiLU left of zero), a clamped gradient would come out negative.
        return (outgoing.clamp(min=0) if rule == "guide" else outgoing), None


def _above_zero(incoming: Tensor, result: Tensor, _call: Call) -> Tensor:
    outgoing: Tensor = torch.ops.aten.threshold_backward(incoming, result, 0)
    return outgoing


def _between(incoming: Tensor, result: Tensor, call: Call) -> Tensor:
    # The bounds are the values the activation itself sends the extremes to.
    ends = result.new_tensor([-torch.inf, torch.inf])
    low, high = call(ends).tolist()
    outgoing: Tensor = torch.ops.aten.hardtanh_backward(incoming, result, low, high)
    return outgoing


def _by_recomputing(incoming: Tensor, source: Tensor, call: Call) -> Tensor:
    with torch.enable_grad():
        leaf = source.detach().requires_grad_()
        # The clone lets an in-place activation run on what would otherwise be a leaf.
        return torch.autograd.grad(call(leaf.clone()), leaf, incoming)[0]
