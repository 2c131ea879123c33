"""Images of any number of bands, such as a satellite's: TIFFs of many samples a pixel or many pages, or any image."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import ReadOptions
from cnnviz_cli.files.images.pillow_fixes import describe_memory_limit, exceeds_memory
from cnnviz_cli.files.images.pixel_values import (
    DisplayRange,
    LowBytes,
    RgbImage,
    Samples,
    choose_range,
    read_samples,
    to_fractions,
    to_levels,
    type_range,
)

logging.getLogger("tifffile").addHandler(logging.NullHandler())

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_PLAIN = (1, 3, 4)  # samples a pixel of what Pillow reads
_FAINT = (2, 98)  # percentiles of the bands shown that are drawn black and white: of reflectances a landscape uses few
INSTALL = "pip install 'cnnviz-cli[tiff]'"


@dataclass(frozen=True, slots=True)
class BandSelection:
    """The bands that are wanted, counted from 1."""

    network: tuple[int, ...]  # for each channel of the network, a band of the image
    shown: tuple[int, ...]  # those that figures show as red, green and blue, or the one that they show in grey
    named: bool  # whether `--bands` named the network's; else the image has exactly so many


def select_bands(how: ReadOptions) -> BandSelection:
    """The bands to read of each image."""
    network = how.bands or tuple(range(1, how.channels + 1))
    shown = how.shown_bands or (network[:3] if len(network) >= 3 else network[:1])
    return BandSelection(network, shown, bool(how.bands))


def is_multiband(data: bytes) -> bool:
    """Whether a file is a TIFF whose samples Pillow does not read; ImageError if it may be, and tifffile is missing."""
    if not data.startswith(_TIFF):
        return False
    try:
        import tifffile
    except ImportError:
        try:
            with Image.open(BytesIO(data), formats=("TIFF",)) as image:
                samples = int(getattr(image, "tag_v2", {}).get(277, 1))
        except Exception:  # whatever Pillow raises of what it does not read
            samples = 0
        if samples in _PLAIN:
            return False
        raise ImageError(f"a TIFF of these bands is read by tifffile, which is not installed: {INSTALL}") from None
    with tifffile.TiffFile(BytesIO(data)) as file:
        page: Any = file.pages[0]
        return int(page.samplesperpixel) not in _PLAIN


def read_multiband(data: bytes, how: ReadOptions) -> RgbImage:
    """The bands of such a TIFF. Raises ImageError if it is too large, or its bands or its compression are not read."""
    import tifffile

    with tifffile.TiffFile(BytesIO(data)) as file:
        page: Any = file.pages[0]
        width, height, samples = int(page.imagewidth), int(page.imagelength), int(page.samplesperpixel)
        _refuse_large(width, height, samples, np.dtype(page.dtype).itemsize, len(data), how)
        try:
            values = np.asarray(page.asarray())
        except Exception as error:  # tifffile and its codecs raise a dozen kinds
            if "imagecodecs" in str(error):
                what = f"its compression ({page.compression.name}) is read by imagecodecs, which is not installed"
                raise ImageError(f"{what}: {INSTALL}") from error
            raise
        stated = [page.tags[tag].value for tag in (340, 341) if tag in page.tags]
    if values.shape == (samples, height, width):
        values = np.moveaxis(values, 0, 2)
    if values.shape != (height, width, samples):
        raise ImageError(f"its values have the shape {values.shape}, not rows, columns and bands")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    ends = [float(np.ravel(value)[0]) for value in stated]
    return compose_bands(values, (ends[0], ends[1]) if len(ends) == 2 and ends[0] < ends[1] else None, how)


def read_image_bands(image: Image.Image, low_bytes: LowBytes | None, how: ReadOptions) -> RgbImage:
    """The bands of an image that Pillow has loaded, its channels or a TIFF's pages; raises as `read_multiband` does."""
    pages = int(getattr(image, "n_frames", 1)) if image.format == "TIFF" and len(image.getbands()) == 1 else 1
    if pages == 1:
        values, stated = _values(image, low_bytes, how)
        return compose_bands(values if values.ndim == 3 else values[:, :, None], stated, how)
    choice = select_bands(how)
    _check(choice, pages)
    wanted = sorted({*choice.network, *choice.shown})
    _refuse_large(*image.size, len(wanted), 4, 0, how)
    found: dict[int, NDArray[Any]] = {}
    size, stated = image.size, None
    for number in wanted:
        image.seek(number - 1)
        image.load()
        if image.size != size:
            raise ImageError(f"page {number} has another size than the first, so it is no band of the same image")
        found[number], stated = _values(image, None, how)
    stacked = np.stack([found[number] for number in wanted], axis=2)
    places = {number: place + 1 for place, number in enumerate(wanted)}
    return compose_bands(stacked, stated, how, places)


