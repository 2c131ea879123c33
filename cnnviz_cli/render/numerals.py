"""Numbers beside a colour bar."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10


def ticks(values: Sequence[float]) -> list[str]:
    """The values as short texts to three significant digits of the largest: ``0``, ``0.412``, ``0.823``.

    All share their decimals, so that they compare at a glance; zero is written ``0``, and never with a minus.
    """
    largest = max((abs(value) for value in values), default=0.0)
    if largest == 0:
        return ["0"] * len(values)
    if not 1e-3 <= largest < 1e5:
        return [_scientific(value) for value in values]
    # log10 of 999.9 rounds to three digits as 1000, so the magnitude is taken after rounding.
    decimals = max(0, 2 - floor(log10(float(f"{largest:.2e}"))))
    return [f"{value:z.{decimals}f}" if value else "0" for value in values]


def short(value: float) -> str:
    """One value to three significant digits."""
    return ticks([value])[0]


def _scientific(value: float) -> str:
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"
