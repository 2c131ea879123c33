"""`--annotations`: which kind of annotations a file or a folder holds, and those of an image."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path
from typing import Protocol

import numpy as np

from cnnviz_cli.core.errors import ImageError, UsageError, system_reason
from cnnviz_cli.core.file_reading import MAX_BYTES, READ_ALL, ReadOptions, open_regular
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.annotations.shapes import Drawn, ImageAnnotation, MarkedObject
from cnnviz_cli.files.annotations.tables import WHERE, AnnotationTable, read_boxes, read_instances
from cnnviz_cli.files.annotations.voc import read_objects
from cnnviz_cli.files.images.region_masks import find_companion, read_indices
from cnnviz_cli.files.inputs.folder_walk import suggest_path
from cnnviz_cli.files.inputs.image_source import IMAGE_SUFFIXES, Source, is_image
from cnnviz_cli.files.tables.labels import read_labels

VOID = 255
"""The index that VOC, Cityscapes and ADE give to pixels of no class, such as the outlines of objects."""

_KINDS = (
    "Name a .json of COCO instances, a folder of VOC's .xml files or of masks named as the images are, or a .csv with "
    "image,left,top,right,bottom,label."
)
_LOOKED_AT = 10_000  # names of a folder, until it is known what lies in it
_CLASS_NAMES = ("labels.txt", "labels.csv", "labels.json")


class Annotations(Protocol):
    """What people have marked in the images of a run.

    Attributes:
        labels: all that objects are called, in images of the run or not; None where only reading every file would tell.
        name: of the file or folder, without the path to it.
        sha256: of the file's bytes; None of a folder, whose files `digest_of` digests one by one.
    """

    @property
    def labels(self) -> frozenset[str] | None: ...
    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str | None: ...

    def annotation_of(self, source: Source) -> ImageAnnotation | None:
        """What is marked in an image; None if nothing is known of it. Raises ImageError if it cannot be read."""

    def place_of(self, source: Source) -> str | None:
        """Where an image's annotation stands, which may be unreadable: in a table its path, or the path of a file; None
        if there is none."""

    def digest_of(self, source: Source) -> str | None:
        """The SHA-256 of the file that an image's annotation stands in; None if there is none."""


@dataclass(frozen=True, slots=True)
class AnnotationFolder:
    """A folder with a file for each image: its path is the image's but for the suffix. Small, and may be pickled."""

    path: str
    suffixes: frozenset[str]
    reader: Callable[[Path], ImageAnnotation]
    labels: frozenset[str] | None = None
    sha256: None = None

    @property
    def name(self) -> str:
        """See `Annotations`."""
        return Path(self.path).name

    def annotation_of(self, source: Source) -> ImageAnnotation | None:
        """See `Annotations`."""
        found = find_companion(Path(self.path), source.name, self.suffixes)
        if len(found) > 1:
            names = " and ".join(escape_text(path.name, 60) for path in found)
            raise ImageError(f"it has several annotations: {names}", where=escape_text(self.path))
        return self.reader(found[0]) if found else None

    def place_of(self, source: Source) -> str | None:
        """See `Annotations`."""
        found = find_companion(Path(self.path), source.name, self.suffixes)
        return str(found[0]) if found else None

    def digest_of(self, source: Source) -> str | None:
        """See `Annotations`."""
        found = find_companion(Path(self.path), source.name, self.suffixes)
        try:
            with open_regular(found[0], MAX_BYTES) as file:
                return file_digest(file, "sha256").hexdigest()
        except (OSError, IndexError):
            return None


@dataclass(frozen=True, slots=True)
class _Masks:
    """Reads a mask: what is white within it; or each index of a palette as a class, 0 and `VOID` aside."""

    how: ReadOptions
    classes: tuple[str, ...]

    def __call__(self, path: Path) -> ImageAnnotation:
        try:
            drawn = read_indices(path, self.how)
        except ImageError as error:
            raise ImageError(f"its mask: {error.what}", where=error.where, fix=error.fix) from error
        height, width = drawn.indices.shape
        if drawn.of_classes:
            found = [int(index) for index in np.unique(drawn.indices) if index not in (0, VOID)]
        else:
            found = [1] if drawn.indices.any() else []
        objects = tuple(
            MarkedObject(self._label(index) if drawn.of_classes else "", (Drawn(drawn.indices == index),))
            for index in found
        )
        return ImageAnnotation((width, height), objects, drawn.sha256)

    def _label(self, index: int) -> str:
        return self.classes[index] if index < len(self.classes) else ""


