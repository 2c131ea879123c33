"""measures: by what maps are judged, what a good value is, and when it misleads."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnviz_cli.cli import completion
from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.text_layout import align_columns, list_definitions, terminal_width, wrap_paragraphs
from cnnviz_cli.cli.typer_base import AsJson, Debug
from cnnviz_cli.core import measures as registry
from cnnviz_cli.core.families import EVALUATE
from cnnviz_cli.core.measures import Column, Group, Measure, find_measure

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from cnnviz_cli.config.names import SettingPath

GROUPS: Mapping[Group, str] = {
    "faithful": "how the network reacts where the map says that it should",
    "class-wise": "whether the map is about its class",
    "sanity": "whether the map is about the network",
    "robust": "whether the map stays where the input hardly changes",
    "people": "whether the map lies where people have marked the object; no judgement on the network",
    "description": "what the map looks like; nothing is ranked by it",
    "papers": "for comparison with papers; nothing is ranked by it",
}

_BETTER = {"high": "higher is better", "low": "lower is better", "none": "neither is better"}
_NARROWEST = 24
_NAMES = 34


def better_words(column: Column) -> str:
    """Which end of a column is good, what chance gives, and whether it ranks."""
    chance = "" if column.chance is None else f", {column.chance:g} by chance"
    ranked = "" if column.ranked or column.better == "none" else ", ranks nothing"
    return f"{_BETTER[column.better]}{chance}{ranked}"


def definition(measure: Measure) -> str:
    """Its docstring without the first line, which is the summary."""
    text = (inspect.getdoc(measure.build) or "").replace("``", "`")
    return text.partition("\n")[2].strip()


def measures(
    name: Annotated[
        str | None, typer.Argument(help="One measure, in full.", autocompletion=completion.complete_measure_names)
    ] = None,
    as_json: AsJson = False,
    _debug: Debug = False,
) -> None:
    """The measures that judge maps: what they say, which end is good, what chance gives, and papers.

    What each costs for a network and for methods: cnnviz evaluate IMAGE --dry-run.
    """
    import cnnviz_cli.measures  # noqa: F401  (registers them)

    found = [find_measure(name)] if name is not None else list(registry.measures())
    if as_json:
        described = [_measure_record(one) for one in found]
        print_json(described[0] if name is not None else {"measures": described})
    elif name is not None:
        _print_one(found[0])
    else:
        _print_all(found)


def _measure_record(measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name,
        "title": measure.title,
        "group": measure.group,
        "quick": measure.quick,
        "summary": measure.summary,
        "definition": definition(measure),
        "paper": measure.paper or None,
        "columns": [
            {
                "name": column.full_name(measure.name),
                "title": column.title,
                "better": column.better,
                "chance": column.chance,
                "ranked": column.ranked,
            }
            for column in measure.columns
        ],
        "options": list(_options(measure)),
    }


def _options(measure: Measure) -> Iterator[dict[str, Any]]:
    from cnnviz_cli.cli.flags import choices_of
    from cnnviz_cli.config.names import environment_variable, flag_name

    for path, info in _option_fields(measure):
        yield {
            "name": path[1],
            "flag": flag_name(path, EVALUATE),
            "key": ".".join(path),
            "variable": environment_variable(path),
            "default": info.default,
            "choices": choices_of(info) or None,
            "help": info.description,
        }


def _option_fields(measure: Measure) -> list[tuple[SettingPath, FieldInfo]]:
    # Not at the top: the settings bring pydantic, which a table does without.
    from cnnviz_cli.config.names import field_at
    from cnnviz_cli.config.settings import settings_type

    paths = [(EVALUATE, item.name) for item in fields(measure.options)]
    return [(path, field_at(settings_type("config"), path)) for path in paths]


def _print_all(found: Sequence[Measure]) -> None:
    width = terminal_width()
    for group, words in GROUPS.items():
        chosen = [one for one in found if one.group == group]
        if chosen:
            print(wrap_paragraphs(f"{group}: {words}", width))
            print("\n".join(_table(chosen, width)) + "\n")
    notes = [
        "* is among the quick ones, which cnnviz evaluate takes where none are named.",
        "One measure with its definition, its numbers and its options: cnnviz measures NAME.",
        "Judge maps: cnnviz evaluate IMAGE --measure NAME; in a usual run: cnnviz gradcam IMAGE --evaluate.",
    ]
    print("\n".join(wrap_paragraphs(note, width) for note in notes))


def _table(chosen: Sequence[Measure], width: int) -> list[str]:
    facts = [[f"{one.name} *" if one.quick else one.name, _arrow(one.columns[0])] for one in chosen]
    columns = align_columns([["measure", "good"], *facts])
    indent = max(map(len, columns)) + 4
    beside = width - indent >= _NARROWEST
    lines = [f"  {columns[0]}".ljust(indent) + "what it says" if beside else f"  {columns[0]}"]
    for one, column in zip(chosen, columns[1:], strict=True):
        if not beside:
            lines.append(f"  {column}")
        margin = " " * (indent if beside else 4)
        first = f"  {column}".ljust(indent) if beside else margin
        lines.append(wrap_paragraphs(one.summary, width, margin, first=first))
    return lines


def _arrow(column: Column) -> str:
    return "-" if column.better == "none" else column.better


def _print_one(measure: Measure) -> None:
    from cnnviz_cli.cli.flags import help_text, metavar
    from cnnviz_cli.config.names import flag_name

    width = terminal_width()
    print(wrap_paragraphs(f"{measure.name}: {measure.summary}", width) + "\n")
    for paragraph in filter(None, definition(measure).split("\n\n")):
        print(wrap_paragraphs(paragraph, width) + "\n")
    facts = [("about", GROUPS[measure.group]), ("paper", measure.paper)]
    print("\n".join(wrap_paragraphs(f"{word}: {text}", width, "  ") for word, text in facts if text) + "\n")
    rows = [(column.full_name(measure.name), f"{column.title}; {better_words(column)}") for column in measure.columns]
    print(f"numbers:\n{list_definitions(rows, width, max(len(name) for name, _ in rows) + 4)}\n")
    options = [
        (f"{flag_name(path, EVALUATE)} {metavar(path, info)}".rstrip(), help_text(path, info, EVALUATE))
        for path, info in _option_fields(measure)
    ]
    if not options:
        print("no options")
        return
    indent = min(max(len(name) for name, _ in options) + 4, _NAMES)
    print(f"options of cnnviz evaluate:\n{list_definitions(options, width, indent)}")
