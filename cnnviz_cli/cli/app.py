"""The commands, put together."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

from cnnviz_cli import __version__
from cnnviz_cli.cli.process import gc_disabled
from cnnviz_cli.cli.typer_base import Command, Debug, Group, build_command
from cnnviz_cli.core.families import ATTACK, DREAM, EVALUATE, FAMILIES, STUDIES

_RUNS = {family.name: family.summary for family in FAMILIES.values()} | {
    "all": "All four families, and an overview that shows them together."
}
_PANELS = {
    "Explain images": _RUNS,
    "Judge explanations": {
        EVALUATE: "Which explanation can be trusted: every map judged, beside maps that know nothing of the network."
    },
    "Study a folder of images": {study.name: study.summary for study in STUDIES.values() if study.command},
    "Attack": {ATTACK.name: ATTACK.summary},
    "Paint": {DREAM.name: DREAM.summary},
    "Look up": {
        "models": "The networks that can be explained, with their published weights.",
        "layers": "The layers of a network as a tree, with their maps, receptive fields, and names for --layer.",
        "classes": "The classes of a network, by index and name, as --target takes them.",
        "methods": "The methods of each family: what they show, their papers, and what they cost on a network.",
        "measures": "The measures that judge maps: what they say, which end is good, what chance gives, and papers.",
        "doctor": "Check versions, memory, devices, codecs and folders, and time the network. Leaves no files behind.",
    },
    "Files": {
        "report": "Write a page of all images for any browser, offline; of several runs, one beside the other.",
        "config": "Configuration files: print their schema, check them, show the resulting settings.",
        "verify": "Hash the manifest and every file that it lists. Exit code 3 and a list if any differs or is gone.",
        "export": "Write what a run has found as CSV, Parquet, COCO or a FiftyOne folder.",
        "merge": "Merge the manifests of several processes into one. Exit code 3 if an image failed or is missing.",
    },
}
_SUMMARIES = {name: summary for panel in _PANELS.values() for name, summary in panel.items()}


class _Commands(Group):
    """Imports and builds a command only when it was asked for; until then a name stands for it.

    The settings bring pydantic, and the registry the methods: both would be felt before ``cnnviz --help``.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        with gc_disabled():
            if name in _SUMMARIES:
                module = import_module(f"cnnviz_cli.cli.{'explain' if name in _RUNS else name}")
                build = getattr(module, "build", None)
                command = build(name, _SUMMARIES[name]) if build else build_command(name, getattr(module, name))
                self.add_command(command)
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
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Nothing: the callbacks of both have done the work."""


def _named() -> None:
    """Never called: `_Commands` puts the real command in its place."""


for _panel, _names in _PANELS.items():
    for _name, _summary in _names.items():
        app.command(_name, cls=Command, help=_summary, rich_help_panel=_panel)(_named)
