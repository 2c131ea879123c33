"""What derivatives along a vector come to over the images of a class, and whether random vectors come to as much."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import torch
from torch import Tensor

from cnnviz_cli.core.draws import generator

ENDS = (0.025, 0.975)
"""The quantiles between which an interval of 95 % lies."""

STRATA = 399
"""Quantiles of the sampling of images that stand for it in an interval."""

EQUAL = 1e-9
"""What two scores may differ by, of their size, and count as equal: sums in another order differ in the last digits."""


@dataclass(frozen=True)
class Scores:
    """Of each of B vectors, sums over the m images of a class.

    Attributes:
        images: m.
        positive: (B,) in how many of them the derivative along the vector is above zero.
        total, squares: (B,) the sums of the derivatives and of their squares.
        upward, size: (B,) the sums of the positive derivatives, and of all their sizes.
    """

    images: int
    positive: Tensor
    total: Tensor
    squares: Tensor
    upward: Tensor
    size: Tensor

    @classmethod
    def of(cls, derivatives: Iterable[Tensor]) -> Scores:
        """The sums over (m, B) derivatives, some images after the other."""
        images, sums = 0, None
        for given in derivatives:
            part = given.double()
            images += len(part)
            above = part.clamp(min=0)
            found = torch.stack([(part > 0).double().sum(0), part.sum(0), part.square().sum(0), above.sum(0)])
            found = torch.cat([found, part.abs().sum(0)[None]])
            sums = found if sums is None else sums + found
        assert sums is not None, "a class of no images"
        return cls(images, *sums)

    def only(self, start: int, stop: int) -> Scores:
        """The same of some of the vectors."""
        parts = (self.positive, self.total, self.squares, self.upward, self.size)
        return Scores(self.images, *(part[start:stop] for part in parts))

    @property
    def share(self) -> Tensor:
        """(B,) of the images, how many have a derivative above zero: the score of Kim et al."""
        return self.positive / self.images

    @property
    def mean(self) -> Tensor:
        """(B,) the mean derivative."""
        return self.total / self.images

    @property
    def magnitude(self) -> Tensor:
        """(B,) sum |S+| / sum |S|: how much of all that the derivatives come to is above zero; NaN where all are 0."""
        return self.upward / self.size

    @property
    def deviation(self) -> Tensor:
        """(B,) the standard deviation of the derivatives over the images; 0 of one image."""
        spread = (self.squares - self.total.square() / self.images).clamp(min=0)
        return (spread / max(1, self.images - 1)).sqrt()


def cut_in_halves(count: int, number: int, seed: int) -> Tensor:
    """(N, count) labels of random halves of `count` images against the other half: 1, -1, and 0 for one image of an odd
    number. All halves there are, where these are no more than `number`; else so many by a seeded draw.

    A half and its complement are one cut: they give a vector and its opposite.
    """
    half = count // 2
    if count_cuts(count, number) < number:
        return torch.tensor(list(_every_cut(count)), dtype=torch.float64, device="cpu")
    labels = torch.zeros(number, count, dtype=torch.float64, device="cpu")
    for at in range(number):
        order = torch.randperm(count, generator=generator(seed, at), device="cpu", dtype=torch.int64)
        labels[at, order[:half]] = 1
        labels[at, order[half : 2 * half]] = -1
    return labels


def count_cuts(count: int, number: int) -> int:
    """How many cuts `cut_in_halves` makes of so many images, where so many are asked for."""
    return min(number, (count if count % 2 else 1) * comb(count - count % 2, count // 2) // 2)


def _every_cut(count: int) -> Iterator[list[float]]:
    for left_out in range(count) if count % 2 else [None]:
        rest = [one for one in range(count) if one != left_out]
        # The first image is always in the first half, so that no cut comes twice.
        for others in combinations(rest[1:], count // 2 - 1):
            labels = [-1.0] * count
            for one in (rest[0], *others):
                labels[one] = 1.0
            if left_out is not None:
                labels[left_out] = 0.0
            yield labels


def draw_again(labels: Tensor, number: int, seed: int) -> Tensor:
    """(N, n) how often each image is drawn when as many are drawn of each side, with replacement, as it has; at least
    two different ones of a side that has two, or there would be nothing that tells them apart."""
    counts = torch.zeros(number, len(labels), dtype=torch.float64, device="cpu")
    for at in range(number):
        draws = generator(seed, at)
        for side in (1, -1):
            members = (labels == side).nonzero()[:, 0]
            size = len(members)
            picked = torch.randint(size, (size,), generator=draws, device="cpu", dtype=torch.int64)
            counts[at].index_add_(0, members[picked], torch.ones(size, dtype=torch.float64, device="cpu"))
    return counts


def chance_of(observed: float, null: Tensor, middle: float) -> float:
    """The p of a permutation test: of the null's scores and the observed one, how many lie as far from the middle as
    that or farther, to either side."""
    distances = (null - middle).abs()
    distance = abs(observed - middle)
    as_far = distances >= distance - EQUAL * max(distance, float(distances.max()))
    return (1 + int(as_far.sum())) / (1 + len(null))


def holm(chances: Sequence[float]) -> list[float]:
    """Each p corrected for there being so many of them (Holm, 1979): at most a share of p of all such families of tests
    has one that is called significant by error, whether or not tests hang together."""
    order = sorted(range(len(chances)), key=lambda at: chances[at])
    found, largest = [0.0] * len(chances), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(chances) - rank) * chances[at]))
        found[at] = largest
    return found


def band_of(null: Tensor, middle: float) -> tuple[float, float]:
    """Between which two scores the middle 95 % of the null lie, where each counts with its opposite beyond the middle.

    A cut of a folder is no more one half against the other than the other against the one, and `chance_of` looks to
    either side as well: what lies outside the band has a p below 0.05, and the reverse, up to the band's rounding.
    """
    return middle_of(torch.cat([null, 2 * middle - null]))


def middle_of(scores: Tensor) -> tuple[float, float]:
    """Between which two of the scores the middle 95 % of them lie."""
    ends = torch.quantile(scores, torch.tensor(ENDS, dtype=torch.float64, device="cpu"))
    return float(ends[0]), float(ends[1])


def share_interval(drawn: Scores) -> tuple[float, float]:
    """An interval of 95 % for the share: over the vectors of folders that were drawn again, each with what Wilson's
    interval says of the sampling of the class's images. With one vector it is Wilson's interval."""
    sides, count = _strata(), drawn.images
    found = (
        drawn.positive[:, None]
        + sides.square() / 2
        + sides * (drawn.positive * (count - drawn.positive) / count)[:, None].add(sides.square() / 4).sqrt()
    ) / (count + sides.square())
    return middle_of(found.flatten())


def mean_interval(drawn: Scores) -> tuple[float, float]:
    """The same for the mean derivative, with the standard error over the class's images."""
    error = drawn.deviation / drawn.images**0.5
    return middle_of((drawn.mean[:, None] + _strata() * error[:, None]).flatten())


def _strata() -> Tensor:
    """Standard normal numbers that stand for equal shares of it."""
    places = (torch.arange(STRATA, dtype=torch.float64, device="cpu") + 0.5) / STRATA
    quantiles: Tensor = torch.special.ndtri(places)
    return quantiles
