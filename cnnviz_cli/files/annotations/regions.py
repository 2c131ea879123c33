"""What is marked in an image, for one class, as a region of the network's input."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cnnviz_cli.core.classes import Labels
from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.geometry import Framing, ResizeCrop
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.annotations.shapes import Box, ImageAnnotation, MarkedObject, Polygon, Runs
from cnnviz_cli.files.annotations.tables import WHERE, Size
from cnnviz_cli.files.images.region_masks import BoolArray

MAX_OBJECTS = 10_000
"""In one image; COCO's fullest has a hundred."""

MAX_CORNERS = 200_000
"""Of all polygons of one image."""

UNNAMED = "what is marked"
"""The label of objects that have none."""

_LOOKED_AT = 1024  # rows and columns in which something is looked for that the input does not show

_FIRST_TURNED = 5  # EXIF's orientations from which on rows are columns


@dataclass(frozen=True, slots=True)
class MarkedRegion:
    """(H, W) bool, which pixels of the network's input are within what is marked.

    Attributes:
        labels: what the marked objects are called, each once, in alphabetical order; without those that are not.
        of_class: whether they are called what the class is; else these are all objects of the image.
    """

    inside: BoolArray
    labels: tuple[str, ...]
    of_class: bool


def find_region(
    annotation: ImageAnnotation, framing: Framing, names: Collection[str], known: Collection[str] | None
) -> MarkedRegion:
    """The union of what is marked in an image and belongs to a class, sampled at the centres of the input's pixels.

    Objects belong to a class if their label is one of its `names`, of `words_of_class`. If none of the `known` labels
    is, which are those of the whole data set, all objects of the image count together; where they are not known, the
    image's own decide.

    What is marked is given in pixels of the upright image, of its own or of another resolution. Where the annotation's
    size has other proportions than the upright image, and those of the image as it is stored in its file, not yet
    turned by its EXIF orientation, it is about the stored image.

    Raises:
        ImageError: there is nothing to be judged by; `what` says why, with the image as "it".
    """
    belonging = [one for one in annotation.objects if not words_of(one.label).isdisjoint(names)]
    labels = {one.label for one in annotation.objects} if known is None else known
    if not belonging and any(not words_of(label).isdisjoint(names) for label in labels):
        raise ImageError("the class explained is marked in other images, and not in this one", where=WHERE)
    objects = belonging or list(annotation.objects)
    _check_count(objects)
    frame, turned = _frame(annotation, framing)
    orientation = framing.orientation if turned else 1
    inside = _covered(objects, frame, framing.placing, orientation)
    if not inside.any():
        raise ImageError(_why_empty(objects, frame, framing.placing, orientation), where=WHERE)
    shown = sorted({one.label for one in objects} - {""})
    return MarkedRegion(inside, tuple(shown), bool(belonging))


def regions_by_label(annotation: ImageAnnotation, framing: Framing) -> dict[str, BoolArray]:
    """For each label the union (H, W) of what is marked with it, sampled at the centres of the input's pixels; all
    False where nothing of it is within what the network sees.

    Labels that differ in case or underscores alone are one, called as the first of them in the alphabet; objects
    without a label are called `UNNAMED`.

    Raises:
        ImageError: nothing is marked, or it is about another image; `what` says why, with the image as "it".
    """
    _check_count(annotation.objects)
    frame, turned = _frame(annotation, framing)
    orientation = framing.orientation if turned else 1
    groups: dict[str, list[MarkedObject]] = {}
    for one in annotation.objects:
        groups.setdefault(fold_label(one.label) or UNNAMED, []).append(one)
    named = {min(one.label.strip() for one in group) or UNNAMED: group for group in groups.values()}
    return {name: _covered(named[name], frame, framing.placing, orientation) for name in sorted(named)}


def why_unseen(annotation: ImageAnnotation, framing: Framing) -> str:
    """Why nothing that is marked covers a pixel of the network's input, with the image as "it"."""
    frame, turned = _frame(annotation, framing)
    return _why_empty(annotation.objects, frame, framing.placing, framing.orientation if turned else 1)


def words_of_class(labels: Labels, index: int) -> frozenset[str]:
    """All that a class is called, as `words_of` has it: its name, the names it is made of, and its WordNet number."""
    also = {key for key, known in labels.also.items() if known == index}
    return words_of(labels.names[index].removesuffix(f" ({index})")) | also


