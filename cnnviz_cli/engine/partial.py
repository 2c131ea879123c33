"""A network that runs no further than the layers that are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz_cli.core.layers import input_proportions, split_run
from cnnviz_cli.core.needs import Activation
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.passes import run_pass
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.engine.twins import run_on_twin


class LayerReader:
    """Reads the maps of layers, of one batch after the other."""

    def __init__(self, net: nn.Module, layers: Sequence[str], execution: Execution, *, fold: bool) -> None:
        """`fold`: whether batch normalisations may be folded in what runs."""
        self._net, self._execution, self._fold = net, execution, fold
        self._layers = tuple(layers)
        self._plan = Plan.of(Activation(layer) for layer in layers)
        self._runs: dict[str, int] = {}

    def read(self, batch: Tensor) -> dict[str, Tensor]:
        """By layer (B, C, h, w) float32 maps of a (B, C, H, W) normalised batch; raises what `observe` does."""
        batch = batch.detach()
        self._runs = self._runs or count_runs(self._net, self._layers, batch[:1], self._execution)
        targets = torch.zeros(len(batch), 1, dtype=torch.int64, device=batch.device)

        def run(net: nn.Module) -> dict[str, Tensor]:
            made = run_pass(UpTo(net, self._runs), net, batch, self._plan, targets, self._execution)
            return {need.layer: made.answers[need] for need in self._plan.activations}

        with input_proportions(*batch.shape[-2:]):
            return run_on_twin(self._net, batch, self._layers, run, fold=self._fold)


class _ReachedError(BaseException):
    """The last layer that counts has run. No Exception, so that no network catches it."""


class UpTo:
    """The network until layers have run so often as they run in one forward; what it returns then are no scores."""

    def __init__(self, net: nn.Module, runs: Mapping[str, int]) -> None:
        """`runs`: as of `count_runs`."""
        self.net, self.runs = net, runs

    def __call__(self, inputs: Tensor) -> Tensor:
        left = sum(self.runs.values())

        def count(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise _ReachedError

        with ExitStack() as hooks:
            for path in self.runs:
                hooks.callback(self.net.get_submodule(path).register_forward_hook(count).remove)
            with suppress(_ReachedError):
                self.net(inputs)
        return inputs.new_zeros(len(inputs), 2)


def count_runs(net: nn.Module, layers: Sequence[str], picture: Tensor, execution: Execution) -> dict[str, int]:
    """By module path how often the layers run in one forward on a (1, C, H, W) input."""
    runs = dict.fromkeys((split_run(layer)[0] for layer in layers), 0)

    def counter(path: str) -> Callable[..., None]:
        def count(*_: Any) -> None:
            runs[path] += 1

        return count

    with ExitStack() as stack:
        for path in runs:
            stack.callback(net.get_submodule(path).register_forward_hook(counter(path)).remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(execution.autocast(picture.device))
        net(picture.clone())
    return runs
