"""Which images of a folder excite the channels of layers most, and what objectives come to in each of them."""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from math import inf, isfinite
from typing import Any, NamedTuple, Self

from cnnviz_cli.core.fold import Fold
from cnnviz_cli.core.value import value

MOST_PATCHES = 9
"""Patches that are kept of each channel, of as many images, where nothing else is said."""

MOST_NUMBERS = 1 << 22
"""Numbers that are kept for percentiles: all there are while they are fewer. Of more, those of the images with the
smallest digests, which is a fair sample and the same one in every order."""


class Peak(NamedTuple):
    """The strongest position of a channel in one image: its value, row and column; and the mean of the map, by which
    images are ordered whose values are equal, as where a rectifier saturates."""

    value: float
    row: int
    column: int
    mean: float = 0.0


@value
class Answers:
    """What a network answers to one image.

    Attributes:
        name: of the image, unlike that of any other.
        sha256: of its file.
        peaks: one for each channel that is asked for, the same channels for every image.
        scores: what each objective comes to; the same objectives for every image.
    """

    name: str
    sha256: str
    peaks: tuple[Peak, ...] = ()
    scores: tuple[float, ...] = ()


@value
class Unread:
    """An image that could not be shown to the network."""

    name: str
    sha256: str = ""


class Example(NamedTuple):
    """One of the strongest patches of a channel; the order is that of sheets, the strongest first.

    Of equal values that with the larger mean comes first, then the smaller digest, which depends on no order of files.
    """

    lowness: float
    thinness: float
    sha256: str
    row: int
    column: int
    name: str

    @property
    def value(self) -> float:
        return 0.0 - self.lowness


@value
class Strongest:
    """What a folder has shown.

    Attributes:
        images: how many could be shown to the network.
        unread: names of the others.
        examples: for each channel, the strongest first; of any two another file.
        scores: for each objective (n,) what it comes to in the images that are compared with.
        bounds: for each objective the lowest and the highest of all images.
    """

    images: int
    unread: tuple[str, ...]
    examples: tuple[tuple[Example, ...], ...]
    scores: tuple[tuple[float, ...], ...]
    bounds: tuple[tuple[float, float], ...]


