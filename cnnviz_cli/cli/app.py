"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from cnnviz_cli import __version__
from cnnviz_cli.cli import configs, listing, runs, verifying
from cnnviz_cli.cli.runs import Debug
from cnnviz_cli.core.errors import ExitCode

app = typer.Typer(
    name="cnnviz",
    help="Explanation images of convolutional networks: feature maps, saliency, deconvolution, class activation maps.",
    epilog="cnnviz all photo.jpg draws everything with the bundled model; cnnviz COMMAND --help lists the flags.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"cnnviz {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  (its callback has done the work, as has debug's)
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
    debug: Debug = False,  # noqa: ARG001
) -> None:
    if context.invoked_subcommand is None:
        context.get_help()  # which prints it
        raise typer.Exit(ExitCode.USAGE)


for _part in (runs, listing, configs, verifying):
    _part.register(app)
