"""Work on many rows in blocks of a fixed size: side by side, in order, to the same bits with any number of threads.

A matrix product that two threads share adds up in another order than one thread does, and moves last bits. So each
block is the work of one thread, and what blocks give is put together in their order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.process import use_all_cores
from cnnviz_cli.core.rows import Rows

BLOCK = 1024
"""Rows at a time. A constant: sums over blocks depend on it in their last bits."""

_LARGEST = 1e15
"""Of a value: sums of squares of larger ones leave float32."""

A = TypeVar("A")
B = TypeVar("B")


class Workers:
    """Threads of which each does the work of a block by itself; made by `workers`."""

    def __init__(self, pool: ThreadPoolExecutor, threads: int) -> None:
        self._pool, self._threads = pool, threads
        self._buffers = threading.local()

    def in_order(self, items: Iterable[A], work: Callable[[A], B]) -> Iterator[B]:
        """What `work` gives for each item, in the order of the items; few are ahead of the one that is asked for."""
        left = iter(items)
        waiting: deque[Future[B]] = deque(self._pool.submit(work, item) for item in islice(left, self._threads + 1))
        try:
            while waiting:
                found = waiting.popleft().result()
                waiting.extend(self._pool.submit(work, item) for item in islice(left, 1))
                yield found
        finally:
            for future in waiting:
                future.cancel()

    def blocks(self, rows: Rows, work: Callable[[slice, Tensor], B]) -> Iterator[B]:
        """What `work` gives for each block of rows: where they are, and their (n, columns) float32 values, which it
        must not keep."""

        def read(place: tuple[int, NDArray[np.float32]]) -> B:
            start, chunk = place
            buffer = self._buffer(rows.shape[1])[: len(chunk)]
            buffer.numpy()[...] = chunk
            return work(slice(start, start + len(chunk)), buffer)

        return self.in_order(numbered_chunks(rows, BLOCK), read)

    def _buffer(self, columns: int) -> Tensor:
        """This thread's own, used for one block after the other: files may lie in memory as they like."""
        found: Tensor | None = getattr(self._buffers, "values", None)
        if found is None or found.shape[1] != columns:
            found = self._buffers.values = torch.empty(BLOCK, columns, dtype=torch.float32, device="cpu")
        return found


def numbered_chunks(rows: Rows, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Chunks, each with the number of its first row."""
    start = 0
    for chunk in rows.chunks(size):
        yield start, chunk
        start += len(chunk)


def rows_at_even_distances(rows: Rows, most: int) -> NDArray[np.float32]:
    """At most so many of the rows, in memory."""
    total = rows.shape[0]
    wanted = np.arange(min(most, total)) * total // min(most, total)
    found = np.empty((len(wanted), rows.shape[1]), dtype=np.float32)
    for start, chunk in numbered_chunks(rows, most):
        first, last = np.searchsorted(wanted, [start, start + len(chunk)])
        found[first:last] = chunk[wanted[first:last] - start]
    return found


@contextmanager
def workers() -> Iterator[Workers]:
    """As many threads as torch computes with; within, each operation of torch is the work of one of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, "blocks", _begin_thread) as pool:
            yield Workers(pool, threads)
    finally:
        torch.set_num_threads(threads)


def _begin_thread() -> None:
    use_all_cores()
    torch.set_num_threads(1)  # a thread of its own has OpenMP's default until it is told


def refuse_too_few(rows: Rows, count: int, *, of_channels: bool = True) -> None:
    """Raise a UsageError where there cannot be so many concepts; unless `of_channels`, they may outnumber columns."""
    if rows.shape[0] == 0:
        raise UsageError("there are no activations to find concepts in", fix="Give images that can be read.")
    least = min(rows.shape) if of_channels else rows.shape[0]
    if count > least:
        what = "positions" if least == rows.shape[0] else "channels"
        raise UsageError(
            f"{count} concepts cannot be told apart by {least} {what}",
            where="--concepts",
            fix=f"Ask for {least} or fewer" + (", or give more images." if what == "positions" else "."),
        )


def refuse_values_that_are_none(block: Tensor) -> tuple[float, float]:
    """The lowest and the highest value; a UsageError where one is infinite, no number, or too large to be squared."""
    low, high = (float(end) for end in torch.aminmax(block))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UsageError("the layer's activations are not all finite numbers", where="--layer")
    if max(high, -low) > _LARGEST:
        what = f"the layer's activations reach {max(high, -low):.1g}, too much to be factorised in single precision"
        raise UsageError(what, where="--layer", fix="Name another layer; cnnviz layers lists them.")
    return low, high


def refuse_zeros(energy: float) -> None:
    """Raise a UsageError where the squares of all values sum to zero."""
    if energy == 0:
        raise UsageError("all activations are zero, or nearly: there is nothing to find concepts in", where="--layer")
