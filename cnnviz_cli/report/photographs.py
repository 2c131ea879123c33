"""The photographs that were explained: found by their names, and held to the digest that the manifest has of each."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from cnnviz_cli.core.errors import ImageError, NoInputsError, UsageError
from cnnviz_cli.core.file_reading import ReadOptions
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.images.decode import DecodedImage, read_bytes, read_image
from cnnviz_cli.files.inputs.archives import is_archive
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.inputs.search import find_images
from cnnviz_cli.files.output.sink import locate

_SHOWN = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".avif", ".bmp"))
"""Of files that a browser shows by itself."""

_MOST_TRIED = 16
"""Files of one name that are read until one has the bytes that were explained."""


@dataclass(frozen=True)
class Photograph:
    """One that was found, with the bytes that were explained.

    Attributes:
        path: of a file that a browser can show; None in an archive or of another kind of file.
        source: what it is read from.
    """

    path: Path | None
    source: Source


@dataclass
class Photographs:
    """Look for photographs below `places`, and by their whole path below `beside`, where nothing else is searched.

    Raises UsageError if one of the places is not there.
    """

    places: Sequence[Path]
    beside: Path
    missing: Counter[str] = field(default_factory=Counter)
    _listed: dict[str, list[Source]] | None = None

    def __post_init__(self) -> None:
        for place in self.places:
            if not place.exists():
                raise UsageError("there is no such folder or archive", where=f"--photos {escape_text(str(place))}")

    def find(self, record: Mapping[str, Any]) -> Photograph | None:
        """The photograph of a record, or None, which is counted in `missing`: ``gone`` or ``changed``."""
        wanted, name = record["sha256"], str(record["source"])
        if wanted is None:
            return None
        met = False
        for source in self._candidates(name):
            try:
                same = hashlib.sha256(read_bytes(source)).hexdigest() == wanted
            except ImageError:
                continue
            if same:
                shown = source.reader is None and source.path.suffix.casefold() in _SHOWN
                return Photograph(source.path if shown else None, source)
            met = True
        if self.places:
            self.missing["changed" if met else "gone"] += 1
        return None

    def _candidates(self, name: str) -> Iterator[Source]:
        """Files that may be it, the likeliest first."""
        tried = set()
        for folder in (*self.places, self.beside):
            try:
                place = locate(folder, name)
            except ValueError:
                continue
            if place.is_file():
                tried.add(os.path.realpath(place))
                yield Source(str(folder), name, name)
        others = [one for one in self._list().get(_last(name), ()) if os.path.realpath(one.path) not in tried]
        yield from sorted(others, key=lambda one: (-_shared(one.name, name), one.name))[:_MOST_TRIED]

    def _list(self) -> Mapping[str, Sequence[Source]]:
        """All photographs by the last part of their names; the places are searched when one is first missed."""
        if self._listed is None:
            self._listed = {}
            try:
                found = find_images(
                    [place for place in self.places if place.is_dir() or is_archive(place.name)], recursive=True
                )
            except NoInputsError:
                found = []
            for source in found:
                self._listed.setdefault(_last(source.name), []).append(source)
        return self._listed


def decoded(photograph: Photograph, side: int) -> DecodedImage | None:
    """A photograph upright, with at least `side` pixels where it has as many; None if it cannot be decoded."""
    try:
        return read_image(photograph.source, ReadOptions(least_side=side))
    except ImageError:
        return None


def _last(name: str) -> str:
    return PurePosixPath(name).name.casefold()


def _shared(one: str, other: str) -> int:
    """How many parts two paths end in together."""
    pairs = zip(reversed(PurePosixPath(one).parts), reversed(PurePosixPath(other).parts), strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(one.count("/"), other.count("/")) + 1)
