"""Pictures from outside, decoded with suspicion: every file becomes a photograph or an `ImageError`, nothing else."""

import hashlib
import re
import stat
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.pixels import Decoded, to_rgb
from cnnviz_cli.files.quiet import quietly
from cnnviz_cli.files.source import Source

MAX_PIXELS = 2 * 89_478_485
"""Pillow refuses anything larger by itself, as a decompression bomb. About 540 MB as RGB."""

MAX_BYTES = 2 * 1024**3

# Never EPS, which hands the file to Ghostscript, nor the formats that only a fuzzer sends.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "PPM")

_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_LOOKS_LIKE = (
    (re.compile(rb"\x89PNG"), "a PNG picture whose header is damaged"),
    (re.compile(rb"\xff\xd8\xff"), "a JPEG picture whose header is damaged"),
    (re.compile(rb"(II\*\0|MM\0\*)"), "a TIFF picture of a kind that is not read, or damaged"),
    (re.compile(rb"(GIF8|RIFF....WEBP|BM|P[1-7fF]\s)", re.DOTALL), "a picture whose header is damaged"),
    (re.compile(rb"....ftyp(heic|heix|mif1|msf1)", re.DOTALL), "a HEIC picture"),
    (re.compile(rb"....ftyp", re.DOTALL), "a video"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"(\xc5\xd0\xd3\xc6|%!PS)"), "a PostScript file"),
    (re.compile(rb"\s*(<\?xml|<svg)", re.IGNORECASE), "an SVG or XML file"),
    (re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE), "a web page (a failed download?)"),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer (run: git lfs pull)"),
    (re.compile(rb"[\t\n\r -~]+\Z"), "text"),
)


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded picture.

    Attributes:
        image: mode RGB, 8 bits, upright. Colours are those of the file; an embedded ICC profile is not applied, as in
            the pipelines that the networks were trained with.
        sha256: of the file's bytes, in hexadecimal.
        notes: what had to be decided on the way, for instance ``first of 12 frames``.
    """

    image: Image.Image
    sha256: str
    notes: tuple[str, ...]


def read_photo(source: Path | Source, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read and decode one picture. May be called from several threads.

    Args:
        source: a file, or one of the pictures that `find` gives, which may be in an archive.
        max_pixels: the largest area that is decoded; more than `MAX_PIXELS` is never accepted.

    Raises:
        ImageError: whatever is wrong with the file. Its `what` says nothing about the place, since it goes into the
            manifest; its `sha256` is set if the bytes could be read.
    """
    where = visible(_place(source))
    data = read_bytes(source)
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        with quietly():
            decoded = _decode(data, max_pixels)
    except ImageError as error:
        raise ImageError(error.what, where=where, fix=error.fix, sha256=sha256) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            _unidentified(data),
            where=where,
            fix="JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF and PPM are read; convert it to one of them.",
            sha256=sha256,
        ) from error
    except Exception as error:  # Pillow's decoders raise a dozen kinds, from SyntaxError to struct.error
        raise ImageError(_undecodable(error), where=where, sha256=sha256) from error
    return Photo(decoded.image, sha256, decoded.notes)


def _place(source: Path | Source) -> str:
    if isinstance(source, Path):
        return str(source)
    return f"{source.path} ({source.name})" if source.inside else str(source.path)


def read_bytes(source: Path | Source) -> bytes:
    """The bytes of one picture, as they are in its file or archive.

    Raises:
        ImageError: they cannot be read, or are none, or more than `MAX_BYTES`.
    """
    try:
        if isinstance(source, Source) and source.inside:
            data = source.inside.read(source.path, MAX_BYTES)
        else:
            data = _of_file(source if isinstance(source, Path) else source.path)
        if not data:
            raise ImageError("the file is empty")
    except ImageError as error:
        raise ImageError(error.what, where=visible(_place(source))) from error
    except (OSError, ValueError, MemoryError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise ImageError(f"the file cannot be read: {reason}", where=visible(_place(source))) from error
    return data


def _of_file(path: Path) -> bytes:
    """The bytes of a regular file; a pipe or a device would block or never end."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise ImageError("this is a folder, not a picture")
    if not stat.S_ISREG(found.st_mode):
        raise ImageError("this is a pipe or a device, not a file")
    if found.st_size > MAX_BYTES:
        raise ImageError(f"the file is larger than {MAX_BYTES // 1024**3} GiB")
    return path.read_bytes()


def _decode(data: bytes, max_pixels: int) -> Decoded:
    with Image.open(BytesIO(data), formats=_readable()) as image:
        width, height = image.size
        if width < 1 or height < 1:
            raise ImageError(f"the picture has no pixels ({width} x {height})")
        if width * height > max_pixels:
            raise ImageError(
                f"the picture is too large: {width} x {height} pixels, where {max_pixels:,} in all are accepted",
                fix="Resize it first; the network sees a few hundred pixels across.",
            )
        image.load()
        decoded = to_rgb(image)
        upright, unreadable = _upright(image, decoded.image)
        notes = (*_frames(image), *decoded.notes, *unreadable)
        return Decoded(upright, notes)


@cache
def _readable() -> tuple[str, ...]:
    """The accepted formats that this build of Pillow knows; AVIF is missing in some."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _upright(source: Image.Image, rgb: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """`rgb` turned as the metadata of `source` says; broken metadata do not spoil a good picture."""
    try:
        orientation = source.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # as many kinds as in decoding
        return rgb, ("unreadable EXIF ignored",)
    turn = _TURN.get(orientation) if isinstance(orientation, int) else None
    return (rgb if turn is None else rgb.transpose(turn)), ()


def _frames(image: Image.Image) -> tuple[str, ...]:
    # The further pictures of a JPEG (MPO) are previews and depth maps, which no one thinks of as frames.
    if image.format == "MPO":
        return ()
    try:
        count = getattr(image, "n_frames", 1)
    except Exception:  # counting reads on behind the first frame, into whatever is there
        return ("first frame; those after it cannot be read",)
    return (f"first of {count} frames",) if count > 1 else ()


def _unidentified(data: bytes) -> str:
    for pattern, kind in _LOOKS_LIKE:
        if pattern.match(data[:512]):
            return f"this is no picture that can be read; it looks like {kind}"
    return "this is no picture that can be read"


def _undecodable(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "the picture needs more memory than there is"
    if isinstance(error, Image.DecompressionBombError):
        return f"the picture is too large: more than {MAX_PIXELS:,} pixels"
    # Libraries put object addresses into their messages; the manifest must not change from run to run.
    message = visible(re.sub(r"\s*<[^<>]* at 0x[0-9a-fA-F]+>", "", str(error)), limit=160)
    if "truncated" in message.casefold():
        return f"the picture is cut short: {message}"
    return f"the picture is damaged: {message or type(error).__name__}"
