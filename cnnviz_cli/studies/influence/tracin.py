"""How each training image moves the loss of another image, by the gradients of the last layer alone.

Pruthi, Liu, Sundararajan & Kale, "Estimating Training Data Influence by Tracing Gradient Descent" (2020): a step of
gradient descent on one training image changes the loss of another one by minus the learning rate times the dot product
of their gradients. Over one checkpoint, of the last layer alone and with a learning rate of 1 there is a closed form:
of a layer z = W a + b the gradient of a cross entropy is the outer product of p - y and (a, 1), so that

    influence(train, image) = (p - y)_train . (p - y)_image x (a_train . a_image + 1)

without the 1 where the layer has no bias. Positive: a step on the training image would have made the image's loss
smaller, it helped. Negative: it harmed.

All is reckoned in double precision from the features that a network gave in single. Probabilities are not kept beside
the features: they follow from them, and of a thousand classes they would be as large. What is ranked are sums in a
fixed order, so that the same images come out whatever the number of threads; products of matrices only tell which
images come into question.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

DIGITS = 9
"""Significant digits of an influence: those that no order of adding up changes."""

CHUNK_NUMBERS = 1 << 22
"""The most probabilities that are reckoned at a time: 32 MiB of them."""

MOST_ROWS = 4096
"""The most training images that are looked at together."""

_NOISE = 1e-12
"""Of the product of the lengths of two gradients: a smaller dot product is what rounding left of a zero."""

_ROUNDING, _SLACK = 1e-13, 1e-8
"""By how much a product of matrices may miss a sum in a fixed order, of the product of the lengths and of the value."""


@value
class Head:
    """The last layer, and the loss that its scores are taken to be trained with.

    Of a softmax the loss is the cross entropy with an image's class. Of sigmoids it is the sum of each class's binary
    cross entropy, where an image has the class that is known of it and no other. Of one score it is a binary cross
    entropy, and there are two classes: 0 for no, 1 for yes.

    Attributes:
        weight: (K, C).
        bias: (K,), or None.
        sigmoid: whether each score has a probability by itself.
    """

    weight: Floats
    bias: Floats | None
    sigmoid: bool

    @property
    def scores_one(self) -> bool:
        """Whether there is one score, for yes."""
        return len(self.weight) == 1

    @property
    def classes(self) -> int:
        return 2 if self.scores_one else len(self.weight)

    @property
    def extra(self) -> float:
        """What the bias adds to a dot product of features."""
        return 0.0 if self.bias is None else 1.0

    @property
    def rows(self) -> int:
        """How many training images are looked at together."""
        return max(1, min(MOST_ROWS, CHUNK_NUMBERS // len(self.weight)))

    def probabilities(self, features: Floats) -> Floats:
        """(n, K) of (n, C) features."""
        scores = features @ self.weight.T
        if self.bias is not None:
            scores = scores + self.bias
        if self.sigmoid or self.scores_one:
            return np.asarray(np.exp(-np.logaddexp(0.0, -scores)))
        raised = np.exp(scores - scores.max(1, keepdims=True))
        return np.asarray(raised / raised.sum(1, keepdims=True))

    def class_probabilities(self, features: Floats) -> Floats:
        """(n, `classes`): of one score those of no and of yes."""
        found = self.probabilities(features)
        return np.concatenate([1 - found, found], 1) if self.scores_one else found

    def residuals(self, features: Floats, classes: Ints) -> Floats:
        """(n, K) the loss's gradient at the scores, p - y, of training images of these classes."""
        return self._less_truth(self.probabilities(features), classes)

    def asked(self, features: Floats, targets: Ints) -> Floats:
        """(n, K) the same of images that are explained for these classes. Under sigmoids only the target counts: what
        else is in the image is not known."""
        found = self._less_truth(self.probabilities(features), targets)
        if self.sigmoid and not self.scores_one:
            only = np.zeros_like(found)
            at = np.arange(len(found))
            only[at, targets] = found[at, targets]
            return only
        return found

    def _less_truth(self, found: Floats, classes: Ints) -> Floats:
        if self.scores_one:
            return found - classes[:, None]
        found = found.copy()
        found[np.arange(len(found)), classes] -= 1.0
        return found


