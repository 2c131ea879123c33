"""Which values of an image are black and white, where its samples have more than eight bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.reading import ValueRange

Values = NDArray[Any]

DEPTHS = (8, 10, 12, 14, 16)
"""Bits that cameras, scanners and detectors give; the values of one image may need fewer."""

_FEW = 16
"""Floats below this are of no depth: an image of eight bits with so few levels would be black."""

_BLOCK = 2**19
"""Samples that are converted at a time: the intermediate values have 8 bytes each."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The values of an image as they are stored.

    Attributes:
        values: (H, W), or (H, W, C) of C channels; whole numbers or floats.
        container: the lowest and the highest value that their type holds; 0 and 1 of floats.
        stated: the range that the file states, if it states one narrower than its container.
        inverted: whether the lowest value is white.
    """

    values: Values
    container: tuple[float, float]
    stated: tuple[float, float] | None = None
    inverted: bool = False

    @property
    def kind(self) -> str:
        """What the values are, in words."""
        return self.values.dtype.newbyteorder("=").name


@dataclass(frozen=True, slots=True)
class Shown:
    """The range that an image is shown in.

    Attributes:
        low: the value that becomes 0, for a network and in figures.
        high: the value that becomes 1.
        found: the lowest and the highest value of the image.
        why: where the range is from, in words.
    """

    low: float
    high: float
    found: tuple[float, float]
    why: str

    @property
    def words(self) -> str:
        """The range, for a legend."""
        return f"values of the image from {self.low:g} to {self.high:g} ({self.why})"

    def note(self, kind: str) -> str:
        """One sentence for the log."""
        low, high = self.found
        return f"{kind} values from {low:g} to {high:g}, shown from {self.low:g} to {self.high:g} ({self.why})"


def container_of(kind: np.dtype[Any]) -> tuple[float, float]:
    """The lowest and the highest value that a type holds; 0 and 1 of floats."""
    if kind.kind == "f":
        return 0.0, 1.0
    limits = np.iinfo(kind)
    return float(limits.min), float(limits.max)


def range_of(samples: Samples, wanted: ValueRange) -> Shown:
    """The range that an image is shown in.

    ``auto`` is the range that the file states. Without one it is 0 to 1 for floats within it, and otherwise 0 to the
    highest value of the smallest of `DEPTHS` that holds all values; floats below 16, as where enlarging has overshot 1,
    are shown from 0 to their highest value. Images with negative values, or values beyond 16 bits, are shown from their
    lowest to their highest value.

    Raises:
        ImageError: values are NaN or infinite.
    """
    low, high = found = _extremes(samples.values)
    if isinstance(wanted, tuple):
        return Shown(*wanted, found, "--value-range")
    if wanted == "container":
        return Shown(*samples.container, found, "all that its type holds")
    stated = samples.stated
    if stated is not None and stated[0] <= low and high <= stated[1]:
        return Shown(*stated, found, "as the file states")
    if low >= 0 and samples.values.dtype.kind == "f" and high < _FEW:
        return Shown(0.0, max(high, 1.0), found, "floats within 0 and 1" if high <= 1 else "0 to its highest value")
    depth = next((bits for bits in DEPTHS if high < 2**bits), None)
    if low >= 0 and depth is not None:
        return Shown(0.0, 2.0**depth - 1, found, f"{depth} bits")
    return Shown(low, high, found, "its lowest to its highest value")


def shares(samples: Samples, shown: Shown) -> NDArray[np.float32]:
    """The values as shares of the range, from 0 to 1; values beyond it are clipped."""
    whole = np.empty(samples.values.shape, np.float32)
    for rows in _blocks(samples.values):
        whole[rows] = _shares(samples.values[rows], samples, shown)
    return whole


def levels(samples: Samples, shown: Shown) -> NDArray[np.uint8]:
    """The values as shares of the range, from 0 to 255, rounded; values beyond it are clipped."""
    whole = np.empty(samples.values.shape, np.uint8)
    for rows in _blocks(samples.values):
        whole[rows] = np.rint(_shares(samples.values[rows], samples, shown) * 255)
    return whole


def _shares(values: Values, samples: Samples, shown: Shown) -> NDArray[np.float64]:
    spread = shown.high - shown.low
    exact = values.astype(np.float64) - shown.low
    # An image of one value has no contrast to stretch.
    found: NDArray[np.float64] = (exact / spread if spread > 0 else exact * 0).clip(0, 1)
    return 1 - found if samples.inverted else found


def _extremes(values: Values) -> tuple[float, float]:
    """The lowest and the highest value.

    Raises:
        ImageError: some are NaN or infinite.
    """
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        bad = sum(int((~np.isfinite(values[rows])).sum()) for rows in _blocks(values))
        raise ImageError(
            f"{bad:,} of its {values.size:,} values are NaN or infinite",
            fix="Replace them by numbers in the file: no network takes them.",
        )
    return low, high


def _blocks(values: Values) -> list[slice]:
    """Rows that make up a block each."""
    step = max(1, _BLOCK // max(1, values[0].size))
    return [slice(start, start + step) for start in range(0, len(values), step)]
