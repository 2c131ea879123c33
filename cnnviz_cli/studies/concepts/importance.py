"""What each concept adds to a score: exactly where a head averages maps and weighs them, else by Sobol's indices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnviz_cli.core.concept_records import DESIGNS
from cnnviz_cli.core.draws import generator

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shares:
    """Of what the logit of each image is the sum: ``concepts.sum(1) + rest + bias == logit``.

    Attributes:
        concepts: (B, k) what each concept adds.
        rest: (B,) what the maps add that no concept explains.
        bias: (B,) the head's own.
        logit: (B,) the network's.
    """

    concepts: Doubles
    rest: Doubles
    bias: Doubles
    logit: Doubles


def head_shares(
    codes: Tensor, basis: NDArray[np.float32], maps: Tensor, class_weights: Tensor, logits: Tensor
) -> Shares:
    """The exact share of each concept in a logit w . mean(A) + b, A the maps that the head averages.

    With A = U H + rest it is the sum over concepts of mean(U_k) (H_k . w), of mean(rest) . w and of b. The bias is what
    the logit has beyond w . mean(A).

    Args:
        codes: (B, k, h, w), `Dictionary.encode_maps` of the maps.
        basis: (k, C).
        maps: (B, C, h, w) of the layer that the head averages.
        class_weights: (B, C), the head's weights for the class that each image is asked for.
        logits: (B,) of those classes, the network's.
    """
    weights, logit = (_double(each) for each in (class_weights, logits))
    averages, present = _double(maps).mean((2, 3)), _double(codes).mean((2, 3))
    directions = _double(torch.from_numpy(basis))
    concepts = present * (weights @ directions.T)
    rest = ((averages - present @ directions) * weights).sum(1)
    bias = logit - (averages * weights).sum(1)
    return Shares(*(each.numpy() for each in (concepts, rest, bias, logit)))


def _double(values: Tensor) -> Tensor:
    return values.detach().to(device="cpu", dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Sobol:
    """How a score depends on the presence of each concept, from 0, taken away, to 1, as it is.

    Attributes:
        total: (k,) Sobol's total index: the share of the score's variance that a concept has a part in, by itself or
            with others. 0 for all if the score does not vary.
        effects: (k,) by how much the score rises as a concept goes from absent to present, on average over the others'
            presence; with a linear tail its exact share.
        whole: the score with all concepts, the network's own.
        without: the score with none, of the rest alone.
        passes: how many maps the tail was given.
    """

    total: Doubles
    effects: Doubles
    whole: float
    without: float
    passes: int


def sobol(
    codes: Tensor,
    basis: NDArray[np.float32],
    maps: Tensor,
    tail: Callable[[Tensor], Tensor],
    *,
    designs: int = DESIGNS,
    batch: int = 32,
    seed: int = 0,
) -> Sobol:
    """Sobol's total indices of one image's concepts, as CRAFT has them (Fel et al. 2023, Jansen 1999).

    Each pass multiplies the map of each concept by a number of a scrambled Halton sequence. What the concepts do not
    explain stays in every pass. `designs` x (k + 2) passes, and two more for both ends.

    Args:
        codes: (k, h, w).
        basis: (k, C).
        maps: (C, h, w) of the layer.
        tail: the (B,) scores of (B, C, h, w) maps; it gets `batch` at most.
        seed: of the scrambling.
    """
    count = len(codes)
    first, second = (half.astype(np.float64) for half in np.split(scrambled_halton(designs, 2 * count, seed), 2, 1))
    swapped = np.repeat(first[None], count, 0)
    for one in range(count):
        swapped[one, :, one] = second[:, one]
    ends = np.stack([np.ones(count), np.zeros(count)])
    masks = np.concatenate([ends, first, second, swapped.reshape(-1, count)])
    directions = torch.as_tensor(basis, device=codes.device)
    rest = maps - torch.einsum("khw,kc->chw", codes, directions)

    def scores() -> Iterator[Doubles]:
        for start in range(0, len(masks), batch):
            presence = torch.as_tensor(masks[start : start + batch], device=codes.device).to(codes.dtype)
            changed = torch.einsum("bk,khw,kc->bchw", presence, codes, directions)
            yield _double(tail(changed + rest)).numpy()

    found = np.concatenate(list(scores()))
    (whole, without), plain = found[:2], found[2 : 2 + designs]
    other, turned = found[2 + designs : 2 + 2 * designs], found[2 + 2 * designs :].reshape(count, designs)
    total = total_indices(plain, other, turned)
    steps = (second - first).T
    rises = (turned - plain) * steps
    effects = rises.sum(1) / np.square(steps).sum(1)
    return Sobol(total, effects, float(whole), float(without), len(masks))


def total_indices(first: Doubles, second: Doubles, turned: Doubles) -> Doubles:
    """Jansen's estimator of the total index of each of k inputs: E(f(A) - f(A_k))^2 / 2 Var f.

    Args:
        first: (N,) f at the points A.
        second: (N,) f at the points B, which the variance is taken of, too.
        turned: (k, N) f at A with the k-th coordinate of B.
    """
    variance = float(np.concatenate([first, second]).var(ddof=1))
    scale = max(float(np.abs(first).max()), float(np.abs(second).max()))
    if variance <= (1e-12 * scale) ** 2:
        return np.zeros(len(turned))
    halves: Doubles = np.square(turned - first).mean(1) / 2 / variance
    return halves


def scrambled_halton(count: int, dimensions: int, seed: int) -> Doubles:
    """(count, dimensions) points of Halton's sequence in [0, 1), the digits of each base permuted (Owen 2017).

    As it was published, bases over `count` leave half of the interval out and neighbours are nearly equal: of 32 points
    to base 71 all lie below 0.45.
    """
    draws = generator(seed, 0)
    return np.stack(
        [
            radical_inverse(
                np.arange(count),
                base,
                [torch.randperm(base, generator=draws, dtype=torch.int64, device="cpu").numpy() for _ in range(digits)],
            )
            for base, digits in zip(primes(dimensions), map(digits_of, primes(dimensions)), strict=True)
        ],
        1,
    )


def radical_inverse(numbers: NDArray[np.int64], base: int, permutations: list[NDArray[np.int64]]) -> Doubles:
    """Each number's digits to `base`, permuted, behind the point: van der Corput's sequence.

    Args:
        permutations: of each digit that is written, the lowest first.
    """
    left, found, weight = np.array(numbers), np.zeros(len(numbers)), 1.0
    for permutation in permutations:
        weight /= base
        found += permutation[left % base] * weight
        left //= base
    return found


def digits_of(base: int) -> int:
    """Digits to `base` that a double has room for."""
    return int(np.ceil(54 / np.log2(base))) - 1


def primes(count: int) -> list[int]:
    """The first so many."""
    found: list[int] = []
    number = 2
    while len(found) < count:
        if all(number % one for one in found):
            found.append(number)
        number += 1
    return found
