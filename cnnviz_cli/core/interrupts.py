"""What is to be saved when the process is told to end while its main thread cannot listen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_savers: list[Callable[[], object]] = []


@contextmanager
def checkpoints(save: Callable[[], object]) -> Iterator[None]:
    """Inside the block, `save` is what an interruption calls. It may come from another thread, and must not block."""
    _savers.append(save)
    try:
        yield
    finally:
        _savers.remove(save)


def save_all() -> None:
    """Call every one of them, the innermost first."""
    for save in reversed(_savers):
        save()
