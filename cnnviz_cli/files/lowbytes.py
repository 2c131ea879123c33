"""The lower bytes of RGB images of 16 bits, of which Pillow reads the upper ones alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import BytesIO
from typing import Any

from PIL import Image, ImageFile

_OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""By the order of a sample's bytes, the order in which its lower byte passes for the upper one."""

_COLOURS = ("RGB;16", "RGBA;16", "RGBX;16")


def low_bytes_of(image: Image.Image, data: bytes, formats: tuple[str, ...]) -> Callable[[], Image.Image] | None:
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
    if not isinstance(mode, str) or not mode.startswith(_COLOURS) or mode[-1] not in _OTHER:
        return None
    other = mode[:-1] + _OTHER[mode[-1]]
    return (other, *args[1:]) if isinstance(args, tuple) else other
