"""Small pictures for the page: of photographs, of rendered figures and of maps."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.file_reading import MAX_BYTES, MAX_PIXELS, read_regular
from cnnviz_cli.files.output.sink import locate
from cnnviz_cli.report.page import Plain, to_base64
from cnnviz_cli.report.photographs import Photographs, decoded

_QUALITY, _EFFORT = 70, 2  # of photographs: 1.5 to 3 kB at 128 pixels
_LEAST_RECORDED = 0.7  # of the side asked for; a recorded thumbnail that is smaller is made anew if it can be


class Place(Protocol):
    """Where the page lies, and what is written beside it."""

    mode: str

    def link(self, path: Path) -> str | None:
        """The address of a file; None in a single file, which leads nowhere."""

    def keep(self, name: str, data: bytes) -> str | None:
        """Write a file among the page's data; its address, or None in a single file."""


@dataclass
class Pictures:
    """What stands for an image in the page: a thumbnail, and the photograph or a preview of it.

    Attributes:
        side: pixels of a thumbnail's longer side; 0 for none.
        preview: pixels of a preview's longer side, where no photograph can be linked; 0 for none.
        made: how many thumbnails are what: ``photograph``, ``figure`` (a rendered one, with its own colours), ``none``.
        linked: how many photographs the page shows themselves.
        small: of how many images the page has a thumbnail alone: ``unplaced`` where it was not said where they lie,
            ``reduced`` where the photograph is known and no browser shows it from here.
    """

    photographs: Photographs
    place: Place
    side: int
    preview: int
    made: Counter[str] = field(default_factory=Counter)
    linked: int = 0
    small: Counter[str] = field(default_factory=Counter)

    def of(self, records: list[tuple[Path, Plain]], at: int) -> Plain:
        """The pictures of the entry at this place of the page, from the folders and records of all its runs."""
        record = next((r for _, r in records if r["sha256"]), None)
        photograph = self.photographs.find(record) if record else None
        thumb = next(filter(None, (_recorded(root, r, self.side) for root, r in records)), None)
        address = None if photograph is None or photograph.path is None else self.place.link(photograph.path)
        self.linked += address is not None
        preview = self.preview if address is None else 0
        image = None
        if photograph is not None and (preview or (self.side and thumb is None)):
            found = decoded(photograph, max(preview, self.side))
            image = found.image if found else None
        if image is not None and self.side and thumb is None:
            thumb = reduced(image, self.side)
        if preview and image is not None:
            address = self._keep(f"previews/{at:06d}.webp", reduced(image, preview))
        drawn = False
        if thumb is None and self.side:
            figure = next(filter(None, (_first_figure(root, r) for root, r in records)), None)
            thumb = None if figure is None else reduced_figure(figure, self.side)
            drawn = thumb is not None
            if preview and figure is not None and address is None:
                large = reduced_figure(figure, preview)
                address = None if large is None else self._keep(f"previews/{at:06d}.webp", large)
        if address is None and thumb is not None and not drawn and (photograph or not self.photographs.places):
            self.small["reduced" if photograph else "unplaced"] += 1
        failed = all(r["status"] != "ok" for _, r in records)
        self.made["figure" if drawn else "photograph" if thumb else "failed" if failed else "none"] += 1
        return {"thumb": to_base64(thumb or b""), "photo": address, "drawn": drawn}

    def _keep(self, name: str, data: bytes) -> str:
        return self.place.keep(name, data) or f"data:image/webp;base64,{to_base64(data)}"


def _recorded(root: Path, record: Mapping[str, Any], side: int) -> bytes | None:
    """The thumbnail that the run has written, if it is there and has about the size asked for."""
    thumbnail = record.get("thumbnail")
    if thumbnail is None or not side:
        return None
    data = written_file(root, thumbnail)
    longer = max(thumbnail["width"], thumbnail["height"])
    if data is None or longer < _LEAST_RECORDED * side < _LEAST_RECORDED * max(
        record["width"] or 0, record["height"] or 0
    ):
        return None
    return data if longer <= side and data[8:12] == b"WEBP" else reduced_figure(data, side)


def _first_figure(root: Path, record: Mapping[str, Any]) -> bytes | None:
    """The first figure of one map."""
    return next(filter(None, (written_file(root, one) for one in record["outputs"] if one["method"] is not None)), None)


def address_of(root: Path, place: Place, relative: str) -> str | None:
    """The address of what a run in `root` lists; None where it leads out of that folder, or the page has no links."""
    try:
        return place.link(locate(root, relative))
    except ValueError:
        return None


def written_file(root: Path, about: Mapping[str, Any]) -> bytes | None:
    """A file that a run has written, if it is there with the bytes that its record says."""
    try:
        data = read_regular(locate(root, about["path"]), MAX_BYTES, follow=False)
    except (OSError, ValueError):
        return None
    return data if hashlib.sha256(data).hexdigest() == about["sha256"] else None


def reduced(image: Image.Image, side: int) -> bytes:
    """A picture as WebP, its longer side at most `side` pixels."""
    small = image.convert("RGB") if image.mode != "RGB" else image.copy()
    small.thumbnail((side, side), reducing_gap=2.0)
    buffer = BytesIO()
    small.save(buffer, "WEBP", quality=_QUALITY, method=_EFFORT)
    return buffer.getvalue()


def reduced_figure(data: bytes, side: int) -> bytes | None:
    """A figure of ours as a small picture; None of one that is no picture of pixels."""
    try:
        with Image.open(BytesIO(data), formats=("PNG", "WEBP", "JPEG")) as image:
            return None if image.width * image.height > MAX_PIXELS else reduced(image, side)
    except Exception:  # as many kinds as Pillow's decoders have
        return None


def grey_picture(levels: NDArray[np.uint8], side: int = 0) -> bytes:
    """Shares of a scale (h, w) as a grey WebP: without loss, or if `side` is not 0 reduced to it, with loss."""
    image, buffer = Image.fromarray(levels), BytesIO()
    if not side:
        image.save(buffer, "WEBP", lossless=True, quality=0, method=0)
        return buffer.getvalue()
    image.thumbnail((side, side))
    image.save(buffer, "WEBP", quality=_QUALITY, method=_EFFORT)
    return buffer.getvalue()
