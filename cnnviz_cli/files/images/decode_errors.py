"""Why an image could not be read, in words of our own, and Pillow kept from writing warnings of its own."""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from cnnviz_cli.core.file_reading import MEGAPIXEL
from cnnviz_cli.core.text import visible

_LOOKS_LIKE = (
    (re.compile(rb"\x89PNG"), "a PNG picture whose header is damaged"),
    (re.compile(rb"\xff\xd8\xff"), "a JPEG picture whose header is damaged"),
    (
        re.compile(rb"(II\*\0|MM\0\*)"),
        "a TIFF of more bands than are colours (--bands 3,2,1 chooses), of a kind that is not read, or damaged",
    ),
    (re.compile(rb"(GIF8|RIFF....WEBP|BM|P[1-7fF]\s)", re.DOTALL), "a picture whose header is damaged"),
    (re.compile(rb"....ftyp(heic|heix|mif1|msf1)", re.DOTALL), "a HEIC picture"),
    (re.compile(rb"....ftyp", re.DOTALL), "a video"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"(\xc5\xd0\xd3\xc6|%!PS)"), "a PostScript file"),
    (re.compile(rb"\s*(<\?xml|<svg)", re.IGNORECASE), "an SVG or XML file"),
    (re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE), "a web page (a failed download?)"),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer (run: git lfs pull)"),
    (re.compile(rb"[\t\n\r -~]+\Z"), "text"),
)


def describe_unidentified(data: bytes) -> str:
    """What a file that no decoder knows looks like."""
    for pattern, kind in _LOOKS_LIKE:
        if pattern.match(data[:512]):
            return f"this is no picture that can be read; it looks like {kind}"
    return "this is no picture that can be read"


def describe_decode_error(error: Exception, max_pixels: int) -> str:
    """What a decoder said, without what it says of this process."""
    if isinstance(error, MemoryError):
        return "the picture needs more memory than there is"
    if isinstance(error, Image.DecompressionBombError):
        return describe_pixel_limit("it has", max_pixels)
    # Libraries put object addresses into their messages; the manifest must not change from run to run.
    message = visible(re.sub(r"\s*<[^<>]* at 0x[0-9a-fA-F]+>", "", str(error)), limit=160)
    if "truncated" in message.casefold():
        return f"the picture is cut short: {message}"
    return f"the picture is damaged: {message or type(error).__name__}"


def describe_pixel_limit(what: str, max_pixels: int) -> str:
    """That a picture is refused for its area."""
    return f"the picture is too large: {what} more than {max_pixels / MEGAPIXEL:,.6g} megapixels (--max-pixels)"


# Without any handler, Python prints a library's log messages to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_lock = threading.Lock()
_inside = 0
_filters = warnings.catch_warnings()
_limit: int | None = None


@contextmanager
def suppress_pillow_warnings(max_pixels: int) -> Iterator[None]:
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
