"""What people have marked in the images of a run, for the classes of its network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnnviz_cli.core.classes import Labels
from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.geometry import Framing, RegionAnnotation
from cnnviz_cli.core.judgements import MarkedTarget
from cnnviz_cli.core.measures import Marked
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.files.annotations.folders import Annotations
from cnnviz_cli.files.annotations.regions import MarkedRegion, find_region, words_of, words_of_class
from cnnviz_cli.files.annotations.shapes import ImageAnnotation
from cnnviz_cli.files.annotations.tables import WHERE
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.run.image_data import NetworkInput

if TYPE_CHECKING:
    from torch import Tensor


NOT_ANNOTATED = "it has no annotation"


@dataclass(frozen=True)
class MarkedBatch:
    """What is marked in the images of a batch, or why nothing is known of it.

    Attributes:
        regions: of each image for each of its targets.
        size: height and width of the inputs.
        digests: the SHA-256 of the file of each image's annotation, for its record; None if there is none.
    """

    regions: Sequence[Sequence[MarkedRegion | str]]
    size: tuple[int, int]
    digests: Sequence[str | None]

    def matches(self, image: int) -> tuple[MarkedTarget, ...]:
        """What an image is judged by for each of its targets that has something."""
        return tuple(
            MarkedTarget(rank, one.labels, one.of_class, RegionAnnotation(one.inside))
            for rank, one in enumerate(self.regions[image])
            if not isinstance(one, str)
        )

    def given(self) -> dict[str, Tensor]:
        """For `run.judge.Batch.given`: what `Marked` is answered with, nothing where there is nothing."""
        import torch

        nothing = np.zeros(self.size, np.bool_)
        columns = [
            [nothing if isinstance(one, str) else one.inside for one in column]
            for column in zip(*self.regions, strict=True)
        ]
        return {Marked.for_target(rank).name: torch.from_numpy(np.stack(column)) for rank, column in enumerate(columns)}

    def absent(self) -> dict[str, list[str]]:
        """For `run.judge.Batch.absent`: why there is nothing."""
        return {
            Marked.for_target(rank).name: [one if isinstance(one, str) else "" for one in column]
            for rank, column in enumerate(zip(*self.regions, strict=True))
        }


class RunAnnotations:
    """Annotations, for a network whose classes have `labels`; see `files.annotations.folders.open_annotations`."""

    def __init__(self, annotations: Annotations, labels: Labels) -> None:
        self.annotations = annotations
        self._labels = labels
        self._names: dict[int, frozenset[str]] = {}

    @property
    def sha256(self) -> str | None:
        """Of the one file that holds them all; None of a folder."""
        return self.annotations.sha256

    def digest_of(self, source: Source) -> str | None:
        """The SHA-256 of the file that an image's annotation stands in, for its record; None if there is none."""
        return self.annotations.digest_of(source)

    def check(self, sources: Iterable[Source], reporter: Reporter, *, needed: bool = False) -> bool:
        """Say of how many images there are annotations, and which classes have their own. False if there are none.

        Args:
            needed: nothing else is judged by.

        Raises:
            UsageError: one entry of a table stands for several images, so that it is not known whose it is; or there
                are none, and they are needed.
        """
        count, known = 0, 0
        first = ""
        users: dict[str, str] = {}
        for source in sources:
            count += 1
            place = self.annotations.place_of(source)
            if place is None:
                first = first or escape_text(source.name, 100)
                continue
            known += 1
            if self.sha256 and users.setdefault(place, source.name) != source.name:
                raise self._shared_entry(place, users[place], source.name)
        name = escape_text(self.annotations.name, 100)
        if not known and needed:
            raise UsageError(
                f"{name} names none of these images, not even '{first}', and by nothing else are maps to be judged",
                where=WHERE,
                fix="Name the file or folder that is about them, or another measure: --measure",
            )
        if not known:
            reporter.warn(
                f"{name} names none of these images, not even '{first}': nothing is measured by what is marked"
            )
            return False
        reporter.say(self._describe_labels(name))
        if known < count:
            reporter.warn(f"{name} names {known} of {count} images, and not for instance '{first}'")
        return True

    def mark(
        self, images: Sequence[NetworkInput], targets: Sequence[Sequence[int]], size: tuple[int, int]
    ) -> MarkedBatch:
        """What is marked in each image of a batch for each of its targets: the objects of that class; for a target that
        is no class, or a class that the annotations do not know, all that is marked in the image. `size` is the
        inputs' height and width."""
        found = [self._read(one) for one in images]
        regions = [
            [self._region_or_why(read, one.framing, index) for index in row]
            for read, one, row in zip(found, images, targets, strict=True)
        ]
        digests = [self._digest(read, one) for read, one in zip(found, images, strict=True)]
        return MarkedBatch(regions, size, digests)

    def _read(self, image: NetworkInput) -> ImageAnnotation | str:
        try:
            found = None if image.source is None else self.annotations.annotation_of(image.source)
        except ImageError as error:
            return error.what
        return found or NOT_ANNOTATED

    def _digest(self, read: ImageAnnotation | str, image: NetworkInput) -> str | None:
        if isinstance(read, ImageAnnotation):
            return read.sha256
        # In a folder there may be a file that cannot be read.
        return self.digest_of(image.source) if image.source is not None and self.sha256 is None else None

    def _region_or_why(self, read: ImageAnnotation | str, framing: Framing | None, index: int) -> MarkedRegion | str:
        if isinstance(read, str) or framing is None:
            return read if isinstance(read, str) else NOT_ANNOTATED
        try:
            return find_region(read, framing, self._names_of(index), self.annotations.labels)
        except ImageError as error:
            return error.what

    def _names_of(self, index: int) -> frozenset[str]:
        if not 0 <= index < len(self._labels.names):
            return frozenset()
        if index not in self._names:
            self._names[index] = words_of_class(self._labels, index)
        return self._names[index]

    def _describe_labels(self, name: str) -> str:
        """One sentence: which classes are judged by their own objects, and which by all of an image."""
        labels = self.annotations.labels
        if labels is None:
            return f"{name}: a class is judged by the objects that are called as it is, or else by all of the image's"
        classes: dict[str, None] = {}
        by_word = {word: label for label in sorted(labels) for word in words_of(label)}
        for index in range(len(self._labels.names)):
            found = self._names_of(index) & by_word.keys()
            classes.update(dict.fromkeys(by_word[word] for word in sorted(found)))
        if not classes:
            return (
                f"{name}: no label in it is a class of the network, so all that is marked in an image counts together"
            )
        shown = list_some([f"'{escape_text(label, 40)}'" for label in classes], 3)
        more = f"{len(classes)} of its {len(labels)} labels are classes of the network ({shown})"
        return f"{name}: {more}; other classes are judged by all that is marked in an image"

    def _shared_entry(self, place: str, first: str, second: str) -> UsageError:
        shown = f"'{escape_text(first, 100)}' as well as '{escape_text(second, 100)}'"
        what = f"{escape_text(self.annotations.name, 100)}: '{escape_text(place, 100)}' is {shown}"
        fix = "Write enough of the path before each name to tell the images apart."
        return UsageError(what, where=WHERE, fix=fix)
