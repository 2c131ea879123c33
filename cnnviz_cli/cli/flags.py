"""The flags of a command, made from the settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from cnnviz_cli.cli import completion
from cnnviz_cli.config.evaluate_fields import MAPS, EvaluateFields, readers_of
from cnnviz_cli.config.fields import Flag
from cnnviz_cli.config.names import FORMER_NAMES, SettingPath, environment_variable, field_at, flag_name, setting_paths
from cnnviz_cli.config.settings import families_of, own_fields, settings_type
from cnnviz_cli.config.study_fields import SECTIONS
from cnnviz_cli.config.top_images_fields import TopImagesFields
from cnnviz_cli.core.families import EVALUATE, SELECTOR
from cnnviz_cli.core.method import methods

MEASURES = (EVALUATE, "measure")
"""What of judging has a flag in every command that draws; the rest is in files, in variables, and in ``evaluate``."""

_KEYWORD = inspect.Parameter.KEYWORD_ONLY

Flags = dict[SettingPath, Any]
"""The settings on a command line, by path, as they were written."""
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="YAML file of settings (CNNVIZ_CONFIG).", rich_help_panel="Input"
    ),
]


Images = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE",
        help="Images, folders, zip and tar archives of images, patterns in quotes ('in/**/*.jpg'), "
        "and URLs (s3://bucket/folder/).",
    ),
]
DryRunFlag = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be read, computed and written; write nothing.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings only.")]
Force = Annotated[
    bool, typer.Option("--force", help="Do all images again, even those that are done.", rich_help_panel="Output")
]
ShardOption = Annotated[
    str,
    typer.Option(
        "--shard",
        metavar="I/N|auto|none",
        help="Do every N-th batch of the list, from number I (counted from 0) on; auto reads the variables of "
        "torchrun, Slurm and Kubernetes. (default auto)",
        rich_help_panel="Input",
    ),
]


def with_settings(
    command: str, body: Callable[..., int | None], *, only: Collection[str] | None = None, without: Collection[str] = ()
) -> Callable[..., int | None]:
    """`body` for Typer, with flags in the place of its first parameter, a `Flags`.

    They are those of the common settings, and of the families that `command` runs.

    Args:
        body: what the command does; its docstring is the command's help, and its other parameters are arguments and
            flags, too.
        only: names of the common settings that get flags, where not all of them do.
        without: parameters of `body` that this command does not have.
    """
    kind = settings_type(command if command in ("all", EVALUATE) else "config")  # the four share their defaults
    own_sections = (*families_of(command), *([command] if command in (EVALUATE, *SECTIONS) else []))
    flagged = [path for path in setting_paths(kind) if len(path) == 1 or path[0] in own_sections or path == MEASURES]
    flagged = [path for path in flagged if only is None or path[0] in only or path[0] == command]
    # Of a family's own command alone: what runs several makes none.
    flagged = [path for path in flagged if path[-1] not in TopImagesFields.model_fields or path[0] == command]
    by_name = {"__".join(path): path for path in flagged}
    former = {"__".join(old): old for old, new in FORMER_NAMES.items() if new in flagged}
    _, *others = inspect.signature(body, eval_str=True).parameters.values()
    own = [one for one in others if one.name not in without]
    options = {name: _option(path, field_at(kind, path), command) for name, path in by_name.items()} | {
        name: Annotated[list[str] | None, typer.Option(flag_name(old, command), hidden=True)]
        for name, old in former.items()
    }

    def run(**given: Any) -> int | None:
        settings = {path: given[name] for name, path in by_name.items() if given[name] is not None}
        for name, old in former.items():
            if given[name]:
                path = FORMER_NAMES[old]
                settings[path] = [*(settings.get(path) or []), *given[name]]
        return body(settings, **{one.name: given[one.name] for one in own})

    made = [inspect.Parameter(name, _KEYWORD, annotation=option, default=None) for name, option in options.items()]
    signature = inspect.Signature([one.replace(kind=_KEYWORD) for one in own] + made)
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    run.__doc__ = body.__doc__
    return run


def _option(path: SettingPath, info: FieldInfo, command: str) -> Any:
    side = _side(info)
    names = [flag_name(path, command), *([side.short] if side.short else [])]
    annotation: Any = str | None
    if info.annotation is bool:
        names[0] = f"{names[0]}/--no-{names[0][2:]}"
        annotation = bool | None
    elif get_origin(info.annotation) is tuple and not side.once:
        annotation = list[str] | None
    option = typer.Option(
        *names,
        help=help_text(path, info, command),
        metavar=metavar(path, info),
        rich_help_panel=_panel(path, side, command),
        autocompletion=_completion(path, info),
    )
    return Annotated[annotation, option]


def default_text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(default_text(item) for item in value) or "none"
    return "none" if value is None or value == "" else str(value)


def help_text(path: SettingPath, info: FieldInfo, command: str) -> str:
    notes = [] if info.default is None else [f"default {default_text(info.default)}"]
    if _side(info).flag_only:
        notes.append("command line only")
    elif not _needs_prefix(path, command):
        notes.append(environment_variable(path))
    return f"{info.description} ({'; '.join(notes)})"


def _side(info: FieldInfo) -> Flag:
    return next(item for item in info.metadata if isinstance(item, Flag))


def _panel(path: SettingPath, side: Flag, command: str) -> str:
    """The group: of a family's own command the methods that read the option, of other commands the family."""
    if path == MEASURES or path[0] in SECTIONS:
        return side.panel
    if _needs_prefix(path, command):
        return f"{side.panel} ({environment_variable((path[0], '...'))})"
    common = (SELECTOR, *own_fields(path[0]), *EvaluateFields.model_fields, MAPS)
    of_method = len(path) == 2 and path[1] not in common
    return readers(path) if of_method else side.panel


