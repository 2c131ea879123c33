"""Pascal VOC's annotations: an XML file for each image, read with suspicion."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Never
from xml.parsers import expat

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import MEBIBYTE, read_regular
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.annotations.shapes import Box, ImageAnnotation, MarkedObject
from cnnviz_cli.files.annotations.tables import FARTHEST, is_coordinate

_MAX_BYTES = 16 * MEBIBYTE
_DEPTH = 32  # of elements within each other; VOC has five
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_objects(path: Path) -> ImageAnnotation:
    """The objects of one file: `object` elements with a `name` and a `bndbox`. Raises ImageError if it cannot be read.

    VOC counts pixels from 1, and the last row and column belong to a box: 1, 1, 3, 2 is three by two pixels. What is
    marked as difficult or truncated counts as all else does; parts of objects do not. A file with a document type is
    refused, since entities are declared there, which refer to other files or unfold without end.
    """
    try:
        data = read_regular(path, _MAX_BYTES)
        size, objects = _Reader().read(data)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, or what is wrong with the file
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ImageError(
            f"its annotation cannot be read: {escape_text(reason, 160)}", where=escape_text(path.name, 100)
        ) from error
    return ImageAnnotation(size, objects, sha256(data).hexdigest())


class _Reader:
    """Keeps the text of the few elements that count, by their place below the root."""

    def __init__(self) -> None:
        self._open: list[str] = []
        self._text: list[str] = []
        self._size: dict[str, str] = {}
        self._object: dict[str, str] = {}
        self._objects: list[MarkedObject] = []

    def read(self, data: bytes) -> tuple[tuple[int, int] | None, tuple[MarkedObject, ...]]:
        """The size that is told and the objects; ValueError if they make no sense."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse
        parser.StartElementHandler = self._start
        parser.CharacterDataHandler = self._text.append
        parser.EndElementHandler = self._end
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise ValueError(f"this is no XML: {error}") from error
        except LookupError as error:  # an encoding that Python does not know
            raise ValueError(f"this is no XML that can be read: {error}") from error
        sides = [self._size.get(side, "") for side in ("width", "height")]
        if not all(sides) or sides == ["0", "0"]:  # as some tools write that do not look at the image
            return None, tuple(self._objects)
        width, height = (_number(side, "its size") for side in sides)
        if not (1 <= width < FARTHEST and 1 <= height < FARTHEST and width == int(width) and height == int(height)):
            raise ValueError(f"its size, {' x '.join(sides)}, is no number of pixels")
        return (int(width), int(height)), tuple(self._objects)

    def _start(self, name: str, _attributes: object) -> None:
        self._open.append(name)
        self._text.clear()
        if len(self._open) > _DEPTH:
            raise ValueError(f"elements lie {_DEPTH} deep within each other")

    def _end(self, _name: str) -> None:
        text = "".join(self._text).strip()
        self._text.clear()
        match self._open[1:]:
            case ["size", side]:
                self._size[side] = text
            case ["object", "name"]:
                self._object["name"] = text
            case ["object", "bndbox", edge]:
                self._object[edge] = text
            case ["object"]:
                self._objects.append(_marked(self._object, f"object {len(self._objects) + 1}"))
                self._object = {}
        self._open.pop()


def _refuse(*_declared: object) -> Never:
    raise ValueError("it has a document type, which annotations do not need and are not read with")


def _marked(found: dict[str, str], place: str) -> MarkedObject:
    missing = [edge for edge in _EDGES if not found.get(edge)]
    if missing:
        raise ValueError(f"{place} has no {missing[0]}")
    left, top, right, bottom = (_number(found[edge], f"the {edge} of {place}") for edge in _EDGES)
    if left > right or top > bottom:
        raise ValueError(f"the box of {place} ends before it starts")
    return MarkedObject(found.get("name", ""), (Box(left - 1, top - 1, right, bottom),))


def _number(text: str, what: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = FARTHEST * 2
    if not is_coordinate(found):
        raise ValueError(f"{what}, '{escape_text(text, 40)}', is no number of pixels")
    return found
