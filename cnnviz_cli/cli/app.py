"""The commands, put together."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cnnviz_cli import __version__
from cnnviz_cli.cli import doctor, listing, merging, verifying
from cnnviz_cli.cli.garbage import uncollected
from cnnviz_cli.cli.help import Command, Group
from cnnviz_cli.cli.shared import Debug
from cnnviz_cli.core.method import FAMILIES

_RUNS = {family.name: family.summary for family in FAMILIES.values()} | {
    "all": "All four families, and a sheet that shows them together."
}
_CONFIG = "Configuration files: their schema, a check, and what they come to."


class _Commands(Group):
    """Builds a command whose flags come from the settings only when it was asked for; until then a name stands for it.

    The settings bring pydantic, and the registry the methods: both would be felt before ``cnnviz --help``.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        with uncollected():
            if name in _RUNS:
                from cnnviz_cli.cli import runs

                self.add_command(runs.build(name, _RUNS[name]))
            elif name == "config":
                from cnnviz_cli.cli import configs

                self.add_command(configs.build(name, _CONFIG))
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


for _name, _summary in _RUNS.items():
    app.command(_name, cls=Command, help=_summary, rich_help_panel="Explain pictures")(_named)
listing.register(app)
doctor.register(app)
app.command("config", cls=Command, help=_CONFIG, rich_help_panel="Files")(_named)
verifying.register(app)
merging.register(app)
