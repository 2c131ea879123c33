"""The settings of the network's input, read and checked."""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import PydanticCustomError

from cnnviz_cli.config.scalars import resolve
from cnnviz_cli.config.values import split_at_commas

_SIZE = re.compile(r"([0-9]{1,5})(?:\s*[xX]\s*([0-9]{1,5}))?")


def size(value: Any) -> tuple[int, ...]:
    """``224``, ``160x320`` or ``[160, 320]`` as height and width; an empty list as no size."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    if len(items) == 1 and isinstance(items[0], str):
        found = _SIZE.fullmatch(items[0].strip())
        items = [int(side) for side in found.groups(default=found[1])] if found else ["no number"]
    elif len(items) == 1:
        items *= 2
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in items)
    if len(items) not in (0, 2) or not whole or not all(0 < side < 100_000 for side in items):
        raise PydanticCustomError("size", "must be a side or HEIGHTxWIDTH, in pixels")
    return tuple(items)


def mean(value: Any) -> tuple[float, ...]:
    """One number from 0 to 1, or several: a list, or text with commas."""
    found = _numbers(value)
    if not all(0 <= number <= 1 for number in found):
        raise PydanticCustomError("mean", "must be of values from 0 to 1; divide what counts to 255 by 255")
    return found


def std(value: Any) -> tuple[float, ...]:
    """One number above 0 and up to 1, or several: a list, or text with commas."""
    found = _numbers(value)
    if not all(0 < number <= 1 for number in found):
        raise PydanticCustomError("std", "must be above 0, of values from 0 to 1; divide what counts to 255 by 255")
    return found


def _numbers(value: Any) -> tuple[float, ...]:
    found = [resolve(item) if isinstance(item, str) else item for item in split_at_commas(value)]
    if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in found):
        raise PydanticCustomError("numbers", "must be one number or a list of numbers")
    return tuple(float(item) for item in found if isinstance(item, int | float))
