"""The setting `width`, checked."""

from __future__ import annotations

from pydantic_core import PydanticCustomError

from cnnviz_cli.core.sizes import size_of


def a_width(value: str) -> str:
    """The text of a width that a figure can have, at the resolution that is usual in print."""
    try:
        size_of(value)
    except ValueError as error:
        raise PydanticCustomError("width", "{what}", {"what": str(error)}) from error
    return value
