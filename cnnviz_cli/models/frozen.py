"""Normalisations that stayed as they were while a network was trained."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Net = TypeVar("Net", bound=nn.Module)


def freeze(net: Net, eps: float | None) -> Net:
    """`net` with each trainable batch normalisation in it replaced by a frozen one, torchvision's; changed in place.

    torchvision builds such networks only along with a download. The arithmetic is the same but for rounding; the
    state dict lacks the counters of batches.

    Args:
        net: its tensors may be on the meta device.
        eps: what is added to the variance, whose value in the trainable ones is another for old weights
            (https://github.com/pytorch/vision/pull/2933); None leaves the network as it is.
    """
    if eps is None:
        return net
    from torchvision.ops import FrozenBatchNorm2d

    for parent in list(net.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, FrozenBatchNorm2d(norm.num_features, eps).to(norm.weight.device))
    return net
