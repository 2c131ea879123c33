"""How much of a file is read and decoded, agreed between the settings and the decoder."""

from typing import Literal

from cnnviz_cli.core.value import value

ValueRange = Literal["auto", "container"] | tuple[float, float]
"""Which values of an image are black and white: found in it, all that its type holds, or given."""

MEGAPIXEL = 1_000_000
MEBIBYTE = 1024**2

MAX_PIXELS = 178 * MEGAPIXEL
"""What Pillow accepts by itself, in whole megapixels. About 540 MB as RGB."""

MAX_BYTES = 512 * MEBIBYTE
"""More than `MAX_PIXELS` of RGB have without compression."""

BYTES_A_PIXEL = 6
"""What an image may take in memory while it is decoded: 4 bytes of RGB, and half as much for what it is made from."""

FACTORS = (8, 4, 2)
"""What a side may be divided by in fast decoding; JPEG's own blocks have 8 pixels a side."""


def value_range_of(text: str) -> ValueRange:
    """The setting ``value_range``, which is checked, as a `ValueRange`."""
    if text == "auto":
        return "auto"
    if text == "container":
        return "container"
    low, high = text.split(",")
    return float(low), float(high)


@value(kw_only=True)
class Reading:
    """Limits, and whether less than the whole resolution will do.

    Attributes:
        max_pixels: the largest area that is decoded.
        max_bytes: the largest file that is read, or picture in an archive that is unpacked.
        least_side: how many pixels the shorter side has to keep; None decodes all there are.
        channels: how many bands the network reads, where they are not red, green and blue; else 0.
        bands: which bands of an image these are, counted from 1; empty for all that it has.
        shown_bands: which of them figures show; empty for the first of those.
        value_range: of images whose samples have more than eight bits; a range that is given holds for every image.
    """

    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    least_side: int | None = None
    value_range: ValueRange = "auto"
    channels: int = 0
    bands: tuple[int, ...] = ()
    shown_bands: tuple[int, ...] = ()

    def factor(self, size: tuple[int, int]) -> int:
        """By what both sides of a picture of this size are divided: 8, 4, 2, or 1."""
        if self.least_side is None:
            return 1
        return next((factor for factor in FACTORS if min(size) // factor >= self.least_side), 1)


WHOLE = Reading()
"""Every pixel, within the limits that hold where nobody says otherwise."""
