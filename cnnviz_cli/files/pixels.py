"""Any mode of Pillow's as 8-bit RGB, without the clipping and the hidden colours of `convert("RGB")`."""

from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.errors import ImageError

_ALPHA = {"RGBA", "RGBa", "LA", "La", "PA"}
_PLAIN = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"}

# TIFF tags
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_LOWEST, _HIGHEST = (340, 280), (341, 281)


@dataclass(frozen=True, slots=True)
class Decoded:
    """An RGB picture and what was decided on the way to it."""

    image: Image.Image
    notes: tuple[str, ...]


def to_rgb(image: Image.Image) -> Decoded:
    """`image`, loaded, as 8-bit RGB.

    Transparency is laid on white; colour hidden under it does not show. 16-bit grey is divided by 257 (12-bit grey by
    4095 / 255). 32-bit integers and floats are scaled from the range that the file states, else from their lowest to
    their highest finite value.

    Raises:
        ImageError: there is no way from this mode to RGB.
    """
    if image.mode.startswith("I;16"):
        return _sixteen_bits(image)
    if image.mode in ("I", "F"):
        return _thirty_two_bits(image)
    if image.mode in _ALPHA or image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    if image.mode in _PLAIN:
        return Decoded(image.convert("RGB"), ())
    raise ImageError(f"the colours are stored as {image.mode}, which is not read", fix="Convert the picture to RGB.")


def _on_white(rgba: Image.Image) -> Decoded:
    if rgba.getchannel("A").getextrema() == (255, 255):
        return Decoded(rgba.convert("RGB"), ())
    white = Image.new("RGBA", rgba.size, "white")
    white.alpha_composite(rgba)
    return Decoded(white.convert("RGB"), ("transparency laid on white",))


def _sixteen_bits(image: Image.Image) -> Decoded:
    raw = np.asarray(image)
    bits = int(_tag(image, _BITS, 16))
    top = 2**bits - 1
    grey = (raw.astype(np.uint32) * 255 + top // 2) // top
    if _tag(image, _PHOTOMETRIC, 1) == 0:  # white is zero, which Pillow undoes for 8 bits only
        grey = 255 - grey
    notes = [f"{bits}-bit grey scaled to 8"]
    key = image.info.get("transparency")
    if isinstance(key, int) and (raw == key).any():
        grey[raw == key] = 255
        notes.append("transparency laid on white")
    return Decoded(_grey(grey), tuple(notes))


def _thirty_two_bits(image: Image.Image) -> Decoded:
    raw = np.asarray(image)
    if image.mode == "I" and _tag(image, _SAMPLE_FORMAT, 2) == 1:
        raw = raw.view(np.uint32)  # Pillow has no unsigned 32-bit mode
    values = raw.astype(np.float64)
    finite = np.isfinite(values)
    notes = []
    if not finite.all():
        notes.append(f"{values.size - int(finite.sum())} of {values.size} values not finite, drawn black")
    stated = _stated_range(image)
    low, high = stated or _extremes(values[finite])
    # A constant picture has no contrast to stretch.
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    scaled = np.where(finite, scaled, 0).clip(0, 1)
    kind = "float" if image.mode == "F" else "integer"
    source = "as the file states" if stated else "its lowest to its highest value"
    notes.insert(0, f"{kind} range {low:g} to {high:g} ({source}) scaled to 8 bits")
    return Decoded(_grey(np.rint(scaled * 255)), tuple(notes))


def _stated_range(image: Image.Image) -> tuple[float, float] | None:
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return 0.0, 65535.0  # Pillow's way of giving their 16 bits
    low, high = _first_tag(image, _LOWEST), _first_tag(image, _HIGHEST)
    return (low, high) if isfinite(low) and isfinite(high) and low < high else None


def _first_tag(image: Image.Image, tags: tuple[int, ...]) -> float:
    """The first of these numbers that the file has, else NaN."""
    return next((float(value) for value in (_tag(image, tag, None) for tag in tags) if value is not None), nan)


def _extremes(values: NDArray[Any]) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _tag(image: Image.Image, tag: int, default: Any) -> Any:
    """A TIFF tag's first value; `default` where there is none, as in every other format."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    return value[0] if isinstance(value, tuple) and value else value


def _grey(values: NDArray[Any]) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")
