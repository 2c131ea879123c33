"""How much memory it takes to decode an image, told before it is decoded."""

from __future__ import annotations

from math import prod
from typing import Any

from PIL import Image

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.reading import BYTES_A_PIXEL, MEBIBYTE
from cnnviz_cli.files.reasons import too_many_pixels

_RGB = 4
"""Bytes of a pixel of RGB in memory."""

_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "LA": 4, "PA": 4}
"""Bytes of a pixel in memory, by mode; 4 of all others."""

_DECODER = {"WEBP": 12, "AVIF": 8}
"""Bytes of a pixel that decoders of whole images take beside their result."""

_ALWAYS = 256 * MEBIBYTE
"""Bytes that any image may take: small limits are about pixels."""

_ROW = 16
"""Bytes of a row beside its pixels: where it starts, and what it is rounded up to."""

_COEFFICIENT = 2
"""Bytes that a progressive JPEG takes for each sample until all of its scans are read."""


def bytes_of(image: Image.Image, data: bytes, stored: tuple[int, int], *, turned: bool) -> int:
    """The most memory that decoding takes, the file's own bytes included.

    Args:
        image: opened and not yet loaded; of the size that it is decoded to.
        stored: width and height in the file.
        turned: whether it is turned when it has been decoded.
    """
    pixels = prod(image.size)
    copies = 1 + (image.mode != "RGB") + turned
    whole = len(data) + pixels * _PIXEL.get(image.mode, _RGB) + copies * image.height * _ROW
    made = 0 if image.mode == "RGB" else _RGB
    if image.mode in ("I;16", "I", "F"):
        made += 1 + _PIXEL.get(image.mode, _RGB)  # as an array of numpy's
    elif "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        made += _RGB if image.mode in ("RGBA", "RGB") else 2 * _RGB
    decoder = prod(stored) * _scanned(image) + pixels * _DECODER.get(image.format or "", 0)
    return whole + max(pixels * (made + _RGB * turned), decoder)


def refuse_costly(image: Image.Image, data: bytes, stored: tuple[int, int], max_pixels: int, *, turned: bool) -> None:
    """Raise ImageError for an image that takes more memory than `BYTES_A_PIXEL` for each of `max_pixels`."""
    taken = bytes_of(image, data, stored, turned=turned)
    if taken > max(BYTES_A_PIXEL * max_pixels, _ALWAYS):
        width, height = image.size
        much = f"{width} x {height} pixels of this kind take {taken / 1e9:.1f} GB, as much as"
        raise ImageError(
            too_many_pixels(f"{much} {taken / BYTES_A_PIXEL / 1e6:,.0f} megapixels,", max_pixels),
            fix="Resize it first; the network sees a few hundred pixels across.",
        )


def _scanned(image: Image.Image) -> int:
    """Bytes a pixel that a progressive JPEG takes beside its pixels."""
    if image.format not in ("JPEG", "MPO") or not image.info.get("progressive"):
        return 0
    layers: Any = getattr(image, "layer", ())
    sampling: list[int] = [across * down for _, across, down, *_ in layers] or [1, 1, 1]
    return -(-_COEFFICIENT * sum(sampling) // max(sampling))
