"""PGM and PPM whose highest value is none that 8 or 16 bits end with: Pillow decodes them pixel by pixel in Python."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageFile

from cnnviz_cli.core.errors import ImageError

BINARY, PLAIN = "ppm", "ppm_plain"
"""What Pillow calls its decoders in Python: of bytes, and of numbers written as text."""

_BYTE = 255


def decoder_of(image: Image.Image) -> str:
    """What Pillow would decode an opened image with."""
    return str(image.tile[0].codec_name) if isinstance(image, ImageFile.ImageFile) and image.tile else ""


def highest_of(image: Image.Image) -> int | None:
    """The value that an opened PGM or PPM says is white; None where that is what its type ends with."""
    if not isinstance(image, ImageFile.ImageFile) or decoder_of(image) not in (BINARY, PLAIN):
        return None
    arguments: Any = image.tile[0].args
    return int(arguments[1])


def decode(image: Image.Image, data: bytes) -> Image.Image | None:
    """An opened PGM or PPM, loaded; None if Pillow decodes it quickly itself.

    Grey of 16 bits keeps its values, all else is scaled to 8 bits.

    Raises:
        ImageError: it is cut short.
    """
    highest = highest_of(image)
    if not isinstance(image, ImageFile.ImageFile) or decoder_of(image) != BINARY or not highest:
        return None
    channels = len(image.getbands())
    kind = np.dtype(">u2" if highest > _BYTE else "u1")
    count, start = image.width * image.height * channels, image.tile[0].offset
    if len(data) - start < count * kind.itemsize:
        raise ImageError("the picture is cut short: not enough image data")
    shape = (image.height, image.width) if channels == 1 else (image.height, image.width, channels)
    values = np.frombuffer(data, kind, count, start).reshape(shape)
    if channels == 1 and highest > _BYTE:
        made = Image.fromarray(values.astype(np.uint16))
        made.info["highest"] = highest
        return made
    numbers = np.arange(256**kind.itemsize)
    table = np.minimum((numbers * _BYTE + highest // 2) // highest, _BYTE).astype(np.uint8)
    return Image.fromarray(table[values])
