"""The output folder, as all nodes have to share it."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from pathlib import Path

from cnnviz_cli.core.errors import OutputError
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.sink import Sink, refused

_ARRIVAL = 60.0
"""Seconds for what another node has written to be seen here: a network file system may remember for as long that it was
not there."""

Files = tuple[tuple[str, int], ...]
"""The files of a record below the output folder, with their sizes."""


class Token:
    """A file by which a node can tell that it sees the same folder.

    What is in it no other folder has. It is swept away with other temporary files if the run is killed.

    Attributes:
        root: the output folder.
        path: of the file.
        text: what is in it.
    """

    def __init__(self, sink: Sink) -> None:
        """Not yet there."""
        self.root = sink.root
        self.text = secrets.token_hex(16)
        self.path = sink.temporary()

    def put(self) -> None:
        """Have it there, again if need be.

        Raises:
            OutputError: the disk refuses.
        """
        try:
            self.path.write_text(self.text, encoding="ascii")
        except OSError as error:
            raise refused(error, self.path) from error

    def remove(self) -> None:
        """Have it gone, if the disk lets go of it."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def await_files(root: Path, files: Files) -> None:
    """Wait until files that another node has written are seen here.

    Raises:
        OutputError: they do not come.
    """
    until = time.monotonic() + _ARRIVAL
    for name, size in files:
        path = root / name
        while not _has(path, size):
            if time.monotonic() > until:
                raise OutputError("what a node of the cluster has written is not seen here", where=visible(str(path)))
            time.sleep(0.05)


def _has(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        with suppress(OSError):
            next(path.parent.iterdir(), None)  # has a network file system ask again
        return False
