"""What Pillow decodes slowly or in part: PGM and PPM with an unusual highest value, and RGB of 16 bits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from cnnviz_cli.core.errors import ImageError

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

    Grey of 16 bits keeps its values, all else is scaled to 8 bits.

    Raises:
        ImageError: it is cut short.
    """
    highest = stated_maximum(image)
    if not isinstance(image, ImageFile.ImageFile) or decoder_name(image) != BINARY_PPM or not highest:
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


_OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""By the order of a sample's bytes, the order in which its lower byte passes for the upper one."""

_COLOR_MODES = ("RGB;16", "RGBA;16", "RGBX;16")


def low_bytes_loader(image: Image.Image, data: bytes, formats: tuple[str, ...]) -> Callable[[], Image.Image] | None:
    """What gives them; None of an image that is not RGB of 16 bits, or not stored pixel by pixel.

    Args:
        image: opened and not yet loaded.
        data: the file it was opened from.
        formats: of Pillow's, which may be read.
    """
    tiles = list(getattr(image, "tile", ()))
    swapped = [_swapped(tile.args) for tile in tiles]
    if not tiles or None in swapped:
        return None

    def load() -> Image.Image:
        with Image.open(BytesIO(data), formats=formats) as again:
            assert isinstance(again, ImageFile.ImageFile)
            again.tile = [tile._replace(args=args) for tile, args in zip(tiles, swapped, strict=True)]
            again.load()
            return again

    return load


def _swapped(args: Any) -> Any:
    """A decoder's arguments with the other order of bytes; None if they are not of RGB of 16 bits."""
    mode = args[0] if isinstance(args, tuple) else args
    if not isinstance(mode, str) or not mode.startswith(_COLOR_MODES) or mode[-1] not in _OTHER:
        return None
    other = mode[:-1] + _OTHER[mode[-1]]
    return (other, *args[1:]) if isinstance(args, tuple) else other
