"""Masks: images that say which pixels of another image make up a region."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.file_reading import MAX_BYTES, READ_ALL, ReadOptions, open_regular
from cnnviz_cli.core.geometry import ResizeCrop
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.images.decode import read_converted
from cnnviz_cli.files.images.pixel_values import LowBytes, RgbImage, to_rgb
from cnnviz_cli.files.inputs.image_source import IMAGE_SUFFIXES, Source

BoolArray = NDArray[np.bool_]
Centres = NDArray[np.float64]

WHERE = "--region"

_LOSSY = ("JPEG", "MPO", "WEBP", "AVIF")  # formats that do not keep black black
_HALF = 128


@dataclass(frozen=True, slots=True)
class Mask:
    """Which pixels of an image count: (H, W) bool, upright; and the SHA-256 of the mask's file, in hexadecimal."""

    inside: BoolArray
    sha256: str


@dataclass(frozen=True, slots=True)
class MaskSource:
    """One mask for all images, or a folder of masks, which has no SHA-256. Small, and may be pickled."""

    path: str
    sha256: str | None

    def mask_for(self, source: Source, size: tuple[int, int], how: ReadOptions = READ_ALL) -> Mask:
        """The mask of one image, which has `size` in its file, decoded whole.

        In a folder it is the file whose path is the image's but for the suffix: below the folder as the image is below
        the argument that named it, else in the folder itself. Raises ImageError if there is none, or there are several,
        or it cannot be read, or has other proportions than the image.
        """
        path = Path(self.path) if self.sha256 else _mask_of(Path(self.path), source.name)
        try:
            mask = (_kept if self.sha256 else _read)(path, replace(how, least_side=None))
        except ImageError as error:
            raise ImageError(f"its mask: {error.what}", where=error.where, fix=error.fix) from error
        (height, width), (across, down) = mask.inside.shape, size
        if self.sha256 not in (None, mask.sha256):
            raise ImageError("its mask was changed during the run", where=escape_text(str(path)))
        if width * down != height * across:
            what = f"its mask has {width} x {height} pixels, other proportions than its own {across} x {down}"
            raise ImageError(what, where=escape_text(str(path)), fix="Make the mask of the image itself.")
        return mask

    def digest_of(self, source: Source) -> str | None:
        """The SHA-256 of an image's mask, in hexadecimal; None if it cannot be read."""
        if self.sha256:
            return self.sha256
        try:
            with open_regular(_mask_of(Path(self.path), source.name), MAX_BYTES) as file:
                return file_digest(file, "sha256").hexdigest()
        except (ImageError, OSError):
            return None


def open_masks(path: Path, how: ReadOptions = READ_ALL) -> MaskSource:
    """The masks that a user named: a folder, or a file, which is read once. Raises UsageError if it cannot be read."""
    _kept.cache_clear()  # or Python would not see that it was drawn anew
    try:
        if path.is_dir():
            return MaskSource(str(path), None)
        return MaskSource(str(path), _kept(path, replace(how, least_side=None)).sha256)
    except (ImageError, OSError) as error:
        what = error.what if isinstance(error, ImageError) else f"it cannot be read: {type(error).__name__}"
        fix = "Name an image that is white within the region, or a folder with one for each image."
        raise UsageError(f"{escape_text(str(path), 100)}: {what}", where=WHERE, fix=fix) from error


def resize_mask(mask: Mask, resize_crop: ResizeCrop) -> NDArray[np.uint8]:
    """(H, W) uint8, the mask in the network's input: 1 within it and 0 elsewhere, also outside the image.

    Of each position it is what the mask has at its centre. Raises ImageError if nothing of it is within.
    """
    if not mask.inside.any():
        raise ImageError("its mask is empty: no pixel of it is within the region", where=WHERE, fix=_MARKS)
    seen = sample_pixels(mask.inside, *resize_crop.centres_in(mask.inside.shape[::-1]))
    if not seen.any():
        what = "nothing of its mask is within what the network sees of it"
        raise ImageError(what, where=WHERE, fix="Show all of the image: --resize pad")
    return seen.astype(np.uint8)


_MARKS = (
    "What is not black is within: of a palette of colours every index but 0, of an image with transparent parts what "
    "is opaque, of JPEG, WebP and AVIF, which blur, what is brighter than half."
)


def sample_pixels(inside: BoolArray, across: Centres, down: Centres) -> BoolArray:
    """(H, W) what (h, w) pixels have at H rows `down` and W columns `across`, in pixels; nothing outside of them."""
    height, width = inside.shape
    shown = ((down >= 0) & (down < height))[:, None] & ((across >= 0) & (across < width))
    rows, columns = (np.floor(at).clip(0, side - 1).astype(np.intp) for at, side in ((down, height), (across, width)))
    found: BoolArray = inside[rows[:, None], columns] & shown
    return found


