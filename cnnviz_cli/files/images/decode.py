"""Image files from outside, decoded with suspicion: each becomes a decoded image or an `ImageError`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from math import prod
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from cnnviz_cli.core.errors import ImageError, UsageError, system_reason
from cnnviz_cli.core.file_reading import (
    MAX_BYTES,
    READ_ALL,
    NotRegularFileError,
    OversizeError,
    ReadOptions,
    read_regular,
)
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.images.bands import is_multiband, read_image_bands, read_multiband
from cnnviz_cli.files.images.dicom import read_dicom
from cnnviz_cli.files.images.pillow_fixes import (
    MAX_RUNS,
    PLAIN_PPM,
    decode_netpbm,
    decoder_name,
    describe_decode_error,
    describe_memory_limit,
    describe_pixel_limit,
    exceeds_memory,
    low_bytes_loader,
    stated_maximum,
    suppress_pillow_warnings,
)
from cnnviz_cli.files.images.pixel_values import LowBytes, RgbImage, scale_transparent_gray, to_rgb
from cnnviz_cli.files.inputs.folder_walk import suggest_path
from cnnviz_cli.files.inputs.image_source import Source, file_too_large
from cnnviz_cli.files.inputs.remote import is_url

_RGB = 4  # bytes of a pixel of RGB in memory

_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "LA": 4, "PA": 4}  # bytes of a pixel by mode
_DECODER = {"WEBP": 12, "AVIF": 8}  # bytes of a pixel that decoders of whole images take beside their result
_ROW = 16  # bytes of a row beside its pixels: where it starts, and what it is rounded up to
_COEFFICIENT = 2  # bytes that a progressive JPEG takes for each sample until all of its scans are read


def decode_memory(image: Image.Image, data: bytes, stored: tuple[int, int], *, turned: bool) -> int:
    """The most memory that decoding takes, the file's own bytes included.

    The image is opened, not yet loaded, and of the size that it is decoded to; `stored` is its size in the file.
    """
    pixels = prod(image.size)
    copies = 1 + (image.mode != "RGB") + turned
    whole = len(data) + pixels * _PIXEL.get(image.mode, _RGB) + copies * image.height * _ROW
    made = 0 if image.mode == "RGB" else _RGB
    if image.mode in ("I;16", "I", "F"):
        made += 1 + _PIXEL.get(image.mode, _RGB)  # as an array of numpy's
    elif "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        made += _RGB if image.mode in ("RGBA", "RGB") else 2 * _RGB
    decoder = prod(stored) * _progressive_bytes(image) + pixels * _DECODER.get(image.format or "", 0)
    return whole + max(pixels * (made + _RGB * turned), decoder)


_RESIZE = "Resize it first; the network sees a few hundred pixels across."


def _progressive_bytes(image: Image.Image) -> int:
    """Bytes a pixel that a progressive JPEG takes beside its pixels."""
    if image.format not in ("JPEG", "MPO") or not image.info.get("progressive"):
        return 0
    layers: Any = getattr(image, "layer", ())
    sampling: list[int] = [across * down for _, across, down, *_ in layers] or [1, 1, 1]
    return -(-_COEFFICIENT * sum(sampling) // max(sampling))


_STEPS = 500_000  # the most blocks of a file that are looked at, which takes a fraction of a second
_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B  # what GIF's blocks begin with


def describe_extra_frames(image: Image.Image, data: bytes) -> tuple[str, ...]:
    """What is to be said of the frames after the first of an opened image; nothing if there are none."""
    count = count_frames(image, data)
    if count is None:
        return ("first frame; the others are too many to count",)
    return (f"first of {count} frames",) if count > 1 else ()


def count_frames(image: Image.Image, data: bytes) -> int | None:
    """How many frames an opened image has; None if they are too many."""
    if image.format == "GIF":
        return _in_gif(data)
    if image.format == "TIFF":
        return _in_tiff(data)
    # WebP, AVIF and PNG say so in their headers; MPO is a JPEG with previews and depth maps behind it.
    return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))


def _in_gif(data: bytes) -> int | None:
    """Image descriptors, from block to block (GIF89a, 15 to 26)."""
    at, count, within = 13 + _table(data, 10), 0, False
    for _ in range(_STEPS):
        kind = data[at] if at < len(data) else _END
        if within:
            within = kind != 0 and at < len(data)
            at += 1 + kind
        elif kind == _END:
            return count
        elif kind == _IMAGE:
            count, within = count + 1, True
            at += 11 + _table(data, at + 9)
        elif kind == _EXTENSION:
            within = True
            at += 2
        else:
            at += 1  # between blocks any other reader, too, looks for where the next one begins
    return None


def _table(data: bytes, at: int) -> int:
    """The bytes of the colour table that the flags at a place announce."""
    flags = data[at] if at < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _in_tiff(data: bytes) -> int | None:
    """Directories, each of which says where the next one is (TIFF 6.0, section 2; BigTIFF has wider numbers)."""
    order = "<" if data[:2] == b"II" else ">"
    wide = 43 in data[2:4]
    many, place, entry = (
        (Struct(order + "Q"), Struct(order + "Q"), 20) if wide else (Struct(order + "H"), Struct(order + "L"), 12)
    )
    link, seen = 8 if wide else 4, set[int]()
    while link + place.size <= len(data):
        (at,) = place.unpack_from(data, link)
        if at == 0 or at in seen or at + many.size > len(data):
            break
        if len(seen) == _STEPS:
            return None
        seen.add(at)
        (count,) = many.unpack_from(data, at)
        link = at + many.size + entry * count
    return len(seen)


# Never EPS, which hands the file to Ghostscript, nor the formats that only a fuzzer sends.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "PPM")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_KEEPING_SIZE = (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM)

_SCAN = b"\xff\xda"  # what a scan of a JPEG starts with; nothing else in its data looks like this
FEW_SCANS = 30  # a progressive JPEG has some ten, and may be as large as any other

MAX_SCANNED = 2_000_000_000
"""Pixels of all scans together, where they are more than a few; each costs a nanosecond, and hardly a byte."""

_SLOW = {"bmp_rle": "run-length coded BMP", PLAIN_PPM: "PGM or PPM of numbers written as text"}

Convert = Callable[[Image.Image, LowBytes | None], RgbImage]
"""Makes 8-bit pixels of a loaded image, and of the lower bytes of one of 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedImage(RgbImage):
    """A decoded image, upright, in the colours of the file: an embedded ICC profile is not applied, as in training."""

    sha256: str  # of the file's bytes, in hexadecimal
    # width and height of the upright image in the file, which are not those of `image` after fast decoding
    size: tuple[int, int]
    # how the file's rows and columns have been turned to make it upright: EXIF's number, 1 where they have not
    orientation: int = 1


