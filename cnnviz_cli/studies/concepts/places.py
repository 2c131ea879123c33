"""Where a row of numbers is from: which image, and which part of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli.core.geometry import Box, View
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.run.feature_pass import Crops
from cnnviz_cli.studies.concepts.basis import CLASSES
from cnnviz_cli.studies.concepts.survey import Strongest, Tables, scores_of

EXAMPLES = 6
"""Places that are shown of a concept."""

APART = 0.6
"""How far apart two places are, as a share of their side, to count as different."""

FROM_MANY = 12
"""Images from which on no more than `FROM_ONE` places of a concept are of the same image."""

FROM_ONE = 2
_FOREMOST = 12  # rows with most of a concept whose images have a say in what it is called
SHARE = 0.42  # of the shorter side that the part around a position has


@dataclass(frozen=True)
class Place:
    """A part of an image.

    Attributes:
        image: its number in the list.
        box: left, top, right and bottom, in pixels of the upright image.
        value: how much of something it has.
    """

    image: int
    box: Box
    value: float


@dataclass(frozen=True)
class Frame:
    """How the network saw an image: where its input lies, and height and width of its maps."""

    view: View
    maps: tuple[int, int]


def box_of_row(frame: Frame, number: int, crops: Crops | None) -> Box:
    """The part of the image that one of its rows is about: a crop, or the surroundings of a position."""
    view = frame.view
    width, height = view.size
    if crops is not None:
        y, x, length = crops.windows(height, width)[number]
        return _within(view.to_image((x, y, x + length, y + length)), view.image)
    rows, columns = frame.maps
    row, column = divmod(number, columns)
    side = SHARE * min(width, height)
    across, down = (column + 0.5) / columns * width, (row + 0.5) / rows * height
    left = min(max(0.0, across - side / 2), max(0.0, width - side))
    above = min(max(0.0, down - side / 2), max(0.0, height - side))
    return _within(view.to_image((left, above, left + side, above + side)), view.image)


def _within(box: Box, size: tuple[int, int]) -> Box:
    """What of a box lies on the image; at least a pixel of it."""
    left, top = min(max(0.0, box[0]), size[0] - 1.0), min(max(0.0, box[1]), size[1] - 1.0)
    return left, top, max(left + 1.0, min(box[2], float(size[0]))), max(top + 1.0, min(box[3], float(size[1])))


class Places:
    """Finds the places of rows."""

    def __init__(self, images: NDArray[np.int64], counts: NDArray[np.int64], crops: Crops | None) -> None:
        """`images` are the numbers of those that were seen, and `counts` how many rows each of them has."""
        self._images, self._crops = images, crops
        self._ends = np.cumsum(counts)

    def of(self, row: int) -> tuple[int, int]:
        """The image that a row is of, by its number in the list, and which of its rows it is."""
        place = int(np.searchsorted(self._ends, row, side="right"))
        start = int(self._ends[place - 1]) if place else 0
        return int(self._images[place]), row - start

    def choose(self, strongest: Strongest, frame_of: Callable[[int], Frame], most: int = EXAMPLES) -> list[Place]:
        """The strongest of some rows that are different places."""
        found: list[Place] = []
        many = len(self._images) >= FROM_MANY
        for row, value in zip(strongest.rows.tolist(), strongest.values.tolist(), strict=True):
            image, number = self.of(row)
            box = box_of_row(frame_of(image), number, self._crops)
            same = [one for one in found if one.image == image]
            if (many and len(same) >= FROM_ONE) or any(_near(box, one.box) for one in same):
                continue
            found.append(Place(image, box, value))
            if len(found) == most:
                break
        return found


def _near(one: Box, other: Box) -> bool:
    across = APART * min(one[2] - one[0], other[2] - other[0])
    down = APART * min(one[3] - one[1], other[3] - other[1])
    return abs(one[0] - other[0]) < across and abs(one[1] - other[1]) < down


def images_to_show(shares: NDArray[np.float64], most: int) -> Sequence[int]:
    """Which of N images stand on the sheet, in their order: for one concept after the other the image in which that
    has the largest part, until there are enough.

    Args:
        shares: (N, k) how much each concept does in each image, the most important concept first.
    """
    count = len(shares)
    if count <= most:
        return range(count)
    chosen: list[int] = []
    ranked = np.argsort(-shares, axis=0, kind="stable")
    for turn in range(count):
        for concept in range(shares.shape[1]):
            image = int(ranked[turn, concept])
            if image not in chosen:
                chosen.append(image)
            if len(chosen) == most:
                return sorted(chosen)
    return sorted(chosen)


def classes_of_rows(
    strongest: Sequence[Strongest], places: Places, tables: Tables, labels: Sequence[str], most: int = CLASSES
) -> list[list[str]]:
    """For each concept the likeliest classes of the images that have most of it, the most frequent first."""
    found = []
    for one in strongest:
        weights: dict[int, float] = {}
        for row, value in zip(one.rows[:_FOREMOST].tolist(), one.values.tolist(), strict=False):
            image, _ = places.of(row)
            index = int(np.argmax(scores_of(tables, image)))
            weights[index] = weights.get(index, 0.0) + value
        order = sorted(weights, key=lambda index: (-weights[index], index))[:most]
        found.append([escape_text(labels[index], 60) for index in order])
    return found
