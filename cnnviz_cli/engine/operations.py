"""Calls of torch functions as values, and one autograd function whose backward is any rule.

Both modes that share a score out among what it was made from (relevance.py, rescale.py) see a network as the list of
its torch function calls. A signal is a tensor that depends on the network's input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn
from torch.autograd import Function
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode

from cnnviz_cli.core.errors import EvidenceError, UsageError
from cnnviz_cli.core.needs import INPUT
from cnnviz_cli.engine.rectifiers import works_in_place

# Names are those of Call.name: x + y, torch.add and x += y differ at most by a leading r or i.
_MOVES = """
    view reshape flatten unflatten ravel squeeze unsqueeze permute transpose movedim moveaxis swapaxes swapdims t get
    getitem select narrow index_select chunk split tensor_split unbind cat concat concatenate stack expand expand_as
    repeat tile roll flip pad constant_pad_nd channel_shuffle native_channel_shuffle pixel_shuffle pixel_unshuffle
    view_as reshape_as clone contiguous to float double half bfloat16 type type_as dropout dropout1d dropout2d dropout3d
    alpha_dropout feature_dropout feature_alpha_dropout requires_grad detach gather
"""
MOVES = frozenset(_MOVES.split())
"""Operations that only bring values to other places: their gradient brings back whatever a signal is worth."""

JOINS = frozenset(("cat", "concat", "concatenate", "stack"))

_AVERAGES = """
    mean sum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d interpolate
    upsample
"""
AVERAGES = frozenset(_AVERAGES.split())
"""Linear operations without weights of their own."""

_MAXIMA = """
    max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d amax
"""
MAXIMA = frozenset(_MAXIMA.split())
"""Operations that let the largest of several values through."""

_ACTIVATIONS = """
    relu relu6 hardtanh leaky_relu rrelu prelu elu selu celu gelu silu mish softplus softsign logsigmoid sigmoid
    hardsigmoid hardswish hardshrink softshrink tanhshrink tanh threshold clamp clamp_min clamp_max clip