def read_image(source: Path | Source, how: ReadOptions = READ_ALL) -> DecodedImage:
    """Read and decode one image, a file or one that `find_images` gives. May be called from several threads.

    Raises ImageError if it cannot be read or decoded. Its `what` says nothing about the place, since it goes into the
    manifest; its `sha256` is set if the bytes could be read.
    """
    if how.channels:
        return read_converted(
            lambda image, low_bytes: read_image_bands(image, low_bytes, how), source, replace(how, least_side=None)
        )
    return _read(lambda image, low_bytes: to_rgb(image, how.value_range, low_bytes), source, how, by_window=True)


def read_converted(convert: Convert, source: Path | Source, how: ReadOptions = READ_ALL) -> DecodedImage:
    """`read_image` with pixels that `convert` makes of the loaded image, of a DICOM image of what its window shows;
    raises as it does."""
    return _read(convert, source, how, by_window=False)


def _read(convert: Convert, source: Path | Source, how: ReadOptions, *, by_window: bool) -> DecodedImage:
    """`by_window` is whether a DICOM image is what its window shows, and `convert` is for all others."""
    data = read_bytes(source, how.max_bytes)
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        with suppress_pillow_warnings(how.max_pixels):
            if is_dicom(data):
                decoded, size, orientation = _decode_dicom(data, how, None if by_window else convert)
            else:
                decoded, size, orientation = _decode(data, how, convert)
    except Exception as error:  # Pillow's decoders raise a dozen kinds, from SyntaxError to struct.error
        what, fix = describe_decode_error(error, data, how.max_pixels), ""
        if isinstance(error, ImageError):
            what, fix = error.what, error.fix
        elif isinstance(error, UnidentifiedImageError):
            fix = "JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, PPM and DICOM are read; convert it to one of them."
        raise ImageError(what, where=escape_text(_location(source)), fix=fix, sha256=sha256) from error
    made = decoded.image, decoded.notes, decoded.shown, decoded.planes
    return DecodedImage(*made, sha256=sha256, size=size, orientation=orientation)


def _location(source: Path | Source) -> str:
    if isinstance(source, Path):
        return str(source)
    if is_url(source.folder):
        return f"{source.folder}/{source.below}"
    return f"{source.path} ({source.name})" if source.reader else str(source.path)


