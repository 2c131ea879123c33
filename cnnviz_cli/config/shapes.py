"""The settings of the network's input, read and checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from typing import Any

from pydantic_core import PydanticCustomError

from cnnviz_cli.config.scalars import resolve
from cnnviz_cli.config.values import split_at_commas

BYTE = 255
"""What values of eight bits count to."""

_SPAN = re.compile(r"([1-9][0-9]{0,3})-([1-9][0-9]{0,3})")
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
        raise _refused("must be a side or HEIGHTxWIDTH, in pixels from 1 to 99999", "For instance 224, or 160x320.")
    return tuple(items)


def value_range(value: Any) -> str:
    """``auto``, ``container``, or the values that become 0 and 1: ``0,4095`` or ``[0, 4095]``."""
    if value in ("auto", "container"):
        return str(value)
    found = [resolve(item) if isinstance(item, str) else item for item in split_at_commas(value)]
    whole = all(isinstance(item, int | float) and not isinstance(item, bool) and isfinite(item) for item in found)
    if len(found) != 2 or not whole:
        raise _refused("must be auto, container or LO,HI", "For instance 0,4095, or -160,240 for a window of CT.")
    low, high = (float(item) for item in found if isinstance(item, int | float))
    if not low < high:
        raise _refused("must have a lower value before a higher one", f"Did you mean {high:.12g},{low:.12g}?")
    return f"{low:.12g},{high:.12g}"


def bands(value: Any) -> tuple[int, ...]:
    """One band's number, from 1, or several: a list, or text with commas and ranges, ``1-5,8``."""
    found: list[Any] = []
    for item in split_at_commas(value):
        span = _SPAN.fullmatch(item.strip()) if isinstance(item, str) else None
        found += range(int(span[1]), int(span[2]) + 1) if span else [resolve(item) if isinstance(item, str) else item]
    whole = all(isinstance(item, int) and not isinstance(item, bool) and 0 < item < 10_000 for item in found)
    if not whole or bool(found) != bool(value):
        raise _refused("must be the numbers of bands, counted from 1", "For instance 3,2,1, or 1-5.")
    return tuple(item for item in found if isinstance(item, int))


def shown_bands(value: Any) -> tuple[int, ...]:
    """Three bands' numbers, or one."""
    found = bands(value)
    if len(found) not in (0, 1, 3):
        raise _refused("must be three bands, or one", "For instance 3,2,1, or 4.")
    return found


def mean(value: Any) -> tuple[float, ...]:
    """One number from 0 to 1, or several: a list, or text with commas."""
    found = _numbers(value)
    if not all(0 <= number <= 1 for number in found):
        raise _refused("must be from 0 to 1, like the values of an image", _divided(found))
    return found


def std(value: Any) -> tuple[float, ...]:
    """One number above 0 and up to 1, or several: a list, or text with commas."""
    found = _numbers(value)
    if not all(0 < number <= 1 for number in found):
        what = "must be above 0 and at most 1, like the values of an image"
        zero = "A channel that is not to be divided has the standard deviation 1." if 0 in found else ""
        raise _refused(what, zero or _divided(found))
    return found


def _divided(numbers: Sequence[float]) -> str:
    """The numbers that were meant, where they may count to 255; else of what values they are."""
    if min(numbers) >= 0 and 2 <= max(numbers) <= BYTE:
        return f"Values that count to 255 are divided by 255: {','.join(f'{number / BYTE:.6g}' for number in numbers)}"
    return "The values of an image go from 0 to 1 before they are normalized, whatever its file counts to."


def _numbers(value: Any) -> tuple[float, ...]:
    found = [resolve(item) if isinstance(item, str) else item for item in split_at_commas(value)]
    if not all(isinstance(item, int | float) and not isinstance(item, bool) and isfinite(item) for item in found):
        raise _refused("must be one number or a list of numbers", "For instance 0.5, or 0.485,0.456,0.406.")
    return tuple(float(item) for item in found if isinstance(item, int | float))


def _refused(what: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError("shape", "{what}", {"what": what, "fix": fix})