def find_companion(folder: Path, name: str, suffixes: Iterable[str]) -> tuple[Path, ...]:
    """The files of a folder that go with an image of that name: their path is the image's but for the suffix.

    They lie below the folder as the image lies below the argument that named it; without any, in the folder itself.
    """
    below = PurePosixPath(name).with_suffix("")
    harmless = not below.is_absolute() and ".." not in below.parts
    for stem in dict.fromkeys((below, PurePosixPath(below.name)) if harmless else (PurePosixPath(below.name),)):
        found = tuple(_files_of_stem(Path(folder, stem.parent), stem.name, sorted(suffixes)))
        if found:
            return found
    return ()


def _mask_of(folder: Path, name: str) -> Path:
    found = find_companion(folder, name, IMAGE_SUFFIXES)
    if len(found) > 1:
        names = " and ".join(escape_text(path.name, 60) for path in found)
        raise ImageError(f"it has several masks: {names}", where=escape_text(str(folder)))
    if found:
        return found[0]
    stem = escape_text(PurePosixPath(name).with_suffix("").name, 100)
    what = f"it has no mask: there is no '{stem}.png', nor of another format"
    raise ImageError(what, where=escape_text(str(folder)), fix="Give it one, or leave it out: --exclude")


def _files_of_stem(folder: Path, stem: str, suffixes: Sequence[str]) -> Iterator[Path]:
    """Files of that stem; where suffixes in lower case give none, those in upper case."""
    for turned in (str.lower, str.upper):
        found = [path for suffix in suffixes if _is_file(path := folder / f"{stem}{turned(suffix)}")]
        if found:
            yield from found
            return


def _is_file(path: Path) -> bool:
    with suppress(OSError, ValueError):  # a name that is too long, or has a NUL in it
        return path.is_file()
    return False


def _read(path: Path, how: ReadOptions) -> Mask:
    # 255 within the region and 0 outside, of a loaded image of any mode: see `_MARKS`.
    read = read_converted(
        lambda image, _low_bytes: RgbImage(Image.fromarray(_within(image) * np.uint8(255)), ()), path, how
    )
    return Mask(np.asarray(read.image) > 0, read.sha256)


@dataclass(frozen=True, slots=True)
class DrawnIndices:
    """(H, W) uint8, upright: 0 outside, and inside 1, or `of_classes` the index of each class in the file's palette."""

    indices: NDArray[np.uint8]
    of_classes: bool
    sha256: str


def read_indices(path: Path, how: ReadOptions = READ_ALL) -> DrawnIndices:
    """A mask of one region, or of a region for each colour of a palette that is more than black and white.

    Raises ImageError if it cannot be read.
    """
    of_classes = False

    def convert(image: Image.Image, _low_bytes: LowBytes | None) -> RgbImage:
        nonlocal of_classes
        of_classes = image.mode == "P" and not _transparent(image) and not _black_and_white(image)
        indices = np.asarray(image) if of_classes else _within(image).astype(np.uint8)
        return RgbImage(Image.fromarray(indices), ())

    read = read_converted(convert, path, replace(how, least_side=None))
    return DrawnIndices(np.asarray(read.image), of_classes, read.sha256)


_kept = lru_cache(maxsize=1)(_read)  # for the one mask that every image has


def _within(image: Image.Image) -> BoolArray:
    inside: BoolArray
    if image.mode.startswith("I") or image.mode == "F":
        raw = np.asarray(image)
        inside = np.isfinite(raw) & (raw != 0)
    elif _transparent(image):
        inside = np.asarray(image.convert("RGBA").getchannel("A")) >= _HALF
    elif image.mode == "P" and not _black_and_white(image):
        inside = np.asarray(image) != 0
    elif image.format in _LOSSY:
        inside = np.asarray(to_rgb(image).image.convert("L")) >= _HALF
    else:
        inside = np.asarray(to_rgb(image).image).max(2) > 0
    return inside


def _transparent(image: Image.Image) -> bool:
    may_be = image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or image.has_transparency_data
    return may_be and image.convert("RGBA").getchannel("A").getextrema() != (255, 255)


def _black_and_white(image: Image.Image) -> bool:
    """Whether a palette is no more than a way to pack black and white, in whichever order."""
    used = image.convert("RGB").getcolors(2)
    return used is not None and {colour for _, colour in used} <= {(0, 0, 0), (255, 255, 255)}
