"""The setting `scale`, checked."""

from __future__ import annotations

from pydantic_core import PydanticCustomError

from cnnviz_cli.core.scales import fixed


def a_range(value: str) -> str:
    """The text of a scale whose numbers, if it has any, are a range."""
    try:
        fixed(value)
    except ValueError as error:
        # In braces pydantic would look for values to fill in; the numbers come from the user.
        raise PydanticCustomError("scale", "{what}", {"what": str(error)}) from error
    return value
