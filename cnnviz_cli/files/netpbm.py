"""PGM and PPM whose highest value is none that 8 or 16 bits end with: Pillow decodes them pixel by pixel in Python."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cnnviz_cli.core.errors import ImageError

BINARY, PLAIN = "ppm", "ppm_plain"
"""What Pillow calls its decoders in Python: of bytes, and of numbers written as text."""

_BYTE = 255


def decoder_of(image: Image.Image) -> str:
    """What Pillow would decode an opened image with."""
    return str(image.tile[0].codec_name) if getattr(image, "tile", ()) else ""


def highest_of(image: Image.Image) -> int | None:
    """The value that an opened PGM or PPM says is white; None where that is what its type ends with."""
    return int(image.tile[0].args[1]) if decoder_of(image) in (BINARY, PLAIN) else None


def decode(image: Image.Image, data: bytes) -> Image.Image | None:
    """An opened PGM or PPM, loaded; None if Pillow decodes it quickly itself.

    Grey of 16 bits keeps its values, all else is scaled to 8 bits.

    Raises:
        ImageError: it is cut short.
    """
    highest = highest_of(image)
    if decoder_of(image) != BINARY or not highest:
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
    table = np.minimum(np.rint(np.arange(256**kind.itemsize) * (_BYTE / highest)), _BYTE).astype(np.uint8)
    return Image.fromarray(table[values])
