"""The process: streams and signals before, an exit code after."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from cnnviz_cli.cli.errors import bounded
from cnnviz_cli.cli.streams import guarded
from cnnviz_cli.core.errors import Terminated


def main(arguments: Sequence[str] | None = None) -> int:
    """Run cnnviz and return the exit code; `arguments` are those after the program's name."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    with guarded():
        return bounded(lambda: _command(list(sys.argv[1:] if arguments is None else arguments)))


def _command(arguments: list[str]) -> int | None:
    gc.disable()  # start-up makes thousands of objects that stay; looking through them again and again is felt
    try:
        from typer.main import get_command

        from cnnviz_cli.cli.app import app

        command = get_command(app)
    finally:
        gc.enable()
    result: int | None = command.main(arguments, prog_name="cnnviz", standalone_mode=False)
    sys.stdout.flush()  # here, where a full disk is still an error like any other
    return result


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated
