"""Pillow kept from talking past the reporter, and from refusing what was allowed."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

# Without any handler, Python prints a library's log messages to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_lock = threading.Lock()
_inside = 0
_filters = warnings.catch_warnings()
_limit: int | None = None


@contextmanager
def quietly(max_pixels: int) -> Iterator[None]:
    """Drop Pillow's warnings while the block runs, and have it refuse no picture of up to `max_pixels` for its area.

    The filters of `warnings` and Pillow's limit belong to the process: were each thread to save and restore them by
    itself, the last one out could leave those of another behind. So the first in saves, the last out restores.
    """
    global _inside, _filters, _limit  # noqa: PLW0603
    with _lock:
        if _inside == 0:
            _limit = Image.MAX_IMAGE_PIXELS
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.filterwarnings("ignore", module=r"(PIL|cnnviz_cli\.files)\b")
        if Image.MAX_IMAGE_PIXELS is not None:  # Pillow warns above this, and refuses above twice as many
            Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, -(-max_pixels // 2))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                Image.MAX_IMAGE_PIXELS = _limit
                _filters.__exit__(None, None, None)
