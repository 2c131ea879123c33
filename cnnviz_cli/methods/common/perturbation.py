"""Inputs of which parts are hidden: by a sliding window, by random masks, or segment by segment."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, comb
from types import EllipsisType
from typing import TYPE_CHECKING, ClassVar

from cnnviz_cli.core.draws import uniform
from cnnviz_cli.core.needs import INPUT, Evidence, Input, Need, Seeds
from cnnviz_cli.core.value import value
from cnnviz_cli.methods.common.baselines import Baseline
from cnnviz_cli.methods.common.segments import Segmenting

if TYPE_CHECKING:
    from torch import Tensor

COVER_HELP = "What hides a part: the image's mean colour, black, a blur of the image, or random noise."

VISIBLE = 0.5
"""The share of a random mask's cells through which the image is seen."""


@value
class Windows:
    """The input as it is, then with a window of it covered, row by row.

    Windows start at 0, stride, 2 stride, ... up to the first that reaches the border, where it is cut.

    Attributes:
        window: height and width of the window; at most that of the input.
        stride: from one window to the next, at most `window`.
    """

    at: ClassVar[str] = INPUT

    size: tuple[int, int]
    window: tuple[int, int]
    stride: int
    cover: Baseline

    @property
    def needs(self) -> tuple[Need, ...]:
        return self.cover.needs

    @property
    def places(self) -> tuple[int, int]:
        """How many windows there are from top to bottom and from left to right."""
        down, across = (
            ceil((length - window) / self.stride) + 1 for length, window in zip(self.size, self.window, strict=True)
        )
        return down, across

    @property
    def count(self) -> int:
        return 1 + self.places[0] * self.places[1]

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        picture = evidence[Input()][image]
        cover = self.cover.of(evidence, image)
        made = picture.expand(stop - start, -1, -1, -1).clone()
        for place in range(max(start, 1), stop):
            box = self._box(place)
            made[place - start][box] = cover[box]
        return made

    def _box(self, place: int) -> tuple[EllipsisType, slice, slice]:
        """Rows and columns of the window number `place`, from 1."""
        row, column = divmod(place - 1, self.places[1])
        top, left = row * self.stride, column * self.stride
        return ..., slice(top, top + self.window[0]), slice(left, left + self.window[1])

    def keys(self, evidence: Evidence, image: int) -> Sequence[int]:
        """A window whose cover is what lies under it changes nothing."""
        changed = (evidence[Input()][image] != self.cover.of(evidence, image)).any(0).cpu().numpy()
        boxes = (self._box(place) for place in range(1, self.count))
        return [0, *(place if changed[box].any() else 0 for place, box in enumerate(boxes, 1))]

    def label(self) -> str:
        height, width = self.window
        return f"a window of {height} x {width} pixels covered by {self.cover.label()}"

    def mean_over(self, values: Tensor) -> Tensor:
        """(B, H, W) the mean, at each pixel, of the (B, count - 1) values of the windows that cover it."""
        down, across = (self._covers(values, axis) for axis in (0, 1))
        totals = down @ values.view(-1, *self.places) @ across.T
        return totals / (down.sum(1)[:, None] * across.sum(1))

    def _covers(self, like: Tensor, axis: int) -> Tensor:
        """(length, places) 1 where a window covers a row, or a column."""
        import torch

        starts = torch.arange(self.places[axis], dtype=torch.int64, device=like.device) * self.stride
        pixels = torch.arange(self.size[axis], dtype=torch.int64, device=like.device)[:, None]
        return ((starts <= pixels) & (pixels < starts + self.window[axis])).to(like.dtype)


@value
class RandomMasks:
    """The normalised input multiplied by coarse random masks (Petsiuk et al., 2018).

    A mask is a grid of cells, each 1 with probability `VISIBLE`, else 0, enlarged bilinearly to one cell more a side
    than the input, and cut at a random place.
    """

    at: ClassVar[str] = INPUT
    needs: ClassVar[tuple[Need, ...]] = (Input(), Seeds())

    masks: int
    cells: int

    @property
    def count(self) -> int:
        return self.masks

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        picture = evidence[Input()][image]
        return picture * self.mask(int(evidence[Seeds()][image]), start, stop, picture).unsqueeze(1)

    def keys(self, evidence: Evidence, image: int) -> Sequence[int]:
        """Masks without a visible cell are equal."""
        draws = _uniforms(int(evidence[Seeds()][image]), 0, self.count, self.cells**2 + 2)
        seen = (draws[:, :-2] < VISIBLE).any(1).tolist()
        return [number if seen else -1 for number, seen in enumerate(seen)]

    def label(self) -> str:
        return f"the input seen through {self.masks} random masks of {self.cells} x {self.cells} cells"

    def mask(self, seed: int, start: int, stop: int, like: Tensor) -> Tensor:
        """(stop - start, H, W) the masks of an image, from 0 to 1, for images such as `like` (..., H, W)."""
        import torch
        from torch.nn.functional import interpolate

        height, width = like.shape[-2:]
        cell = (ceil(height / self.cells), ceil(width / self.cells))
        draws = _uniforms(seed, start, stop, self.cells**2 + 2)
        grids = (draws[:, :-2] < VISIBLE).to(like).view(-1, 1, self.cells, self.cells)
        large = [(self.cells + 1) * side for side in cell]
        enlarged = interpolate(grids, size=large, mode="bilinear", align_corners=False)[:, 0]
        shifts = (draws[:, -2:] * draws.new_tensor(cell)).long().tolist()
        cut = [
            mask[top : top + height, left : left + width] for mask, (top, left) in zip(enlarged, shifts, strict=True)
        ]
        return torch.stack(cut)


