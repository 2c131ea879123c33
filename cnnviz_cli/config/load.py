"""Flags over environment over YAML over defaults; whatever is wrong is told with the place it was written in."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from cnnviz_cli.config.errors import SettingsSource, SourcePlace, combine_errors, explain_errors, split_errors
from cnnviz_cli.config.evaluate_fields import MAPS, EvaluateFields, check_annotations, evaluate_fields, readers_of
from cnnviz_cli.config.names import (
    FORMER_NAMES,
    VARIABLE_PREFIX,
    SettingPath,
    environment_variable,
    environment_variables,
    field_at,
    flag_name,
)
from cnnviz_cli.config.settings import Settings, families_of, flag_of, own_fields, settings_type
from cnnviz_cli.config.top_images_fields import top_images_problems, with_top_layers
from cnnviz_cli.config.values import parse_scalar
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import EVALUATE, SELECTOR
from cnnviz_cli.core.method import methods
from cnnviz_cli.core.text import did_you_mean, escape_text

CONFIG_VARIABLE = "CNNVIZ_CONFIG"
DEBUG_VARIABLE = "CNNVIZ_DEBUG"
OWN_VARIABLES = (CONFIG_VARIABLE, DEBUG_VARIABLE)
"""Variables that are not settings: which file to read, and whether to print the traceback of a bug."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and by path the flag, variable or file that each came from, and the place; a default has none."""

    settings: Settings
    origins: Mapping[SettingPath, tuple[str, SourcePlace]] = field(default_factory=dict)


def load_settings(
    command: str, flags: Mapping[SettingPath, Any], config_file: Path | None, environ: Mapping[str, str]
) -> Settings:
    """The settings of one run.

    Args:
        command: the subcommand, which decides on the defaults and on the sections that are run.
        flags: what was given on the command line, by path: ``("alpha",)``, ``("gradcam", "layer")``. Text is read as
            a variable's would be; values of the right type are taken as they are.
        config_file: a YAML file; None means the one that CNNVIZ_CONFIG names, if it names one.

    Raises:
        UsageError: anything unknown or unfit, all of it at once.
    """
    return load_with_origins(command, flags, config_file, environ).settings


def load_with_origins(
    command: str,
    flags: Mapping[SettingPath, Any],
    config_file: Path | None,
    environ: Mapping[str, str],
    defaults: Mapping[tuple[str, str], Any] = MappingProxyType({}),
) -> LoadedSettings:
    """`load_settings`, with the origin of each value; `defaults` stand in the place of a setting's own."""
    kind = settings_type(command)
    if config_file is None and environ.get(CONFIG_VARIABLE):
        config_file = Path(environ[CONFIG_VARIABLE])
    problems: list[UsageError] = []
    layers = (
        _from_file(config_file, problems),
        _from_environment(kind, environ, problems),
        _from_flags(kind, command, flags, problems),
    )
    problems += [
        _flag_only_error(path, layer) for layer in layers[:2] for path in layer.keys if _is_flag_only(kind, path)
    ]
    merged: dict[str, Any] = {}
    for path, value in defaults.items():
        merged.setdefault(path[0], {})[path[1]] = value
    origins: dict[SettingPath, tuple[str, SourcePlace]] = {}
    for layer in layers:
        try:
            kind.model_validate(layer.data)
        except ValidationError as error:
            problems.extend(explain_errors(error, layer, kind))
        _merge(merged, layer.data)
        origins.update({path: (layer.kind, layer.place(path)) for path in _leaf_paths(layer.data)})
    if problems:
        raise combine_errors(problems)
    settings = with_top_layers(kind.model_validate(merged))
    if problems := top_images_problems(settings, flags):
        raise combine_errors(problems)
    _check_idle_flags(settings, flags, command)
    check_annotations(settings)
    return LoadedSettings(settings, origins)


def _is_flag_only(kind: type[Settings], path: tuple[str | int, ...]) -> bool:
    return len(path) == 1 and path[0] in Settings.model_fields and flag_of(kind, str(path[0])).flag_only


def _flag_only_error(path: tuple[str | int, ...], layer: SettingsSource) -> UsageError:
    place, name = layer.place(path, key=True), flag_name((str(path[0]),), "")
    what = f"'{path[0]}' is for the command line alone, so that no file and no variable can give it"
    return UsageError(what, where=place.where, excerpt=place.excerpt, fix=f"If you mean it, add {name} to the command.")


def _from_file(config_file: Path | None, problems: list[UsageError]) -> SettingsSource:
    if config_file is None:
        return SettingsSource()
    from cnnviz_cli.config import yamlfile  # PyYAML only where there is YAML: start-up counts

    try:
        layer = yamlfile.read_file(config_file)
    except UsageError as error:
        problems.extend(split_errors(error))
        return SettingsSource()
    for old, new in FORMER_NAMES.items():
        section = layer.data.get(old[0])
        if not isinstance(section, dict) or old[1] not in section:
            continue
        if new[1] in section:
            place = layer.place(old, key=True)
            what = f"'{old[1]}' is called '{new[1]}' now, and that is given, too"
            problems.append(UsageError(what, where=place.where, excerpt=place.excerpt, fix=f"Remove '{old[1]}'."))
            del section[old[1]]
            continue
        section[new[1]] = section.pop(old[1])
        for table in (layer.keys, layer.values):
            moved = {(*new, *path[len(old) :]): table.pop(path) for path in [p for p in table if p[: len(old)] == old]}
            table.update(moved)
    return layer


