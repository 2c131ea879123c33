"""What the values of settings may look like, read and checked: plain scalars, classes, paths, sizes, palettes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import EVERY_FAMILY, FAMILIES
from cnnviz_cli.core.figure_settings import parse_figure_size, parse_scale
from cnnviz_cli.core.text import did_you_mean, escape_text

_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})|0o[0-7]{1,30}|0x[0-9a-fA-F]{1,30}")
_FLOAT = re.compile(r"[-+]?((\.[0-9]+|(0|[1-9][0-9]*)\.[0-9]*)([eE][-+]?[0-9]+)?|(0|[1-9][0-9]*)[eE][-+]?[0-9]+)")
_SPECIAL = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}


def parse_scalar(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar: null, a boolean, a number, or else text."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text[0] in "tT"
    if _INT.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if text.lower() in _SPECIAL:
        return float(_SPECIAL[text.lower()])
    return text


def one_or_more(item: Any, *, empty: bool = False) -> Any:
    """The type of a repeatable setting: a tuple of `item`, for which a single value may stand."""
    several = tuple[item, ...] if empty else Annotated[tuple[item, ...], Field(min_length=1)]
    return Annotated[several, BeforeValidator(_to_tuple, json_schema_input_type=several | item)]


def _to_tuple(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str | int | float) else value


def split_at_commas(value: Any) -> Any:
    """`a,b` as two names, where a value may be several of them."""
    items = value if isinstance(value, list | tuple) else (value,)
    parts = [item.split(",") if isinstance(item, str) else [item] for item in items]
    return tuple(name.strip() if isinstance(name, str) else name for part in parts for name in part)


def parse_target(value: Any) -> str | int:
    """A class index, or text that names one or more classes; digits alone are an index wherever they come from."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value.strip()):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise PydanticCustomError("target", "must be at least 0 where it is a class index")
        return value
    if not isinstance(value, str) or not value.strip():
        raise PydanticCustomError("target", "must be topK, a class index or a class name")
    return value.strip()


def parse_auto_or_count(at_least: int, word: str = "auto", at_most: int | None = None) -> Callable[[Any], Any]:
    """A validator of ``auto``, or another `word`, or a whole number of at least, and perhaps at most, so much."""
    allowed = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"

    def checked(value: Any) -> Any:
        text = value.strip() if isinstance(value, str) else value
        if isinstance(text, str) and re.fullmatch(r"[0-9]{1,6}", text):
            text = int(text)
        if text == word:
            return text
        if isinstance(text, bool) or not isinstance(text, int) or text < at_least or text > (at_most or text):
            raise PydanticCustomError("count", f"must be {word} or a whole number {allowed}")
        return text

    return checked


_MOST = 1024  # far more than cores; OpenMP crashes where it cannot start them all

ThreadCount = Annotated[int | Literal["auto"], BeforeValidator(parse_auto_or_count(1, at_most=_MOST))]
ReplicaCount = Annotated[int | Literal["auto"], BeforeValidator(parse_auto_or_count(1, at_most=_MOST))]
WorkerCount = Annotated[int | Literal["auto"], BeforeValidator(parse_auto_or_count(0, at_most=_MOST))]


def parse_class(value: Any) -> Any:
    """A class index or a class name; None for no class."""
    return value if value is None else parse_target(value)


def patterns() -> Any:
    """The type of a repeatable setting of patterns of file names, none of them empty."""
    return one_or_more(Annotated[str, BeforeValidator(_check_pattern)], empty=True)


def _check_pattern(value: Any) -> Any:
    if isinstance(value, str) and not value.strip("/"):
        raise PydanticCustomError("pattern", "must be a pattern of file names")
    return value


def parse_file(value: Any) -> Any:
    """A file; the empty text is none."""
    return Path(value) if isinstance(value, str) and value else value or None


def parse_folder(value: Any) -> Any:
    """A folder; the empty text is none."""
    if isinstance(value, str):
        if not value:
            raise PydanticCustomError("path", "must name a folder")
        return Path(value)
    return value


