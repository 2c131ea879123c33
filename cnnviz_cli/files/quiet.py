"""Pillow kept from talking past the reporter."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Without any handler, Python prints a library's log messages to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_lock = threading.Lock()
_inside = 0
_saved = warnings.catch_warnings()


@contextmanager
def quietly() -> Iterator[None]:
    """Drop Pillow's warnings while the block runs.

    The filters of `warnings` belong to the process: were each thread to save and restore them by itself, the last one
    out could leave those of another behind. So the first in saves, the last out restores.
    """
    global _inside, _saved  # noqa: PLW0603
    with _lock:
        if _inside == 0:
            _saved = warnings.catch_warnings()
            _saved.__enter__()
            warnings.filterwarnings("ignore", module=r"(PIL|cnnviz_cli\.files)\b")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _saved.__exit__(None, None, None)