def _from_environment(kind: type[Settings], environ: Mapping[str, str], problems: list[UsageError]) -> SettingsSource:
    """What the variables say. An empty one counts as unset."""
    known, former = environment_variables(kind), {environment_variable(old) for old in FORMER_NAMES}
    layer = SettingsSource("environment")
    for name in sorted(environ):
        if not name.startswith(VARIABLE_PREFIX) or name in OWN_VARIABLES or not environ[name]:
            continue
        if name in former and environ.get(environment_variable(known[name])):
            continue  # the variable's name of today wins
        if name not in known:
            fix = did_you_mean(name, (*known, *OWN_VARIABLES)) or "See: cnnviz config show"
            problems.append(UsageError("there is no such variable", where=escape_text(name), fix=fix))
            continue
        try:
            value = _read_text(environ[name], field_at(kind, known[name]).annotation, name)
        except UsageError as error:
            problems.extend(split_errors(error))
            continue
        layer.set_value(known[name], value, SourcePlace(name))
    return layer


def _from_flags(
    kind: type[Settings], command: str, flags: Mapping[SettingPath, Any], problems: list[UsageError]
) -> SettingsSource:
    layer = SettingsSource("flag")
    for path, given in flags.items():
        name = flag_name(path, command)
        annotation = field_at(kind, path).annotation
        try:
            if isinstance(given, str):
                value = _read_text(given, annotation, name)
            elif isinstance(given, list):
                value = [_read_item(item, get_args(annotation)[0], name) for item in given]
            else:
                value = given
        except UsageError as error:
            problems.extend(split_errors(error))
            continue
        layer.set_value(path, value, SourcePlace(name))
    return layer


def _read_text(text: str, annotation: Any, name: str) -> Any:
    """A variable's text as a value for `annotation`; a repeatable setting takes ``[a, b]`` or one value."""
    if get_origin(annotation) is tuple:
        if text.lstrip().startswith("["):
            from cnnviz_cli.config import yamlfile

            return yamlfile.parse(text, name)
        return [_read_item(text, get_args(annotation)[0], name)]
    return _read_scalar(text, annotation)


def _read_item(text: Any, annotation: Any, name: str) -> Any:
    """One value of a repeatable setting; where that is made of keys and values, it is written as in YAML."""
    section = any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in _plain_types(annotation))
    if not section or not isinstance(text, str) or not text.lstrip().startswith("{"):
        return _read_scalar(text, annotation)
    from cnnviz_cli.config import yamlfile

    return yamlfile.parse(text, name)


def _read_scalar(text: Any, annotation: Any) -> Any:
    """Text stays text where the setting is text, so that ``012`` and ``no`` need no quotes here."""
    if not isinstance(text, str) or str in _plain_types(annotation):
        return text
    if bool in _plain_types(annotation) and text in ("0", "1"):
        return text == "1"
    return parse_scalar(text.strip())


def _plain_types(annotation: Any) -> tuple[Any, ...]:
    """The plain types that `annotation` allows; a path and choices among texts are text."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return tuple(kind for part in get_args(annotation) for kind in _plain_types(part))
    if origin is Literal:
        return tuple(type(choice) for choice in get_args(annotation))
    if hasattr(annotation, "__metadata__"):
        return _plain_types(annotation.__origin__)
    return (str,) if annotation is Path else (annotation,)


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(below.get(key), dict):
            _merge(below[key], value)
        else:
            below[key] = dict(value) if isinstance(value, Mapping) else value


def _leaf_paths(data: Mapping[str, Any], path: SettingPath = ()) -> list[SettingPath]:
    found: list[SettingPath] = []
    for key, value in data.items():
        found += _leaf_paths(value, (*path, key)) if isinstance(value, Mapping) else [(*path, key)]
    return found


def _check_idle_flags(settings: Settings, flags: Mapping[SettingPath, Any], command: str) -> None:
    """A flag that no chosen method reads would be ignored: raise UsageError instead. A shared file or variable may."""
    problems = _idle_measure_options(settings, flags, command)
    for path in flags:
        family = path[0]
        if len(path) == 1 or path[1] == SELECTOR or family not in families_of(command):
            continue
        if path[1] in own_fields(family):
            continue
        chosen = settings.selected_methods(family)
        if not any(path[1] in {f.name for f in fields(method.options)} for method, _ in chosen):
            names = ", ".join(method.name for method, _ in chosen)
            what = f"no chosen method reads this option ({names})"
            able = [one.name for one in methods(family) if path[1] in {f.name for f in fields(one.options)}]
            fix = f"Methods that read it: {', '.join(able)}"
            problems.append(UsageError(what, where=flag_name(path, command), fix=fix))
    if problems:
        raise combine_errors(problems)


def _idle_measure_options(settings: Settings, flags: Mapping[SettingPath, Any], command: str) -> list[UsageError]:
    problems = []
    for path in flags:
        if path[0] != EVALUATE or path[1] in (EvaluateFields.model_fields.keys() - {"annotations"}) | {MAPS}:
            continue
        chosen = [measure.name for measure in evaluate_fields(settings).chosen]
        if not set(readers_of(path[1])) & set(chosen):
            what = f"no chosen measure reads this option ({', '.join(chosen)})"
            fix = f"Measures that read it: {', '.join(readers_of(path[1]))}. See: cnnviz measures"
            problems.append(UsageError(what, where=flag_name(path, command), fix=fix))
    return problems
