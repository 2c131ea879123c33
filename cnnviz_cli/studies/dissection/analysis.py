"""What overlaps say: each channel's label, each label's channels, and how much of it is chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli.core.dissection_records import ChanceRange, ChannelOverlap, DissectedLabel, DissectedLayer
from cnnviz_cli.studies.dissection.overlap import Overlap

SHOWN = 3
"""Channels of a label that are named."""

NONE = -1


@dataclass(frozen=True)
class LayerResult:
    """What was found of a layer's channels.

    Attributes:
        units: the C channels' numbers in their layer.
        thresholds: (C,) of each.
        iou: (C, L) with each label.
        label: (C,) the number of each channel's best label; `NONE` of one that overlaps with none.
        detector: (C,) whether it is a detector of it.
        counts: (C, 2) pixels of the intersection with that label and of the union.
        record: the same for people.
    """

    units: tuple[int, ...]
    thresholds: NDArray[np.float32]
    iou: NDArray[np.float64]
    label: NDArray[np.intp]
    detector: NDArray[np.bool_]
    counts: NDArray[np.int64]
    record: DissectedLayer

    def best_channel(self, label: int) -> int:
        """Which of the C overlaps most with a label; `NONE` where none does."""
        column = self.iou[:, label]
        best = int(column.argmax())
        return best if column[best] > 0 else NONE

    def detectors_of(self, label: int) -> list[int]:
        """Which of the C are detectors of a label, best first."""
        found = np.flatnonzero(self.detector & (self.label == label))
        return [int(one) for one in found[np.argsort(-self.iou[found, label], kind="stable")]]


def analyse(
    layer: str,
    units: Sequence[int],
    thresholds: NDArray[np.float32],
    overlap: Overlap,
    labels: Sequence[str],
    images: Sequence[int],
    limit: float,
) -> LayerResult:
    """What the overlaps of a layer say.

    Args:
        images: for each label in how many images it is marked.
        limit: the intersection over union from which on a channel is a detector of its best label. Of labels that are
            equally good the first counts.
    """
    iou = overlap.iou()
    label, detector = _assign(iou, limit)
    shuffles = range(1, len(overlap.both))
    by_chance, highest = [], []
    for shuffle in shuffles:
        shuffled = overlap.iou(shuffle)
        assigned, found = _assign(shuffled, limit)
        by_chance.append(np.bincount(assigned[found], minlength=len(labels)))
        highest.append(shuffled.max(0))
    counts = np.bincount(label[detector], minlength=len(labels))
    made = []
    for number, name in enumerate(labels):
        order = np.argsort(-iou[:, number], kind="stable")[:SHOWN]
        best = [ChannelOverlap(unit=units[at], iou=_rounded(iou[at, number])) for at in order if iou[at, number] > 0]
        reached = [float(one[number]) for one in highest]
        made.append(
            DissectedLabel(
                label=name,
                images=images[number],
                pixels=int(overlap.marked[0, number]),
                channels=best,
                chance=ChanceRange(lowest=_rounded(min(reached)), highest=_rounded(max(reached))) if reached else None,
                detectors=int(counts[number]),
                detectors_by_chance=_rounded(np.mean([one[number] for one in by_chance])) if by_chance else None,
            )
        )
    made.sort(key=lambda one: -one.channels[0].iou if one.channels else 1.0)
    at = np.maximum(label, 0)
    both = np.take_along_axis(overlap.both[0], at[:, None], 1)[:, 0] * (label != NONE)
    union = overlap.excited + overlap.marked[0][at] * (label != NONE) - both
    record = DissectedLayer(
        layer=layer,
        channels=len(units),
        detectors=int(detector.sum()),
        detectors_by_chance=_rounded(np.mean([one.sum() for one in by_chance])) if by_chance else None,
        silent=int((overlap.excited == 0).sum()),
        labels=made,
    )
    return LayerResult(tuple(units), thresholds, iou, label, detector, np.stack([both, union], 1), record)


def _assign(iou: NDArray[np.float64], limit: float) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The best label of each channel, and whether it is a detector of it."""
    label = iou.argmax(1)
    value = iou[np.arange(len(iou)), label]
    return np.where(value > 0, label, NONE), (value >= limit) & (value > 0)


def _rounded(value: float | np.floating) -> float:
    return float(f"{float(value):.6g}")


class StrongestImages:
    """For each channel the images with its highest values, the highest first; of equal ones the first in the list."""

    def __init__(self, channels: int, most: int) -> None:
        self._values = np.full((channels, most), -np.inf, np.float32)
        self._images = np.full((channels, most), NONE, np.int64)

    def add(self, image: int, peaks: NDArray[np.float32]) -> None:
        """(C,) the highest values of an image; images come in the order of the list."""
        better = np.flatnonzero(peaks > self._values[:, -1])
        values = np.concatenate([self._values[better], peaks[better, None]], 1)
        images = np.concatenate([self._images[better], np.full((len(better), 1), image, np.int64)], 1)
        order = np.argsort(-values, axis=1, kind="stable")[:, :-1]
        self._values[better] = np.take_along_axis(values, order, 1)
        self._images[better] = np.take_along_axis(images, order, 1)

    def of(self, channel: int) -> list[int]:
        """The numbers of the images of a channel."""
        return [int(image) for image in self._images[channel] if image != NONE]