class Parts(NamedTuple):
    """An influence and what it is the product of.

    Attributes:
        value: `residuals` x `features`, to `DIGITS` digits.
        residuals: dot product of the two p - y.
        features: dot product of the two (a, 1).
        pull: cosine of the two p - y, from -1 to 1: whether both images move the scores the same way.
        likeness: cosine of the two a: how much alike the network finds the images.
    """

    value: float
    residuals: float
    features: float
    pull: float
    likeness: float


def round_digits(number: float) -> float:
    """A number to `DIGITS` significant digits, never a negative zero."""
    return float(f"{number:.{DIGITS}g}") + 0.0


def parts_of(features: Floats, residuals: Floats, other: Floats, asked: Floats, extra: float) -> Parts:
    """The influence of one image on another, in sums of a fixed order: (C,) features and (K,) p - y of each."""
    dot, length, other_length = float((features * other).sum()), _length(features), _length(other)
    pull, size, other_size = float((residuals * asked).sum()), _length(residuals), _length(asked)
    whole = pull * (dot + extra)
    scale = size * other_size * float(np.hypot(length, extra) * np.hypot(other_length, extra))
    return Parts(
        value=round_digits(whole) if abs(whole) > _NOISE * scale else 0.0,
        residuals=round_digits(pull),
        features=round_digits(dot + extra),
        pull=_cosine(pull, size * other_size),
        likeness=_cosine(dot, length * other_length),
    )


def _length(vector: Floats) -> float:
    return float(np.sqrt((vector * vector).sum()))


def _cosine(dot: float, lengths: float) -> float:
    return round(min(1.0, max(-1.0, dot / lengths)), 6) + 0.0 if lengths else 0.0


@value
class Training:
    """What is known of training images beside their features, an entry a row.

    Attributes:
        classes: (n,) the class that is true of each.
        digests: of each one's file.
        first: (n,) whether no row before has the same digest and the same class. Others are copies, and count once.
        copies: (n,) of the first of its kind, how many rows there are of it.
        contradicted: (n,) whether there is a row with the same digest and another class.
    """

    classes: Ints
    digests: Sequence[str]
    first: NDArray[np.bool_]
    copies: Ints
    contradicted: NDArray[np.bool_]

    @classmethod
    def of(cls, classes: Sequence[int], digests: Sequence[str]) -> Training:
        """Find copies and contradictions."""
        seen: dict[tuple[str, int], int] = {}
        labels: dict[str, int] = {}
        several: set[str] = set()
        first, copies = np.zeros(len(digests), bool), np.zeros(len(digests), np.int64)
        for row, (digest, index) in enumerate(zip(digests, classes, strict=True)):
            at = seen.setdefault((digest, index), row)
            first[at] = True
            copies[at] += 1
            if labels.setdefault(digest, index) != index:
                several.add(digest)
        contradicted = np.array([digest in several for digest in digests], bool)
        return cls(np.asarray(classes, np.int64), tuple(digests), first, copies, contradicted)


class Neighbour(NamedTuple):
    """A training image and its influence; in the order of figures, the strongest first, then by digest."""

    strength: float
    digest: str
    row: int
    parts: Parts


@dataclass(slots=True)
class Found:
    """What training images do to one explained image.

    Attributes:
        helpful: the most helpful ones, the strongest first.
        harmful: the most harmful ones.
        help: the sum of all positive influences, copies among them.
        harm: the sum of all negative ones, negative.
        helping: how many are positive.
        harming: how many are negative.
    """

    helpful: list[Neighbour] = field(default_factory=list)
    harmful: list[Neighbour] = field(default_factory=list)
    help: float = 0.0
    harm: float = 0.0
    helping: int = 0
    harming: int = 0