"""
ACTIVATIONS = frozenset(_ACTIVATIONS.split())
"""Functions of each value by itself."""

CONVOLUTIONS = frozenset(f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3))
SUMS = frozenset(("add", "iadd", "radd"))
DIFFERENCES = frozenset(("sub", "subtract", "isub"))
PRODUCTS = frozenset(("mul", "multiply", "imul", "rmul"))
QUOTIENTS = frozenset(("div", "divide", "true_divide", "truediv", "itruediv", "idiv"))
MATRIX_PRODUCTS = frozenset(("matmul", "mm", "bmm"))


@dataclass(frozen=True)
class Call:
    """One call of a torch function; `name` lacks underscores (F.relu, relu_), `signals` include those in lists."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    name: str
    signals: tuple[Tensor, ...]

    @classmethod
    def of(cls, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> Call:
        named = dict(kwargs or {})
        found = tuple(t for t in tensors_in((args, tuple(named.values()))) if is_signal(t))
        return cls(func, args, named, getattr(func, "__name__", str(func)).strip("_"), found)

    def plain(self) -> Any:
        return self.func(*self.args, **self.kwargs)

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by its position, the input being number 0, or by its name."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    def taking(self, *names: str) -> tuple[tuple[Any, ...], Callable[..., Any]]:
        """The leading arguments of these names, and the call as a function of them that does not hold them."""
        first = tuple(self.get(position, name) for position, name in enumerate(names))
        rest = self.args[len(names) :]
        others = {name: value for name, value in self.kwargs.items() if name not in names}
        func = self.func
        return first, lambda *values: func(*values, *rest, **others)

    @property
    def in_place(self) -> bool:
        """Whether it rewrites its first argument."""
        name = getattr(self.func, "__name__", "")
        if name.startswith("__i") and name.strip("_") in SUMS | DIFFERENCES | PRODUCTS | QUOTIENTS:
            return True
        return not name.endswith("__") and works_in_place(self.func, self.args[1:], self.kwargs)

    def with_signals(self, change: Callable[[Tensor], Any]) -> Call:
        """The same call, each signal exchanged for another tensor."""
        args = tuple(_map_signals(value, change) for value in self.args)
        return Call(self.func, args, {name: _map_signals(v, change) for name, v in self.kwargs.items()}, self.name, ())

    def refuse(self, what: str) -> NoReturn:
        """Raise a UsageError: `what` cannot pass this operation."""
        raise UsageError(
            f"there is no rule by which {what} passes the operation '{self.name}' of this network",
            fix="Use a method that follows the gradient or alters the input instead, see: cnnviz methods",
        )

    def plain_or_refuse(self, what: str) -> Any:
        """The call carried out, if its result does not depend on its signals: there is no rule for it."""
        result = None if self.name == "setitem" else self.plain()
        if self.name == "setitem" or any(is_signal(tensor) for tensor in tensors_in(result)):
            self.refuse(what)
        return result


class OperationMode(TorchFunctionMode):
    """Hands each call of a torch function on signals to `record`; all others are carried out."""

    def record(self, call: Call) -> Any:
        """Carry a call out so that its backward is the rule for it."""
        raise NotImplementedError

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        call = Call.of(func, args, kwargs)
        if call.signals and torch.is_grad_enabled():
            return self.record(call)
        # What is made from parameters that require grad must not look like a signal.
        if any(tensor.requires_grad for tensor in tensors_in((call.args, dict(call.kwargs)))):
            with torch.no_grad():
                return call.plain()
        return call.plain()


def is_signal(tensor: Tensor) -> bool:
    """Whether autograd has recorded it as made from the input; a parameter that requires grad is none."""
    return tensor.requires_grad and not tensor.is_leaf


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(tuple(value.values()))


def _map_signals(value: Any, change: Callable[[Tensor], Any]) -> Any:
    if isinstance(value, Tensor):
        return change(value) if is_signal(value) else value
    return type(value)(_map_signals(item, change) for item in value) if type(value) in (tuple, list) else value


Share = Callable[..., "tuple[Tensor | None, ...]"]


@dataclass(frozen=True)
class Step:
    """One operation with a rule in the place of its derivative.

    Attributes:
        call: the operation as a function of its signals.
        share: (what arrives, *what was kept) -> what each signal gets.
        keep: which tensors the rule needs, from the signals as they are before the call.
        in_place: whether the call rewrites the first signal.
    """

    call: Callable[..., Tensor]
    share: Share
    keep: Callable[..., tuple[Tensor, ...]] = lambda *_: ()
    in_place: bool = False

    def __call__(self, *signals: Tensor) -> Tensor:
        result: Tensor = _StepFunction.apply(self, *signals)
        return result


class _StepFunction(Function):
    @staticmethod
    def forward(ctx: Any, step: Step, *signals: Tensor) -> Tensor:
        kept = step.keep(*signals)
        result = step.call(*signals)
        if step.in_place:
            ctx.mark_dirty(signals[0])
            result = signals[0]
        ctx.share = step.share
        ctx.save_for_backward(*kept)
        return result

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.share(arriving[0], *ctx.saved_tensors)


def keep_copies(*signals: Tensor) -> tuple[Tensor, ...]:
    """What to keep of signals that the network may rewrite later, since the operation itself would not keep them."""
    return tuple(signal.clone() for signal in signals)


def check_visible(net: nn.Module, what: str = "operations") -> None:
    """Raise UsageError for a network with TorchScript's or torch.export's programs, inside which nothing is seen."""
    for module in net.modules():
        if isinstance(module, torch.jit.ScriptModule):
            kind = "TorchScript"
        elif isinstance(module, fx.GraphModule) and _is_exported(module):
            kind = "a torch.export program"
        else:
            continue
        raise UsageError(
            f"parts of this network are {kind}, whose {what} cannot be seen",
            fix="Use the network as Python code, or a method that follows the exact gradient, see: cnnviz methods",
        )


def _is_exported(module: fx.GraphModule) -> bool:
    """Whether its graph calls torch's kernels by themselves, past the functions that modes and modules are about."""
    return any(isinstance(node.target, torch._ops.OpOverload) for node in module.graph.nodes)


def check_recorded(scores: Tensor) -> None:
    """Raise UsageError if the graph holds a custom autograd function, or the scores do not depend on the input."""
    if scores.grad_fn is None:
        raise EvidenceError(
            "the scores of this network do not depend on its input as far as autograd can see", at=INPUT
        )
    seen, waiting = set(), [scores.grad_fn]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        waiting.extend(before for before, _ in node.next_functions if before is not None)
        if isinstance(node, BackwardCFunction) and node.name() != f"{_StepFunction.__name__}Backward":
            raise UsageError(
                f"this network has an autograd function of its own ({node.name()}), for which there is no rule",
                fix="Use a method that follows the gradient or alters the input instead, see: cnnviz methods",
            )
