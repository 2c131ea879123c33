"""Rows of numbers that need not lie in memory: what a folder of images has given, a few thousand at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALIGNMENT = 64
"""Bytes of a cache line. Libraries of linear algebra sum in another order where the first number lies elsewhere."""


class Rows(Protocol):
    """A matrix of float32, read from its first row to its last.

    Attributes:
        shape: rows and columns.
    """

    @property
    def shape(self) -> tuple[int, int]: ...

    def chunks(self, size: int) -> Iterator[NDArray[np.float32]]:
        """All rows in order, (size, columns) of them at a time and in the last chunk what is left; read-only. May be
        called again. Where in memory a chunk begins does not depend on how the rows came about, so that sums over it
        are the same to the last bit."""
        ...


class RowPieces:
    """Rows that lie in several arrays, one behind the other."""

    def __init__(self, pieces: Callable[[], Iterable[NDArray[np.float32]]], shape: tuple[int, int]) -> None:
        """`pieces` gives them anew each time, (n, columns) each, of any n."""
        self._pieces, self._shape = pieces, shape

    @property
    def shape(self) -> tuple[int, int]:
        return self._shape

    def chunks(self, size: int) -> Iterator[NDArray[np.float32]]:
        """See `Rows`."""
        if size < 1:
            raise ValueError(f"no chunk has {size} rows")
        waiting: list[NDArray[np.float32]] = []
        count = 0
        for piece in self._pieces():
            at = 0
            while at < len(piece):
                part = piece[at : at + size - count]
                waiting.append(part)
                at, count = at + len(part), count + len(part)
                if count == size:
                    yield _joined(waiting)
                    waiting, count = [], 0
        if waiting:
            yield _joined(waiting)


def rows_of(matrix: NDArray[Any]) -> RowPieces:
    """The rows of a (n, columns) matrix in memory."""
    whole = np.asarray(matrix, np.float32)
    return RowPieces(lambda: [whole], (whole.shape[0], whole.shape[1]))


def aligned_empty(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array of float32 that begins with a cache line, its numbers not set."""
    count = int(np.prod(shape, dtype=np.int64))
    room = np.empty(4 * count + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + 4 * count].view(np.float32).reshape(shape)


def _joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """One array of all parts; the part itself where it is alone and lies well."""
    first = parts[0]
    if len(parts) == 1 and first.flags.c_contiguous and first.ctypes.data % ALIGNMENT == 0:
        whole = first.view()
    else:
        whole = aligned_empty((sum(map(len, parts)), first.shape[1]))
        np.concatenate(parts, out=whole)
    whole.flags.writeable = False
    return whole
