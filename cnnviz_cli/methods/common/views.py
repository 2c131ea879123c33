"""How a network gets to see a picture that is painted: turned, scaled and shifted, or rolled."""

from __future__ import annotations

from math import ceil, pi
from typing import TYPE_CHECKING

from cnnviz_cli.core.ascent import Tile
from cnnviz_cli.core.draws import generator
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor

_VIEW_DRAWS = 1 << 42
"""Where the numbers of the draws of views begin, apart from those of what is painted on."""

_GREY = 0.5
"""Outside of the picture."""

_UPRIGHT = 0.2
"""The share of views that are not turned, as in lucid's list of angles."""

_LAST_GRAIN = 0.2
"""The share of the grain that is left at the last step."""


@value
class Turned:
    """Each view scaled, turned and shifted by one resampling, mirrored half the time, and with grain.

    Sizes are shares, so that what suits an input of 224 pixels suits one of 32.

    Attributes:
        size: height and width of a view; None for those of the picture.
        jitter: the farthest shift, as a share of the picture's shorter side.
        low, high: the least and the largest scale.
        turn: the largest angle, in degrees.
        mirrored: whether half of the views are mirrored.
        grain: standard deviation of the noise on the first view; it falls to a fifth over the second half.
        count: how many views a step.
    """

    size: tuple[int, int] | None
    jitter: float
    low: float
    high: float
    turn: float
    mirrored: bool = True
    grain: float = 0.0
    count: int = 1

    def tiles(self, _height: int, _width: int, _seed: int, _draw: int) -> tuple[Tile, ...]:
        return ()

    def look(self, picture: Tensor, seed: int, draw: int, progress: float) -> Tensor:
        import torch
        from torch.nn.functional import grid_sample

        draws = generator(seed, _VIEW_DRAWS + draw)
        shares = torch.rand((self.count, 7), generator=draws, dtype=torch.float32, device="cpu")
        grid = self._grid(shares.double(), picture.shape[2], picture.shape[3]).to(picture)
        source = picture.expand(self.count, -1, -1, -1)
        seen = grid_sample(source - _GREY, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        grain = self.grain * (_LAST_GRAIN + (1 - _LAST_GRAIN) * falling(progress))
        if not grain:
            return seen.add_(_GREY)
        noise = torch.randn(seen.shape, generator=draws, dtype=torch.float32, device="cpu")
        return seen.add_(noise.to(seen).mul_(grain).add_(_GREY))

    def _grid(self, shares: Tensor, height: int, width: int) -> Tensor:
        """(n, H, W, 2) where each pixel of a view is looked up, for (n, 7) numbers from 0 to 1."""
        import torch

        rows, columns = self.size or (height, width)
        scale, across, down, still, angle, side, place = shares.T
        fit = min(height / rows, width / columns)
        scale = (self.low + (self.high - self.low) * scale) / fit
        turned = torch.where(still < _UPRIGHT, 0, (2 * angle - 1) * self.turn * pi / 180)
        mirror = torch.where(side < (0.5 if self.mirrored else 0), -1.0, 1.0)
        reach = self.jitter * min(height, width)
        # A picture of other proportions than the view is seen along its longer side, at any place.
        slack = (place - 0.5) * shares.new_tensor([width - columns * fit, height - rows * fit]).unsqueeze(1)
        shift = torch.stack([2 * across - 1, 2 * down - 1]) * reach + slack
        y = (torch.arange(rows, dtype=torch.float64, device="cpu") + 0.5 - rows / 2).view(1, -1, 1)
        x = (torch.arange(columns, dtype=torch.float64, device="cpu") + 0.5 - columns / 2).view(1, 1, -1)
        flipped = mirror.view(-1, 1, 1) * x
        cosine, sine = ((part / scale).view(-1, 1, 1) for part in (turned.cos(), turned.sin()))
        # Everything but one addition is done on rows and columns alone.
        grid = shares.new_empty(len(shares), rows, columns, 2)
        for number, (along, down) in enumerate(((cosine, -sine), (sine, cosine))):
            span = (width, height)[number] / 2
            torch.add(along / span * flipped, (down * y + shift[number].view(-1, 1, 1)) / span, out=grid[..., number])
        return grid

    def label(self) -> str:
        many = "" if self.count == 1 else f"{self.count} views each, "
        return f"{many}scaled {self.low:g} to {self.high:g}, turned up to {self.turn:g} degrees"


@value
class Rolled:
    """The picture shifted by whole pixels, round its borders; a large one in tiles whose borders lie elsewhere at each
    step, so that no seam stays.

    Attributes:
        jitter: the farthest shift, in pixels.
        tile: the longest side of a tile; a picture of up to twice the pixels of a tile passes as a whole.
    """

    jitter: int
    tile: int

    def tiles(self, height: int, width: int, seed: int, draw: int) -> tuple[Tile, ...]:
        if height * width <= 2 * self.tile**2:
            return ()
        rows, columns = _parts(height, self.tile), _parts(width, self.tile)
        down, across = self._draw(seed, draw, rows[0], columns[0])
        tops = [down + sum(rows[:number]) for number in range(len(rows))]
        lefts = [across + sum(columns[:number]) for number in range(len(columns))]
        return tuple(
            Tile(top, left, tall, wide)
            for top, tall in zip(tops, rows, strict=True)
            for left, wide in zip(lefts, columns, strict=True)
        )

    def look(self, picture: Tensor, seed: int, draw: int, _progress: float) -> Tensor:
        if not self.jitter:
            return picture
        down, across = self._draw(seed, draw, 2 * self.jitter + 1, 2 * self.jitter + 1)
        return picture.roll((down - self.jitter, across - self.jitter), (2, 3))

    def _draw(self, seed: int, draw: int, *below: int) -> list[int]:
        import torch

        draws = generator(seed, _VIEW_DRAWS + draw)
        return [int(torch.randint(end, (), generator=draws, dtype=torch.int64, device="cpu")) for end in below]

    def label(self) -> str:
        return f"rolled up to {self.jitter} pixels, in tiles of {self.tile} beyond twice as many pixels"


def _parts(length: int, most: int) -> list[int]:
    """A length in as few parts of up to `most` as there can be, of nearly one size."""
    count = ceil(length / most)
    return [length * (number + 1) // count - length * number // count for number in range(count)]


def falling(progress: float) -> float:
    """1 over the first half of a course, then down to 0 in a straight line."""
    return min(1.0, 2 * (1 - progress))
