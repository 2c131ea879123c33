"""Small pictures beside the figures, for the report: thumbnails of images, and maps in grey."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from cnnviz_cli.core.records import Picture
from cnnviz_cli.files.output.sink import Sink

THUMBNAIL_SIDE = 128
"""Pixels of a thumbnail's longer side."""

_LOSSY = {"quality": 70, "method": 2}  # 2 kB and 0.5 ms; with method 4 they are 3 % smaller and take 1.2 ms
_LOSSLESS = {"lossless": True, "quality": 0, "method": 0}  # 1.5 ms at 224 x 224; the best settings save 2 % in 7 ms


def thumbnail_of(image: Image.Image, side: int = THUMBNAIL_SIDE) -> Image.Image:
    """An RGB image at no more than so many pixels a side, its proportions kept to the pixel; a smaller one as it is."""
    factor = min(1.0, side / max(image.size))
    width, height = (max(1, round(length * factor)) for length in image.size)
    # Averaged in whole blocks first, to one and a half times the size: half the time at 500 x 375, less of larger ones.
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=1.5)


def encode_thumbnail(image: Image.Image) -> bytes:
    """A thumbnail as WebP, a picture and nothing else."""
    return _webp(image, **_LOSSY)


def encode_grey(values: np.ndarray[Any, Any], scale: tuple[float, float]) -> bytes:
    """A map (h, w) as lossless grey WebP: 0 and 255 are the ends of `scale`, and what is not finite counts as zero."""
    low, high = scale
    known = np.where(np.isfinite(values), values, 0).astype(np.float64)
    shares = (known.clip(low, high) - low) / (high - low)
    return _webp(Image.fromarray(np.rint(255 * shares).astype(np.uint8)).convert("RGB"), **_LOSSLESS)


def write_thumbnail(sink: Sink, path: str, image: Image.Image, side: int = THUMBNAIL_SIDE) -> Picture:
    """Write the thumbnail of an RGB image, and say what was written. Raises OutputError if the disk refuses."""
    small = thumbnail_of(image, side)
    digest = sink.write(path, encode_thumbnail(small))
    return Picture(path=path, sha256=digest, width=small.width, height=small.height)


def write_grey(sink: Sink, path: str, values: np.ndarray[Any, Any], scale: tuple[float, float]) -> Picture:
    """The same of a map (h, w) in grey."""
    height, width = values.shape
    digest = sink.write(path, encode_grey(values, scale))
    return Picture(path=path, sha256=digest, width=width, height=height)


def _webp(image: Image.Image, **how: Any) -> bytes:
    bare = image.copy()
    bare.info = {}  # from where older versions of Pillow write what a photograph says of itself
    buffer = BytesIO()
    bare.save(buffer, "WEBP", **how)
    return buffer.getvalue()
