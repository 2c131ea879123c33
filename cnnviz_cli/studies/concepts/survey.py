"""What a dictionary of concepts says of a folder: where each is strongest, and what it adds in every image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnviz_cli.core.rows import Rows
from cnnviz_cli.studies.concepts.dictionary import Dictionary
from cnnviz_cli.studies.concepts.importance import head_shares

ROWS, MAPS, SCORES, FRAME = "rows", "maps", "scores", "frame"
"""The tables of a folder: what is factorised, the positions of the maps, the scores of the classes, and of each image
height and width of the input and of its maps."""

CANDIDATES = 256
"""The rows with most of a concept among which places are chosen that differ."""

_CHUNK = 4096  # rows at a time
_BATCH = 32  # images at a time


class Tables(Protocol):
    """What the network has given of a folder; `files.output.feature_store.FeatureStore` is one."""

    @property
    def seen(self) -> NDArray[np.int64]: ...

    def counts(self, table: str) -> NDArray[np.int64]: ...

    def rows(self, table: str) -> Rows: ...

    def values(self, table: str, at: int) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Strongest:
    """Rows with much of something, the most first: their numbers, and how much they have."""

    rows: NDArray[np.int64]
    values: NDArray[np.float32]


class StrongestRows:
    """Keeps for each of several columns the rows with the highest values; of equal values the earlier row."""

    def __init__(self, columns: int, most: int = CANDIDATES) -> None:
        self._most = most
        self._rows = np.zeros((0, columns), np.int64)
        self._values = np.zeros((0, columns), np.float32)

    def add(self, start: int, values: NDArray[np.float32]) -> None:
        """(n, columns) values of the rows from `start` on."""
        numbers = np.arange(start, start + len(values), dtype=np.int64)[:, None].repeat(values.shape[1], 1)
        rows = np.concatenate([self._rows, numbers])
        whole = np.concatenate([self._values, values])
        order = np.argsort(-whole, axis=0, kind="stable")[: self._most]
        self._rows = np.take_along_axis(rows, order, 0)
        self._values = np.take_along_axis(whole, order, 0)

    def of(self, column: int) -> Strongest:
        """Those of a column that are above zero."""
        found = self._values[:, column] > 0
        return Strongest(self._rows[found, column], self._values[found, column])


@dataclass(frozen=True)
class RowSurvey:
    """Where in the rows each concept is strongest, and which rows are explained least.

    Attributes:
        concepts: of each concept.
        unexplained: by the length of what is left of a row.
        error: relative, over all rows.
        weights: (k,) the root mean square weight of each concept.
    """

    concepts: Sequence[Strongest]
    unexplained: Strongest
    error: float
    weights: NDArray[np.float64]


def survey_rows(dictionary: Dictionary, rows: Rows) -> RowSurvey:
    """Go through all rows once."""
    found, least = StrongestRows(dictionary.count), StrongestRows(1)
    squares = np.zeros(dictionary.count)
    start, left, whole = 0, 0.0, 0.0
    for chunk in rows.chunks(_CHUNK):
        values = torch.from_numpy(np.array(chunk))
        codes = dictionary.encode(values)
        rest = values.double() - dictionary.decode(codes.double())
        lengths = rest.square().sum(1)
        found.add(start, codes.numpy())
        least.add(start, lengths.sqrt().float().numpy()[:, None])
        squares += codes.double().square().sum(0).numpy()
        left, whole = left + float(lengths.sum()), whole + float(values.double().square().sum())
        start += len(chunk)
    return RowSurvey(
        [found.of(number) for number in range(dictionary.count)],
        least.of(0),
        float(np.sqrt(left / whole)) if whole else 0.0,
        np.sqrt(squares / max(1, start)),
    )


@dataclass(frozen=True)
class ImageSurvey:
    """What is known of every image that could be seen, in their order.

    Attributes:
        targets: the class that is explained.
        scores: of that class.
        peaks: (k,) the most of each concept at any position of any image.
        longest: the length of the longest position.
        errors: relative, over an image's positions.
        adds: (N, k) what concepts add; None where no linear head tells.
        bias, rest: (N,) of the score beside them.
    """

    targets: NDArray[np.int64]
    scores: NDArray[np.float64]
    peaks: NDArray[np.float32]
    longest: float
    errors: NDArray[np.float64]
    adds: NDArray[np.float64] | None
    bias: NDArray[np.float64] | None
    rest: NDArray[np.float64] | None

    def in_order(self, order: Sequence[int]) -> ImageSurvey:
        """The same of the concepts in another order."""
        at = np.asarray(order)
        return replace(self, peaks=self.peaks[at], adds=None if self.adds is None else self.adds[:, at])


def survey_images(
    dictionary: Dictionary, tables: Tables, targets: NDArray[np.int64], head: Tensor | None
) -> ImageSurvey:
    """Go through the maps of all images once.

    Args:
        targets: (N,) the class that is explained in each image.
        head: (K, C) the weights of a linear head that pools these maps.
    """
    count = len(tables.seen)
    peaks = np.zeros(dictionary.count, np.float32)
    scores, errors = np.zeros(count), np.zeros(count)
    bias, rest, adds = np.zeros(count), np.zeros(count), np.zeros((count, dictionary.count))
    longest, start = 0.0, 0
    for maps, given in _batches(tables):
        where = slice(start, start + len(maps))
        codes = dictionary.encode_maps(maps)
        peaks = np.maximum(peaks, codes.amax((0, 2, 3)).numpy())
        lengths = maps.double().square().sum(1)
        longest = max(longest, float(lengths.amax().sqrt()))
        left = residual_of(dictionary, codes, maps).square().sum((1, 2, 3))
        errors[where] = (left / lengths.sum((1, 2)).clamp(min=1e-300)).sqrt().numpy()
        chosen = torch.from_numpy(targets[where])
        logits = given.gather(1, chosen[:, None])[:, 0]
        scores[where] = logits.double().numpy()
        if head is not None:
            shares = head_shares(codes, dictionary.basis, maps, head[chosen], logits)
            adds[where], bias[where], rest[where] = shares.concepts, shares.bias, shares.rest
        start += len(maps)
    exact = head is not None
    return ImageSurvey(
        targets, scores, peaks, longest, errors,
        adds if exact else None, bias if exact else None, rest if exact else None,
    )  # fmt: skip


def residual_of(dictionary: Dictionary, codes: Tensor, maps: Tensor) -> Tensor:
    """(B, C, h, w) float64 what the concepts leave of maps."""
    basis = torch.as_tensor(dictionary.basis, dtype=torch.float64, device=maps.device)
    return maps.double() - torch.einsum("bkhw,kc->bchw", codes.double(), basis)


def maps_of(tables: Tables, at: int) -> Tensor:
    """(1, C, h, w) the maps of one image."""
    frame = tables.values(FRAME, at)[0]
    height, width = int(frame[2]), int(frame[3])
    values = torch.from_numpy(np.array(tables.values(MAPS, at)))
    return values.view(1, height, width, -1).permute(0, 3, 1, 2).contiguous()


def scores_of(tables: Tables, at: int) -> NDArray[np.float32]:
    """(K,) the scores of the classes in one image."""
    found: NDArray[np.float32] = tables.values(SCORES, at)[0]
    return found


def _batches(tables: Tables) -> Iterator[tuple[Tensor, Tensor]]:
    """The maps of images, and the scores of the classes in them; images with maps of one size together."""
    maps: list[Tensor] = []
    scores: list[Tensor] = []
    for at in map(int, tables.seen):
        one = maps_of(tables, at)
        if maps and (len(maps) == _BATCH or one.shape != maps[0].shape):
            yield torch.cat(maps), torch.stack(scores)
            maps, scores = [], []
        maps.append(one)
        scores.append(torch.from_numpy(np.array(scores_of(tables, at))))
    if maps:
        yield torch.cat(maps), torch.stack(scores)
