"""Gradients at every bias of a network, each laid out over the input."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from cnnviz_cli.core.layers import as_maps, min_max_normalize, upsample
from cnnviz_cli.core.needs import BiasGradients, Gradient
from cnnviz_cli.engine.answers import PassContext, answers
from cnnviz_cli.engine.passes import answer
from cnnviz_cli.engine.plan import Plan


@answers(BiasGradients)
def bias_gradients(context: PassContext, need: BiasGradients) -> Tensor:
    """(B, L, H, W) for each run of a layer that adds a bias, in the order in which they run: see `BiasGradients`.

    A module that runs several times counts each time. Gradients are added up over channels as they arrive, so what is
    kept is one map a run. Linear layers add a bias to no map and are left out, and so is what a detector runs for each
    box instead of each image.
    """
    batch = context.batch
    found: list[Tensor] = []

    def listener(bias: Tensor) -> Callable[[nn.Module, Any, Any], None]:
        def listen(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or not output.requires_grad:
                return
            maps = as_maps(output)
            if maps is None or maps.shape[1] != len(bias) or len(maps) != len(batch):
                return
            place = len(found)
            found.append(batch.new_zeros((len(batch), *batch.shape[2:])))

            def arrive(gradient: Tensor | None) -> None:
                if gradient is None:
                    return  # behind it is an operation without a derivative
                found[place] = _spread_over_input(gradient, bias, (batch.shape[2], batch.shape[3])).to(batch.dtype)

            # On the tensor, not the module: it hears the gradient of the value before any later in-place operation.
            output.register_hook(arrive)  # type: ignore[no-untyped-call]

        return listen

    with ExitStack() as hooks:
        apart = _roi_modules(context.net)
        for module in context.net.modules():
            bias = bias_of(module)
            if bias is not None and module not in apart:
                hooks.callback(module.register_forward_hook(listener(bias)).remove)
        context.run(batch, Plan.of([Gradient(of=need.of)]), fold=False)
    return answer(torch.stack(found, 1)) if found else batch.new_zeros((len(batch), 0, *batch.shape[2:]))


def bias_of(module: nn.Module) -> Tensor | None:
    """(C,) what a convolution or a normalisation adds to each channel, by running statistics b - w m / sqrt(v + eps);
    None for any other module, or nothing."""
    from torchvision.ops import FrozenBatchNorm2d  # not at the top: it takes a second

    bias: Tensor | None = None
    if isinstance(module, _ConvNd | nn.GroupNorm) or (
        isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1
    ):
        bias = module.bias
    elif isinstance(module, _NormBase | FrozenBatchNorm2d):
        bias = module.bias
        mean, variance = module.running_mean, module.running_var
        if mean is not None and variance is not None:
            slope = (variance + module.eps).rsqrt()
            if module.weight is not None:
                slope = slope * module.weight
            bias = -mean * slope if bias is None else bias - mean * slope
    return None if bias is None else bias.detach()


def _roi_modules(net: nn.Module) -> set[nn.Module]:
    """What lies in a part of `net` that cuts boxes out of maps: its rows are boxes, as many as there may be images."""
    from torchvision.ops import MultiScaleRoIAlign, PSRoIAlign, PSRoIPool, RoIAlign, RoIPool

    poolers = MultiScaleRoIAlign | RoIAlign | RoIPool | PSRoIAlign | PSRoIPool
    owners = [module for module in net.modules() if any(isinstance(child, poolers) for child in module.children())]
    return {module for owner in owners if owner is not net for module in owner.modules()}


def _spread_over_input(gradient: Tensor, bias: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W) |bias * gradient|, each channel stretched to [0, 1], added up and brought to the input's size."""
    maps = as_maps(gradient.detach())
    assert maps is not None  # it has the shape of the output, which is read as maps
    # Added up at the layer's own size: enlarging is linear, and 2,048 enlarged maps would not fit into memory.
    shares = min_max_normalize((answer(maps) * answer(bias).view(1, -1, 1, 1)).abs()).sum(1, keepdim=True)
    return upsample(shares, size)[:, 0]
