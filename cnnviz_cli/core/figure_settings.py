"""The settings `width`, `dpi` and `scale`: how large figures are, and the range of raw values that colors span."""

from __future__ import annotations

import re
from math import isfinite
from typing import Final

from cnnviz_cli.core.value import value

LAYOUT_WIDTH = 1600
"""Units for which a figure is laid out where nothing narrower was asked for."""

MIN_LAYOUT_WIDTH = 480
"""No figure is laid out for less: its text would not fit. A narrower one is drawn smaller."""

UNITS_PER_INCH = 144
"""Of a figure whose size in print is known: type of 14 units is 7 points, that of 12 is 6."""

PRINT_DPI = 300
"""Pixels an inch where a width is given in centimetres and nothing else is said."""

WIDTH_PATTERN = r"^(auto|source|[1-9][0-9]{1,4}|[0-9]{1,3}(\.[0-9]{1,3})?(cm|mm|in))$"
"""What a width may be: two words, pixels, or a length in print."""

WIDTH_LIMITS = (64, 20_000)
"""The narrowest and the widest figure in pixels."""

_INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4}


@value
class FigureSize:
    """How large figures are.

    Attributes:
        pixels: their exact width; None for as wide as they need.
        layout_width: the units for which they are laid out, a pixel each unless `pixels` says otherwise.
        source: whether images keep their own size, however large.
        dpi: pixels an inch, for the file; 0 where nothing is known of print.
        density: pixels a unit of the images in a figure.
    """

    pixels: int | None = None
    layout_width: int = LAYOUT_WIDTH
    source: bool = True
    dpi: int = 0
    density: float = 1.0


NATURAL_SIZE = FigureSize()
"""Images at their own size, sheets as wide as they need."""


def parse_figure_size(width: str, dpi: int = 0) -> FigureSize:
    """The size by a width like `WIDTH_PATTERN` and a resolution, 0 for none. Raises ValueError if it cannot be."""
    if width in ("auto", "source"):
        return FigureSize(source=width == "source", dpi=dpi)
    unit = width[-2:]
    if unit in _INCHES:
        dpi = dpi or PRINT_DPI
        pixels = round(float(width[:-2]) * _INCHES[unit] * dpi)
    else:
        pixels = int(width)
    if not WIDTH_LIMITS[0] <= pixels <= WIDTH_LIMITS[1]:
        print_size = f" at {dpi} dpi" if unit in _INCHES else ""
        raise ValueError(
            f"{width} is {pixels:,} pixels{print_size}; a figure has {WIDTH_LIMITS[0]} to {WIDTH_LIMITS[1]:,}"
        )
    room = round(pixels / dpi * UNITS_PER_INCH) if dpi else pixels
    return FigureSize(pixels, min(max(room, MIN_LAYOUT_WIDTH), LAYOUT_WIDTH), source=False, dpi=dpi)


BY_IMAGE: Final = "image"
"""Each map by itself."""

BY_RUN: Final = "run"
"""One range for all maps of a run that a method read from a layer."""

_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
SCALE_PATTERN = rf"^(?:{BY_IMAGE}|{BY_RUN}|fixed:{_NUMBER},{_NUMBER})$"
"""What a scale may look like; whether its numbers are a range, `parse_scale` says."""


@value
class Scale:
    """The raw values drawn in the first and in the last colour, and what the range is, in words for a legend."""

    low: float
    high: float
    label: str


def parse_scale(text: str) -> Scale | None:
    """The range in ``fixed:LO,HI``; None for the other ways to scale. Raises ValueError if LO and HI are no range."""
    if text in (BY_IMAGE, BY_RUN):
        return None
    match = re.fullmatch(rf"fixed:({_NUMBER}),({_NUMBER})", text)
    if match is None:
        raise ValueError(f"must be {BY_IMAGE}, {BY_RUN} or fixed:LO,HI")
    low, high = (float(number) for number in match.groups())
    if not isfinite(high - low):
        raise ValueError("must have two finite numbers after fixed:")
    if low >= high:
        raise ValueError("must have the lower number first, and a higher one after it")
    return Scale(low, high, "fixed")
