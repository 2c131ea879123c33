"""Annotations that a program hands over: of each image its boxes, or masks of its pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import escape_text, is_text
from cnnviz_cli.files.annotations.folders import Annotations
from cnnviz_cli.files.annotations.shapes import Box, Drawn, ImageAnnotation, MarkedObject
from cnnviz_cli.files.annotations.tables import AnnotationTable, is_coordinate
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.tables.image_paths import normal_path, path_depths

WHERE = "annotations"

_FIX = (
    "Give each image by its name or its number a list of boxes (left, top, right, bottom), of dicts "
    "{'box': ..., 'label': ...} or {'mask': ..., 'label': ...}, or one mask (H, W) of its pixels."
)


def annotations_given(given: Mapping[str | int, Any], names: Sequence[str]) -> AnnotationTable:
    """The annotations of images by their names, or numbers from 0 on among `names`.

    Of an image either a mask (H, W), whose pixels are within where they are not 0, or a list of objects: boxes (left,
    top, right, bottom) in pixels of the upright image, or dicts with a `box` or a `mask` and maybe a `label`.

    Raises:
        UsageError: an image that is not there, or what is no box and no mask.
    """
    found: dict[str, ImageAnnotation] = {}
    labels: set[str] = set()
    for key, marked in given.items():
        if isinstance(key, bool) or not isinstance(key, str | int | PurePath):
            raise UsageError(f"an image is named by its path or its number, not by {key!r}", where=WHERE, fix=_FIX)
        if isinstance(key, int) and not 0 <= key < len(names):
            count = f"there are {len(names)} images" if len(names) != 1 else "there is 1 image"
            raise UsageError(f"there is no image {key}, {count}, counted from 0", where=WHERE)
        name = names[key] if isinstance(key, int) else str(key)
        shown = escape_text(name, 100)
        several = [marked] if isinstance(marked, np.ndarray) and marked.ndim == 2 and marked.shape[1] != 4 else marked
        if isinstance(several, str | Mapping) or not isinstance(several, Sequence | np.ndarray):
            raise UsageError(f"{shown}: this is no list of what is marked", where=WHERE, fix=_FIX)
        objects, size = [], None
        for number, one in enumerate(several):
            made, of = _object(one, f"{shown}, object {number}")
            if size not in (None, of) and of is not None:
                raise UsageError(f"{shown}: its masks are of different sizes", where=WHERE)
            size = size or of
            objects.append(made)
            labels.add(made.label)
        digest = sha256(repr((size, [_told(one) for one in objects])).encode()).hexdigest()
        found[normal_path(name, Path("annotations"))] = ImageAnnotation(size, tuple(objects), digest)
    whole = json.dumps({name: one.sha256 for name, one in sorted(found.items())})
    digest = sha256(whole.encode()).hexdigest()
    return AnnotationTable(found, path_depths(found), frozenset(labels) - {""}, "annotations", digest)


def _object(one: Any, place: str) -> tuple[MarkedObject, tuple[int, int] | None]:
    """An object, and of a mask the width and height of its image."""
    label, box, mask = "", one, None
    if isinstance(one, Mapping):
        if len(one.keys() & {"box", "mask"}) != 1 or one.keys() - {"box", "mask", "label"}:
            raise UsageError(f"{place} has to have a box or a mask, and maybe a label", where=WHERE, fix=_FIX)
        label, box, mask = one.get("label") or "", one.get("box"), one.get("mask")
        if not (isinstance(label, str) and is_text(label)):
            raise UsageError(f"the label of {place} is no text", where=WHERE)
    elif isinstance(one, np.ndarray) and one.ndim == 2:
        mask = one
    if mask is not None:
        drawn = np.asarray(mask)
        if drawn.ndim != 2 or drawn.size == 0 or drawn.dtype.kind not in "buif" or not np.isfinite(drawn).all():
            raise UsageError(f"the mask of {place} is no array (H, W) of finite numbers", where=WHERE, fix=_FIX)
        return MarkedObject(label, (Drawn(drawn != 0),)), (drawn.shape[1], drawn.shape[0])
    try:
        edges = [float(edge) for edge in box]
    except (TypeError, ValueError):
        edges = []
    if len(edges) != 4 or not all(map(is_coordinate, edges)) or edges[0] > edges[2] or edges[1] > edges[3]:
        what = f"{place} is no box (left, top, right, bottom) in pixels: {escape_text(repr(box), 60)}"
        raise UsageError(what, where=WHERE, fix=_FIX)
    return MarkedObject(label, (Box(*edges),)), None


def _told(one: MarkedObject) -> Any:
    (shape,) = one.shapes
    return one.label, sha256(shape.inside.tobytes()).hexdigest() if isinstance(shape, Drawn) else shape


@dataclass(frozen=True, slots=True)
class ByPathOrName:
    """Annotations of images that a program names by any path: by the whole of it, or by the file's name alone."""

    found: Annotations

    @property
    def labels(self) -> frozenset[str] | None:
        """See `Annotations`."""
        return self.found.labels

    @property
    def name(self) -> str:
        """See `Annotations`."""
        return self.found.name

    @property
    def sha256(self) -> str | None:
        """See `Annotations`."""
        return self.found.sha256

    def annotation_of(self, source: Source) -> ImageAnnotation | None:
        """See `Annotations`."""
        return self.found.annotation_of(self._known(source))

    def place_of(self, source: Source) -> str | None:
        """See `Annotations`."""
        return self.found.place_of(self._known(source))

    def digest_of(self, source: Source) -> str | None:
        """See `Annotations`."""
        return self.found.digest_of(self._known(source))

    def _known(self, source: Source) -> Source:
        plain = source.name.replace("\\", "/").rpartition("/")[2]
        if plain == source.name or self.found.place_of(source) is not None:
            return source
        return Source(source.folder, source.below, plain, source.reader)
