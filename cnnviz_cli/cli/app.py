"""The commands, put together."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.main import get_group

from cnnviz_cli import __version__
from cnnviz_cli.cli.process import gc_disabled
from cnnviz_cli.cli.typer_base import Command, Debug, Group
from cnnviz_cli.core.method import FAMILIES

_RUNS = {family.name: family.summary for family in FAMILIES.values()} | {
    "all": "All four families, and a sheet that shows them together."
}
_CONFIG = "Configuration files: their schema, a check, and what they come to."
_OTHERS = {
    "models": ("models_and_classes", "The networks that can be explained, with their published weights."),
    "layers": (
        "layers",
        "The tree of a network: every module with its maps, what a position of them sees, and the words that mean it.",
    ),
    "classes": ("models_and_classes", "The classes of a network, by index and name, as --target takes them."),
    "methods": (
        "methods",
        "The methods of each family: what they show, their papers, and what they cost on a network.",
    ),
    "doctor": (
        "doctor",
        "Look at versions, memory, devices, codecs and folders, and time the network. Nothing is left behind.",
    ),
    "verify": (
        "verify",
        "Hash the manifest and every file that it lists. Exit code 3 and a list if one differs or is missing.",
    ),
    "merge": (
        "merge",
        "Make one manifest of what several processes wrote. Exit code 3 if a picture failed or is missing.",
    ),
}
"""Where the other commands are, and the first paragraph of what each says of itself."""
_PANELS = {
    "Explain pictures": tuple(_RUNS),
    "What there is": ("models", "layers", "classes", "methods", "doctor"),
    "Files": ("config", "verify", "merge"),
}


class _Commands(Group):
    """Imports and builds a command only when it was asked for; until then a name stands for it.

    The settings bring pydantic, and the registry the methods: both would be felt before ``cnnviz --help``.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        with gc_disabled():
            if name in _RUNS:
                from cnnviz_cli.cli import explain

                self.add_command(explain.build(name, _RUNS[name]))
            elif name == "config":
                from cnnviz_cli.cli import config

                self.add_command(config.build(name, _CONFIG))
            elif name in _OTHERS:
                beside = typer.Typer(add_completion=False)
                import_module(f"cnnviz_cli.cli.{_OTHERS[name][0]}").register(beside)
                self.add_command(get_group(beside).commands[name])
            elif not name.startswith("-"):
                from cnnviz_cli.cli.hints import unknown_command

                raise unknown_command(name, args[1:], _SUMMARIES)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="cnnviz",
    cls=_Commands,
    help="Explanation images of convolutional networks: feature maps, saliency, deconvolution, class activation maps.",
    epilog="cnnviz all photo.jpg draws everything with the bundled model; cnnviz COMMAND --help lists the flags.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"cnnviz {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            metavar="",
            help="Print it and stop.",
            show_default=False,
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Nothing: the callbacks of both have done the work."""


def _named() -> None:
    """Never called: `_Commands` puts the real command in its place."""


_SUMMARIES = _RUNS | {"config": _CONFIG} | {name: summary for name, (_, summary) in _OTHERS.items()}
for _panel, _names in _PANELS.items():
    for _name in _names:
        app.command(_name, cls=Command, help=_SUMMARIES[_name], rich_help_panel=_panel)(_named)
