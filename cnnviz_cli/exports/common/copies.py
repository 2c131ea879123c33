"""Copies of the images that were explained: whole files, or pixels alone where a file says of whom or where it is."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import GIBIBYTE, MAX_PIXELS, ReadOptions, open_regular, parse_value_range
from cnnviz_cli.files.images.decode import is_dicom, read_image
from cnnviz_cli.files.images.pillow_fixes import suppress_pillow_warnings
from cnnviz_cli.files.output.sink import locate

_CHUNK = 1 << 20
_HEAD = 256  # bytes in which a DICOM file says that it is one
_TAGGED = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
"""Formats whose files may hold EXIF."""

_PLACE = b"exif:GPS"  # of a place in XMP, which formats hold as it is
_RAW = re.compile(rb"\\x([89a-f][0-9a-f])")


def copy_file(root: Path, relative: str, digest: str | None, target: Path) -> bool:
    """Copy a file below `root`; False where it is gone or has not this digest.

    Nothing is read through a link that leads out of `root`.
    """
    try:
        source = open_regular(locate(root, _as_stored(relative)), GIBIBYTE)
    except (OSError, ValueError):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    with source, target.open("xb") as copy:
        while piece := source.read(_CHUNK):
            found.update(piece)
            copy.write(piece)
    if found.hexdigest() != digest:
        target.unlink()
    return found.hexdigest() == digest


def _as_stored(relative: str) -> str:
    r"""The path of a record as the disk has it: bytes that are no UTF-8 stand there as ``\xff``."""
    return os.fsdecode(_RAW.sub(lambda found: bytes.fromhex(found[1].decode()), relative.encode()))


def says_more(path: Path) -> bool:
    """Whether a file says more than its pixels of a person: it is a DICOM image, or it says where it was taken."""
    with path.open("rb") as file:
        if is_dicom(file.read(_HEAD)):
            return True
        if path.stat().st_size:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                if whole.find(_PLACE) >= 0:
                    return True
    Image.init()
    try:
        with (
            suppress_pillow_warnings(MAX_PIXELS),
            Image.open(path, formats=[name for name in _TAGGED if name in Image.OPEN]) as image,
        ):
            place = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
            packed = image.info.get("XML:com.adobe.xmp") or b""
            return bool(place) or _PLACE in (packed.encode() if isinstance(packed, str) else packed)
    except UnidentifiedImageError:
        return False
    except Exception:  # as many kinds as Pillow's decoders have; what cannot be told may be there
        return True


def write_pixels(path: Path, target: Path, value_range: Any) -> bool:
    """The upright image in a file as a PNG without any tag, as a run with this setting has shown it; False where it
    cannot be decoded."""
    try:
        how = ReadOptions(value_range=parse_value_range(value_range) if isinstance(value_range, str) else "auto")
        image = read_image(path, how).image
    except (ImageError, ValueError):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(image)).save(target, "PNG")
    return True
