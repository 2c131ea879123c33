"""What was not given needs no conversion."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any


def spare(params: Iterable[Any]) -> None:
    """Let parameters of Typer's that are not given pass as they are.

    Typer makes a validator for each of them all the same. Importing pydantic for that would be half of the time that
    ``cnnviz models`` takes, and a run has seventy flags.
    """
    for param in params:
        param.process_value = partial(_process, param, param.process_value)


def _process(param: Any, convert: Any, context: Any, value: Any) -> Any:
    if value is not None or param.required:
        return convert(context, value)
    none = () if param.multiple or param.nargs == -1 else None
    return none if param.callback is None else param.callback(context, param, none)
