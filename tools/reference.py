"""docs/reference.md, from the code: flags from the commands, the rest from the settings and the registry."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from typer.main import get_command

from cnnviz_cli.cli import config, evaluate, explain
from cnnviz_cli.cli.app import app
from cnnviz_cli.cli.flags import default_text
from cnnviz_cli.cli.measures import better_words
from cnnviz_cli.config.names import SettingPath, environment_variable, field_at, setting_paths
from cnnviz_cli.config.settings import flag_of, settings_type
from cnnviz_cli.core.errors import ExitCode
from cnnviz_cli.core.families import EVALUATE, EVERY_FAMILY, FAMILIES, SELECTOR
from cnnviz_cli.core.measures import measures
from cnnviz_cli.core.method import Method, methods
from cnnviz_cli.models.inspect.layers import LAYER_WORDS, ModelLayers
from cnnviz_cli.render.style import PALETTES, SIGNED_PALETTES

EXIT_CODES = {
    ExitCode.OK: "every image is done",
    ExitCode.BUG: "a bug in cnnviz",
    ExitCode.USAGE: "a wrong flag, key, name or value, or a method that does not apply to the network; "
    "nothing was done",
    ExitCode.PARTIAL: "finished, but some images failed; `verify`: something differs; `report`: something is gone",
    ExitCode.MODEL: "the model or its weights are unavailable or were rejected",
    ExitCode.OUTPUT: "the output cannot be written, or the disk is full",
    ExitCode.DEVICE: "the device is missing or runs out of memory",
    ExitCode.NO_INPUTS: "no images matched",
    ExitCode.INTERRUPTED: "Ctrl-C, or `--scale run` needs other shards first; the manifest lists what was finished",
    ExitCode.TERMINATED: "SIGTERM; the manifest lists what was finished",
}

HEAD = """\
# Reference

