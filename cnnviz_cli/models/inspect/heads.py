"""Classifiers that average one layer's maps and weight the averages, recognized by a forward on noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz_cli.core.layers import Layers, as_maps, input_proportions
from cnnviz_cli.core.method import LinearHead
from cnnviz_cli.core.scores import part_of


def zero_input(net: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """(1, C, H, W) zeros of the type and on the device of the network's first parameter or buffer, if it has one."""
    found = (one for one in (*net.parameters(), *net.buffers()) if one.is_floating_point())
    like = next(found, None)
    if like is None:
        return torch.zeros(1, *shape, dtype=torch.float32, device="cpu")
    return torch.zeros(1, *shape, dtype=like.dtype, device=like.device)


@contextmanager
def forward_hooks(modules: Mapping[str, nn.Module], hook: Callable[[str, Any, Any, Any], Any]) -> Iterator[None]:
    """Inside ``with``, `hook` gets the name of each of the modules that ran, itself, its inputs and its output."""
    handles = [module.register_forward_hook(partial(hook, name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class LinearCall:
    """A linear layer that ran, what it was given and what it returned."""

    name: str
    module: nn.Linear
    features: Tensor
    output: Tensor

    def returns_scores(self, scores: Tensor) -> bool:
        return self.output.shape == scores.shape and torch.equal(self.output, scores)


@contextmanager
def linear_calls(net: nn.Module) -> Iterator[list[LinearCall]]:
    """The linear layers that run while the context is open, in order."""
    calls: list[LinearCall] = []

    def keep(name: str, module: nn.Linear, inputs: Any, output: Any) -> None:
        if inputs and isinstance(output, Tensor):
            calls.append(LinearCall(name, module, inputs[0].clone(), output.clone()))

    linear = {name: module for name, module in net.named_modules() if isinstance(module, nn.Linear)}
    with forward_hooks(linear, keep):
        yield calls


def noise_input(net: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """(1, C, H, W) noise as the network takes it, the same every time."""
    same = torch.Generator(device="cpu").manual_seed(0)
    return torch.randn(1, *shape, generator=same, dtype=torch.float32, device="cpu").to(zero_input(net, shape))


def find_head(
    net: nn.Module, layers: Layers, shape: tuple[int, int, int], part: str | None = None
) -> LinearHead | None:
    """The head of a network that ends in global average pooling and one linear layer, nothing between; else None.

    Found by running it on noise, not by names: what the last linear layer gets must be the average of some layer's
    maps, and what it returns must be the class scores, or what a softmax or a sigmoid makes probabilities of. Of
    several such layers (a ReLU keeps non-negative maps) the last counts. `shape` is channels, height and width; `part`
    names the part of the output that is explained, see `core.scores.part_of`.
    """
    outputs: list[tuple[str, Tensor]] = []

    def keep(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs.append((name, output.clone()))

    spatial = {info.name: net.get_submodule(info.name) for info in layers if info.spatial}
    with forward_hooks(spatial, keep), linear_calls(net) as calls, torch.no_grad():
        scores = part_of(net(noise_input(net, shape)), part)
    last = next((call for call in reversed(calls) if isinstance(scores, Tensor) and _gives_scores(call, scores)), None)
    if last is None:
        return None
    given = last.features
    runs = Counter(name for name, _ in outputs)
    number = dict(runs)
    for name, output in reversed(outputs):
        run = number[name]
        number[name] -= 1
        with input_proportions(*shape[1:]):
            maps = as_maps(output)
        if maps is not None and maps.shape[1] == given.shape[-1]:
            averages = maps.mean((2, 3))
            if given.shape == averages.shape and torch.allclose(averages, given, rtol=1e-4, atol=1e-6):
                return LinearHead(f"{name}@{run}" if runs[name] > 1 else name, last.module.weight.detach())
    return None


def _gives_scores(call: LinearCall, scores: Tensor) -> bool:
    if call.returns_scores(scores):
        return True
    made = call.output
    ends = (made.softmax(-1), made.log_softmax(-1), made.sigmoid())
    return any(end.shape == scores.shape and torch.allclose(end, scores, rtol=1e-4, atol=1e-9) for end in ends)
