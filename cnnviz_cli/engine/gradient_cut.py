"""Where a network cuts a gradient off, found out by one more forward in which every operation is watched."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode, resolve_name

from cnnviz_cli.core.errors import EvidenceError
from cnnviz_cli.core.needs import INPUT
from cnnviz_cli.core.network import current_user_line
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.engine.operations import tensors_in

_NO_DERIVATIVE = "NotImplemented"
"""In the name of what torch records of an operation that has no derivative."""

_DETACH = ("detach", "detach_", "data")


@dataclass(frozen=True)
class GradientCut:
    """An operation that takes the gradient away: its module ("" is the network), what it does, the line of code."""

    module: str
    how: str
    excerpt: str


def explain_missing_gradient(error: EvidenceError, net: nn.Module, image: Tensor) -> EvidenceError:
    """An error about a missing gradient, with the place where the network cuts it off, if there is one."""
    assert error.at is not None
    cut = find_gradient_cut(net, image, error.at)
    if cut is None:
        return error
    place = "the input" if error.at == INPUT else f"layer '{error.at}'"
    part = f"'{escape_text(cut.module, 100)}'" if cut.module else "the network"
    what = f"no gradient reaches {place}: {part} {cut.how}"
    return EvidenceError(what, where=error.where, excerpt=cut.excerpt, at=error.at)


def find_gradient_cut(net: nn.Module, image: Tensor, at: str) -> GradientCut | None:
    """The last operation of a forward that cuts the gradient from the output to `at`; None where the output has a
    gradient, or what is at `at` is not used, or the network does not run."""
    leaf = image.detach().clone().requires_grad_(at == INPUT)
    watch = _GradientWatch()
    if at == INPUT:
        watch.starts.append(leaf)
    with ExitStack() as stack:
        for name, module in net.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                stack.callback(module.register_forward_pre_hook(watch.begins(name), with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(watch.ends(start=name == at)).remove)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(warnings.catch_warnings(action="ignore"))  # of operations without a derivative
        try:
            with watch:
                output = net(leaf.clone())
            total = sum(one.sum() for one in tensors_in(output) if one.requires_grad)
            arrived = isinstance(total, Tensor) and any(
                one is not None for one in torch.autograd.grad(total, watch.starts, allow_unused=True)
            )
        except Exception:  # it has run before; whatever is wrong with it now is no answer
            return watch.last
    return None if arrived else watch.last


class _GradientWatch(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.last: GradientCut | None = None
        self.starts: list[Tensor] = []
        self._running: list[tuple[str, bool, GradientCut | None]] = []

    def begins(self, name: str) -> Any:
        def begin(_module: nn.Module, inputs: Any, named: Any) -> None:
            self._running.append((name, _any_has_gradient((*inputs, *named.values())), self.last))

        return begin

    def ends(self, *, start: bool) -> Any:
        def end(module: nn.Module, _inputs: Any, output: Any) -> Any:
            name, recorded, before = self._running.pop()
            if not _lacks_gradient(output):
                self.last = before  # what happened inside had no consequence
            elif recorded and self.last is before:
                # In code that does not go through torch's functions, such as an autograd function of its own.
                self.last = GradientCut(name, f"({type(module).__name__}) returns what has none", "")
            if start and isinstance(output, Tensor):
                torch.set_grad_enabled(True)
                self.starts.append(output.detach().requires_grad_())
                return self.starts[-1].clone()
            return None

        return end

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = (*args, *(kwargs or {}).values())
        recorded = _any_has_gradient(given)
        result = func(*args, **(kwargs or {}))
        if recorded and _lacks_gradient(result):
            name = self._running[-1][0] if self._running else ""
            self.last = GradientCut(name, _describe_cause(func), current_user_line())
        return result


def _describe_cause(func: Any) -> str:
    if torch.is_inference_mode_enabled():
        return "runs under torch.inference_mode()"
    # The forward of an autograd function is never recorded, which is no `no_grad` of the network's.
    if any(isinstance(one, FunctionCtx) for frame, _ in traceback.walk_stack(None) for one in frame.f_locals.values()):
        return "calls an autograd function that gives no gradient"
    if not torch.is_grad_enabled():
        return "runs under torch.no_grad()"
    name = (resolve_name(func) or getattr(func, "__name__", "") or str(func)).removesuffix(".__get__")
    if name.rpartition(".")[2] in _DETACH:
        return f"detaches it ({escape_text(name, 60)})"
    return f"calls {escape_text(name, 60)}, which has no gradient"


def _any_has_gradient(values: Iterable[Any]) -> bool:
    return any(map(_has_gradient, tensors_in(values)))


def _lacks_gradient(output: Any) -> bool:
    found = [one for one in tensors_in(output) if one.is_floating_point() or one.is_quantized]
    return bool(found) and not any(map(_has_gradient, found))


def _has_gradient(tensor: Tensor) -> bool:
    made = tensor.grad_fn
    return tensor.requires_grad and (made is None or _NO_DERIVATIVE not in made.name())
