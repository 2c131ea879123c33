"""What Pillow does not do, or not well: errors in plain words, its warnings, formats it decodes slowly or in part."""

from __future__ import annotations

import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import BYTES_PER_PIXEL, MEBIBYTE, MEGAPIXEL
from cnnviz_cli.core.text import escape_text

_LOOKS_LIKE = (
    (re.compile(rb"\x89PNG"), "a PNG image whose header is damaged"),
    (re.compile(rb"\xff\xd8\xff"), "a JPEG image whose header is damaged"),
    (
        re.compile(rb"(II\*\0|MM\0\*)"),
        "a TIFF of more bands than are colours (--bands 3,2,1 chooses), of a kind that is not read, or damaged",
    ),
    (re.compile(rb"(GIF8|RIFF....WEBP|BM|P[1-7fF]\s)", re.DOTALL), "an image whose header is damaged"),
    (re.compile(rb"....ftyp(heic|heix|mif1|msf1)", re.DOTALL), "a HEIC image"),
    (re.compile(rb"....ftyp", re.DOTALL), "a video"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"(\xc5\xd0\xd3\xc6|%!PS)"), "a PostScript file"),
    (re.compile(rb"\s*(<\?xml|<svg)", re.IGNORECASE), "an SVG or XML file"),
    (re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE), "a web page (a failed download?)"),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer (run: git lfs pull)"),
    (re.compile(rb"[\t\n\r -~]+\Z"), "text"),
)


def _describe_unidentified(data: bytes) -> str:
    for pattern, kind in _LOOKS_LIKE:
        if pattern.match(data[:512]):
            return f"this is not an image that can be read; it looks like {kind}"
    return "this is not an image that can be read"


def describe_decode_error(error: Exception, data: bytes, max_pixels: int) -> str:
    """What a decoder said, without what it says of this process; of a file that none knows, what it looks like."""
    if isinstance(error, UnidentifiedImageError):
        return _describe_unidentified(data)
    if isinstance(error, MemoryError):
        return "the image needs more memory than there is"
    if isinstance(error, Image.DecompressionBombError):
        return describe_pixel_limit("it has", max_pixels)
    # Libraries put object addresses into their messages; the manifest must not change from run to run.
    message = escape_text(re.sub(r"\s*<[^<>]* at 0x[0-9a-fA-F]+>", "", str(error)), limit=160)
    if "truncated" in message.casefold():
        return f"the image is cut short: {message}"
    return f"the image is damaged: {message or type(error).__name__}"


def describe_pixel_limit(what: str, max_pixels: int) -> str:
    """That an image is refused for its area."""
    return f"the image is too large: {what} more than {max_pixels / MEGAPIXEL:,.6g} megapixels (--max-pixels)"


def exceeds_memory(taken: int, max_pixels: int) -> bool:
    """Whether decoding takes more bytes than `BYTES_PER_PIXEL` for each of `max_pixels`, and more than all may take."""
    return taken > max(BYTES_PER_PIXEL * max_pixels, 256 * MEBIBYTE)


def describe_memory_limit(what: str, taken: int, max_pixels: int) -> str:
    """That an image is refused for the bytes that it takes in memory."""
    much = f"{what} take {taken / 1e9:.1f} GB, as much as {taken / BYTES_PER_PIXEL / 1e6:,.0f} megapixels,"
    return describe_pixel_limit(much, max_pixels)


# Without any handler, Python prints a library's log messages to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_lock = threading.Lock()
_inside = 0
_filters = warnings.catch_warnings()
_limit: int | None = None


@contextmanager
def suppress_pillow_warnings(max_pixels: int) -> Iterator[None]:
    """Drop Pillow's warnings while the block runs, and have it refuse no image of up to `max_pixels` for its area.

    The filters of `warnings` and Pillow's limit belong to the process: were each thread to save and restore them by
    itself, the last one out could leave those of another behind. So the first in saves, the last out restores.
    """
    global _inside, _filters, _limit  # noqa: PLW0603
    with _lock:
        if _inside == 0:
            _limit = Image.MAX_IMAGE_PIXELS
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.filterwarnings("ignore", module=r"(PIL|pydicom|cnnviz_cli\.files)\b")
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


MAX_RUNS = 8_000_000
"""Pixels of an image that is unpacked run by run, in Python."""

BINARY_PPM, PLAIN_PPM = "ppm", "ppm_plain"
"""What Pillow calls its decoders in Python: of bytes, and of numbers written as text."""

_BYTE = 255


def decoder_name(image: Image.Image) -> str:
    """What Pillow would decode an opened image with."""
    return str(image.tile[0].codec_name) if isinstance(image, ImageFile.ImageFile) and image.tile else ""


def stated_maximum(image: Image.Image) -> int | None:
    """The value that an opened PGM or PPM says is white; None where that is what its type ends with."""
    if not isinstance(image, ImageFile.ImageFile) or decoder_name(image) not in (BINARY_PPM, PLAIN_PPM):
        return None
    arguments: Any = image.tile[0].args
    return int(arguments[1])


def decode_netpbm(image: Image.Image, data: bytes) -> Image.Image | None:
    """An opened PGM or PPM, loaded; None if Pillow decodes it quickly itself.

    Grey of 16 bits keeps its values, all else is scaled to 8 bits. Raises ImageError if it is cut short.
    """
    highest = stated_maximum(image)
    if not isinstance(image, ImageFile.ImageFile) or decoder_name(image) != BINARY_PPM or not highest:
        return None
    channels = len(image.getbands())
    kind = np.dtype(">u2" if highest > _BYTE else "u1")
    count, start = image.width * image.height * channels, image.tile[0].offset
    if len(data) - start < count * kind.itemsize:
        raise ImageError("the image is cut short: not enough image data")
    shape = (image.height, image.width) if channels == 1 else (image.height, image.width, channels)
    values = np.frombuffer(data, kind, count, start).reshape(shape)
    if channels == 1 and highest > _BYTE:
        made = Image.fromarray(values.astype(np.uint16))
        made.info["highest"] = highest
        return made
    numbers = np.arange(256**kind.itemsize)
    table = np.minimum((numbers * _BYTE + highest // 2) // highest, _BYTE).astype(np.uint8)
    return Image.fromarray(table[values])


_OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""By the order of a sample's bytes, the order in which its lower byte passes for the upper one."""

_COLOR_MODES = ("RGB;16", "RGBA;16", "RGBX;16")


def low_bytes_loader(image: Image.Image, data: bytes, formats: tuple[str, ...]) -> Callable[[], Image.Image] | None:
    """What gives the `LowBytes` of an image not yet loaded; None unless it is RGB of 16 bits, stored pixel by pixel."""
    tiles = list(getattr(image, "tile", ()))
    swapped = [_swap_byte_order(tile.args) for tile in tiles]
    if not tiles or None in swapped:
        return None

    def load() -> Image.Image:
        with Image.open(BytesIO(data), formats=formats) as again:
            assert isinstance(again, ImageFile.ImageFile)
            again.tile = [tile._replace(args=args) for tile, args in zip(tiles, swapped, strict=True)]
            again.load()
            return again

    return load


def _swap_byte_order(args: Any) -> Any:
    """A decoder's arguments with the other order of bytes; None if they are not of RGB of 16 bits."""
    mode = args[0] if isinstance(args, tuple) else args
    if not isinstance(mode, str) or not mode.startswith(_COLOR_MODES) or mode[-1] not in _OTHER:
        return None
    other = mode[:-1] + _OTHER[mode[-1]]
    return (other, *args[1:]) if isinstance(args, tuple) else other
