"""config schema, check, show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.main import get_command

from cnnviz_cli.cli.flags import Config, Flags, with_settings
from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.preflight import check_request, load_request
from cnnviz_cli.cli.typer_base import AsJson, Command, Group
from cnnviz_cli.config.errors import combine_errors, split_errors
from cnnviz_cli.config.load import LoadedSettings, load_with_origins
from cnnviz_cli.config.names import SettingPath, setting_paths
from cnnviz_cli.config.settings import flag_of
from cnnviz_cli.config.values import parse_scalar
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import escape_text

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./*-]*")
_MISREAD = {"y", "n", "yes", "no", "on", "off"}  # by readers of YAML 1.1


def build(name: str, summary: str) -> Any:
    group = typer.Typer(name=name, cls=Group, help=summary, add_completion=False)
    group.command("schema", cls=Command)(schema)
    group.command("check", cls=Command)(check_files)
    group.command("show", cls=Command)(with_settings("all", _show))
    return get_command(group)


def schema(
    of: Annotated[
        Literal["config", "manifest"], typer.Argument(metavar="config|manifest", help="Which schema to print.")
    ] = "config",
    as_json: AsJson = False,
) -> None:
    """The JSON Schema of a configuration file, or of manifest.json."""
    if of == "config":
        from cnnviz_cli.config.settings import config_schema as made
    else:
        from cnnviz_cli.files.output.manifest import manifest_schema as made
    if as_json:
        print_json(made(), bare=True)
    else:
        print(json.dumps(made(), indent=2, ensure_ascii=False))


def check_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="YAML files of settings.")],
    as_json: AsJson = False,
) -> None:
    """Check configuration files, whatever the environment says: every mistake with its line and column."""
    problems: list[UsageError] = []
    for file in files:
        try:
            check_request(load_with_origins("all", {}, file, {}))
        except UsageError as error:
            problems.extend(split_errors(error))
        else:
            if not as_json:
                print(f"{escape_text(str(file))}: ok")
    if problems:
        raise combine_errors(problems)
    if as_json:
        print_json({"files": [{"file": str(file), "state": "ok"} for file in files]})


def _show(flags: Flags, *, config: Config = None, as_json: AsJson = False) -> None:
    """Print the settings that result from a file, the environment and flags, as YAML, with the source of each value."""
    loaded = load_request("all", flags, config)
    kind, values = type(loaded.settings), loaded.settings.model_dump(mode="json")
    # What is printed may be read back, and no file gives what is for the command line alone.
    typed = {path[0] for path in setting_paths(kind) if len(path) == 1 and flag_of(kind, path[0]).flag_only}
    if as_json:
        origins = {".".join(path): _origin(loaded, path) for path in loaded.origins if path[0] not in typed}
        print_json({"settings": {k: v for k, v in values.items() if k not in typed}, "origins": origins})
        return
    section = ""
    for path in (path for path in setting_paths(kind) if path[0] not in typed):
        *sections, name = path
        if sections and sections != [section]:
            (section,) = sections
            print(f"\n{section}:")
        value = values[section][name] if sections else values[name]
        line = f"{'  ' * len(sections)}{name}: {_yaml(value)}"
        print(f"{line:<40}  # {_origin(loaded, path)}")


def _origin(loaded: LoadedSettings, path: SettingPath) -> str:
    if path not in loaded.origins:
        return "default"
    kind, place = loaded.origins[path]
    return escape_text(f"{kind} {place.where}")


def _yaml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and parse_scalar(value) == value and value.lower() not in _MISREAD
        return value if plain else json.dumps(value)
    return json.dumps(value)
