"""Run what comes after a layer on altered maps of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cnnviz_cli.core.layers import from_maps, split_run
from cnnviz_cli.core.network import match_memory_format
from cnnviz_cli.engine.graph import SplitError, SplitNetwork, expand_batch, scores_match, split_at_layer
from cnnviz_cli.engine.passes import Read, autocast_context

Tail = Callable[[Tensor], Any]
"""(n, C, h, w) altered maps of one image -> what the network returns for them."""

_HALVES: WeakKeyDictionary[nn.Module, dict[str, SplitNetwork | str]] = WeakKeyDictionary()
"""For each network and layer its parts, or why it cannot be cut there; tracing takes longer than many a tail."""


@dataclass(frozen=True)
class _Split:
    """The tail of a cut network, with one image's values at the cut."""

    halves: SplitNetwork
    once: tuple[Any, ...]
    twice: tuple[Any, ...]

    def __call__(self, maps: Tensor) -> Any:
        count = len(maps)
        crossing = [expand_batch(a, count, b) for a, b in zip(self.once[1:], self.twice[1:], strict=True)]
        return self.halves.tail(match_memory_format(from_maps(maps, self.once[0]), self.once[0]), *crossing)


@dataclass(frozen=True)
class _Whole:
    """The whole network, the layer's output replaced: what is left where a network cannot be cut."""

    net: nn.Module
    layer: str
    image: Tensor
    run: int
    native: Tensor

    def __call__(self, maps: Tensor) -> Any:
        runs = 0

        def replace(_module: nn.Module, _inputs: Any, _output: Any) -> Tensor | None:
            nonlocal runs
            runs += 1
            return match_memory_format(from_maps(maps, self.native), self.native) if runs == self.run else None

        hook = self.net.get_submodule(split_run(self.layer)[0]).register_forward_hook(replace)
        try:
            return self.net(self.image.expand(len(maps), -1, -1, -1))
        finally:
            hook.remove()


def make_tail(net: nn.Module, layer: str, image: Tensor, scores: Tensor, precision: str, read: Read) -> Tail:
    """What comes after `layer`, for variants of one image.

    Where the cut network does not repeat the whole one's scores, the whole network is used.

    Args:
        image: (1, C, H, W).
        scores: (1, K) what the whole network says of it.
    """
    parts = _HALVES.setdefault(net, {})
    if layer not in parts:
        try:
            parts[layer] = split_at_layer(net, layer)
        except SplitError as error:
            parts[layer] = str(error)
    halves = parts[layer]
    if isinstance(halves, SplitNetwork):
        with torch.no_grad(), autocast_context(image.device, precision):
            once = halves.head(image.clone())
            twice = halves.head(image.repeat(2, 1, 1, 1)) if halves.crossing else once
        tail = _Split(halves, once, twice)
        if halves_agree(tail, scores, precision, read):
            return tail
        parts[layer] = "its parts do not give the scores of the whole"
    return make_whole_tail(net, layer, image, precision)


def whole_network_reason(net: nn.Module, layer: str) -> str | None:
    """Why the network runs whole for variants of `layer`; None if it does not, or has not been tried."""
    found = _HALVES.get(net, {}).get(layer)
    return found if isinstance(found, str) else None


def halves_agree(tail: _Split, scores: Tensor, precision: str, read: Read) -> bool:
    """Whether the tail, on what the layer gave, gives the scores that the whole network gave."""
    cut = tail.once[0]
    if not isinstance(cut, Tensor):
        return False
    crossing = [value.clone() if isinstance(value, Tensor) else value for value in tail.once[1:]]
    with torch.no_grad(), autocast_context(cut.device, precision):
        again = read(tail.halves.tail(cut.clone(), *crossing))
    return scores_match(again, scores, precision)


def make_whole_tail(net: nn.Module, layer: str, image: Tensor, precision: str) -> Tail:
    """The whole network on one image, (1, C, H, W), as a function of altered maps of its layer."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs.append(output.detach().clone())

    path, chosen = split_run(layer)
    hook = net.get_submodule(path).register_forward_hook(keep)
    try:
        with torch.no_grad(), autocast_context(image.device, precision):
            net(image.clone())
    finally:
        hook.remove()
    run = chosen or len(outputs)
    return _Whole(net, layer, image, run, outputs[run - 1])
