"""A network's layers, their outputs read as feature maps, and maps brought to a range or a size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from math import ceil, floor, isqrt, log
from typing import TYPE_CHECKING, Any, Protocol

from cnnviz_cli.core.geometry import Box
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor


@value
class ReceptiveField:
    """The input pixels that can change one position of a layer, in unbounded input coordinates.

    Attributes:
        size: height and width, in pixels.
        stride: how far it moves, down and across, from one position to the next, in pixels.
        start: top and left edge of the field of position (0, 0), in pixels; negative in the padding.
    """

    size: tuple[float, float]
    stride: tuple[float, float]
    start: tuple[float, float]

    def box(self, row: int, column: int) -> Box:
        """Left, top, right, bottom of one position's field, not cut at the border."""
        top = self.start[0] + row * self.stride[0]
        left = self.start[1] + column * self.stride[1]
        return (left, top, left + self.size[1], top + self.size[0])


@value
class LayerInfo:
    """One module's output, seen as maps.

    Attributes:
        shape: channels, height and width of its maps.
        field: its receptive field; None where a global operation (attention, a global pool) precedes it, so that
            every position sees the whole input.
        window: left, top, right and bottom of the part of the input that its maps lie over, as shares of it; None for
            all of it, as far as is known. A layer that runs several times may get the input in parts.
    """

    name: str
    kind: str
    shape: tuple[int, int, int]
    order: int
    field: ReceptiveField | None
    window: Box | None = None

    @property
    def spatial(self) -> bool:
        """Whether its maps have more than one position."""
        return self.shape[1] * self.shape[2] > 1


def split_run(layer: str) -> tuple[str, int | None]:
    """A layer's module path, and which of its runs in a forward is meant: 2 of ``trunk.7@2``, or None."""
    path, mark, number = layer.rpartition("@")
    return (path, int(number)) if mark and number.isdecimal() else (layer, None)


class Layers(Protocol):
    """The layers of a loaded model that have maps."""

    @property
    def max_pooled(self) -> bool:
        """Whether the network pools by the maximum anywhere."""

    def __iter__(self) -> Iterator[LayerInfo]:
        """In the order in which they finish, low to high."""

    def __getitem__(self, name: str) -> LayerInfo: ...

    def resolve(self, selectors: Sequence[str]) -> tuple[str, ...]:
        """Names of the layers that the selectors mean, low to high, each once.

        A selector is a module path, a glob over paths, or one of the words ``last-conv``, ``conv``, ``stages``,
        ``low-mid-high``, ``low``, ``mid``, ``high``.

        Raises:
            UsageError: a selector matches nothing, or only maps of one position in a network that has larger ones.
        """


_INPUT_SIDES: ContextVar[tuple[int, int]] = ContextVar("the sides of the network's input", default=(1, 1))

MAX_LEADING_TOKENS = 16
"""The most tokens that may stand before those of a grid; networks have up to 1 + 8 of them."""


@contextmanager
def input_proportions(height: int, width: int) -> Iterator[None]:
    """Within, modules' outputs are those for an input of these sides, whose proportions maps have, too: of an oblong
    input (B, 64, 64, 72) may be a square map of 72 channels or an oblong one of 64."""
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
    """How many of `count` tokens lead (at most `MAX_LEADING_TOKENS`), and height and width of the grid of the others,
    the largest that has the input's proportions; None if there is none."""
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
    """(n, C, h, w) maps in the layout of `like`, the module's output that they take the place of: the inverse of
    `as_maps`. A class token in it is kept."""
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
    """(n, C, h, w) maps over a window of the input, in shares of it, as maps of all of it: zero elsewhere."""
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
