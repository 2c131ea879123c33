"""DICOM images, which pydicom reads: the extra ``dicom``.

Of a file only the tags that say what its pixels are are kept, so nothing of a patient can get into a message, a record
or a figure. What pydicom says of a damaged file may quote any tag, and is never passed on.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import ReadOptions
from cnnviz_cli.files.images.pillow_fixes import (
    MAX_RUNS,
    describe_memory_limit,
    describe_pixel_limit,
    exceeds_memory,
)
from cnnviz_cli.files.images.pixel_values import (
    DisplayRange,
    RgbImage,
    Samples,
    apply_range,
    choose_range,
    to_levels,
)

logging.getLogger("pydicom").addHandler(logging.NullHandler())

INSTALL = "pip install 'cnnviz-cli[dicom]'"

_HEAD = 132  # bytes of a preamble that says nothing, and of the mark of the format
_DEFLATED, _RUNS = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
_ITEM = b"\xfe\xff\x00\xe0"
_MAX_PARTS = 100_000  # elements of a file, and items of its sequences; each takes pydicom some microseconds
_SLACK = 4096  # bytes that run lengths may give beyond an image: each segment is padded

_TAGS = (
    "SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns BitsAllocated "
    "BitsStored HighBit PixelRepresentation PixelData FloatPixelData DoubleFloatPixelData ExtendedOffsetTable "
    "ExtendedOffsetTableLengths RescaleSlope RescaleIntercept ModalityLUTSequence WindowCenter WindowWidth "
    "VOILUTFunction VOILUTSequence RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor "
    "BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData GreenPaletteColorLookupTableData "
    "BluePaletteColorLookupTableData SegmentedRedPaletteColorLookupTableData "
    "SegmentedGreenPaletteColorLookupTableData SegmentedBluePaletteColorLookupTableData"
)


def read_dicom(data: bytes, how: ReadOptions) -> RgbImage:
    """The image of a file with one frame, as a viewer shows it: in the file's first window, or in the range wanted.

    Raises ImageError if pydicom is missing, or has no decoder; if the file has several frames or none, is damaged, or
    is too large.
    """
    try:
        import pydicom
        from pydicom import pixels
    except ImportError:
        raise ImageError(f"a DICOM image is read by pydicom, which is not installed: {INSTALL}") from None
    if how.channels:
        raise ImageError("the bands of a DICOM image are not read", fix="Save it as a TIFF.")
    try:
        dataset = _parse(data, pydicom)
        shape = _check(dataset, data, how)
        _check_syntax(dataset, shape, pixels)
        values = np.asarray(pixels.pixel_array(dataset, index=0))
        if str(dataset.get("PhotometricInterpretation", "")).startswith("PALETTE"):
            values = np.asarray(pixels.apply_color_lut(values, dataset))
            shape = (*shape[:2], 3)
        if values.shape != shape:
            raise ImageError("the DICOM file is damaged: its pixels are not those that it announces")
        return _show_colours(values, how) if values.ndim == 3 else _show_grey(values, dataset, pixels, how)
    except (ImageError, MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:  # of any kind, with any tag in its text
        raise ImageError(f"the DICOM file is damaged ({type(error).__name__})") from None


def _parse(data: bytes, pydicom: Any) -> Any:
    """What the file says of its pixels, and these, still packed."""
    start = _HEAD
    if _DEFLATED.encode() in data[start : start + 1024]:
        fix = "Save it without: dcmconv +te IN.dcm OUT.dcm"
        raise ImageError("the DICOM file is deflated as a whole, which is not read", fix=fix)
    if data.count(_ITEM) > _MAX_PARTS:
        raise ImageError(f"the DICOM file has more than {_MAX_PARTS:,} parts")
    count = 0

    def stop(*_: Any) -> bool:
        nonlocal count
        count += 1
        if count > _MAX_PARTS:
            raise ImageError(f"the DICOM file has more than {_MAX_PARTS:,} parts")
        return False

    read = pydicom.filereader.read_partial
    return read(BytesIO(data), stop_when=stop, specific_tags=[pydicom.tag.Tag(name) for name in _TAGS.split()])


def _check(dataset: Any, data: bytes, how: ReadOptions) -> tuple[int, ...]:
    """The shape of the image, (H, W) or (H, W, 3); raises ImageError if there is none, or several, or it is large."""
    kinds = [name for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if name in dataset]
    if not kinds:
        raise ImageError("the DICOM file holds no image")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        what = f"the DICOM file holds {frames:,} frames, and one image is explained at a time"
        raise ImageError(what, fix="Save the frame that you mean as a file of its own.")
    height, width = int(dataset.Rows), int(dataset.Columns)
    samples = int(dataset.get("SamplesPerPixel", 1))
    if height < 1 or width < 1 or samples not in (1, 3):
        raise ImageError(
            f"the image has no pixels, or of no kind that is known ({width} x {height}, {samples} samples)"
        )
    if width * height > how.max_pixels:
        what = describe_pixel_limit(f"{width} x {height} pixels are", how.max_pixels)
        raise ImageError(what, fix="Resize it first; the network sees a few hundred pixels across.")
    stored = max(int(dataset.get("BitsAllocated", 8)), 8) // 8
    # The pixels as they are packed and as they are stored, as floats, as levels, and as RGB.
    taken = len(data) + width * height * (samples * (2 * stored + 4 + 1) + 4)
    if exceeds_memory(taken, how.max_pixels):
        raise ImageError(describe_memory_limit(f"{width} x {height} pixels of this kind", taken, how.max_pixels))
    return (height, width) if samples == 1 else (height, width, samples)


def _check_syntax(dataset: Any, shape: tuple[int, ...], pixels: Any) -> None:
    """Raise ImageError if no decoder for the file's transfer syntax is installed, or it would fill the memory."""
    uid = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = pixels.get_decoder(uid)
        there = bool(decoder.is_available)
    except NotImplementedError:
        there = False
    if not there:
        known = uid.name if uid.name != str(uid) and not uid.is_private else "in a way that is not known"
        what = f"the pixels of the DICOM file are compressed ({known}), and no decoder for that is installed"
        fix = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or save the file without compression."
        raise ImageError(what, fix=fix)
    if str(uid) != _RUNS:
        return
    if math.prod(shape) > MAX_RUNS:
        raise ImageError(f"the image is too large for a run-length coded DICOM: {shape[1]} x {shape[0]} pixels")
    from pydicom.encaps import generate_fragmented_frames

    expected = math.prod(shape) * (int(dataset.BitsAllocated) // 8) + _SLACK
    for frame in generate_fragmented_frames(dataset.PixelData, number_of_frames=1):
        packed = b"".join(frame)
        if _run_bytes(packed[64:], expected) > expected:
            raise ImageError("the DICOM file is damaged: it unpacks to more than its image")
        return


def _run_bytes(packed: bytes, enough: int) -> int:
    """How many bytes run lengths unpack to, as far as `enough` (PS3.5, G.3.2)."""
    at = found = 0
    while at < len(packed) and found <= enough:
        head = packed[at]
        if head < 128:
            found, at = found + head + 1, at + head + 2
        else:
            found, at = found + (257 - head) * (head > 128), at + 1 + (head > 128)
    return found


def _show_colours(values: NDArray[Any], how: ReadOptions) -> RgbImage:
    if values.dtype == np.uint8:
        image = apply_range(Image.fromarray(np.ascontiguousarray(values)), how.value_range)
        if not isinstance(how.value_range, tuple):
            return RgbImage(image, ())
        shown = DisplayRange(*how.value_range, (0.0, 255.0), "--value-range")
        return RgbImage(image, (shown.note("8 bits"),), shown)
    limits = np.iinfo(values.dtype)
    samples = Samples(values, (float(limits.min), float(limits.max)))
    shown = choose_range(samples, how.value_range)
    return RgbImage(Image.fromarray(to_levels(samples, shown)), (shown.note(samples.kind),), shown)


@dataclass(frozen=True, slots=True)
class _Window:
    """A window of values: which become black and white, and in words which window it is."""

    centre: float
    width: float
    function: str
    words: str

    @property
    def ends(self) -> tuple[float, float]:
        """What becomes 0 and 1 (PS3.3, C.11.2.1.2); of a sigmoid what values are brought to."""
        if self.function == "LINEAR_EXACT":
            return self.centre - self.width / 2, self.centre + self.width / 2
        if self.function == "SIGMOID":
            return 0.0, 1.0
        half = (self.width - 1) / 2
        return self.centre - 0.5 - half, self.centre - 0.5 + half


def _show_grey(values: NDArray[Any], dataset: Any, pixels: Any, how: ReadOptions) -> RgbImage:
    container, stated = _stored_range(values, dataset)
    if dataset.get("ModalityLUTSequence"):
        values = np.asarray(pixels.apply_modality_lut(values, dataset))
        container, stated = (float(values.min()), float(values.max())), None
    elif "RescaleSlope" in dataset:
        slope, intercept = float(dataset.RescaleSlope), float(dataset.get("RescaleIntercept") or 0)
        if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
            raise ImageError("the DICOM file is damaged: its values are scaled by no number")
        if (slope, intercept) != (1, 0):
            values = values.astype(np.float32) * np.float32(slope) + np.float32(intercept)
            container = _rescaled(container, slope, intercept)
            stated = None if stated is None else _rescaled(stated, slope, intercept)
    inverted = str(dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1"
    window = next(_windows(dataset), None) if how.value_range == "auto" else None
    samples = Samples(values, container, stated, inverted)
    if window is not None:
        return _show_window(samples, window)
    if how.value_range == "auto" and dataset.get("VOILUTSequence"):
        shaped = np.asarray(pixels.apply_voi_lut(values, dataset, prefer_lut=True))
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        shown = DisplayRange(0.0, 2.0**bits - 1, (float(values.min()), float(values.max())), "by the file's table")
        samples = Samples(shaped, samples.container, None, inverted)
    else:
        shown = choose_range(samples, how.value_range)
    return RgbImage(Image.fromarray(to_levels(samples, shown)).convert("RGB"), (shown.note(samples.kind),), shown)


def _rescaled(ends: tuple[float, float], slope: float, intercept: float) -> tuple[float, float]:
    one, other = (slope * end + intercept for end in ends)
    return min(one, other), max(one, other)


def _stored_range(values: NDArray[Any], dataset: Any) -> tuple[tuple[float, float], tuple[float, float] | None]:
    """What the type of the stored values holds, and what the bits in use hold, where they say anything."""
    if values.dtype.kind == "f":
        return (0.0, 1.0), None
    bits = int(dataset.BitsStored)
    if int(dataset.get("PixelRepresentation", 0)):
        return (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1), None
    whole = (0.0, 2.0**bits - 1)
    return whole, whole if bits < 16 else None


def _windows(dataset: Any) -> Iterator[_Window]:
    """The file's windows with a width, in its order."""
    centres, widths = (_numbers(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    count = min(len(centres), len(widths))
    for centre, width in zip(centres, widths, strict=False):
        # The usual function has no window of width 1 or less, but for a threshold.
        if math.isfinite(centre) and math.isfinite(width) and width >= (1 if function == "LINEAR" else 1e-9):
            several = f", the first of {count}" if count > 1 else ""
            yield _Window(centre, width, function, f"window {centre:g} / {width:g}{several}")


def _numbers(value: Any) -> list[float]:
    if value is None or value == "":
        return []
    return [float(one) for one in (value if hasattr(value, "__iter__") and not isinstance(value, str) else [value])]


def _show_window(samples: Samples, window: _Window) -> RgbImage:
    values = samples.values
    found = float(values.min()), float(values.max())
    low, high = window.ends
    if window.function == "SIGMOID":
        exponent = np.clip(-4 * (values.astype(np.float32) - window.centre) / window.width, -80, 80)
        values = 1 / (1 + np.exp(exponent))
    if low == high:  # a window of one value is a threshold
        values = (values.astype(np.float32) > low).astype(np.float32)
        low, high = 0.0, 1.0
    shown = DisplayRange(low, high, found, window.words)
    levels = to_levels(Samples(values, samples.container, None, samples.inverted), shown)
    if values is not samples.values:
        shown = DisplayRange(window.centre - window.width / 2, window.centre + window.width / 2, found, window.words)
    return RgbImage(Image.fromarray(levels).convert("RGB"), (shown.note(samples.kind),), shown)
