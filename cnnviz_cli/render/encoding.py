"""The bytes of a picture, in each of the formats."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

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

    PNG is written at level 1, the fastest. An indexed picture stays indexed in PNG and loses nothing in WebP. WebP of
    any other is of quality 90; JPEG is of quality 92 with colours as fine as the light, for type and thin lines.

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


def encode_png(image: Image.Image) -> bytes:
    """A picture as the bytes of a PNG."""
    return encode(image).data


def _written(image: Image.Image, kind: str) -> bytes:
    bare = image.convert("RGB") if kind == "jpeg" and image.mode != "RGB" else image
    if bare.info:
        bare = bare.copy()
        bare.info = {}
    buffer = BytesIO()
    bare.save(buffer, kind.upper(), **_settings(kind, bare.mode))
    return buffer.getvalue()


def _settings(kind: str, mode: str) -> dict[str, Any]:
    if kind == "png":
        return {"compress_level": 1}
    if kind == "jpeg":
        return {"quality": 92, "subsampling": "4:4:4"}
    return {"lossless": True, "quality": 20, "method": 0} if mode == "P" else {"quality": 90, "method": 2}
