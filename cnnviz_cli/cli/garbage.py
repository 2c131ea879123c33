"""Start-up without the collection of garbage."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Inside the block no garbage is collected, and what was imported there is never looked through for any.

    Modules stay, and torch is a million objects: looking through them again and again is felt.
    """
    before, modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) != modules:
            gc.freeze()
        if before:
            gc.enable()
