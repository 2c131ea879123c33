"""What is found of concepts at one layer, from images' inner products and the slopes of the class's score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnviz_cli.studies.tcav.cav import Fit, Vectors, accuracy, fit_vectors, leave_one_out
from cnnviz_cli.studies.tcav.statistics import (
    Scores,
    band_of,
    chance_of,
    cut_in_halves,
    draw_again,
    mean_interval,
    share_interval,
)

NEEDED = 0.7
"""The accuracy that a direction needs to be taken for the concept's."""

BOOTSTRAPS = 1000
"""The most often that all images are drawn again."""


@dataclass(frozen=True)
class HowToFit:
    """How directions are found, and how often by chance."""

    fit: Fit
    penalty: float
    cuts: int
    seed: int


@dataclass(frozen=True)
class Groups:
    """Which of a layer's images are which: the concepts' in turn, those without them, and those that the concepts are
    told apart from instead, if there are any."""

    concepts: Sequence[Tensor]
    against: Tensor
    instead: Tensor | None = None

    @property
    def others(self) -> Tensor:
        """What concepts are told apart from."""
        return self.against if self.instead is None else self.instead


@dataclass(frozen=True)
class Estimated:
    """A number, in which interval it lies, where random directions lie, and the p that is not corrected yet."""

    value: float
    interval: tuple[float, float]
    random: tuple[float, float]
    chance: float


@dataclass(frozen=True)
class Told:
    """A concept at one layer, before the class was asked about it.

    Attributes:
        weights: (n,) the direction, as a sum of all images' activations.
        typical: which of the concept's images its direction is surest of, that was fitted without them.
    """

    accuracy: float
    weights: Tensor
    bias: float
    typical: tuple[int, ...]

    @property
    def accepted(self) -> bool:
        return self.accuracy >= NEEDED


@dataclass(frozen=True)
class Verdict:
    """What the class has to do with a concept at one layer."""

    share: Estimated
    mean: Estimated
    magnitude: float


def tell_apart(products: Tensor, groups: Groups, how: HowToFit) -> list[Told]:
    """The direction of each concept, and how well it tells. `products`: (n, n) float64 of the layer's activations."""
    found = []
    for concept in groups.concepts:
        rows, labels = _sides(concept, groups.others)
        own = products[rows][:, rows]
        decisions = leave_one_out(own, labels, how.penalty, how.fit)
        vectors = fit_vectors(own, labels[None], how.penalty, how.fit)
        weights = _spread(vectors, rows, len(products))[0]
        surest = decisions[: len(concept)].sort(descending=True, stable=True).indices
        found.append(Told(accuracy(decisions, labels), weights, float(vectors.biases[0]), tuple(surest.tolist())))
    return found


def ask_class(
    products: Tensor, groups: Groups, told: Sequence[Told], slopes: Callable[[], Iterable[Tensor]], how: HowToFit
) -> list[Verdict | None]:
    """What the class has to do with each concept; None of one that cannot be told.

    Args:
        slopes: gives the class's images, some after the others: (m, n) their gradients' inner products with the
            activations.
    """
    count = len(products)
    cuts = cut_in_halves(len(groups.against), how.cuts, how.seed)
    own = products[groups.against][:, groups.against]
    parts = [_spread(fit_vectors(own, cuts, how.penalty, how.fit), groups.against, count)]
    drawn = min(how.cuts, BOOTSTRAPS)
    for number, (concept, one) in enumerate(zip(groups.concepts, told, strict=True)):
        if one.accepted:
            rows, labels = _sides(concept, groups.others)
            counts = draw_again(labels, drawn, how.seed + 1 + number)
            own = products[rows][:, rows]
            refitted = fit_vectors(own, labels.expand(drawn, -1), how.penalty, how.fit, counts)
            parts += [one.weights[None], _spread(refitted, rows, count)]
    weights = torch.cat(parts)
    scores = Scores.of(part.double() @ weights.T for part in slopes())
    null, at = scores.only(0, len(cuts)), len(cuts)
    found: list[Verdict | None] = []
    for one in told:
        if not one.accepted:
            found.append(None)
            continue
        itself, again = scores.only(at, at + 1), scores.only(at + 1, at + 1 + drawn)
        at += 1 + drawn
        share, mean = float(itself.share), float(itself.mean)
        found.append(
            Verdict(
                Estimated(share, share_interval(again), band_of(null.share, 0.5), chance_of(share, null.share, 0.5)),
                Estimated(mean, mean_interval(again), band_of(null.mean, 0.0), chance_of(mean, null.mean, 0.0)),
                float(itself.magnitude),
            )
        )
    return found


def _sides(concept: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    labels = torch.ones(len(concept) + len(others), dtype=torch.float64, device="cpu")
    labels[len(concept) :] = -1
    return torch.cat([concept, others]), labels


def _spread(vectors: Vectors, rows: Tensor, count: int) -> Tensor:
    """(B, count) the weights of vectors that some of all images make up."""
    found = torch.zeros(len(vectors.weights), count, dtype=torch.float64, device="cpu")
    found[:, rows] = vectors.weights
    return found
