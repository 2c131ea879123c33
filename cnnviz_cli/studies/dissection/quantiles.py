"""Quantiles of each channel over all positions of all images, exact and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli.core.errors import UsageError

FloatArray = NDArray[np.float32]
_DIGITS = (11, 11, 10)
"""Bits of a float32 that each pass settles, the highest first."""

PASSES = len(_DIGITS)
"""How often all values are looked at."""


class ChannelQuantiles:
    """The smallest value of each channel that at most a share of its values exceed, by counting alone.

    The bit patterns of float32 can be put in the order of the numbers that they stand for. The first pass counts for
    each channel how many values have each pattern of the highest 11 bits, which says in which bin of values the
    quantile lies; the second counts the next 11 bits of the values in this bin, the third the last 10. So the result is
    one of the values themselves, without an error, and memory is 2,048 counters a channel, however many images there
    are. Counts are whole numbers: `merge` is associative and commutative to the last bit.

    It is numpy's ``quantile(..., method="inverted_cdf")``.
    """

    def __init__(self, channels: int, quantile: float) -> None:
        """`quantile`: the share of values that are not above, from 0 to 1."""
        self._above = 1 - Fraction(repr(quantile))
        self._pass = 0
        self._prefix = np.zeros(channels, np.uint32)  # the bits that are settled
        self._rank: NDArray[np.int64] | None = None  # how many values with this prefix are above the quantile
        self._counts = self._empty()

    @property
    def done(self) -> bool:
        """Whether every bit is settled."""
        return self._pass == PASSES

    def add(self, values: FloatArray) -> None:
        """Count (n, C, positions) finite values, in this pass."""
        channels = len(self._prefix)
        keys = _ordered(np.moveaxis(values, 1, 0).reshape(channels, -1))
        low = sum(_DIGITS[self._pass + 1 :])
        mask, size = (1 << _DIGITS[self._pass]) - 1, self._counts.shape[1]
        # By channel: what is counted together then lies together.
        for channel, row in enumerate(keys):
            counted = row[row >> low + _DIGITS[self._pass] == self._prefix[channel]] if self._pass else row
            if len(counted):
                self._counts[channel] += np.bincount(counted >> low & mask, minlength=size)

    def merge(self, other: ChannelQuantiles) -> None:
        """Add what another process has counted in the same pass."""
        if self._pass != other._pass or not np.array_equal(self._prefix, other._prefix):
            raise ValueError("counts of two passes, or of other values, do not add up")
        self._counts += other._counts

    def narrow(self) -> None:
        """End a pass. Raises ValueError where nothing was counted."""
        if self._rank is None:
            totals = self._counts.sum(1)
            if not totals.all():
                raise ValueError("there are no values")
            self._rank = np.array([int(self._above * int(total)) for total in totals], np.int64)
        above = self._counts[:, ::-1].cumsum(1)  # down from the highest bin
        place = (above <= self._rank[:, None]).sum(1)
        before = np.where(place > 0, np.take_along_axis(above, np.maximum(place - 1, 0)[:, None], 1)[:, 0], 0)
        self._rank = self._rank - before
        digit = (self._counts.shape[1] - 1 - place).astype(np.uint32)
        self._prefix = self._prefix << _DIGITS[self._pass] | digit
        self._pass += 1
        self._counts = self._empty()

    def finish(self) -> FloatArray:
        """(C,) the quantiles, after the last pass."""
        if not self.done:
            raise ValueError("not every bit is settled")
        positive = self._prefix >> 31 == 1
        return np.where(positive, self._prefix ^ np.uint32(1 << 31), ~self._prefix).astype(np.uint32).view(np.float32)

    def _empty(self) -> NDArray[np.int64]:
        bins = 0 if self.done else 1 << _DIGITS[self._pass]
        return np.zeros((len(self._prefix), bins), np.int64)


def _ordered(values: FloatArray) -> NDArray[np.uint32]:
    """Whole numbers in the order of the values; -0 and 0 are one."""
    bits = (np.ascontiguousarray(values, np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31 == 1, ~bits, bits | np.uint32(1 << 31))


def find_quantiles(chunks: Callable[[], Iterable[FloatArray]], channels: int, quantile: float) -> FloatArray:
    """(C,) the quantile of each channel.

    Args:
        chunks: gives all values, (n, C, positions) at a time, each time it is called, in whatever order.

    Raises:
        UsageError: there are none.
    """
    found = ChannelQuantiles(channels, quantile)
    while not found.done:
        for values in chunks():
            found.add(values)
        try:
            found.narrow()
        except ValueError as error:
            raise UsageError("no image could be shown to the network, so no channel has a threshold") from error
    return found.finish()