def open_annotations(path: Path, how: ReadOptions = READ_ALL) -> Annotations:
    """The annotations that a user named with ``--annotations``: the one entry for all kinds.

    A ``.json`` holds COCO instances, a ``.csv`` or ``.tsv`` boxes; a folder holds VOC's ``.xml`` files, itself or in a
    folder ``Annotations``, or masks. A file of one table is read here, once, and stays in memory; of a folder the file
    of an image is read when it is asked for. `how` limits masks.

    A command asks `run.annotations.RunAnnotations` for regions, which brings what is marked to the network's input.

    Raises:
        UsageError: there is no such file, or it is of no kind that is read, or damaged.
    """
    shown = escape_text(str(path), 200)
    try:
        if path.is_dir():
            return _open_folder(path, how)
        if not path.exists():
            fix = suggest_path(path) if path.parent.is_dir() else ""
            raise UsageError(f"'{shown}' does not exist", where=WHERE, fix=fix or _KINDS)
    except (OSError, ValueError) as error:
        reason = system_reason(error)
        raise UsageError(f"'{shown}' cannot be read: {reason}", where=WHERE, fix=_KINDS) from error
    if path.suffix.casefold() in _TABLES:
        return _read_table(path.absolute(), _stamp_of(path))
    raise UsageError(f"'{shown}' holds no annotations of a kind that is read", where=WHERE, fix=_KINDS)


_TABLES: Mapping[str, Callable[[Path], AnnotationTable]] = {
    ".json": read_instances,
    ".csv": read_boxes,
    ".tsv": read_boxes,
}


def _stamp_of(path: Path) -> tuple[int, int, int]:
    with suppress(OSError):
        about = path.stat()
        return about.st_size, about.st_mtime_ns, about.st_ino
    return (0, 0, 0)


@lru_cache(maxsize=1)
def _read_table(path: Path, _stamp: tuple[int, int, int]) -> AnnotationTable:
    """A table, once for who checks it before a network is loaded and who reads it afterwards."""
    return _TABLES[path.suffix.casefold()](path)


def _open_folder(path: Path, how: ReadOptions) -> AnnotationFolder:
    of_voc = path / "Annotations"
    if of_voc.is_dir():
        return _open_folder(of_voc, how)
    names = _first_names(path)
    if any(name.casefold().endswith(".xml") for name in names):
        return AnnotationFolder(str(path), frozenset((".xml",)), read_objects)
    if not any(map(is_image, names)):
        shown = escape_text(str(path), 200)
        raise UsageError(f"in '{shown}' lie neither .xml files nor masks", where=WHERE, fix=_KINDS)
    classes = _class_names(path)
    labels = frozenset(classes[1:]) if classes else None
    masks = _Masks(ReadOptions(max_pixels=how.max_pixels, max_bytes=how.max_bytes), classes)
    return AnnotationFolder(str(path), IMAGE_SUFFIXES, masks, labels)


def _first_names(folder: Path) -> list[str]:
    """Some names of files in a folder and those below it, as many as tell what it holds."""
    found: list[str] = []
    for _root, folders, names in os.walk(folder):
        folders.sort()
        found += names
        if len(found) > _LOOKED_AT or any(is_image(name) or name.casefold().endswith(".xml") for name in names):
            break
    return found


def _class_names(folder: Path) -> tuple[str, ...]:
    """What the indices of masks are called, from 0 on, if the folder has a file that says so."""
    there = [folder / name for name in _CLASS_NAMES if (folder / name).is_file()]
    if not there:
        return ()
    try:
        return read_labels(there[0]).names
    except UsageError as error:
        raise UsageError(error.what, where=WHERE, fix=error.fix) from error