OptionalFile = Annotated[Path | None, BeforeValidator(parse_file, json_schema_input_type=str | None)]
Folder = Annotated[Path, BeforeValidator(parse_folder, json_schema_input_type=str)]


def parse_head(value: Any) -> Any:
    """The name of a part of an output; an index in a tuple may be written as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value or None


Head = Annotated[str | None, BeforeValidator(parse_head, json_schema_input_type=str | int | None)]


BYTE_MAX = 255
"""What values of eight bits count to."""

_BAND_RANGE = re.compile(r"([1-9][0-9]{0,3})-([1-9][0-9]{0,3})")
_SIZE = re.compile(r"([0-9]{1,5})(?:\s*[xX]\s*([0-9]{1,5}))?")


def parse_size(value: Any) -> tuple[int, ...]:
    """``224``, ``160x320`` or ``[160, 320]`` as height and width; an empty list as no size."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    if len(items) == 1 and isinstance(items[0], str):
        found = _SIZE.fullmatch(items[0].strip())
        items = [int(side) for side in found.groups(default=found[1])] if found else ["no number"]
    elif len(items) == 1:
        items *= 2
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in items)
    if len(items) not in (0, 2) or not whole or not all(0 < side < 100_000 for side in items):
        raise _shape_error("must be a side or HEIGHTxWIDTH, in pixels from 1 to 99999", "For instance 224, or 160x320.")
    return tuple(items)


Size = Annotated[tuple[int, ...], BeforeValidator(parse_size, json_schema_input_type=tuple[int, ...] | int | str)]


def parse_value_range(value: Any) -> str:
    """``auto``, ``container``, or the values that become 0 and 1: ``0,4095`` or ``[0, 4095]``."""
    if value in ("auto", "container"):
        return str(value)
    found = _numbers(value)
    if found is None or len(found) != 2:
        raise _shape_error("must be auto, container or LO,HI", "For instance 0,4095, or -160,240 for a window of CT.")
    low, high = found
    if not low < high:
        raise _shape_error("must have a lower value before a higher one", f"Did you mean {high:.12g},{low:.12g}?")
    return f"{low:.12g},{high:.12g}"


ValueRange = Annotated[str, BeforeValidator(parse_value_range, json_schema_input_type=tuple[float, float] | str)]


def parse_bands(value: Any) -> tuple[int, ...]:
    """One band's number, from 1, or several: a list, or text with commas and ranges, ``1-5,8``."""
    found: list[Any] = []
    for item in split_at_commas(value):
        span = _BAND_RANGE.fullmatch(item) if isinstance(item, str) else None
        found += range(int(span[1]), int(span[2]) + 1) if span else [_scalar(item)]
    whole = all(isinstance(item, int) and not isinstance(item, bool) and 0 < item < 10_000 for item in found)
    if not whole or bool(found) != bool(value):
        raise _shape_error("must be the numbers of bands, counted from 1", "For instance 3,2,1, or 1-5.")
    return tuple(found)


def parse_shown_bands(value: Any) -> tuple[int, ...]:
    """Three bands' numbers, or one."""
    found = parse_bands(value)
    if len(found) not in (0, 1, 3):
        raise _shape_error("must be three bands, or one", "For instance 3,2,1, or 4.")
    return found


Bands = Annotated[tuple[int, ...], BeforeValidator(parse_bands, json_schema_input_type=tuple[int, ...] | int | str)]
ShownBands = Annotated[
    tuple[int, ...], BeforeValidator(parse_shown_bands, json_schema_input_type=tuple[int, ...] | int | str)
]


def parse_mean(value: Any) -> tuple[float, ...]:
    """One number from 0 to 1, or several: a list, or text with commas."""
    found = _parse_numbers(value)
    if not all(0 <= number <= 1 for number in found):
        raise _shape_error("must be from 0 to 1, like the values of an image", _suggest_division(found))
    return found