def find_influential(
    head: Head,
    chunks: Iterable[NDArray[np.float32]],
    training: Training,
    features: Floats,
    targets: Ints,
    most: int,
) -> list[Found]:
    """Of explained images, (m, C) features and (m,) targets, the training images that helped and harmed most.

    Args:
        chunks: consecutive rows of the (n, C) training features, in order.
        most: how many of each sign are kept.
    """
    asked = head.asked(features, targets)
    lengths = np.sqrt((features**2).sum(1) + head.extra) * np.sqrt((asked**2).sum(1))
    found = [Found() for _ in targets]
    row = 0
    for chunk in chunks:
        rows = np.arange(row, row + len(chunk))
        row += len(chunk)
        given = chunk.astype(np.float64)
        residuals = head.residuals(given, training.classes[rows])
        values = (residuals @ asked.T) * (given @ features.T + head.extra)
        sizes = np.sqrt((given**2).sum(1) + head.extra) * np.sqrt((residuals**2).sum(1))
        scales = sizes[:, None] * lengths
        values[np.abs(values) <= _NOISE * scales] = 0.0
        for number, one in enumerate(found):
            column = values[:, number]
            one.help += float(column[column > 0].sum())
            one.harm += float(column[column < 0].sum())
            one.helping += int((column > 0).sum())
            one.harming += int((column < 0).sum())
            slack = _SLACK * np.abs(column) + _ROUNDING * scales[:, number]
            for sign, kept in ((1, one.helpful), (-1, one.harmful)):
                for at in _candidates(sign * column, slack, training.first[rows], kept, most):
                    parts = parts_of(given[at], residuals[at], features[number], asked[number], head.extra)
                    if sign * parts.value > 0:
                        _keep(kept, _neighbour(sign * parts.value, training, int(rows[at]), parts), most)
    return found


@dataclass(slots=True)
class Survey:
    """What training images do by themselves.

    Attributes:
        suspects: those with the highest influence on themselves, the highest first: their labels may be wrong.
        right: of how many the network finds the class likeliest that is true of them.
        values: of each row its influence on itself.
    """

    suspects: list[Neighbour]
    right: int
    values: Floats


def survey_training(head: Head, chunks: Iterable[NDArray[np.float32]], training: Training, most: int) -> Survey:
    """Look for labels that may be wrong.

    The influence of an image on itself is the squared length of its own gradient, as if it were explained for its
    class. So under sigmoids only its own class counts, (1 - p)^2 (|a|^2 + 1): what else is in the image is not known,
    and of a thousand classes the others would outweigh it.
    """
    kept: list[Neighbour] = []
    every: list[Floats] = [np.zeros(0)]
    row = right = 0
    for chunk in chunks:
        rows = np.arange(row, row + len(chunk))
        row += len(chunk)
        given, classes = chunk.astype(np.float64), training.classes[rows]
        right += int((head.class_probabilities(given).argmax(1) == classes).sum())
        residuals = head.asked(given, classes)
        values = (residuals**2).sum(1) * ((given**2).sum(1) + head.extra)
        every.append(values)
        for at in _candidates(values, _SLACK * values, training.first[rows], kept, most) if most else ():
            parts = parts_of(given[at], residuals[at], given[at], residuals[at], head.extra)
            _keep(kept, _neighbour(parts.value, training, int(rows[at]), parts), most)
    return Survey(kept, right, np.concatenate(every))


def _candidates(
    values: Floats, slack: Floats, first: NDArray[np.bool_], kept: Sequence[Neighbour], most: int
) -> list[int]:
    """Which rows may be among the highest `most`: all whose value, or a little more, reaches the last one's."""
    upper = np.where(first & (values > 0), values + slack, -np.inf)
    bar = kept[-1].strength if len(kept) == most else 0.0
    if len(values) > most:
        lower = np.where(first, values - slack, -np.inf)
        bar = max(bar, float(np.partition(lower, -most)[-most]))
    found: list[int] = np.flatnonzero((upper >= bar) & np.isfinite(upper)).tolist()
    return found


def _neighbour(strength: float, training: Training, row: int, parts: Parts) -> Neighbour:
    return Neighbour(strength, training.digests[row], row, parts)


def _keep(kept: list[Neighbour], new: Neighbour, most: int) -> None:
    kept.append(new)
    kept.sort(key=lambda one: (-one.strength, one.digest, one.row))
    del kept[most:]
