"""features, saliency, deconv, gradcam, all: the commands that draw."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from cnnviz_cli.cli.flags import CONFIG, parameter, with_settings
from cnnviz_cli.cli.help import Command
from cnnviz_cli.cli.shared import AsJson, Debug
from cnnviz_cli.config.names import Path_
from cnnviz_cli.core.errors import ExitCode

_OTHERS = [
    parameter(
        "images",
        Annotated[
            list[Path],
            typer.Argument(metavar="IMAGE", help="Pictures, and folders of pictures.", show_default=False),
        ],
    ),
    CONFIG,
    parameter(
        "quiet",
        Annotated[
            bool, typer.Option("--quiet", "-q", metavar="", help="Say nothing but warnings.", show_default=False)
        ],
        False,
    ),
    parameter("as_json", AsJson, False),
    parameter(
        "dry_run",
        Annotated[
            bool,
            typer.Option(
                "--dry-run",
                metavar="",
                help="Say what would be read, computed and written; write nothing.",
                show_default=False,
            ),
        ],
        False,
    ),
    parameter("debug", Debug, False),
]


def build(command: str, summary: str) -> Any:
    """The command, ready for a group of Typer's."""
    alone = typer.Typer(add_completion=False)
    body = partial(_run, command)
    alone.command(command, cls=Command, help=summary)(with_settings(command, body, _OTHERS))
    return get_command(alone)


def _run(command: str, flags: Mapping[Path_, Any], given: Mapping[str, Any]) -> int:
    # Not at the top, since --help needs none of it and is to appear at once.
    from cnnviz_cli.cli.console import reporter
    from cnnviz_cli.cli.preflight import check
    from cnnviz_cli.cli.summary import counted, print_outcome, print_sketch
    from cnnviz_cli.config.load import load_with_origins
    from cnnviz_cli.files.sources import find

    loaded = load_with_origins(command, flags, given["config"], os.environ)
    check(loaded)
    settings = loaded.settings
    sources = find(given["images"], recursive=settings.recursive, exclude=settings.output)
    listener = reporter(quiet=given["quiet"])
    weights = "" if settings.weights == "DEFAULT" else f" ({settings.weights})"
    listener.say(f"{counted(len(sources), 'image')}, {settings.model}{weights}: loading")

    from cnnviz_cli import run  # imports torch, which takes seconds

    if given["dry_run"]:
        sketch = run.dry_run(command, settings, sources, listener)
        print_sketch(sketch, settings.output, as_json=given["as_json"])
        return ExitCode.OK
    outcome = run.execute(command, settings, sources, listener)
    if given["as_json"] or not given["quiet"]:
        print_outcome(outcome, settings.output, as_json=given["as_json"])
    if outcome.status == "interrupted":
        return ExitCode.TERMINATED if outcome.terminated else ExitCode.INTERRUPTED
    return ExitCode.PARTIAL if outcome.status == "partial" else ExitCode.OK
