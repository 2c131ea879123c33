"""How tests ask other libraries, and how near their answers have to be."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models


def vgg11(*, batch_norm: bool) -> nn.Module:
    """Its features as they are; its classifier's 120 million weights would only take time and a gigabyte."""
    layers = models.vgg.make_layers(models.vgg.cfgs["A"], batch_norm=batch_norm)
    head = nn.Sequential(nn.Linear(512, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 10))
    parts = {"features": layers, "avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "classifier": head}
    return nn.Sequential(OrderedDict(parts))


def raw_maps(tool: Any, net: nn.Module, batch: Tensor, targets: Any, **how: Any) -> Tensor:
    """(B, h, w) what a method of pytorch-grad-cam has before it rectifies and scales.

    Args:
        tool: the method, made for `net`.
        net: as the tool needs it, it requires gradients; afterwards it does not.
    """
    inner, raw = getattr(tool, "base_cam", tool), []
    original = inner.get_cam_image

    def recorded(*args: Any, **kwargs: Any) -> Any:
        raw.append(original(*args, **kwargs))
        return raw[-1]

    inner.get_cam_image = recorded
    try:
        tool(batch.clone(), targets=targets, **how)
    finally:
        inner.activations_and_grads.release()
        net.requires_grad_(False).zero_grad()
    return torch.as_tensor(raw[0])


def close(mine: Tensor, theirs: Tensor, rtol: float = 1e-6, atol: float = 1e-7) -> None:
    """Equal but for the rounding to float32 that some peers end with; both sides are asked in float64."""
    assert mine.dtype == torch.float64
    theirs = theirs.detach().to(mine)
    assert theirs.abs().max() > 0
    torch.testing.assert_close(mine, theirs, rtol=rtol, atol=atol * float(theirs.abs().max()))
