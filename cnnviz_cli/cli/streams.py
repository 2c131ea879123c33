"""Standard streams that survive a reader who has gone, and characters that they cannot hold."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from cnnviz_cli.core.errors import OutputError


class Outlet:
    """A text stream that falls silent when nobody reads it any more (``cnnviz models | head``).

    That is no failure of ours: the work goes on, and the exit code remains that of the work.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        with self._survived():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._survived():
            self._stream.flush()

    @contextmanager
    def _survived(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self._silence()
        except OSError as error:
            self._silence()
            raise OutputError(f"{self._stream.name} cannot be written: {error.strerror}") from error

    def _silence(self) -> None:
        # Into the void from now on: also what is still buffered, which would fail once more when the process ends.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _hold_streams() -> None:
    """Open what was closed from the start (``2>&-``), or the next pipe or file would become standard error."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)
    os.close(opened)


@contextmanager
def guarded() -> Iterator[None]:
    """`Outlet` in the place of standard output and standard error, inside the block."""
    plain = sys.stdout, sys.stderr
    _hold_streams()
    with Path(os.devnull).open("w", encoding="utf-8") as null:  # for a stream that was closed from the start: >&-
        sys.stdout, sys.stderr = (cast("TextIO", Outlet(stream or null)) for stream in plain)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = plain
