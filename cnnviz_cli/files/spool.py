"""Results that wait on the disk until all of them are there."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from cnnviz_cli.files.sink import Sink, refused


class Spool:
    """A queue on the disk of the output folder, one item of it in memory at a time. A context manager.

    The file has no name, so nobody else can read or change it, and it is gone when the block ends or the process does,
    however it ends.
    """

    def __init__(self, sink: Sink) -> None:
        self._root = sink.root
        try:
            self._file = cast("BinaryIO", tempfile.TemporaryFile(dir=self._root))  # noqa: SIM115  (closed by __exit__)
        except OSError as error:
            raise refused(error, self._root) from error

    def put(self, item: Any) -> None:
        """Add an item, of plain values and numpy arrays.

        Raises:
            OutputError: the disk refuses.
        """
        try:
            pickle.dump(item, self._file, pickle.HIGHEST_PROTOCOL)
            self._file.flush()
        except OSError as error:
            raise refused(error, self._root) from error

    def __iter__(self) -> Iterator[Any]:
        """The items in the order in which they were put, once all of them are there."""
        self._file.seek(0)
        while True:
            try:
                yield pickle.load(self._file)
            except EOFError:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
