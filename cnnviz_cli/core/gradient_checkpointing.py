"""Gradient checkpoints of a network are passed through: they save memory in training, and hide what they run.

A reentrant checkpoint refuses `torch.autograd.grad`, and any checkpoint runs its part a second time in the backward,
our hooks included. What is computed is the same without.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_REENTRANT = "CheckpointFunction"
# What it is called depends on the version.
_OTHERS = ("_checkpoint_without_reentrant_generator", "_checkpoint_without_reentrant_generator_impl")


@contextmanager
def without_checkpoints() -> Iterator[None]:
    """Within, `torch.utils.checkpoint.checkpoint` calls its function, in this thread."""
    module: Any = sys.modules.get("torch.utils.checkpoint")
    before = {name: getattr(module, name) for name in (_REENTRANT, *_OTHERS) if hasattr(module, name)}
    ours = threading.get_ident()
    if _REENTRANT in before:
        module.CheckpointFunction = _Plain(before[_REENTRANT], ours)
    for name in before.keys() & set(_OTHERS):
        setattr(module, name, _plain_generator(before[name], ours))
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


class _Plain:
    """In the place of the autograd function that a reentrant checkpoint is."""

    def __init__(self, original: Any, thread: int) -> None:
        self._original, self._thread = original, thread

    def apply(self, function: Callable[..., Any], preserve: bool, *inputs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return self._original.apply(function, preserve, *inputs)
        return function(*inputs)


def _plain_generator(original: Callable[..., Iterator[None]], thread: int) -> Callable[..., Iterator[None]]:
    def plain(*arguments: Any, **named: Any) -> Iterator[None]:
        return original(*arguments, **named) if threading.get_ident() != thread else iter((None,))

    return plain
