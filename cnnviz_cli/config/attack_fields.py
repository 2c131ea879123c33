"""The settings of ``attack`` whose text means more than a number or a choice: how large, and to which class."""

from __future__ import annotations

import re
from math import inf
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError

from cnnviz_cli.config import values
from cnnviz_cli.config.fields import CLOSED_CONFIG, setting
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import ATTACK
from cnnviz_cli.core.method import find_method

AUTO = "auto"
"""In the place of the method that explains the image: the usual one."""

_NUMBER = r"[0-9]{0,9}\.?[0-9]{1,9}(?:[eE]-?[0-9]{1,2})?"
_RATIO = re.compile(rf"({_NUMBER})\s*(?:/\s*({_NUMBER}))?")


def parse_eps(value: Any) -> Any:
    """A size in pixel values: a number above zero, or a ratio of two, as ``4/255``; None for the usual one."""
    number = value
    if isinstance(value, str):
        if not value.strip():
            return None
        found = _RATIO.fullmatch(value.strip())
        below = float(found[2]) if found and found[2] else 1.0
        number = float(found[1]) / below if found and below else None
    usable = isinstance(number, int | float) and not isinstance(number, bool) and 0 < number < inf
    if value is not None and not usable:
        raise PydanticCustomError("eps", "must be a size above 0 in pixel values from 0 to 1, for instance 4/255")
    return None if number is None else float(number)


class AttackFields(BaseModel):
    """How large a change may be, and which class it is to reach."""

    model_config = CLOSED_CONFIG

    eps: Annotated[float | None, BeforeValidator(parse_eps, json_schema_input_type=float | str | None)] = setting(
        "Attack",
        None,
        "The largest change, in pixel values from 0 to 1: 4/255 is four grey levels. Unset: 4/255, or 1 for l2.",
        "SIZE",
    )
    to: Annotated[str | int | None, BeforeValidator(values.parse_class)] = setting(
        "Attack",
        None,
        "The class that the image is to be taken for: an index, a name, or true. Unset: any other.",
        "CLASS",
    )


def wanted_class(settings: Any) -> str | int | None:
    """The class that an attack is to reach, as it was written; None where any will do, or nothing is attacked."""
    if settings.command != ATTACK.name:
        return None
    found: str | int | None = settings.section(ATTACK.name).to
    return found


def _levels_meant(eps: float) -> int:
    """How many levels a size above 1 was likely to mean: its own number, if it is one of levels."""
    return int(eps) if eps == int(eps) <= 255 else 4


def check_attack(settings: Any) -> None:
    """Raise UsageError for settings of an attack that mean nothing, before anything is loaded."""
    section = settings.section(ATTACK.name)
    if section.norm == "linf" and (section.eps or 0) > 1:
        raise UsageError(
            f"a pixel cannot change by {section.eps:g}: its values go from 0 to 1",
            where="--eps",
            fix=f"Levels of 8 bits are shares of 255: --eps {_levels_meant(section.eps)}/255. "
            "The most is 1, from black to white.",
        )
    if section.explain_by != AUTO:
        try:
            find_method(section.explain_by)
        except UsageError as error:
            error.where = "--explain-by"
            raise
    unused = {
        "--contrast": settings.contrast is not None,
        "--counterfactual": settings.counterfactual,
        "--score": settings.score != "logit",
    }
    for flag in (name for name, given in unused.items() if given):
        raise UsageError("an attack is on the label, and has no such question", where=flag, fix="Leave it out.")
