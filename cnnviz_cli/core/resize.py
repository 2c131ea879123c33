"""Maps stretched to a range, and brought to another size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.geometry import Box

if TYPE_CHECKING:
    from torch import Tensor

FLAT_ULPS = 64
"""A map whose values differ by no more than so many units in the last place is flat: what is left is rounding."""


def min_max_normalize(maps: Tensor) -> Tensor:
    """(..., h, w) maps, each stretched from its own minimum and maximum to [0, 1]; a flat map becomes zero."""
    import torch

    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    spread = high - low
    rounding = FLAT_ULPS * torch.finfo(maps.dtype).eps * high.abs().maximum(low.abs())
    seen = spread > rounding
    return torch.where(seen, (maps - low) / torch.where(seen, spread, 1), 0)


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, C, h, w) maps brought to `size` (H, W) bilinearly; pixels are areas (align_corners=False)."""
    from torch.nn.functional import interpolate

    return interpolate(maps, size=size, mode="bilinear", align_corners=False)


def pad_to_input(maps: Tensor, window: Box | None) -> Tensor:
    """(n, C, h, w) maps that lie over a part of the input as maps of all of it: zero where the part is not.

    Args:
        window: left, top, right and bottom of the part, as shares of the input; None for all of it.
    """
    import torch

    if window is None:
        return maps
    left, top, right, bottom = window
    height, width = maps.shape[2:]
    rows, columns = max(round(height / (bottom - top)), height), max(round(width / (right - left)), width)
    row, column = min(round(top * rows), rows - height), min(round(left * columns), columns - width)
    whole = torch.zeros(*maps.shape[:2], rows, columns, dtype=maps.dtype, device=maps.device)
    whole[:, :, row : row + height, column : column + width] = maps
    return whole


def as_tensor(values: Any) -> Tensor:
    """A tensor as it is, where it is; anything else as one on the CPU, whatever the caller's default device."""
    import torch

    return values if isinstance(values, torch.Tensor) else torch.as_tensor(values, device="cpu")
