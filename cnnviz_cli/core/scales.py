"""The range of raw values that colours span, where a picture does not take its own."""

from __future__ import annotations

import re
from math import isfinite
from typing import Final

from cnnviz_cli.core.value import value

BY_IMAGE: Final = "image"
"""Each map by itself."""

BY_RUN: Final = "run"
"""One range for all maps of a run that a method read from a layer."""

_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
PATTERN = rf"^(?:{BY_IMAGE}|{BY_RUN}|fixed:{_NUMBER},{_NUMBER})$"
"""What a scale may look like; whether its numbers are a range, `fixed` says."""


@value
class Scale:
    """A range given from outside a picture.

    Attributes:
        low: the raw value drawn in the first colour; lower ones are drawn so, too.
        high: the raw value drawn in the last colour; higher ones are drawn so, too.
        whose: whose range it is, in words for a legend.
    """

    low: float
    high: float
    whose: str


def fixed(text: str) -> Scale | None:
    """The range in ``fixed:LO,HI``; None for the other ways to scale.

    Raises:
        ValueError: LO and HI are no range.
    """
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
