"""Parameters that several commands have, and a way of writing defaults."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cnnviz_cli.cli import errors

Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        metavar="",
        callback=errors.debug,
        help="Print the traceback of a bug (CNNVIZ_DEBUG).",
        show_default=False,
    ),
]
AllowCode = Annotated[
    bool,
    typer.Option("--allow-code", metavar="", help="Let a network that is code run.", show_default=False),
]
AsJson = Annotated[
    bool, typer.Option("--json", metavar="", help="One JSON object on standard output.", show_default=False)
]


def default_text(value: Any) -> str:
    """A default as a person would type it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(default_text(item) for item in value) or "none"
    return "none" if value is None or value == "" else str(value)
