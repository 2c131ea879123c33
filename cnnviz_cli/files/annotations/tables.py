"""Annotations of many images in one file: COCO's instances as JSON, and tables of boxes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any, Never

import numpy as np

from cnnviz_cli.core.file_reading import MAX_PIXELS, MEBIBYTE
from cnnviz_cli.core.text import escape_text, is_text
from cnnviz_cli.files.annotations.shapes import Box, ImageAnnotation, MarkedObject, Polygon, Runs, Shape, unpack_counts
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.tables.image_paths import find_path, normal_path, path_depths
from cnnviz_cli.files.tables.text_table import TableRow, TextFile, find_column, parse_rows, read_text

WHERE = "--annotations"

MAX_ANNOTATIONS_BYTES = 512 * MEBIBYTE
"""Of such a file: COCO's training set, the largest in use that names each object, has 450 million."""

FARTHEST = 1e7
"""Pixels from an image's corner within which anything is marked; beyond it, what is written there is damaged."""

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class AnnotationTable:
    """The annotations of many images.

    Attributes:
        entries: by path, as `image_paths` has it.
        labels: everything that a marked object is called in the file, whether one of a run's images has it or not.
        name: of the file, without its folder.
        sha256: of its bytes.
    """

    entries: Mapping[str, ImageAnnotation]
    depths: tuple[int, ...]
    labels: frozenset[str]
    name: str
    sha256: str

    def annotation_of(self, source: Source) -> ImageAnnotation | None:
        """What is marked in an image; None if the file does not name it, or nothing is marked in it."""
        path = self.place_of(source)
        return None if path is None else self.entries[path]

    def place_of(self, source: Source) -> str | None:
        """The path in the file that is an image's; None if nothing is marked in it."""
        return find_path(source, self.entries, self.depths)

    def digest_of(self, _source: Source) -> str:
        """The SHA-256 of the file that an image's annotation stands in."""
        return self.sha256


def _table(given: TextFile, found: Mapping[str, ImageAnnotation], labels: Iterable[str]) -> AnnotationTable:
    return AnnotationTable(found, path_depths(found), frozenset(labels) - {""}, given.name, given.sha256)


# --- COCO --------------------------------------------------------------------------------------------------

_INSTANCES = 'An instances file has lists called "images", "annotations" and "categories".'


