"""What the methods that read attention share: values of patches as a map over the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnviz_cli.core.layers import FLAT_ULPS
from cnnviz_cli.core.panels import Heatmap

if TYPE_CHECKING:
    from torch import Tensor


def patch_map(values: Tensor, target: int | None) -> Heatmap:
    """The map of (B, 1, h, w) values of patches, none negative, less what all patches of an image have.

    Attention spreads over every patch, so that maps start far above zero; their authors stretch them from the lowest
    value to the highest. The lowest is the statistic `floor`.
    """
    import torch

    lowest, highest = values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)
    rounding = FLAT_ULPS * torch.finfo(values.dtype).eps * highest
    return Heatmap(
        values - lowest,
        target=target,
        statistics={"floor": lowest.flatten()},
        warnings={"flat": (highest - lowest <= rounding).flatten()},
        unsigned=target is None,
    )