def read_bytes(source: Path | Source, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of one image, in its file or archive. Raises ImageError if there are none, or too many."""
    try:
        if isinstance(source, Source) and source.reader:
            data = source.reader.read(source.path, max_bytes)
        else:
            data = read_regular(source if isinstance(source, Path) else source.path, max_bytes)
        if data:
            return data
        what = "the file is empty"
    except ImageError as error:
        what = error.what
    except IsADirectoryError:
        what = "this is a folder, not an image"
    except NotRegularFileError:
        what = "this is a pipe or a device, not a file"
    except OversizeError:
        what = file_too_large(max_bytes).what
    except (OSError, ValueError, MemoryError) as error:  # ValueError: a NUL in the path
        reason = system_reason(error)
        what = f"the file cannot be read: {reason}"
    raise ImageError(what, where=escape_text(_location(source)))


def _decode(data: bytes, how: ReadOptions, convert: Convert) -> tuple[RgbImage, tuple[int, int], int]:
    """The upright image with its notes, its size in the file, and its orientation there."""
    if how.channels and is_multiband(data):
        many = read_multiband(data, how)
        return many, many.image.size, 1
    with Image.open(BytesIO(data), formats=_readable()) as image:
        _refuse(image, data, how.max_pixels)
        stored = width, height = image.size
        factor = how.reduction_factor(stored)
        if factor > 1:
            image.draft(None, (width // factor, height // factor))  # of all formats only JPEG can leave pixels out
        taken = decode_memory(image, data, stored, turned=_will_turn(image))
        if exceeds_memory(taken, how.max_pixels):
            what = f"{image.width} x {image.height} pixels of this kind"
            raise ImageError(describe_memory_limit(what, taken, how.max_pixels), fix=_RESIZE)
        scale_transparent_gray(image)
        low_bytes = low_bytes_loader(image, data, _readable())
        decoded = convert(decode_netpbm(image, data) or _load_pixels(image), low_bytes)
        made = decoded.image.reduce(factor) if factor > 1 and decoded.image.size == stored else decoded.image
        orientation, unreadable = _orientation(image)
        turn = _TURNS.get(orientation)
        frames = () if decoded.planes is not None else describe_extra_frames(image, data)
        notes = (*frames, *decoded.notes, *unreadable)
        if turn is None:
            return replace(decoded, image=made, notes=notes), stored, orientation
        size = stored if turn in _KEEPING_SIZE else (height, width)
        planes = None if decoded.planes is None else _apply_orientation(decoded.planes, turn)
        return replace(decoded, image=made.transpose(turn), notes=notes, planes=planes), size, orientation


def is_dicom(data: bytes) -> bool:
    """Whether a file, of which the first 132 bytes are enough, says that it is a DICOM image."""
    return data[128:132] == b"DICM"


def _decode_dicom(data: bytes, how: ReadOptions, convert: Convert | None) -> tuple[RgbImage, tuple[int, int], int]:
    read = read_dicom(data, how)
    if convert is not None:
        read = convert(read.image, None)
    stored, factor = read.image.size, how.reduction_factor(read.image.size)
    return replace(read, image=read.image.reduce(factor)) if factor > 1 else read, stored, 1


def _apply_orientation(planes: NDArray[Any], turn: Image.Transpose) -> NDArray[Any]:
    bands = [Image.fromarray(np.ascontiguousarray(planes[:, :, band])) for band in range(planes.shape[2])]
    return np.stack([np.asarray(band.transpose(turn)) for band in bands], axis=2)


def _load_pixels(image: Image.Image) -> Image.Image:
    highest = stated_maximum(image)
    image.load()
    if highest is not None:
        image.info["highest"] = 65535  # to which Pillow has brought it
    return image


def _refuse(image: Image.Image, data: bytes, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise ImageError(describe_pixel_limit(f"{width} x {height} pixels are", max_pixels), fix=_RESIZE)
    scans = data.count(_SCAN) if image.format in ("JPEG", "MPO") else 0
    if scans > FEW_SCANS and scans * width * height > MAX_SCANNED:
        raise ImageError(f"the image is made of {scans:,} scans, each of which costs as much as an image")
    slow = _SLOW.get(decoder_name(image))
    if slow and width * height > MAX_RUNS:
        raise ImageError(f"the image is too large for a {slow}: {width} x {height} pixels")


def _will_turn(image: Image.Image) -> bool:
    """Whether an opened image is turned, as far as its header tells: of a PNG, Pillow decodes all to look further."""
    return (image.format != "PNG" or "exif" in image.info) and _orientation(image)[0] != 1


def _orientation(image: Image.Image) -> tuple[int, tuple[str, ...]]:
    """How its metadata say that it is to be turned, 1 to 8; broken metadata do not spoil a good image."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # as many kinds as in decoding
        return 1, ("unreadable EXIF ignored",)
    return orientation if isinstance(orientation, int) and orientation in _TURNS else 1, ()


@cache
def _readable() -> tuple[str, ...]:
    """The accepted formats that this build of Pillow knows; AVIF is missing in some."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def read_reference_image(path: Path, how: ReadOptions = READ_ALL) -> DecodedImage:
    """The image at `path`, decoded whole; UsageError with the nearest name, where there is no such file."""
    try:
        return read_image(path, replace(how, least_side=None))
    except ImageError as error:
        there = path.exists() or not path.parent.is_dir()
        fix = error.fix or ("" if there else suggest_path(path))
        raise UsageError(f"'{escape_text(str(path), 200)}': {error.what}", where="--objective", fix=fix) from error