def readers(path: SettingPath) -> str:
    """Whose option a family's setting is, as a title: "Options of lime, kernel-shap"."""
    family, option = path
    if family == EVALUATE:
        return f"Options of {', '.join(readers_of(option))}"
    known = [method.name for method in methods(family)]
    if len(known) == 1:
        return f"Options of {family}"
    reading = [m.name for m in methods(family) if option in {item.name for item in fields(m.options)}]
    if len(reading) == len(known):
        return "Options of every method"
    others = [name for name in known if name not in reading]
    if len(reading) > len(others):
        return f"Options of every method but {', '.join(others)}"
    return f"Options of {', '.join(reading)}"


def _needs_prefix(path: SettingPath, command: str) -> bool:
    return len(path) == 2 and path[0] != command


def metavar(path: SettingPath, info: FieldInfo) -> str:
    """What stands for a setting's value in help: its choices with bars, a letter for a number; nothing for a switch."""
    side = _side(info)
    if info.annotation is bool or side.metavar:
        return "" if info.annotation is bool else side.metavar
    choices = choices_of(info)
    if choices:
        return "|".join(choices)
    parts = (*get_args(info.annotation), info.annotation)
    plain = [part.__origin__ if hasattr(part, "__metadata__") else part for part in parts]  # a bound is no type
    return "N" if int in plain and str not in plain else "X" if float in plain else path[-1].upper()


def choices_of(info: FieldInfo) -> list[str]:
    """The texts that a setting may be, where they are few and fixed."""
    for candidate in (info.annotation, *get_args(info.annotation)):
        if get_origin(candidate) is Literal:
            return [str(choice) for choice in get_args(candidate)]
    return []


def _completion(path: SettingPath, info: FieldInfo) -> Callable[..., list[str]] | None:
    choices = choices_of(info)
    if len(path) == 2 and path[1] == SELECTOR:
        return completion.list_completion(choices)
    return completion.choice_completion(choices) if choices else completion.BY_SETTING.get(path)
