"""What all measures say of the maps of one image; plain values, so that processes without torch can draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from cnnviz_cli.core.geometry import RegionAnnotation
from cnnviz_cli.core.value import value


@value
class Judgement:
    """What all measures say of one map of one image, by column: ``removal.gain``.

    Attributes:
        numbers: finite ones alone.
        curves: by name what is drawn: ``removal.most``.
        undone: why a column, or all of a measure, has no number.
        of_magnitudes: whether the map holds magnitudes, which tell nothing of for and against.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    undone: Mapping[str, str] = field(default_factory=dict)
    of_magnitudes: bool = False


@value
class JudgedControl:
    """What all measures say of one control, for the target number `rank`."""

    name: str
    rank: int
    judgement: Judgement


@value
class MapAgreement:
    """How alike the maps of an image are: of each two their rank correlation, None where one of them is constant.

    Attributes:
        maps: of each map its place: the number of the task, and of the task's panel.
        rows: symmetric, in the order of `maps`.
    """

    maps: tuple[tuple[int, int], ...]
    rows: tuple[tuple[float | None, ...], ...]


@value
class Remains:
    """What the network was shown as more and more of an image was removed in the order of a map, or the reverse.

    Attributes:
        place: the number of the map's task, and of the task's panel.
        curve: the name of the curve that the scores lie on.
        shares: how much was removed, from 0 to 1, for each of the pictures.
        pictures: (H, W, 3) uint8 each, with the removed pixels filled.
    """

    place: tuple[int, int]
    curve: str
    shares: tuple[float, ...]
    scores: tuple[float, ...]
    pictures: tuple[Any, ...]


@value
class MarkedTarget:
    """What people have marked in an image that its maps for the target number `rank` are judged by.

    Attributes:
        labels: what the objects are called, in alphabetical order.
        of_class: whether they are called what the target is; else these are all objects of the image.
        region: which pixels of the network's input they cover.
    """

    rank: int
    labels: tuple[str, ...]
    of_class: bool
    region: RegionAnnotation


@value
class JudgedImage:
    """What all measures say of one image.

    Attributes:
        panels: for each of the run's tasks, of each of its panels.
        agreement: of the methods' maps with each other, if that was asked for.
        annotation_sha256: of the file in which people have marked what the image shows, if there is one.
        marked: what the maps of each target are judged by, where something is marked.
        remains: of the best maps what was left of the image, where that is to be drawn.
    """

    panels: Sequence[Sequence[Judgement]]
    controls: Sequence[JudgedControl]
    agreement: MapAgreement | None = None
    annotation_sha256: str | None = None
    marked: tuple[MarkedTarget, ...] = ()
    remains: tuple[Remains, ...] = ()
