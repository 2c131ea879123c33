"""How far what excites a channel and what is marked lie over each other, counted in pixels of the network's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli.core.layers import LayerInfo

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]


class _Axis(NamedTuple):
    """Of each pixel along a side the position before it, the one behind it, and how far it is between them."""

    before: NDArray[np.intp]
    behind: NDArray[np.intp]
    share: FloatArray
    first: NDArray[np.intp]  # of each position the first pixel that it reaches, or could if the map lay there
    last: NDArray[np.intp]  # and the one behind the last
    within: BoolArray  # of each pixel, whether the map lies over it


@dataclass(frozen=True)
class Enlarger:
    """Brings maps of a layer to the pixels of the network's input, bilinearly between the positions' places.

    A position's place is the centre of its receptive field, as in Bau et al.; beyond the outermost places values stay
    as they are there. Where the field is not known (a position that sees the whole input), positions share the input,
    or the part of it that they lie over, evenly.
    """

    rows: _Axis
    columns: _Axis

    @classmethod
    def of(cls, info: LayerInfo, shape: tuple[int, int], size: tuple[int, int]) -> Enlarger:
        """For maps of `shape` (h, w) that a layer gives of an input of `size` (H, W)."""
        axes = []
        for side in (0, 1):
            count, length = shape[side], size[side]
            numbers = np.arange(count, dtype=np.float64)
            first, last = (0.0, 1.0) if info.window is None else (info.window[1 - side], info.window[3 - side])
            if info.field is None or info.window is not None:
                step = (last - first) * length / count
                places = first * length + (numbers + 0.5) * step
            else:
                field = info.field
                places = field.start[side] + field.size[side] / 2 + numbers * field.stride[side]
            axes.append(_axis(places, length, (first * length, last * length)))
        return cls(*axes)

    def above(self, one: FloatArray, threshold: float) -> tuple[slice, slice, BoolArray]:
        """Which pixels an (h, w) map is above a threshold in: rows and columns of a window, and (rows, columns) which
        of its pixels. Outside of it there are none, since nothing between positions is above the highest of them."""
        hot = one > threshold
        windows = []
        for axis, found in ((self.rows, hot.any(1)), (self.columns, hot.any(0))):
            at = np.flatnonzero(found)
            windows.append(slice(int(axis.first[at[0]]), int(axis.last[at[-1]])) if len(at) else slice(0, 0))
        rows, columns = windows
        whole = _between(_between(one, self.rows, 0, rows), self.columns, 1, columns)
        above: BoolArray = whole > threshold
        above &= self.rows.within[rows, None] & self.columns.within[columns]
        return rows, columns, above

    def mask(self, one: FloatArray, threshold: float) -> BoolArray:
        """(H, W) which pixels an (h, w) map is above a threshold in."""
        found = np.zeros((len(self.rows.share), len(self.columns.share)), np.bool_)
        rows, columns, above = self.above(one, threshold)
        found[rows, columns] = above
        return found


def _axis(places: NDArray[np.floating], length: int, ends: tuple[float, float]) -> _Axis:
    centres = np.arange(length) + 0.5
    behind = np.searchsorted(places, centres, side="right").clip(1, max(1, len(places) - 1))
    before = behind - 1
    if len(places) == 1:
        behind = before
        share = np.zeros(length)
    else:
        share = ((centres - places[before]) / (places[behind] - places[before])).clip(0, 1)
    numbers = np.arange(len(places))
    first, last = np.searchsorted(behind, numbers), np.searchsorted(before, numbers, side="right")
    within = (centres > ends[0]) & (centres < ends[1])
    return _Axis(before, behind, share.astype(np.float32), first, last, within)


def _between(values: FloatArray, axis: _Axis, along: int, part: slice) -> FloatArray:
    """A part of the pixels along one side of a map. Of equal neighbours nothing else comes than what they are, so that
    nothing is above a threshold by rounding."""
    low, high = values.take(axis.before[part], along), values.take(axis.behind[part], along)
    share = axis.share[part, None] if along == 0 else axis.share[part]
    high -= low
    high *= share
    high += low
    return high


@dataclass
class Overlap:
    """Counts over images, of C channels and L labels. Of the annotations of other images in R shuffles, too.

    Attributes:
        both: (1 + R, C, L) pixels that are above a channel's threshold and marked with a label; of each image's own
            annotation first.
        marked: (1 + R, L) pixels that are marked.
        excited: (C,) pixels above the threshold.
    """

    both: NDArray[np.int64]
    marked: NDArray[np.int64]
    excited: NDArray[np.int64]

    @classmethod
    def empty(cls, channels: int, labels: int, shuffles: int) -> Overlap:
        """Nothing counted."""
        return cls(
            np.zeros((1 + shuffles, channels, labels), np.int64),
            np.zeros((1 + shuffles, labels), np.int64),
            np.zeros(channels, np.int64),
        )

    def merge(self, other: Overlap) -> None:
        """Add what was counted in other images."""
        self.both += other.both
        self.marked += other.marked
        self.excited += other.excited

    def iou(self, shuffle: int = 0) -> NDArray[np.float64]:
        """(C, L) intersection over union, each summed over all images, 0 where there is neither; with 0 of images' own
        annotations, with r of those that shuffle r gives them."""
        both = self.both[shuffle]
        union = self.excited[:, None] + self.marked[shuffle] - both
        found: NDArray[np.float64] = both / np.maximum(union, 1)
        return found

    def add(
        self,
        maps: FloatArray,
        thresholds: FloatArray,
        enlarger: Enlarger,
        seen: BoolArray,
        marked: Sequence[tuple[Sequence[int], BoolArray]],
    ) -> None:
        """Count one image.

        Args:
            maps: (C, h, w) of the image.
            thresholds: (C,).
            seen: (H, W) which pixels of the input show the image; nothing else counts.
            marked: of the image's own annotation, then of the one that each shuffle gives it, the numbers of its labels
                and (n, H, W) where they are.
        """
        active = np.flatnonzero(maps.max((1, 2)) > thresholds)
        areas = np.concatenate([inside & seen for _, inside in marked])
        ends = np.cumsum([0, *(len(inside) for _, inside in marked)])
        pixels = np.ascontiguousarray(np.moveaxis(areas, 0, 2))
        totals = areas.sum((1, 2))
        both = np.zeros((len(active), len(areas)), np.int64)
        excited = np.zeros(len(active), np.int64)
        for number, channel in enumerate(active):
            rows, columns, above = enlarger.above(maps[channel], thresholds[channel])
            above &= seen[rows, columns]
            excited[number] = np.count_nonzero(above)
            both[number] = np.count_nonzero(pixels[rows, columns][above], axis=0)
        self.excited[active] += excited
        for number, (labels, _) in enumerate(marked):
            of = slice(ends[number], ends[number + 1])
            at = np.asarray(labels, np.intp)
            self.both[number, active[:, None], at] += both[:, of]
            self.marked[number, at] += totals[of]


def shifted(order: Sequence[int], shuffles: int) -> list[list[int]]:
    """For each of at most so many shuffles, whose annotation each image gets: that of the one so many places further on
    in a random order, so never its own, and each annotation once.

    Args:
        order: positions of the annotated images in that random order.
    """
    count = len(order)
    found = []
    for shift in range(1, min(shuffles, count - 1) + 1):
        partner = [0] * count
        for place, position in enumerate(order):
            partner[position] = order[(place + shift) % count]
        found.append(partner)
    return found
