"""A module's output read as feature maps, by its shape alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from math import ceil, floor, isqrt, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_INPUT_SIDES: ContextVar[tuple[int, int]] = ContextVar("the sides of the network's input", default=(1, 1))

MAX_LEADING_TOKENS = 16
"""The most tokens that may stand before those of a grid; networks have up to 1 + 8 of them."""


@contextmanager
def input_proportions(height: int, width: int) -> Iterator[None]:
    """Within, modules' outputs are those for an input of these sides, whose proportions maps have, too.

    What is told from the shape alone has to know them: of an input that is not square, (B, 64, 64, 72) is a square map
    of 72 channels or an oblong one of 64.
    """
    token = _INPUT_SIDES.set((height, width))
    try:
        yield
    finally:
        _INPUT_SIDES.reset(token)


def as_maps(output: Tensor) -> Tensor | None:
    """`output` as (B, C, h, w), a differentiable view of it; None if it does not hold maps.

    Three layouts are read:

    - (B, C, h, w), the usual one, unchanged.
    - (B, s, s, C) with C other than s, as Swin keeps its blocks: the channels come forward. A square map with as
      many channels as rows is the same either way and counts as the usual layout. Of an `input_proportions` input it is
      (B, h, w, C) with h and w closer to the input's proportions than w and C.
    - (B, N, C) with N = k + h * w, as ViT keeps its tokens: see `token_grid`. The k leading tokens (of the class, of
      distillation, registers) are left out, the rest are laid out row by row.
    """
    if not output.is_floating_point():
        return None
    if output.dim() == 4:
        return output.permute(0, 3, 1, 2) if _rows_first(output.shape) else output
    if output.dim() == 3:
        found = token_grid(output.shape[1])
        if found is not None:
            skipped, height, width = found
            return output[:, skipped:].transpose(1, 2).view(len(output), -1, height, width)
    return None


def token_grid(count: int) -> tuple[int, int, int] | None:
    """How many of `count` tokens lead, and height and width of the grid that the others are; None if they are none.

    The grid has the input's proportions (see `input_proportions`), and is the largest that leaves no more than
    `MAX_LEADING_TOKENS` tokens.
    """
    return _token_grid(count, *_INPUT_SIDES.get())


@lru_cache(maxsize=1024)
def _token_grid(count: int, height: int, width: int) -> tuple[int, int, int] | None:
    if height == width:
        side = isqrt(max(count, 0))
        grids = {(side, side)}
    else:  # of patches of any size, what is left at the borders padded or cut off
        grids = {
            (round_up(height / patch), round_up(width / patch))
            for patch in range(1, min(height, width) + 1)
            for round_up in (ceil, floor)
        }
    fitting = [(count - rows * columns, rows, columns) for rows, columns in grids if 0 < rows * columns <= count]
    best = min(fitting, default=None)
    return best if best is not None and best[0] <= MAX_LEADING_TOKENS else None


def from_maps(maps: Tensor, like: Tensor) -> Tensor:
    """`maps` in the layout of a module's output: the inverse of `as_maps`.

    Args:
        maps: (n, C, h, w).
        like: (1, ...) the module's output that they take the place of; a class token in it is kept.

    Returns:
        (n, ...) as `like`.
    """
    if like.dim() == 4:
        return maps.permute(0, 2, 3, 1).contiguous() if _rows_first(like.shape) else maps
    tokens = maps.flatten(2).transpose(1, 2)
    skipped = like.shape[1] - tokens.shape[1]
    if not skipped:
        return tokens.contiguous()
    whole = like.expand(len(maps), -1, -1).clone()
    whole[:, skipped:] = tokens
    return whole


def _rows_first(shape: Sequence[int]) -> bool:
    """Whether (B, a, b, c) are rows, columns and channels, in this order."""
    first, second, third = shape[1:]
    height, width = _INPUT_SIDES.get()
    if height == width:
        return first == second != third
    if not (first and second and third) or second == third == 1:
        return False
    usual, other = (abs(log(rows * width / (columns * height))) for rows, columns in ((second, third), (first, second)))
    return other < usual
