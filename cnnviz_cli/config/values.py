"""What a value may look like before it is checked: one for several, names with commas, classes, folders."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError


def one_or_more(item: Any, *, empty: bool = False) -> Any:
    """The type of a repeatable setting: a tuple of `item`, for which a single value may stand."""
    several = tuple[item, ...] if empty else Annotated[tuple[item, ...], Field(min_length=1)]
    return Annotated[several, BeforeValidator(_listed, json_schema_input_type=several | item)]


def _listed(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str | int | float) else value


def split_at_commas(value: Any) -> Any:
    """`a,b` as two names, where a value may be several of them."""
    items = value if isinstance(value, list | tuple) else (value,)
    parts = [item.split(",") if isinstance(item, str) else [item] for item in items]
    return tuple(name.strip() if isinstance(name, str) else name for part in parts for name in part)


def target(value: Any) -> str | int:
    """A class index, or text that names one or more classes; digits alone are an index wherever they come from."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise PydanticCustomError("target", "must be topK, a class index or a class name")
    if isinstance(value, int):
        if value < 0:
            raise PydanticCustomError("target", "must be at least 0 where it is a class index")
        return value
    if not value.strip():
        raise PydanticCustomError("target", "must be topK, a class index or a class name")
    return value.strip()


def auto_or_count(at_least: int) -> Callable[[Any], Any]:
    """A validator of ``auto`` or a whole number of at least so much."""

    def checked(value: Any) -> Any:
        text = value.strip() if isinstance(value, str) else value
        if isinstance(text, str) and re.fullmatch(r"[0-9]{1,6}", text):
            text = int(text)
        if text != "auto" and (isinstance(text, bool) or not isinstance(text, int) or text < at_least):
            raise PydanticCustomError("count", f"must be auto or a whole number of at least {at_least}")
        return text

    return checked


def class_or_none(value: Any) -> Any:
    """A class index or a class name; None for no class."""
    return value if value is None else target(value)


def patterns() -> Any:
    """The type of a repeatable setting of patterns of file names, none of them empty."""
    return one_or_more(Annotated[str, BeforeValidator(_pattern)], empty=True)


def _pattern(value: Any) -> Any:
    if isinstance(value, str) and not value.strip("/"):
        raise PydanticCustomError("pattern", "must be a pattern of file names")
    return value


def path_or_none(value: Any) -> Any:
    """A file; the empty text is none."""
    return Path(value) if isinstance(value, str) and value else value or None


def path(value: Any) -> Any:
    """A folder; the empty text is none."""
    if isinstance(value, str):
        if not value:
            raise PydanticCustomError("path", "must name a folder")
        return Path(value)
    return value
