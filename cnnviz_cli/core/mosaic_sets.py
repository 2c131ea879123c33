"""Which images of a run are put side by side: four of different classes that the network is sure of, by its records."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from heapq import nsmallest
from typing import Any

from cnnviz_cli.core.evaluation_records import MosaicPlan
from cnnviz_cli.core.value import value

IMAGES = 4
"""Images of a mosaic, each of another class."""


@value
class Chosen:
    """An image that may be in a mosaic.

    Attributes:
        place: in the order in which images are taken, which is that of no list.
        sha256: of its file.
        index: its likeliest class, called `label`.
    """

    place: str
    source: str
    sha256: str
    index: int
    label: str


def _place_of(one: Chosen) -> tuple[str, str]:
    return one.place, one.source


MosaicSet = tuple[Chosen, ...]
"""Four images, in their first places."""


@value
class MosaicSets:
    """The mosaics of a run, and why there are none."""

    sets: tuple[MosaicSet, ...]
    undone: str = ""


class MosaicChoice:
    """Add the records of a run one by one, in any order, then ask for `found`.

    Kept is, of each class, no more images than there may be mosaics: none takes two of one class.
    """

    def __init__(self, plan: MosaicPlan, seed: int) -> None:
        self._plan, self._seed = plan, seed
        self._classes: dict[int, list[Chosen]] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Take in an image's record, as the manifest has it."""
        if record.get("status", "ok") != "ok" or not record.get("predictions"):
            return
        first = record["predictions"][0]
        digest, probability = record.get("sha256"), first.get("probability")
        if digest is None or probability is None or probability < self._plan.sure:
            return
        place = sha256(f"mosaic:{self._seed}:{digest}".encode()).hexdigest()
        same = self._classes.setdefault(first["index"], [])
        insort(same, Chosen(place, record["source"], digest, first["index"], first["label"]), key=_place_of)
        del same[self._plan.most :]

    @property
    def found(self) -> MosaicSets:
        """Sets of images, each image in one: again and again the next four, in their order, of four classes."""
        if self._plan.undone:
            return MosaicSets((), self._plan.undone)
        waiting = {index: list(images) for index, images in self._classes.items()}
        sets: list[MosaicSet] = []
        while len(waiting) >= IMAGES and len(sets) < self._plan.most:
            first = nsmallest(IMAGES, (images[0] for images in waiting.values()), key=_place_of)
            sets.append(tuple(first))
            for one in first:
                waiting[one.index].pop(0)
                if not waiting[one.index]:
                    del waiting[one.index]
        return MosaicSets(tuple(sets), "" if sets else self._why_none())

    def _why_none(self) -> str:
        count = len(self._classes)
        there = "no image has" if not count else f"images of {count} class{'es' * (count != 1)} have"
        return (
            f"a mosaic takes images of {IMAGES} classes, and {there} a class of at least {self._plan.sure:g} "
            "(--mosaic-sure allows less)"
        )


def sets_of(plan: MosaicPlan, seed: int, records: Iterable[Mapping[str, Any]]) -> MosaicSets:
    """The mosaics of a run's records."""
    choice = MosaicChoice(plan, seed)
    for record in records:
        choice.add(record)
    return choice.found


def arrangements(count: int = IMAGES) -> tuple[tuple[int, ...], ...]:
    """Of each arrangement which image is in each place, so that every image is once in every place."""
    return tuple(tuple((place - turn) % count for place in range(count)) for turn in range(count))


def mosaic_digest(digests: Sequence[str], size: tuple[int, int]) -> str:
    """The digest of a mosaic, of the digests of the files in its places, and of its height and width."""
    return sha256(":".join([*digests, f"{size[0]}x{size[1]}"]).encode()).hexdigest()


def cells_of_mosaic(size: tuple[int, int]) -> tuple[tuple[slice, slice], ...]:
    """The rows and columns of each place, row by row."""
    height, width = size
    rows, columns = (
        (slice(0, height // 2), slice(height // 2, height)),
        (slice(0, width // 2), slice(width // 2, width)),
    )
    return tuple((down, across) for down in rows for across in columns)