def compose_bands(
    values: NDArray[Any], stated: tuple[float, float] | None, how: ReadOptions, places: dict[int, int] | None = None
) -> RgbImage:
    """The network's bands of (H, W, N) values, and an RGB image of those that are shown.

    `places` says where the band of each number is, where not all of them are there.
    Raises ImageError if bands that are wanted are missing, or values are NaN or infinite.
    """
    choice = select_bands(how)
    if places is None:
        _check(choice, values.shape[2])
        places = {number: number for number in range(1, values.shape[2] + 1)}
    network = values[:, :, [places[number] - 1 for number in choice.network]]
    shown_values = values[:, :, [places[number] - 1 for number in choice.shown]]
    words = "bands " + ", ".join(map(str, choice.network)) + "; shown: " + ", ".join(map(str, choice.shown))
    if values.dtype == np.uint8 and not isinstance(how.value_range, tuple):
        return RgbImage(_to_rgb(shown_values), (words,), None, np.ascontiguousarray(network))
    samples = Samples(network, type_range(values.dtype), stated)
    shown = choose_range(samples, how.value_range)
    planes = to_fractions(samples, shown)
    levels = to_levels(Samples(shown_values, samples.container), _figure_range(shown_values, shown, how))
    return RgbImage(_to_rgb(levels), (words, shown.note(samples.kind)), shown, planes)


def _figure_range(values: NDArray[Any], shown: DisplayRange, how: ReadOptions) -> DisplayRange:
    """The range of values in figures: the network's if it is given, else what most of the bands that are shown use."""
    if isinstance(how.value_range, tuple):
        return shown
    low, high = (float(value) for value in np.percentile(values[np.isfinite(values)], _FAINT))
    return DisplayRange(low, high, shown.found, "figures") if high > low else shown


def _values(image: Image.Image, low_bytes: LowBytes | None, how: ReadOptions) -> tuple[NDArray[Any], Any]:
    """(H, W) or (H, W, C) of a loaded image, and the range that its file states."""
    samples = read_samples(image, how.value_range, low_bytes)
    if samples is not None:
        return samples.values, samples.stated
    plain = image if image.mode in ("L", "RGB", "RGBA") else image.convert("L" if image.mode == "1" else "RGB")
    return np.asarray(plain), None


def _to_rgb(values: NDArray[np.uint8]) -> Image.Image:
    grey = values.shape[2] != 3
    return Image.fromarray(np.ascontiguousarray(values[:, :, 0] if grey else values)).convert("RGB")


def _check(choice: BandSelection, count: int) -> None:
    has = f"it has {count} band" + "s" * (count != 1)
    highest = max(*choice.network, *choice.shown)
    if not choice.named and count != len(choice.network):
        what = f"{has}, and the network reads {len(choice.network)}; --bands says which of them go into its channels"
        raise ImageError(what)
    if highest > count:
        raise ImageError(f"{has}, and band {highest} is asked for (--bands counts from 1)")


def _refuse_large(width: int, height: int, samples: int, size: int, stored: int, how: ReadOptions) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels ({width} x {height})")
    taken = stored + width * height * (samples * size + (4 + size) * len(select_bands(how).network) + 16)
    if width * height > how.max_pixels or exceeds_memory(taken, how.max_pixels):
        what = f"{width} x {height} pixels of {samples} bands"
        raise ImageError(describe_memory_limit(what, taken, how.max_pixels), fix="Cut it into tiles first.")
