"""A module's output read as feature maps, by its shape alone."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def as_maps(output: Tensor) -> Tensor | None:
    """`output` as (B, C, h, w), a differentiable view of it; None if it does not hold maps.

    Three layouts are read:

    - (B, C, h, w), the usual one, unchanged.
    - (B, s, s, C) with C other than s, as Swin keeps its blocks: the channels come forward. A square map with as
      many channels as rows is the same either way and counts as the usual layout.
    - (B, N, C) with N = s * s or 1 + s * s, as ViT keeps its tokens: a leading class token is left out, the rest
      are laid out row by row.
    """
    if not output.is_floating_point():
        return None
    if output.dim() == 4:
        rows_first = output.shape[1] == output.shape[2] != output.shape[3]
        return output.permute(0, 3, 1, 2) if rows_first else output
    if output.dim() == 3:
        tokens = output.shape[1]
        for skipped in (0, 1):
            side = isqrt(max(tokens - skipped, 0))
            if side > 0 and side * side == tokens - skipped:
                return output[:, skipped:].transpose(1, 2).view(len(output), -1, side, side)
    return None


def from_maps(maps: Tensor, like: Tensor) -> Tensor:
    """`maps` in the layout of a module's output: the inverse of `as_maps`.

    Args:
        maps: (n, C, h, w).
        like: (1, ...) the module's output that they take the place of; a class token in it is kept.

    Returns:
        (n, ...) as `like`.
    """
    if like.dim() == 4:
        rows_first = like.shape[1] == like.shape[2] != like.shape[3]
        return maps.permute(0, 2, 3, 1).contiguous() if rows_first else maps
    tokens = maps.flatten(2).transpose(1, 2)
    skipped = like.shape[1] - tokens.shape[1]
    if not skipped:
        return tokens.contiguous()
    whole = like.expand(len(maps), -1, -1).clone()
    whole[:, skipped:] = tokens
    return whole
