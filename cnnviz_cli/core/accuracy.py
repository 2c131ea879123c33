"""How often a network is right, for images whose true class is known: counts, confusions, mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from cnnviz_cli.core.records import Accuracy, Confusion

MAX_CONFUSIONS = 10
"""How many pairs of classes are counted in a summary, the most frequent first."""

MAX_MISTAKES = 1000
"""How many mistakes are kept by name."""

_TOP_K = 5
_PRESENT_FROM = 0.5


class Mistake(NamedTuple):
    """An image that the network classifies wrongly, with the probabilities of both classes."""

    source: str
    truth: str
    predicted: str
    probability: float
    probability_of_truth: float


class AccuracyCounter:
    """Add the records of a run one by one, then ask for `accuracy`.

    Where classes exclude each other an image counts by its likeliest classes. Where each class has a probability by
    itself (`multilabel`) the likeliest one says nothing of another, so an image counts if its true class has at least
    one half. What has no probability (a value, a box, a region, a similarity) is neither right nor wrong.
    """

    def __init__(self, classes: int, *, multilabel: bool = False) -> None:
        self._multilabel = multilabel
        self._top5: int | None = 0 if classes > _TOP_K and not multilabel else None
        self._known = self._right = 0
        self._pairs: Counter[tuple[int, int]] = Counter()
        self._labels: dict[int, str] = {}
        self.mistakes: list[Mistake] = []

    def add(self, record: Mapping[str, Any]) -> None:
        """Count an image's record, as the manifest has it; without a truth or a probability it does not count."""
        truth, predictions = record.get("truth"), record.get("predictions") or []
        if not truth or not predictions or record.get("status") != "ok":
            return
        best = predictions[0]
        if any(one.get("probability") is None or one.get("box") or one.get("share") for one in (truth, best)):
            return
        self._known += 1
        right = truth["probability"] >= _PRESENT_FROM if self._multilabel else best["index"] == truth["index"]
        self._right += right
        if self._top5 is not None:
            self._top5 += any(one["index"] == truth["index"] for one in predictions[:_TOP_K])
        if right:
            return
        for one in (truth, best):
            self._labels[one["index"]] = one["label"]
        self._pairs[truth["index"], best["index"]] += 1
        if len(self.mistakes) < MAX_MISTAKES:
            self.mistakes.append(
                Mistake(record["source"], truth["label"], best["label"], best["probability"], truth["probability"])
            )

    @property
    def accuracy(self) -> Accuracy | None:
        """The accuracy of all records; None if none counted."""
        if not self._known:
            return None
        pairs = [] if self._multilabel else sorted(self._pairs.items(), key=lambda item: (-item[1], item[0]))
        return Accuracy(
            known=self._known,
            top1=None if self._multilabel else self._right,
            top5=self._top5,
            present=self._right if self._multilabel else None,
            confusions=[
                Confusion(
                    truth=self._labels[true],
                    truth_index=true,
                    predicted=self._labels[said],
                    predicted_index=said,
                    count=count,
                )
                for (true, said), count in pairs[:MAX_CONFUSIONS]
            ],
        )