def parse_std(value: Any) -> tuple[float, ...]:
    """One number above 0 and up to 1, or several: a list, or text with commas."""
    found = _parse_numbers(value)
    if not all(0 < number <= 1 for number in found):
        what = "must be above 0 and at most 1, like the values of an image"
        zero = "A channel that is not to be divided has the standard deviation 1." if 0 in found else ""
        raise _shape_error(what, zero or _suggest_division(found))
    return found


Mean = Annotated[tuple[float, ...], BeforeValidator(parse_mean, json_schema_input_type=tuple[float, ...] | float | str)]
Std = Annotated[tuple[float, ...], BeforeValidator(parse_std, json_schema_input_type=tuple[float, ...] | float | str)]


def _suggest_division(numbers: Sequence[float]) -> str:
    """The numbers that were meant, where they may count to 255; else of what values they are."""
    if min(numbers) >= 0 and 2 <= max(numbers) <= BYTE_MAX:
        return (
            f"Values that count to 255 are divided by 255: {','.join(f'{number / BYTE_MAX:.6g}' for number in numbers)}"
        )
    return "The values of an image go from 0 to 1 before they are normalized, whatever its file counts to."


def _parse_numbers(value: Any) -> tuple[float, ...]:
    found = _numbers(value)
    if found is None:
        raise _shape_error("must be one number or a list of numbers", "For instance 0.5, or 0.485,0.456,0.406.")
    return found


def _numbers(value: Any) -> tuple[float, ...] | None:
    found = [_scalar(item) for item in split_at_commas(value)]
    whole = all(isinstance(item, int | float) and not isinstance(item, bool) and isfinite(item) for item in found)
    return tuple(map(float, found)) if whole else None


def _scalar(item: Any) -> Any:
    return parse_scalar(item) if isinstance(item, str) else item


def _shape_error(what: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError("shape", "{what}", {"what": what, "fix": fix})


def check_scale(value: str) -> str:
    """The text of a scale whose numbers, if it has any, are a range."""
    return _check(parse_scale, value)


def check_width(value: str) -> str:
    """The text of a width that a figure can have, at the resolution that is usual in print."""
    return _check(parse_figure_size, value)


def _check(parse: Callable[[str], object], value: str) -> str:
    try:
        parse(value)
    except ValueError as error:
        # In braces pydantic would look for values to fill in; the numbers come from the user.
        raise PydanticCustomError("value", "{what}", {"what": str(error)}) from error
    return value


AUTO_PALETTE = "auto"
"""Each family's own."""


@cache
def palette_of(setting: str, family: str) -> str:
    """The palette of a family's maps by a setting that `check_palettes` takes: the last word that is about it."""
    chosen = EVERY_FAMILY[family].palette
    for about, name in _parse_palettes(setting):
        if about in ("", family):
            chosen = EVERY_FAMILY[family].palette if name == AUTO_PALETTE else name
    return chosen


def check_palettes(setting: str, known: Sequence[str]) -> None:
    """Raise UsageError for what names none of the `known` palettes, or an unknown family; `setting` is a name, or names
    and FAMILY=NAME with commas between."""
    for family, name in _parse_palettes(setting):
        if family and family not in FAMILIES:
            fix = f"{did_you_mean(family, FAMILIES)}\nThere are {', '.join(FAMILIES)}.".strip()
            raise UsageError(f"there is no such family: '{escape_text(family, 60)}'", fix=fix)
        if name not in (AUTO_PALETTE, *known):
            raise unknown_palette_error(name, (AUTO_PALETTE, *known))


def unknown_palette_error(name: str, known: Sequence[str]) -> UsageError:
    """What to say of a palette that is not there."""
    fix = f"{did_you_mean(name, known)}\nThere are {', '.join(known)}.".strip()
    return UsageError(f"there is no such palette: '{escape_text(name, 60)}'", fix=fix)


def _parse_palettes(setting: str) -> list[tuple[str, str]]:
    """(family, palette) of each part; the family is empty where the part is about all."""
    pairs = (part.strip().rpartition("=") for part in setting.split(","))
    return [(family.strip(), name.strip()) for family, _, name in pairs]
