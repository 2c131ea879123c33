"""Shapes that people have marked in an image, and which points are within them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli.files.images.region_masks import BoolArray, Centres, sample_pixels

_PAIRS = 2**20  # of an edge and a row that it crosses, looked at together
_RUN_DIGITS = 6  # of five bits, the most that the number of an image's pixels has


class Shape(Protocol):
    """Something marked in an image, in pixels of it, from its left and its top."""

    def covers(self, across: Centres, down: Centres) -> BoolArray:
        """(H, W) whether points are within: H rows `down`, W columns `across`, both ascending. A left or upper edge
        belongs to what it bounds, a right or lower one does not."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box by its edges."""

    left: float
    top: float
    right: float
    bottom: float

    def covers(self, across: Centres, down: Centres) -> BoolArray:
        """See `Shape`."""
        rows, columns = (down >= self.top) & (down < self.bottom), (across >= self.left) & (across < self.right)
        return rows[:, None] & columns


@dataclass(frozen=True, slots=True)
class Polygon:
    """A polygon by its corners, (n, 2) float64; where it crosses itself, what is enclosed twice is outside."""

    corners: NDArray[np.float64]

    def covers(self, across: Centres, down: Centres) -> BoolArray:
        """See `Shape`. Exact at points: nothing is rounded to a grid of its own, as COCO's own reader does it."""
        width = len(across) + 1
        crossed = np.zeros(len(down) * width, np.int64)  # how many edges lie between a point and the one left of it
        start, end = self.corners, np.roll(self.corners, -1, axis=0)
        first, last = (
            np.searchsorted(down, edge(start[:, 1], end[:, 1]), side="left") for edge in (np.minimum, np.maximum)
        )
        rows_of = last - first
        for some in _in_portions(rows_of):
            edges = np.repeat(some, rows_of[some])
            rows = np.arange(len(edges)) - np.repeat(np.cumsum(rows_of[some]) - rows_of[some], rows_of[some])
            rows += first[edges]
            (left, top), (right, bottom) = start[edges].T, end[edges].T
            crossing = left + (down[rows] - top) * (right - left) / (bottom - top)
            places = rows * width + np.searchsorted(across, crossing, side="left")
            crossed += np.bincount(places, minlength=len(crossed))
        covered: BoolArray = np.cumsum(crossed.reshape(-1, width), axis=1)[:, :-1] % 2 == 1
        return covered


def _in_portions(rows_of: NDArray[np.intp]) -> Sequence[NDArray[np.intp]]:
    """The edges that cross rows, few enough at a time that memory stays bounded."""
    crossing = np.flatnonzero(rows_of)
    ends = np.cumsum(rows_of[crossing]) // _PAIRS
    return np.split(crossing, np.flatnonzero(np.diff(ends)) + 1)


@dataclass(frozen=True, slots=True)
class Runs:
    """COCO's run lengths: column by column, in turn how many pixels are outside and how many within.

    Attributes:
        counts: (n,) int64, whose sum is the number of pixels.
        size: width and height.
    """

    counts: NDArray[np.int64]
    size: tuple[int, int]

    def covers(self, across: Centres, down: Centres) -> BoolArray:
        """See `Shape`. Pixels that are not asked for are never unpacked."""
        width, height = self.size
        shown = ((down >= 0) & (down < height))[:, None] & ((across >= 0) & (across < width))
        rows, columns = (
            np.floor(at).clip(0, side - 1).astype(np.int64) for at, side in ((down, height), (across, width))
        )
        place = columns * height + rows[:, None]
        within: BoolArray = np.searchsorted(np.cumsum(self.counts), place, side="right") % 2 == 1
        return within & shown


def unpack_counts(text: str) -> NDArray[np.int64]:
    """The run lengths that COCO packs into text. Raises ValueError if it is none.

    Six bits a character: five of a number, the lowest first, and whether more follow; the last holds the sign. From the
    fourth on a number is the difference to the one before the last.
    """
    digits = np.frombuffer(text.encode("ascii", "strict"), np.uint8).astype(np.int64) - 48
    if digits.size == 0:
        return digits
    if digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise ValueError("these are no packed run lengths")
    last = np.flatnonzero(digits & 32 == 0)
    length = np.diff(last, prepend=-1)
    if length.max() > _RUN_DIGITS:
        raise ValueError("a run is longer than any image")
    place = np.arange(len(digits)) - np.repeat(last - length + 1, length)
    numbers = np.add.reduceat((digits & 31) << 5 * place, last - length + 1)
    numbers -= np.where(digits[last] & 16, np.int64(1) << 5 * length, 0)
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pixels of an image, (h, w) bool."""

    inside: BoolArray

    def covers(self, across: Centres, down: Centres) -> BoolArray:
        """See `Shape`."""
        return sample_pixels(self.inside, across, down)


@dataclass(frozen=True, slots=True)
class MarkedObject:
    """One thing that is marked: what it is called, if it is known, and its shapes, which count together."""

    label: str
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class ImageAnnotation:
    """All that is marked in one image.

    Attributes:
        size: width and height of the image in whose pixels it is given; None if that is not told.
        sha256: of the bytes of the file it stands in.
    """

    size: tuple[int, int] | None
    objects: tuple[MarkedObject, ...]
    sha256: str