@lru_cache(maxsize=8192)
def words_of(label: str) -> frozenset[str]:
    """What a label is called: the whole of it, and each of the names that commas part in it ("tabby, tabby cat").

    Case does not count, nor whether underscores or blanks part words.
    """
    whole = fold_label(label)
    return frozenset(word for word in (whole, *(part.strip() for part in whole.split(","))) if word)


def fold_label(label: str) -> str:
    """A label by which others that are written differently are known: without case, underscores and double blanks."""
    return " ".join(label.casefold().replace("_", " ").split())


def _check_count(objects: Sequence[MarkedObject]) -> None:
    if not objects:
        raise ImageError("nothing is marked in it", where=WHERE)
    shapes = [shape for one in objects for shape in one.shapes]
    if len(shapes) > MAX_OBJECTS:
        raise ImageError(f"{len(shapes):,} shapes are marked in it, more than {MAX_OBJECTS:,}", where=WHERE)
    corners = sum(len(shape.corners) for shape in shapes if isinstance(shape, Polygon))
    if corners > MAX_CORNERS:
        raise ImageError(f"its polygons have {corners:,} corners, more than {MAX_CORNERS:,}", where=WHERE)


def _frame(annotation: ImageAnnotation, framing: Framing) -> tuple[Size, bool]:
    """Width and height of the image that the annotation is about, and whether that is the stored one."""
    runs = [shape.size for one in annotation.objects for shape in one.shapes if isinstance(shape, Runs)]
    size = annotation.size or (runs[0] if runs else framing.size)
    if any(other != size for other in runs):
        raise ImageError("its run lengths are of images of several sizes", where=WHERE)
    upright, stored = framing.size, framing.size[::-1]
    turns = framing.orientation >= _FIRST_TURNED
    if size == upright or (_proportional(size, upright) and not (turns and size == stored)):
        return size, False
    if turns and _proportional(size, stored):
        return size, True
    (width, height), (across, down) = size, upright
    what = f"its annotation is of {width} x {height} pixels, other proportions than its own {across} x {down}"
    raise ImageError(what, where=WHERE)


def _proportional(size: Size, other: Size) -> bool:
    """Whether one is the other, resized and rounded to whole pixels."""
    return 2 * abs(size[0] * other[1] - size[1] * other[0]) <= other[0] + other[1]


def _covered(objects: Sequence[MarkedObject], frame: Size, placing: ResizeCrop, orientation: int) -> BoolArray:
    """(H, W) whether objects cover the centres of the input's pixels; `frame` is the size of the annotated image.

    EXIF's orientations from 5 on: 5 rows for columns; 6 a quarter to the right; 7 rows for columns, both from their
    end; 8 a quarter to the left. Before that the annotated image is the upright one.
    """
    turned, back_across, back_down = orientation >= _FIRST_TURNED, orientation in (7, 8), orientation in (6, 7)
    across, down = placing.centres_in(frame[::-1])[::-1] if turned else placing.centres_in(frame)
    # A centre on an edge stays with the pixel that it is of in the upright image.
    if back_across:
        across = np.nextafter(frame[0] - across[::-1], -1)
    if back_down:
        down = np.nextafter(frame[1] - down[::-1], -1)
    inside = np.zeros((len(down), len(across)), np.bool_)
    for one in objects:
        for shape in one.shapes:
            inside |= shape.covers(across, down)
    inside &= ((down >= 0) & (down < frame[1]))[:, None] & ((across >= 0) & (across < frame[0]))
    inside = inside[:: -1 if back_down else 1, :: -1 if back_across else 1]
    return np.ascontiguousarray(inside.T if turned else inside)


def _why_empty(objects: Sequence[MarkedObject], frame: Size, placing: ResizeCrop, orientation: int) -> str:
    across, down = (min(side, _LOOKED_AT) for side in placing.resized)
    labels = sorted({one.label for one in objects} - {""})
    what = f"'{escape_text(labels[0], 60)}'" if len(labels) == 1 else "what is marked in it"
    if _covered(objects, frame, ResizeCrop((across, down), (across, down)), orientation).any():
        return f"{what} lies outside of what the network sees of it"
    if all(isinstance(shape, Box) and _is_outside(shape, frame) for one in objects for shape in one.shapes):
        return f"{what} lies outside of it, which has {frame[0]} x {frame[1]} pixels"
    return f"{what} is smaller than a pixel of the network's input"


def _is_outside(box: Box, frame: Size) -> bool:
    return box.left >= frame[0] or box.top >= frame[1] or box.right <= 0 or box.bottom <= 0
