"""The process: streams and signals before, an exit code after."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cnnviz_cli.cli.errors import run_with_exit_code
from cnnviz_cli.cli.json_output import reserve_stdout
from cnnviz_cli.cli.process import gc_disabled, handle_signals, safe_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run cnnviz and return the exit code; `arguments` are those after the program's name."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with safe_streams(), reserve_stdout(given):
        return run_with_exit_code(lambda: _run_with_signals(given))


def _run_with_signals(arguments: list[str]) -> int | None:
    with handle_signals():
        return _run_command(arguments)


def _run_command(arguments: list[str]) -> int | None:
    with gc_disabled():
        from typer.main import get_command

        from cnnviz_cli.cli.app import app

        command = get_command(app)
    result: int | None = command.main(arguments, prog_name="cnnviz", standalone_mode=False)
    sys.stdout.flush()  # here, where a full disk is still an error like any other
    return result
