"""Any mode of Pillow's as 8-bit RGB, and which values of deeper images are black and white."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import ValueRange

Values = NDArray[Any]

DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras, scanners and detectors give; the values of one image may need fewer
_FEW = 16  # floats below this are of no depth: an image of eight bits with so few levels would be black
_BLOCK = 2**19  # samples that are converted at a time: the intermediate values have 8 bytes each


@dataclass(frozen=True, slots=True)
class Samples:
    """The values of an image as they are stored."""

    values: Values  # (H, W), or (H, W, C) of C channels; whole numbers or floats
    container: tuple[float, float]  # the lowest and the highest value that their type holds; 0 and 1 of floats
    # the range that the file states, if it states one narrower than its container
    stated: tuple[float, float] | None = None
    inverted: bool = False  # whether the lowest value is white

    @property
    def kind(self) -> str:
        """What the values are, in words."""
        return self.values.dtype.newbyteorder("=").name


@dataclass(frozen=True, slots=True)
class DisplayRange:
    """The range that an image is shown in: `low` becomes 0 and `high` 1, for a network and in figures."""

    low: float
    high: float
    found: tuple[float, float]  # the lowest and the highest value of the image
    why: str  # where the range is from, in words

    @property
    def words(self) -> str:
        """The range, for a legend."""
        return f"values of the image from {self.low:g} to {self.high:g} ({self.why})"

    def note(self, kind: str) -> str:
        """One sentence for the log."""
        low, high = self.found
        return f"{kind} values from {low:g} to {high:g}, shown from {self.low:g} to {self.high:g} ({self.why})"


def type_range(kind: np.dtype[Any]) -> tuple[float, float]:
    """The lowest and the highest value that a type holds; 0 and 1 of floats."""
    if kind.kind == "f":
        return 0.0, 1.0
    limits = np.iinfo(kind)
    return float(limits.min), float(limits.max)


def choose_range(samples: Samples, wanted: ValueRange) -> DisplayRange:
    """The range that an image is shown in.

    ``auto`` is the range that the file states. Without one it is 0 to 1 for floats within it, and otherwise 0 to the
    highest value of the smallest of `DEPTHS` that holds all values; floats below 16, as where enlarging has overshot 1,
    are shown from 0 to their highest value. Images with negative values, or values beyond 16 bits, are shown from their
    lowest to their highest value. Raises ImageError if values are NaN or infinite.
    """
    low, high = found = _extremes(samples.values)
    if isinstance(wanted, tuple):
        return DisplayRange(*wanted, found, "--value-range")
    if wanted == "container":
        return DisplayRange(*samples.container, found, "all that its type holds")
    stated = samples.stated
    if stated is not None and stated[0] <= low and high <= stated[1]:
        return DisplayRange(*stated, found, "as the file states")
    if low >= 0 and samples.values.dtype.kind == "f" and high < _FEW:
        why = "floats within 0 and 1" if high <= 1 else "0 to its highest value"
        return DisplayRange(0.0, max(high, 1.0), found, why)
    depth = next((bits for bits in DEPTHS if high < 2**bits), None)
    if low >= 0 and depth is not None:
        return DisplayRange(0.0, 2.0**depth - 1, found, f"{depth} bits")
    return DisplayRange(low, high, found, "its lowest to its highest value")


def to_fractions(samples: Samples, shown: DisplayRange) -> NDArray[np.float32]:
    """The values as shares of the range, from 0 to 1; values beyond it are clipped."""
    return _convert(samples, shown, np.empty(samples.values.shape, np.float32), lambda block: block)


def to_levels(samples: Samples, shown: DisplayRange) -> NDArray[np.uint8]:
    """The values as shares of the range, from 0 to 255, rounded; values beyond it are clipped."""
    return _convert(samples, shown, np.empty(samples.values.shape, np.uint8), lambda block: np.rint(block * 255))


def _convert(samples: Samples, shown: DisplayRange, into: Values, last: Callable[[Values], Values]) -> Values:
    spread = shown.high - shown.low
    for rows in _blocks(samples.values):
        exact = samples.values[rows].astype(np.float64) - shown.low
        # An image of one value has no contrast to stretch.
        found = (exact / spread if spread > 0 else exact * 0).clip(0, 1)
        into[rows] = last(1 - found if samples.inverted else found)
    return into


def _extremes(values: Values) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        bad = sum(int((~np.isfinite(values[rows])).sum()) for rows in _blocks(values))
        raise ImageError(
            f"{bad:,} of its {values.size:,} values are NaN or infinite",
            fix="Replace them by numbers in the file: no network takes them.",
        )
    return low, high


def _blocks(values: Values) -> list[slice]:
    step = max(1, _BLOCK // max(1, values[0].size))
    return [slice(start, start + step) for start in range(0, len(values), step)]


_ALPHA = {"RGBA", "RGBa", "LA", "La", "PA"}
_PLAIN = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"}

LowBytes = Callable[[], Image.Image]
"""Gives the lower bytes of an RGB image of 16 bits, of which Pillow reads the upper ones."""

_BYTE = 255
_WORD = 65535.0
_DARK = 64  # upper bytes below this are of values that 14 bits hold

# TIFF tags
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_LOWEST, _HIGHEST = (340, 280), (341, 281)
_SIGNED = 2


@dataclass(frozen=True, slots=True)
class RgbImage:
    """An 8-bit RGB image and what was decided on the way to it."""

    image: Image.Image
    notes: tuple[str, ...]  # for instance ``first of 12 frames``
    shown: DisplayRange | None = None  # the range of values that it is shown in; None where that is what 8 bits hold
    # (H, W, C) the bands that the network reads, where they are not the image's red, green and blue: uint8, or float32
    # from 0 to 1
    planes: Values | None = None


def to_rgb(image: Image.Image, wanted: ValueRange = "auto", low_bytes: LowBytes | None = None) -> RgbImage:
    """`image`, loaded, as 8-bit RGB.

    Transparency is laid on white; colour hidden under it does not show. Images whose samples have more than eight bits
    are scaled by `choose_range`; those of eight bits stay as they are, unless a range is given. `low_bytes` has the
    rest of the values of an RGB image of 16 bits.

    Raises ImageError if there is no way from this mode to RGB, or values are NaN or infinite.
    """
    samples = read_samples(image, wanted, low_bytes)
    if samples is not None:
        return _scale_to_rgb(image, samples, wanted)
    notes: tuple[str, ...] = ()
    if image.mode in _ALPHA or image.has_transparency_data:
        rgba = apply_range(image if image.mode == "RGBA" else image.convert("RGBA"), wanted)
        if rgba.getchannel("A").getextrema() != (_BYTE, _BYTE):
            white = Image.new("RGBA", rgba.size, "white")
            white.alpha_composite(rgba)
            rgba, notes = white, ("transparency laid on white",)
        rgb = rgba.convert("RGB")
    elif image.mode in _PLAIN:
        rgb = apply_range(image if image.mode == "RGB" else image.convert("RGB"), wanted)
    else:
        raise ImageError(f"the colours are stored as {image.mode}, which is not read", fix="Convert the image to RGB.")
    if not isinstance(wanted, tuple):
        return RgbImage(rgb, notes)
    shown = DisplayRange(*wanted, (0.0, float(_BYTE)), "--value-range")
    note = f"values of 8 bits, shown from {shown.low:g} to {shown.high:g} (--value-range)"
    return RgbImage(rgb, (note, *notes), shown)


def read_samples(image: Image.Image, wanted: ValueRange = "auto", low_bytes: LowBytes | None = None) -> Samples | None:
    """The values of a loaded image as its file has them; None of one whose samples have eight bits or fewer."""
    inverted = _tag(image, _PHOTOMETRIC, 1) == 0
    if image.mode.startswith("I;16"):
        # White is zero, which Pillow undoes for 8 bits only.
        return Samples(np.asarray(image), (0.0, 2.0 ** int(_tag(image, _BITS, 16)) - 1), _stated_range(image), inverted)
    if image.mode == "I":
        return _integers(image, inverted)
    if image.mode == "F":
        return Samples(np.asarray(image), (0.0, 1.0), _stated_range(image), inverted)
    if image.mode == "L" and _tag(image, _SAMPLE_FORMAT, 1) == _SIGNED:
        return Samples(np.asarray(image).view(np.int8), (-128.0, 127.0), _stated_range(image))
    if low_bytes is not None and image.mode in ("RGB", "RGBA"):
        return _sixteen_bit_colors(image, wanted, low_bytes)
    return None


def _integers(image: Image.Image, inverted: bool) -> Samples:
    raw = np.asarray(image)
    if image.format in ("PNG", "PPM"):
        # Pillow's way of giving 16 bits. Of a PGM it has brought the highest value that the file states to 65535.
        return Samples(raw.astype(np.uint16), (0.0, _WORD), _stated_range(image))
    bits = int(_tag(image, _BITS, 32))
    if _tag(image, _SAMPLE_FORMAT, _SIGNED) == _SIGNED:
        return Samples(raw, (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1), _stated_range(image), inverted)
    return Samples(raw.view(np.uint32), (0.0, 2.0**bits - 1), _stated_range(image), inverted)


def _sixteen_bit_colors(image: Image.Image, wanted: ValueRange, low_bytes: LowBytes) -> Samples | None:
    """The values of an RGB image of 16 bits; None where the upper bytes, which are there, say all that is shown."""
    highest = max(high for _, high in image.getextrema()[:3])  # type: ignore[misc]  # of several bands
    keyed = isinstance(image.info.get("transparency"), tuple)
    if not keyed and (wanted == "container" or (wanted == "auto" and highest >= _DARK)):
        return None
    upper, lower = np.asarray(image)[:, :, :3], np.asarray(low_bytes())[:, :, :3]
    return Samples(upper.astype(np.uint16) << 8 | lower, (0.0, _WORD), _stated_range(image))


def _scale_to_rgb(image: Image.Image, samples: Samples, wanted: ValueRange) -> RgbImage:
    shown = choose_range(samples, wanted)
    scaled = to_levels(samples, shown)
    notes = [shown.note(samples.kind)]
    hidden = _hidden(image, samples.values)
    if hidden is not None and hidden.any():
        scaled[hidden] = _BYTE
        notes.append("transparency laid on white")
    rgb = Image.fromarray(scaled).convert("RGB")
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (_BYTE, _BYTE):
        rgb.paste("white", mask=image.getchannel("A").point([_BYTE - level for level in range(_BYTE + 1)]))
        notes.append("transparency laid on white")
    return RgbImage(rgb, tuple(notes), shown)


def _hidden(image: Image.Image, values: Values) -> Values | None:
    """Which pixels have the value, or the colour, that stands for nothing; None where none does."""
    key = image.info.get("transparency")
    if isinstance(key, int) and values.ndim == 2:
        return np.asarray(values == key)
    if isinstance(key, tuple) and values.ndim == 3:
        return np.asarray((values == np.array(key, values.dtype)).all(2))
    return None


def apply_range(image: Image.Image, wanted: ValueRange) -> Image.Image:
    """An image of eight bits in a range that is given, its alpha as it is."""
    if not isinstance(wanted, tuple):
        return image
    low, high = wanted
    table = [round(_BYTE * min(max((level - low) / (high - low), 0), 1)) for level in range(_BYTE + 1)]
    return image.point(table * 3 + list(range(_BYTE + 1)) * (len(image.getbands()) - 3))


def scale_transparent_gray(image: Image.Image) -> None:
    """Bring the transparent grey of a PNG below 8 bits to the 8 bits that its pixels are decoded to. Before loading.

    Pillow multiplies samples of 2 and 4 bits, but not the grey of the tRNS chunk; higher bits of that are ignored, as
    the specification has it.
    """
    key = image.info.get("transparency")
    if image.format != "PNG" or image.mode != "L" or not isinstance(key, int):
        return
    stored = str(image.tile[0].args) if isinstance(image, ImageFile.ImageFile) and image.tile else "L"
    bits = int(stored.partition(";")[2] or 8)
    image.info["transparency"] = (key % 2**bits) * _BYTE // (2**bits - 1)


def _stated_range(image: Image.Image) -> tuple[float, float] | None:
    """The range that a TIFF or a PGM states, if it is one narrower than what its type holds."""
    if "highest" in image.info:
        return 0.0, float(image.info["highest"])
    low, high = (
        next((float(value) for tag in tags if (value := _tag(image, tag, None)) is not None), nan)
        for tags in (_LOWEST, _HIGHEST)
    )
    return (low, high) if isfinite(low) and isfinite(high) and low < high else None


def _tag(image: Image.Image, tag: int, default: Any) -> Any:
    """A TIFF tag's first value; `default` where there is none, as in every other format."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    return value[0] if isinstance(value, tuple) and value else value
