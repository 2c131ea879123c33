"""The process: streams and signals before, an exit code after."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cnnviz_cli.cli.errors import bounded
from cnnviz_cli.cli.json_output import answering
from cnnviz_cli.cli.process import guarded, heeded, uncollected


def main(arguments: Sequence[str] | None = None) -> int:
    """Run cnnviz and return the exit code; `arguments` are those after the program's name."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with guarded(), answering(given):
        return bounded(lambda: _heeding(given))


def _heeding(arguments: list[str]) -> int | None:
    with heeded():
        return _command(arguments)


def _command(arguments: list[str]) -> int | None:
    with uncollected():
        from typer.main import get_command

        from cnnviz_cli.cli.app import app

        command = get_command(app)
    result: int | None = command.main(arguments, prog_name="cnnviz", standalone_mode=False)
    sys.stdout.flush()  # here, where a full disk is still an error like any other
    return result