class StrongestPatches(Fold[Answers | Unread, Strongest]):
    """The strongest patches of each channel, one of an image at the most, and the scores of images.

    Memory does not grow with the number of images: a channel keeps `most_patches`, all objectives together
    `most_numbers` numbers. Files of the same bytes are one image where patches are kept, and two where images are
    counted.
    """

    name = "strongest"

    def __init__(self, most_numbers: int = MOST_NUMBERS, most_patches: int = MOST_PATCHES) -> None:
        self._most_numbers, self._most_patches = most_numbers, most_patches
        self._images = 0
        self._unread: set[str] = set()
        self._kept: list[list[Example]] = []
        # A heap with the largest digest in front: what leaves first where there are too many.
        self._scores: list[_Scored] = []
        self._bounds: list[tuple[float, float]] = []

    def add(self, item: Answers | Unread) -> None:
        if isinstance(item, Unread):
            self._unread.add(item.name)
            return
        self._images += 1
        self._kept = self._kept or [[] for _ in item.peaks]
        for kept, peak in zip(self._kept, item.peaks, strict=True):
            # Most images are far from the strongest, and are done with here.
            if len(kept) < self._most_patches or -peak.value <= kept[-1].lowness:
                self._keep(kept, _example(item.name, item.sha256, peak))
        self._bound((score, score) for score in item.scores)
        if item.scores:
            self._score(_Scored((item.sha256, item.name), item.scores))

    def add_strong(self, name: str, sha256: str, peaks: Mapping[int, Peak], channels: int) -> None:
        """Add an image of whose `channels` only those in `peaks` may be among the strongest, see `floor`."""
        self._images += 1
        self._kept = self._kept or [[] for _ in range(channels)]
        for channel, peak in peaks.items():
            self._keep(self._kept[channel], _example(name, sha256, peak))

    def floor(self, channel: int) -> float:
        """The value that a peak of a channel has to reach to be kept; minus infinity while every one is."""
        kept = self._kept[channel]
        return kept[-1].value if len(kept) == self._most_patches else -inf

    def merge(self, other: Self) -> None:
        self._images += other._images
        self._unread |= other._unread
        self._kept = self._kept or [[] for _ in other._kept]
        for kept, others in zip(self._kept, other._kept, strict=bool(other._kept)):
            for one in others:
                self._keep(kept, one)
        self._bound(other._bounds)
        for scored in other._scores:
            self._score(scored)

    @classmethod
    def merge_all(cls, folds: Iterable[Self]) -> Self:
        """The folds of several processes, merged; all keep as many patches and as many numbers."""
        whole: Self | None = None
        for fold in folds:
            whole = whole or cls(fold._most_numbers, fold._most_patches)
            whole.merge(fold)
        return whole or cls()

    def finish(self) -> Strongest:
        ordered = sorted(self._scores, reverse=True)
        return Strongest(
            images=self._images,
            unread=tuple(sorted(self._unread)),
            examples=tuple(map(tuple, self._kept)),
            scores=tuple(zip(*(one.scores for one in ordered), strict=True)),
            bounds=tuple(self._bounds),
        )

    def to_state(self) -> Any:
        # An image may be among the strongest of thousands of channels, and is written once.
        files = sorted({(one.sha256, one.name) for kept in self._kept for one in kept})
        number = {file: at for at, file in enumerate(files)}
        return {
            "images": self._images,
            "unread": sorted(self._unread),
            "files": [list(file) for file in files],
            "kept": [
                [[one.lowness, one.thinness, number[one.sha256, one.name], one.row, one.column] for one in kept]
                for kept in self._kept
            ],
            "scores": [[*one.key, list(one.scores)] for one in sorted(self._scores, reverse=True)],
            "bounds": [list(one) for one in self._bounds],
            "most": self._most_numbers,
            "patches": self._most_patches,
        }

    @classmethod
    def from_state(cls, state: Any) -> Self:
        try:
            made = cls(_count(state["most"]), _count(state["patches"]))
            made._images = _count(state["images"])
            made._unread = {_text(name) for name in state["unread"]}
            files = [(_text(sha256), _text(name)) for sha256, name in state["files"]]
            made._kept = [
                [
                    Example(
                        _number(low), _number(thin), files[_count(file)][0], _count(row), _count(column), files[file][1]
                    )
                    for low, thin, file, row, column in kept
                ]
                for kept in state["kept"]
            ]
            made._bounds = [(_number(low), _number(high)) for low, high in state["bounds"]]
            for sha256, name, scores in state["scores"]:
                made._score(_Scored((_text(sha256), _text(name)), tuple(map(_number, scores))))
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"not what a folder has shown: {error}") from error
        if any(kept != sorted(kept) or len(kept) > made._most_patches for kept in made._kept):
            raise ValueError("not what a folder has shown: its patches are in no order")
        return made

    def _keep(self, kept: list[Example], one: Example) -> None:
        """Put one among the strongest, if it is; of files with the same bytes the first in the order stays."""
        for place, known in enumerate(kept):
            if known.sha256 == one.sha256:
                if one < known:
                    kept[place] = one
                    kept.sort()
                return
        insort(kept, one)
        del kept[self._most_patches :]

    def _bound(self, found: Iterable[tuple[float, float]]) -> None:
        found = list(found)
        if not self._bounds:
            self._bounds = found
        elif found:
            pairs = zip(self._bounds, found, strict=True)
            self._bounds = [(min(one[0], two[0]), max(one[1], two[1])) for one, two in pairs]

    def _score(self, scored: _Scored) -> None:
        most = max(1, self._most_numbers // len(scored.scores))
        if len(self._scores) < most:
            heapq.heappush(self._scores, scored)
        else:
            heapq.heappushpop(self._scores, scored)


class _Scored:
    """The scores of one image, the largest digest first in the order."""

    __slots__ = ("key", "scores")

    def __init__(self, key: tuple[str, str], scores: Sequence[float]) -> None:
        self.key, self.scores = key, tuple(scores)

    def __lt__(self, other: _Scored) -> bool:
        return self.key > other.key


def _example(name: str, sha256: str, peak: Peak) -> Example:
    return Example(0.0 - peak.value, 0.0 - peak.mean, sha256, peak.row, peak.column, name)


def _number(found: Any) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float) or not isfinite(found):
        raise TypeError(f"{found!r} is no number")
    return float(found)


def _count(found: Any) -> int:
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise TypeError(f"{found!r} is no count")
    return found


def _text(found: Any) -> str:
    if not isinstance(found, str):
        raise TypeError(f"{found!r} is no text")
    return found