def read_instances(path: Path) -> AnnotationTable:
    """COCO's instances: polygons and run lengths, packed or not, and the box of an object that has neither.

    Objects that are marked as a crowd count as all others do. An object is called what its category is, and by the
    category's synonyms, if it has some, as in LVIS. Raises UsageError if the file cannot be read or understood.
    """
    given = read_text(path, WHERE, MAX_ANNOTATIONS_BYTES)
    try:
        data = json.loads(given.text, object_hook=_pack, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise given.error(f"this is no JSON of annotations: {escape_text(str(error), 120)}") from error
    if not isinstance(data, dict):
        raise given.error("this is JSON, but no instances of COCO", fix=_INSTANCES)
    images, objects = (_listed(given, data, key) for key in ("images", "annotations"))
    labels = {
        _identity(given, f"category {number}", one, "id"): _category(given, f"category {number}", one)
        for number, one in enumerate(_listed(given, data, "categories") if "categories" in data else ())
    }
    paths: dict[int | str, str] = {}
    sizes: dict[str, Size | None] = {}
    for number, one in enumerate(images):
        place = f"image {number}"
        identity, name = _identity(given, place, one, "id"), one.get("file_name")
        if not (isinstance(name, str) and name.strip()):
            raise given.error(f"{place} has no file_name", fix=_INSTANCES)
        key = normal_path(name, path)
        if identity in paths or key in sizes:
            raise given.error(f"{place}, '{escape_text(name, 100)}', stands twice")
        paths[identity], sizes[key] = key, _size(given, place, one)
    found: dict[str, list[MarkedObject]] = {}
    for number, one in enumerate(objects):
        place = f"annotation {number}"
        image = paths.get(one.image_id) if isinstance(one, _Instance) and isinstance(one.image_id, int | str) else None
        if image is None:
            raise given.error(f"{place} is of no image that is among the images", fix=_INSTANCES)
        label = labels.get(one.category_id) if isinstance(one.category_id, int | str) else None
        if label is None and labels:
            raise given.error(f"{place} is of a category that is not among the categories")
        marked = MarkedObject(label or "", _shapes(given, place, one, sizes[image]))
        found.setdefault(image, []).append(marked)
    annotations = {key: ImageAnnotation(sizes[key], tuple(marked), given.sha256) for key, marked in found.items()}
    return _table(given, annotations, labels.values())


def _no_number(word: str) -> Never:
    raise ValueError(f"{word} is no number")


@dataclass(slots=True)
class _Instance:
    """What counts of an annotation, under COCO's names; nothing of it has been checked."""

    image_id: Any = None
    category_id: Any = None
    segmentation: Any = None
    bbox: Any = None


_COUNTS = tuple(item.name for item in fields(_Instance))


def _pack(found: dict[str, Any]) -> Any:
    """What counts of an annotation, as soon as it is parsed: a list of numbers takes eight times an array's memory."""
    if "image_id" not in found:
        return found
    one = _Instance(*map(found.get, _COUNTS))
    if isinstance(one.segmentation, list):
        with suppress(ValueError, TypeError, OverflowError):  # it is looked at again, where its place can be told
            one.segmentation = [np.array(ring, np.float64) for ring in one.segmentation]
    return one


def _listed(given: TextFile, data: Mapping[str, Any], key: str) -> list[Any]:
    found = data.get(key)
    if not isinstance(found, list):
        raise given.error(f'there is no list of "{key}" in it', fix=_INSTANCES)
    return found


def _identity(given: TextFile, place: str, one: Any, key: str) -> int | str:
    found = one.get(key) if isinstance(one, dict) else None
    if not isinstance(found, int | str):
        raise given.error(f"{place} has no {key}", fix=_INSTANCES)
    return found


def _category(given: TextFile, place: str, one: Mapping[str, Any]) -> str:
    name, also = one.get("name"), one.get("synonyms")
    if not isinstance(name, str):
        raise given.error(f"{place} has no name", fix=_INSTANCES)
    words = [word for word in also if isinstance(word, str)] if isinstance(also, list) else []
    called = ", ".join(dict.fromkeys([name.strip(), *words]))
    if not is_text(called):
        raise given.error(f"the name of {place} is no text: {escape_text(called, 60)}")
    return called


def _size(given: TextFile, place: str, one: Mapping[str, Any]) -> Size | None:
    width, height = one.get("width"), one.get("height")
    if width is None and height is None:
        return None
    if not (isinstance(width, int) and isinstance(height, int) and 0 < width < FARTHEST and 0 < height < FARTHEST):
        raise given.error(f"the width and height of {place} are no numbers of pixels")
    return width, height


def _shapes(given: TextFile, place: str, one: _Instance, size: Size | None) -> tuple[Shape, ...]:
    segmentation, box = one.segmentation, one.bbox
    if isinstance(segmentation, dict):
        return (_runs(given, place, segmentation, size),)
    if isinstance(segmentation, list) and segmentation:
        return tuple(_polygon(given, place, ring) for ring in segmentation)
    if segmentation is not None and not isinstance(segmentation, list):
        raise given.error(f"the segmentation of {place} is neither polygons nor run lengths")
    if box is None:
        raise given.error(f"{place} has neither a segmentation nor a bbox", fix=_INSTANCES)
    if not (isinstance(box, list) and len(box) == 4 and all(map(is_coordinate, box)) and min(box[2:]) >= 0):
        raise given.error(f"the bbox of {place} is not [left, top, width, height] in pixels")
    left, top, width, height = map(float, box)
    return (Box(left, top, left + width, top + height),)


def is_coordinate(found: Any) -> bool:
    """Whether this is a number of pixels from an image's corner."""
    return type(found) in (int, float) and abs(found) <= FARTHEST and isfinite(found)


def _polygon(given: TextFile, place: str, ring: Any) -> Polygon:
    fits = isinstance(ring, np.ndarray) and ring.ndim == 1 and len(ring) % 2 == 0 and len(ring) > 0
    if not fits or not (np.abs(ring) <= FARTHEST).all():  # nor are NaN and infinity
        raise given.error(f"a polygon of {place} is not [x, y, x, y, ...] in pixels")
    return Polygon(ring.reshape(-1, 2))


def _runs(given: TextFile, place: str, found: Mapping[str, Any], size: Size | None) -> Runs:
    counts, sides = found.get("counts"), found.get("size")
    if not (
        isinstance(sides, list) and len(sides) == 2 and all(type(side) is int and 0 < side < FARTHEST for side in sides)
    ):
        raise given.error(f"the run lengths of {place} have no size: [height, width]")
    height, width = sides
    if width * height > MAX_PIXELS:
        raise given.error(f"the run lengths of {place} are of {width} x {height} pixels, more than are read")
    if size not in (None, (width, height)):
        raise given.error(f"the run lengths of {place} are of {width} x {height} pixels, and its image is not")
    try:
        if isinstance(counts, str):
            lengths = unpack_counts(counts)
        else:
            lengths = np.array(counts if isinstance(counts, list) else None)
            if lengths.dtype.kind != "i" or lengths.ndim != 1:
                raise ValueError("these are no whole numbers")
        if (lengths < 0).any() or (lengths > MAX_PIXELS).any() or lengths.sum() != width * height:
            raise ValueError("they do not add up to the pixels of the image")
    except (ValueError, OverflowError) as error:
        raise given.error(f"the run lengths of {place} cannot be read: {escape_text(str(error), 100)}") from error
    return Runs(lengths, (width, height))


# --- tables of boxes ---------------------------------------------------------------------------------------

_IMAGE = "image file filename file_name filepath path image_path source img"
_EDGES = ("left xmin x1 x_min", "top ymin y1 y_min", "right xmax x2 x_max", "bottom ymax y2 y_max")
_LABEL = "label class class_name category name label_name"
_COLUMNS = "The columns are image,left,top,right,bottom,label; the edges in pixels, the label as you like."


def read_boxes(path: Path) -> AnnotationTable:
    """A table with a box in each row: image, left, top, right and bottom edge in pixels, and a label if there is one.

    A header may give the columns another order, or names such as xmin or x1. Raises UsageError if the table cannot be
    read, or a row is no box.
    """
    given = read_text(path, WHERE)
    rows = parse_rows(given)
    if not rows:
        raise given.error("this has no rows", fix=_COLUMNS)
    columns = [find_column(rows[0], names) for names in (_IMAGE, *_EDGES)]
    named = all(column is not None for column in columns)
    at_label = find_column(rows[0], _LABEL) if named else 5
    places = [column for column in columns if column is not None] if named else [0, 1, 2, 3, 4]
    found: dict[str, list[MarkedObject]] = {}
    labels: set[str] = set()
    for row in rows[named:]:
        if len(row.cells) <= max(places) or not row.cells[places[0]]:
            raise given.error("this row needs an image and four edges", line=row.line, fix=_COLUMNS)
        label = row.cells[at_label] if at_label is not None and at_label < len(row.cells) else ""
        labels.add(label)
        box = _box(given, row, [row.cells[place] for place in places[1:]])
        found.setdefault(normal_path(row.cells[places[0]], path), []).append(MarkedObject(label, (box,)))
    return _table(
        given, {key: ImageAnnotation(None, tuple(marked), given.sha256) for key, marked in found.items()}, labels
    )


def _box(given: TextFile, row: TableRow, cells: Sequence[str]) -> Box:
    try:
        edges = [float(cell) for cell in cells]
    except ValueError:
        edges = []
    if not edges or not all(map(is_coordinate, edges)) or edges[0] > edges[2] or edges[1] > edges[3]:
        shown = escape_text(", ".join(cells), 60)
        raise given.error(
            f"'{shown}' are not the left, top, right and bottom edges of a box", line=row.line, fix=_COLUMNS
        )
    return Box(*edges)
