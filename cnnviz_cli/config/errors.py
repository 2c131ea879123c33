"""Mistakes in settings, told at once and each with its place, in sentences that say what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from rich.cells import cell_len

from cnnviz_cli.config.fields import Flag
from cnnviz_cli.config.names import field_at, section_type
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import EVERY_FAMILY, SELECTOR
from cnnviz_cli.core.method import unknown_method_message
from cnnviz_cli.core.text import did_you_mean, escape_text

_EXCERPT_BEFORE, _EXCERPT_AFTER = 60, 40


@dataclass(frozen=True, slots=True)
class SourcePlace:
    """Where a key or a value was written: ``--alpha``, ``CNNVIZ_ALPHA`` or ``file.yaml:3:8``, the line with a caret
    below it (of a file), and line and column, by which mistakes are sorted."""

    where: str
    excerpt: str = ""
    order: tuple[int, int] = (0, 0)


class CombinedUsageError(UsageError):
    """Every mistake found in the settings; `problems` holds them in the order of their places."""

    def __init__(self, problems: Sequence[UsageError]) -> None:
        super().__init__(f"{len(problems)} mistakes in the settings")
        self.problems = tuple(problems)


def combine_errors(problems: Sequence[UsageError]) -> UsageError:
    """One error for one mistake or more."""
    return problems[0] if len(problems) == 1 else CombinedUsageError(problems)


def split_errors(error: UsageError) -> tuple[UsageError, ...]:
    """What `combine_errors` put together."""
    return error.problems if isinstance(error, CombinedUsageError) else (error,)


def caret_excerpt(line: str, number: int, column: int) -> str:
    """A line of a file with a caret under `column` (from 1); a long line is cut around it."""
    start = max(0, column - 1 - _EXCERPT_BEFORE)
    stop = column - 1 + _EXCERPT_AFTER
    before = ("…" if start else "") + escape_text(line[start : column - 1])
    after = escape_text(line[column - 1 : stop]) + ("…" if stop < len(line) else "")
    margin = f"{number:>4} | "
    return f"{margin}{before}{after}\n{' ' * (len(margin) - 2)}| {' ' * cell_len(before)}^"


Location = tuple[str | int, ...]


@dataclass(slots=True)
class SettingsSource:
    """The values of a ``file``, the ``environment`` or a ``flag``, by section, and the places of keys and values."""

    kind: str = "file"
    data: dict[str, Any] = field(default_factory=dict)
    keys: dict[Location, SourcePlace] = field(default_factory=dict)
    values: dict[Location, SourcePlace] = field(default_factory=dict)

    def set_value(self, path: tuple[str, ...], value: Any, place: SourcePlace) -> None:
        """Set one value."""
        inner = self.data
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = value
        self.keys[path] = self.values[path] = place

    def place(self, loc: Location, *, key: bool = False) -> SourcePlace:
        """The place of a key or a value, or of the nearest thing around it."""
        table = self.keys if key else self.values
        for length in range(len(loc), 0, -1):
            if loc[:length] in table:
                return table[loc[:length]]
        return SourcePlace("")


def explain_errors(error: ValidationError, layer: SettingsSource, kind: type[Settings]) -> list[UsageError]:
    """Each mistake as an error of ours, in the order of their places."""
    # A list whose items were all refused is reported as too short as well.
    real = [d for d in error.errors(include_url=False) if d["type"] != "too_short" or not d["input"]]
    found = [_explain_one(details, layer, kind) for details in real]
    return [problem for _, problem in sorted(found, key=lambda pair: pair[0].order)]


def _explain_one(details: ErrorDetails, layer: SettingsSource, kind: type[Settings]) -> tuple[SourcePlace, UsageError]:
    loc, given = details["loc"], details["input"]
    if details["type"] == "extra_forbidden":
        place = layer.place(loc, key=True)
        what, fix = _unknown_key(loc, kind)
    elif details["type"] == "literal_error" and loc[0] in EVERY_FAMILY and loc[1] == SELECTOR:
        place = layer.place(loc)
        what, fix = unknown_method_message(str(given), str(loc[0]))
    elif details["type"] == "unknown_key":
        place = layer.place(loc)
        what, fix = escape_text(details["msg"]), str(details.get("ctx", {}).get("fix", ""))
    else:
        place = layer.place(loc)
        allowed, choices = _allowed_values(details, loc, kind)
        names = [str(part) for part in loc if isinstance(part, str)]
        # A flag says itself what it belongs to.
        name = names[-1] if place.where.startswith("--") else ".".join(names)
        # What may be a list or one text is shown as it was written.
        shown = (
            _display_list(given) if details["type"] == "shape" and isinstance(given, list | tuple) else _display(given)
        )
        what = f"'{name}' {allowed}, not {shown}"
        fix = str(details.get("ctx", {}).get("fix", "")) or _suggest_fix(details["type"], given, choices)
        if not fix and details["type"] in _UPPER:
            fix = _share_meant(_flag(loc, kind), given)
        if not fix and choices and (example := getattr(_flag(loc, kind), "example", "")):
            fix = f"For instance {example}."
    return place, UsageError(what, where=place.where, excerpt=place.excerpt, fix=fix)


def _unknown_key(loc: Location, kind: type[Settings]) -> tuple[str, str]:
    word = str(loc[-1])
    typed = {name: section_type(info) for name, info in kind.model_fields.items()}
    sections = {name: section for name, section in typed.items() if section is not None}
    shown = escape_text(word, 60)
    if len(loc) > 1:
        section = str(loc[0])
        known = list(sections[section].model_fields)
        what = f"there is no key '{shown}' in the section '{section}'"
        if word in kind.model_fields:
            return what, f"'{word}' stands at the top level, outside the sections."
    else:
        known = list(kind.model_fields)
        what = f"there is no key '{shown}'"
        homes = [f"{name}.{word}" for name, section in sections.items() if word in section.model_fields]
        if homes:
            return what, f"It belongs in a section: {' or '.join(homes)}."
    return what, did_you_mean(word.replace("-", "_"), known) or f"The keys are {', '.join(known)}."


_TYPES: Mapping[str, str] = {
    "string_type": "must be text",
    "is_instance_of": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "tuple_type": "must be one value or a list",
    "model_type": "must be a section of keys and values",
}
_BOUNDS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "greater_than_equal": lambda ctx: f"must be at least {ctx['ge']:g}",
    "greater_than": lambda ctx: f"must be above {ctx['gt']:g}",
    "less_than": lambda ctx: f"must be below {ctx['lt']:g}",
    "less_than_equal": lambda ctx: f"must be at most {ctx['le']:g}",
    "too_short": lambda _ctx: "must hold at least one value",
}


def _allowed_values(details: ErrorDetails, loc: Location, kind: type[Settings]) -> tuple[str, list[str]]:
    """The rule that was broken, and the choices where there are some."""
    code = details["type"]
    if code in _TYPES:
        return _TYPES[code], []
    if code in _BOUNDS:
        return _BOUNDS[code](details.get("ctx", {})), []
    if code in ("literal_error", "string_pattern_mismatch"):
        choices = _choices(loc, kind)
        return f"must be {_join_choices(choices)}", choices
    return escape_text(details["msg"]), []


def _flag(loc: Location, kind: type[Settings]) -> Flag | None:
    metadata = field_at(kind, tuple(str(part) for part in loc)).metadata
    return next((item for item in metadata if isinstance(item, Flag)), None)


def _choices(loc: Location, kind: type[Settings]) -> list[str]:
    flag = _flag(loc, kind)
    if flag and "|" in flag.metavar:
        return flag.metavar.split("|")
    annotation: Any = field_at(kind, tuple(str(part) for part in loc)).annotation
    first = get_args(annotation)[0]
    return [str(choice) for choice in (get_args(first) or get_args(annotation))]


def _join_choices(choices: list[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


_UPPER = ("less_than", "less_than_equal")


def _share_meant(flag: Flag | None, given: Any) -> str:
    """Of a share that was given in per cent, what it is as a share."""
    try:
        percent = float(given)
    except (TypeError, ValueError):
        return ""
    is_share = flag is not None and flag.metavar == "SHARE"
    return f"A share, not per cent: {percent / 100:g}" if is_share and 1 < percent < 100 else ""


def _suggest_fix(code: str, given: Any, choices: list[str]) -> str:
    if choices:
        if given == "gpu":
            return "Did you mean 'cuda'?"
        return did_you_mean(str(given), choices)
    if code == "bool_type" and str(given).lower() in ("yes", "no", "on", "off"):
        return f"Write {'true' if str(given).lower() in ('yes', 'on') else 'false'}."
    if code == "string_type" and isinstance(given, int | float):
        return "Put it in quotes."
    return ""


def _display(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a section"
    return f"'{escape_text(value, 60)}'" if isinstance(value, str) else escape_text(str(value), 60)


def _display_list(values: list[Any] | tuple[Any, ...]) -> str:
    """What a setting of several values was given; a flag's one value is a list of one."""
    if len(values) == 1:
        return _display(values[0])
    plain = all(isinstance(value, str | int | float) for value in values)
    return f"'{escape_text(','.join(map(str, values)), 60)}'" if plain else "a list"
