"""The bytes of a picture, in each of the formats."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.render.look import SUFFIXES

MOST = {"webp": 16_383, "jpeg": 65_500}
"""Pixels along a side that a format, or the library that writes it, can hold."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture's file.

    Attributes:
        data: its bytes.
        suffix: of its name, without the dot.
        note: why it is not in the format that was asked for; empty if it is.
    """

    data: bytes
    suffix: str
    note: str = ""


def encode(image: Image.Image, kind: str = "png") -> Encoded:
    """A picture as a file without metadata; the same pixels give the same bytes.

    PNG is written at level 1, the fastest, and indexed where there are no more than 256 colours. WebP loses nothing of
    such a picture, and is of quality 90 for any other. JPEG is of quality 92, its colours as fine as its light, which
    keeps type and thin lines sharp.

    Args:
        image: RGB, or P (indexed).
        kind: one of `look.FORMATS`. What has more pixels along a side than that holds becomes a PNG: a sheet of
            thousands of maps should neither be lost nor end a run.
    """
    longest, most = max(image.size), MOST.get(kind)
    if most and longest > most:
        note = f"it is a PNG, since {longest:,} pixels are more than the {most:,} along a side that {kind} holds"
        return Encoded(_written(image, "png"), SUFFIXES["png"], note)
    return Encoded(_written(image, kind), SUFFIXES[kind])


def _written(image: Image.Image, kind: str) -> bytes:
    if kind != "jpeg" and image.mode == "RGB":
        image = _indexed(image)
    if kind == "png":
        return _png(image)
    bare = image if image.mode == "RGB" else image.convert("RGB")
    if bare.info:
        bare = bare.copy()
        bare.info = {}
    how: dict[str, Any] = {"quality": 92, "subsampling": "4:4:4"}
    if kind == "webp":
        how = {"lossless": True, "quality": 20, "method": 1} if image.mode == "P" else {"quality": 90, "method": 2}
    buffer = BytesIO()
    bare.save(buffer, kind.upper(), **how)
    return buffer.getvalue()


def _indexed(image: Image.Image) -> Image.Image:
    """The same pixels in mode P if they have no more than 256 colours, else `image` itself, found out early."""
    found = image.getcolors(256)
    if found is None:
        return image
    colours = np.array(sorted(colour for _, colour in found), np.uint8)
    place = np.zeros(1 << 24, np.uint8)  # of which only a few pages are ever touched
    place[_numbers(colours)] = np.arange(len(colours))
    sheet = Image.fromarray(place[_numbers(np.asarray(image))])
    sheet.putpalette(colours.tobytes())
    return sheet


def _numbers(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Each colour (..., 3) as one number of 24 bits."""
    red, green, blue = (colours[..., channel].astype(np.int32) for channel in range(3))
    return (red << 16) | (green << 8) | blue


def _png(image: Image.Image) -> bytes:
    """Written by hand, as Pillow tries five filters on every row: twice the time, and 2.5 % fewer bytes."""
    width, height = image.size
    rows = np.asarray(image).reshape(height, -1)
    lines = np.empty((height, 1 + rows.shape[1]), np.uint8)
    if image.mode == "P":
        lines[:, 0] = 0
        lines[:, 1:] = rows
        palette = [(b"PLTE", bytes(image.getpalette() or ()))]
    else:
        lines[:, 0] = 2  # every row as its difference to the one above
        lines[0, 1:] = rows[0]
        np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
        palette = []
    header = struct.pack(">IIBBBBB", width, height, 8, 3 if palette else 2, 0, 0, 0)
    chunks = [(b"IHDR", header), *palette, (b"IDAT", zlib.compress(lines.data, level=1)), (b"IEND", b"")]
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, data in chunks:
        parts += [struct.pack(">I", len(data)), name, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))]
    return b"".join(parts)