@value
class EvenSwitches:
    """The input with segments covered: number 0 with none, then `draws` times each segment with probability 1/2."""

    at: ClassVar[str] = INPUT

    segments: Segmenting
    cover: Baseline
    draws: int

    @property
    def needs(self) -> tuple[Need, ...]:
        return tuple(dict.fromkeys((Input(), Seeds(), *self.cover.needs)))

    @property
    def count(self) -> int:
        return self.draws + 1

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        import torch

        picture = evidence[Input()][image]
        labels = torch.tensor(self.segments.of(picture), dtype=torch.int64, device=picture.device)
        on = self.on(int(evidence[Seeds()][image]), int(labels.max()) + 1, start, stop).to(picture.device)
        return torch.where(on[:, labels].unsqueeze(1), picture, self.cover.of(evidence, image))

    def keys(self, evidence: Evidence, image: int) -> Sequence[bytes]:
        """Variants that show the same segments are equal."""
        count = int(self.segments.of(evidence[Input()][image]).max()) + 1
        on = self.on(int(evidence[Seeds()][image]), count, 0, self.count)
        return [row.tobytes() for row in on.numpy()]

    def label(self) -> str:
        return f"random ones of about {self.segments.cells} segments covered by {self.cover.label()}"

    def on(self, seed: int, segments: int, start: int, stop: int) -> Tensor:
        """(stop - start, segments) which segments are seen, on the CPU."""
        on = _uniforms(seed, start, stop, segments) < 0.5
        on[: 1 if start == 0 else 0] = True
        return on


@value
class ShapleySwitches(EvenSwitches):
    """The same, chosen as Shapley values weigh coalitions: number 0 shows all, 1 nothing, the others a part.

    Where `draws` suffice for all coalitions of the segments, each comes once, and what is left over shows all. Else the
    size k of a coalition of M has probability proportional to 1 / (k (M - k)), and each second coalition is the
    complement of the one before, which takes half of the chance out (Covert & Lee, 2021).
    """

    @property
    def count(self) -> int:
        return self.draws + 2

    def complete(self, segments: int) -> bool:
        """Whether every coalition of so many segments has its variant."""
        return self.draws + 2 >= 1 << segments

    def weights(self, segments: int) -> list[float]:
        """For each coalition, from number 2 on, how much it counts in the regression."""
        if not self.complete(segments):
            return [1.0] * self.draws
        sizes = [(number - 1).bit_count() for number in range(2, 1 << segments)]
        exact = [1 / (comb(segments, size) * size * (segments - size)) for size in sizes]
        return exact + [0.0] * (self.draws - len(exact))

    def on(self, seed: int, segments: int, start: int, stop: int) -> Tensor:
        import torch

        if self.complete(segments):
            numbers = range(start, stop)
            # Bit j of a coalition's number says whether segment j is in it; -1 has all bits.
            members = [0 if n == 1 else n - 1 if 2 <= n < 1 << segments else -1 for n in numbers]
            bits = [[bool(member >> bit & 1) for bit in range(segments)] for member in members]
            return torch.tensor(bits, dtype=torch.bool, device="cpu")
        first = max(start, 2) - 2
        pairs = range(first // 2, max((stop - 1) // 2, first // 2))
        chances = _uniforms(seed, pairs.start, pairs.stop, segments + 1)
        weights = [1 / (size * (segments - size)) for size in range(1, segments)]
        shares = torch.tensor(weights, dtype=torch.float32, device="cpu").cumsum(0)
        sizes = 1 + torch.searchsorted(shares / shares[-1], chances[:, :1].contiguous(), right=True)
        inside = chances[:, 1:].argsort(dim=1, stable=True).argsort(1) < sizes
        both = torch.stack((inside, ~inside), 1).flatten(0, 1)[first % 2 :]
        ends = torch.tensor([True, False], dtype=torch.bool, device="cpu")[:, None].expand(2, segments)
        return torch.cat((ends[start:stop], both))[: stop - start]


def _uniforms(seed: int, start: int, stop: int, length: int) -> Tensor:
    """(stop - start, length) draws in [0, 1), a row for each number."""
    import torch

    rows = [uniform(seed, number, (length,)) for number in range(start, stop)]
    return torch.stack(rows) if rows else torch.empty(0, length, dtype=torch.float32, device="cpu")
