"""From what a manifest records back to a command: the one that draws one of its figures alone."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from cnnviz_cli.config.names import SettingPath, field_at, flag_name, setting_paths
from cnnviz_cli.config.settings import Settings, flag_of, own_fields, settings_type
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import ATTACK, FAMILIES, SELECTOR
from cnnviz_cli.core.method import find_method
from cnnviz_cli.core.text import escape_text

_OF_THE_RUN = {"target", "truth", "counterfactual", "save_arrays", "report"}
"""Settings that a figure's own record answers, or that change no figure."""

FigureCommand = Callable[[Mapping[str, Any]], tuple[str, str, str] | None]


def figure_commands(facts: Mapping[str, Any]) -> FigureCommand:
    """What gives, of an image's output, the command that draws that figure: what stands before the image's name and
    behind it, and what is asked for of this image. ``facts`` are the manifest without its images.

    Files (of weights, of labels) have their names alone: a manifest has no places. None for figures that no family's
    command draws by itself: painted pictures, sheets, boxes that were found.
    """
    config: Mapping[str, Any] = (facts.get("run") or {}).get("config") or {}
    kept: dict[tuple[str, str, str | None], tuple[str, str] | None] = {}

    def command(output: Mapping[str, Any]) -> tuple[str, str, str] | None:
        key = output["family"], output["method"], output["layer"]
        if key not in kept:
            kept[key] = _parts(config, *key)
        found, target = kept[key], output["target"]
        if found is None or (target is not None and target.get("rank") is not None):
            return None
        chosen = [] if target is None else ["--target", str(target["index"])]
        counter = ["--counterfactual"] if output.get("counterfactual") else []
        return *found, shlex.join([*chosen, *counter])

    return command


def _parts(config: Mapping[str, Any], family: str, method: str | None, layer: str | None) -> tuple[str, str] | None:
    """What stands before and behind the image's name; None where no command gives this figure."""
    if family not in (*FAMILIES, ATTACK.name) or method is None:
        return None
    try:
        options = {item.name for item in fields(find_method(method, family).options)}
    except UsageError:  # a method of another version
        return None
    own = {**(config.get(family) or {}), SELECTOR: [method]}
    if layer is not None and "layer" in own:
        own["layer"] = [layer]
    read = {name: value for name, value in own.items() if name in options or name in (SELECTOR, *own_fields(family))}
    words = [word for path, value in _changed({**config, family: read}, family) for word in _flag(path, value, family)]
    return f"cnnviz {family}", escape_text(shlex.join(words))


def _changed(config: Mapping[str, Any], family: str) -> Iterator[tuple[SettingPath, Any]]:
    """The recorded settings that are not the default of a family's command; its methods always."""
    kind = settings_type(family)
    usual = kind().model_dump(mode="json")
    for path in setting_paths(kind):
        name, *inner = path
        if inner and name != family:
            continue
        if not inner and (name in _OF_THE_RUN or not flag_of(kind, name).recorded):
            continue
        found, default = (config.get(name), usual[name])
        if inner:
            found, default = ((found or {}).get(inner[0]), default[inner[0]])
        if (found is not None and found != default) or path == (family, SELECTOR):
            yield path, found


def _flag(path: SettingPath, value: Any, family: str) -> list[str]:
    """A setting on the command line."""
    name = flag_name(path, family)
    if isinstance(value, bool):
        return [name if value else f"--no-{name.removeprefix('--')}"]
    if not isinstance(value, list):
        return [name, str(value)]
    if _once(settings_type(family), path):
        return [name, json.dumps(value)]
    return [word for one in value for word in (name, str(one))]


def _once(kind: type[Settings], path: SettingPath) -> bool:
    return any(getattr(item, "once", False) for item in field_at(kind, path).metadata)