`make generated` writes this page from the code; a test checks that it is current.
"""

PRECEDENCE = """\
A flag overrides an environment variable, a variable overrides the YAML file, and the file overrides the default.
`cnnviz config show` prints the resulting settings and the source of each value. The variable of a repeatable setting
takes one value or a list in brackets: `CNNVIZ_TARGET='[top3, tiger cat]'`. An empty variable counts as unset.
"""

FAMILY = """\
`cnnviz all` has the same options; the second column has their flags.
"""


def reference() -> str:
    """The whole document."""
    sections = (_settings(), _families(), _evaluation(), _commands(), _methods(), _measures(), _words())
    return "\n".join([HEAD, *(part for section in sections for part in section)])


def exit_codes() -> str:
    """The exit codes as a table, whose rows the README repeats."""
    return table(["code", "meaning"], [[str(int(code)), EXIT_CODES[code]] for code in ExitCode])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _settings() -> Iterator[str]:
    kind = settings_type("config")
    flags = {parameter.name: parameter for parameter in drawing("all")}
    panels: dict[str, list[list[str]]] = {}
    for (name,) in (path for path in setting_paths(kind) if len(path) == 1):
        row = [flags_of(flags[name]), *facts_of((name,)), help_of((name,))]
        panels.setdefault(flag_of(kind, name).panel, []).append(row)
    yield "## Settings of every drawing command\n"
    yield PRECEDENCE
    for panel, rows in panels.items():
        yield f"### {panel}\n"
        yield table(["flag", "YAML key", "variable", "default", "what it does"], rows)


def _families() -> Iterator[str]:
    in_all = {parameter.name: parameter for parameter in drawing("all")}
    several = settings_type("all")
    yield "## Options of the families\n"
    yield FAMILY
    for family in FAMILIES.values():
        rows = []
        for parameter in drawing(family.name):
            path = tuple(parameter.name.split("__"))
            if path[0] != family.name:
                continue
            key, name, default = facts_of(path)
            other = f"`{default_text(field_at(several, path).default)}`"
            default += f", under `all` {other}" if other != default else ""
            beside = in_all.get(parameter.name)  # of top images `all` has no flags
            rows.append([flags_of(parameter), flags_of(beside) if beside else "", key, name, default, help_of(path)])
        yield f"### {family.name}\n"
        yield f"{family.summary}\n"
        yield table(
            [
                f"flag of `cnnviz {family.name}`",
                "flag of `cnnviz all`",
                "YAML key",
                "variable",
                "default",
                "what it does",
            ],
            rows,
        )


EVALUATION = """\
Under other commands these keys and variables count, too, once `--evaluate` or `--evaluate-measure` asks for measures.
"""


def _evaluation() -> Iterator[str]:
    yield "## Options of evaluate\n"
    yield f"{EVALUATION}"
    kind = settings_type(EVALUATE)
    rows = []
    for parameter in evaluate.build(EVALUATE, "").params:
        path = tuple((parameter.name or "").split("__"))
        if path[0] != EVALUATE or len(path) != 2:
            continue
        key, name, default = facts_of(path)
        own = f"`{default_text(field_at(kind, path).default)}`"
        default += f", under `evaluate` {own}" if own != default and default else ""
        rows.append([flags_of(parameter), key, name, default, help_of(path)])
    yield table(["flag of `cnnviz evaluate`", "YAML key", "variable", "default", "what it does"], rows)


def other_commands() -> dict[str, Any]:
    """The commands that are no family of methods, by their whole names."""
    root: Any = get_command(app)
    group: Any = config.build("config", "")
    named = {
        **{f"cnnviz {name}": root.resolve_command(None, [name])[1] for name in root.commands},
        **{f"cnnviz config {name}": command for name, command in group.commands.items()},
    }
    return {
        name: one for name, one in named.items() if name.removeprefix("cnnviz ") not in (*FAMILIES, "all", "config")
    }


def _commands() -> Iterator[str]:
    yield "## Other arguments and flags of the drawing commands\n"
    known = {"__".join(path) for path in setting_paths(settings_type("all"))}
    yield _parameters(parameter for parameter in drawing("all") if parameter.name not in known)
    yield "## The other commands\n"
    for name, command in other_commands().items():
        yield f"### {name}\n"
        yield f"{inspect.cleandoc(command.help)}\n"
        if name.removeprefix("cnnviz ") == EVALUATE:
            yield "It accepts every flag of `cnnviz all`, and its own options above.\n"
            continue
        if name == "cnnviz config show":
            yield "It accepts `--config` and every flag of `cnnviz all`.\n"
        elif command.params:
            yield _parameters(command.params)
    yield "`cnnviz --version` prints the version; `--install-completion` sets up the shell's completion.\n"


def _methods() -> Iterator[str]:
    yield "## Methods\n"
    for family in EVERY_FAMILY.values():
        for registered in methods(family.name):
            yield f"### {registered.name}\n"
            yield _about(registered)


def _about(method: Method) -> str:
    family = EVERY_FAMILY[method.family]
    chosen = "the default" if family.default == method.name else f"`--{SELECTOR} {method.name}`"
    names = [f"`--{option.replace('_', '-')}`" for option in (item.name for item in fields(method.options))]
    text = inspect.getdoc(method.build) or ""
    return (
        f"`cnnviz {family.name}`, {chosen}.\n\n{text}\n\nPaper: {method.paper}\n\n"
        f"Options: {', '.join(names) or 'none'}.\n"
    )


def _measures() -> Iterator[str]:
    yield "## Measures\n"
    for registered in measures():
        yield f"### {registered.name}\n"
        text = inspect.getdoc(registered.build) or ""
        rows = [
            [f"`{column.full_name(registered.name)}`", column.title, better_words(column)]
            for column in registered.columns
        ]
        names = [f"`--{item.name.replace('_', '-')}`" for item in fields(registered.options)]
        yield f"{text}\n"
        yield table(["number", "what it is", "which end is good"], rows)
        yield f"Paper: {registered.paper}\n\nOptions: {', '.join(names) or 'none'}.\n"


def _words() -> Iterator[str]:
    yield "## What `--layer` takes\n"
    yield "A layer's name as `cnnviz layers MODEL` prints it, a glob over names (`'layer4*'`), or a word:\n"
    found = re.findall(r"^- ``([a-z-]+)``: (.*?)(?=^- ``|\Z|^$)", _doc(), re.MULTILINE | re.DOTALL)
    meanings = {word: " ".join(text.split()).replace("``", "`") for word, text in found}
    yield table(["word", "meaning"], [[f"`{word}`", meanings[word]] for word in LAYER_WORDS])
    yield "Separate several with commas, or repeat `--layer`. They are drawn from low to high, each once.\n"
    yield "## Palettes\n"
    names = ", ".join(f"`{name}`" for name in PALETTES)
    yield f"`--palette`: {names}; all but the last two are perceptually uniform.\n"
    yield f"`--signed-palette`: {', '.join(f'`{name}`' for name in SIGNED_PALETTES)}.\n"
    yield "## Exit codes\n"
    yield exit_codes()


def _doc() -> str:
    return inspect.cleandoc(ModelLayers.resolve.__doc__ or "")


def drawing(command: str) -> list[Any]:
    """The parameters of a command that draws; what is hidden is an old name."""
    return [parameter for parameter in explain.build(command, "").params if not getattr(parameter, "hidden", False)]


def facts_of(path: SettingPath) -> list[str]:
    """Key, variable and default of a setting."""
    kind = settings_type("config")
    default = field_at(kind, path).default
    shown = "" if default is None else f"`{default_text(default)}`"
    if len(path) == 1 and flag_of(kind, path[0]).flag_only:
        return ["none", "none", shown]
    return [f"`{'.'.join(path)}`", f"`{environment_variable(path)}`", shown]


def help_of(path: SettingPath) -> str:
    text = field_at(settings_type("config"), path).description
    assert text, f"{path} has no help"
    return text


def flags_of(parameter: Any) -> str:
    names = [*parameter.opts[:1], *parameter.secondary_opts[:1], *parameter.opts[1:]]
    return ", ".join(f"`{name}`" for name in names) + (f" `{parameter.metavar}`" if parameter.metavar else "")


def _parameters(parameters: Iterable[Any]) -> str:
    rows = []
    for parameter in parameters:
        is_flag = parameter.opts[0].startswith("-")
        shown = flags_of(parameter) if is_flag else f"`{parameter.metavar or parameter.name.upper()}`"
        assert parameter.help, f"{parameter.name} has no help"
        rows.append([shown, parameter.help])
    return table(["argument or flag", "what it does"], rows)
