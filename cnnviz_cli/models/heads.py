"""Recognises classifiers that average the maps of one layer and weigh the averages."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cnnviz_cli.core.layers import Layers
from cnnviz_cli.core.layout import as_maps, oblong
from cnnviz_cli.core.method import Head


def find_head(net: nn.Module, layers: Layers, shape: tuple[int, int, int]) -> Head | None:
    """The head of a network that ends in global average pooling and one linear layer, nothing between; else None.

    Found by running it on noise, not by names: what the last linear layer gets must be the average of some layer's
    maps, and what it returns must be the class scores. Of several such layers (a ReLU keeps non-negative maps) the
    last counts.

    Args:
        net: in eval mode.
        shape: channels, height and width of the input.
    """
    like = next(net.parameters())
    noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)).to(like.device, like.dtype)
    linear: list[tuple[nn.Linear, Tensor, Tensor]] = []
    outputs: dict[str, Tensor] = {}

    def keep_linear(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, nn.Linear) and isinstance(output, Tensor):
            linear.append((module, inputs[0].clone(), output.clone()))

    def keeper(name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs[name] = output.clone()

        return keep

    hooks = [m.register_forward_hook(keep_linear) for m in net.modules() if isinstance(m, nn.Linear)]
    hooks += [net.get_submodule(info.name).register_forward_hook(keeper(info.name)) for info in layers if info.spatial]
    try:
        with torch.no_grad():
            scores = net(noise)
    finally:
        for hook in hooks:
            hook.remove()
    if not linear or not isinstance(scores, Tensor):
        return None
    module, given, returned = linear[-1]
    if returned.shape != scores.shape or not torch.equal(returned, scores):
        return None
    for name, output in reversed(outputs.items()):
        with oblong(*shape[1:]):
            maps = as_maps(output)
        if maps is not None and maps.shape[1] == given.shape[-1]:
            averages = maps.mean((2, 3))
            if given.shape == averages.shape and torch.allclose(averages, given, rtol=1e-4, atol=1e-6):
                return Head(name, module.weight.detach())
    return None
