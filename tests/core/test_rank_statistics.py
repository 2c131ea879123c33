"""Rank statistics by hand, by slow derivations, and as scipy and scikit-image have them."""

from __future__ import annotations

from itertools import permutations
from math import exp, isnan, log, nan

import numpy as np
import pytest

from cnnviz_cli.core.rank_statistics import (
    agreement_of_ranks,
    effective_share,
    gini,
    images_to_tell,
    krippendorff_alpha,
    mean_and_error,
    mid_ranks,
    pearson,
    spearman,
    ssim,
)

RNG = np.random.default_rng(0)

# Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011: four observers, twelve units.
OBSERVED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
    ]
)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert mid_ranks([3, 1, 3, 2, 3]).tolist() == [4, 1, 4, 2, 4]


def test_correlations_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for _ in range(5):
        left, right = RNG.integers(0, 6, 40), RNG.normal(size=40)
        assert mid_ranks(left).tolist() == stats.rankdata(left).tolist()
        assert spearman(left, right) == pytest.approx(stats.spearmanr(left, right).statistic, abs=1e-12)
        assert pearson(left, right) == pytest.approx(stats.pearsonr(left, right).statistic, abs=1e-12)


def test_a_constant_has_no_correlation_and_scale_changes_none() -> None:
    numbers, other = RNG.normal(size=30), RNG.normal(size=30)
    assert isnan(spearman(numbers, np.ones(30)))
    assert isnan(pearson(numbers, np.full(30, 1e-3)))
    assert isnan(spearman(numbers, np.where(np.arange(30) == 3, nan, other)))
    for scale in (1e-200, 1e200):
        assert pearson(numbers * scale, other) == pytest.approx(pearson(numbers, other), abs=1e-12)
    assert spearman(numbers, -(numbers**3)) == -1


def test_alpha_is_that_of_krippendorffs_own_example() -> None:
    assert krippendorff_alpha(OBSERVED) == pytest.approx(0.849, abs=5e-4)


def test_alpha_is_one_for_agreement_and_below_zero_for_contradiction() -> None:
    assert krippendorff_alpha([[1, 2, 3], [1, 2, 3]]) == 1
    assert krippendorff_alpha([[1, 2, 3], [3, 2, 1]]) < 0
    assert isnan(krippendorff_alpha([[1, nan], [nan, 2]]))
    assert isnan(krippendorff_alpha([[1, 1], [1, 1]]))


def ordinal_alpha(table: np.ndarray) -> float:
    """Alpha by coincidences and the ordinal metric, as the paper defines it, slowly."""
    values = sorted({number for number in table.ravel().tolist() if not isnan(number)})
    coincidences = {(a, b): 0.0 for a in values for b in values}
    for unit in table.T:
        known = [number for number in unit.tolist() if not isnan(number)]
        for a, b in permutations(known, 2):
            coincidences[a, b] += 1 / (len(known) - 1)
    counts = {a: sum(coincidences[a, b] for b in values) for a in values}
    total = sum(counts.values())

    def distance(a: float, b: float) -> float:
        low, high = sorted((a, b))
        between = sum(counts[c] for c in values if low <= c <= high)
        return (between - (counts[a] + counts[b]) / 2) ** 2

    observed = sum(coincidences[a, b] * distance(a, b) for a in values for b in values) / total
    expected = sum(counts[a] * counts[b] * distance(a, b) for a in values for b in values) / (total * (total - 1))
    return 1 - observed / expected


def test_the_slow_ordinal_alpha_is_that_of_the_example() -> None:
    assert ordinal_alpha(OBSERVED) == pytest.approx(0.815, abs=5e-4)


def test_agreement_of_ranks_is_the_ordinal_alpha_of_each_images_ranks() -> None:
    for images, methods in ((5, 4), (3, 9)):
        numbers = RNG.normal(size=(images, methods))
        ranks = np.stack([mid_ranks(row) for row in numbers])
        assert agreement_of_ranks(numbers) == pytest.approx(ordinal_alpha(ranks), abs=1e-12)


def test_a_missing_number_is_no_witness_against_the_others() -> None:
    whole = np.tile(np.arange(6.0), (4, 1))
    assert agreement_of_ranks(whole) == 1
    part = whole.copy()
    part[0, 5] = nan
    assert 0.95 < agreement_of_ranks(part) < 1
    assert agreement_of_ranks(RNG.permuted(np.tile(np.arange(40.0), (60, 1)), axis=1)) == pytest.approx(0, abs=0.03)
    assert isnan(agreement_of_ranks(whole[:1]))


def test_gini_and_the_effective_share_by_hand() -> None:
    assert gini([0, 0, 0, 1]) == pytest.approx(3 / 4)
    assert gini([2, -2, 2]) == pytest.approx(0, abs=1e-15)
    assert gini([1, 3]) == pytest.approx(1 / 4)  # sum |x_i - x_j| / (2 n^2 mean) = 4 / (2 * 4 * 2)
    assert isnan(gini([0, 0]))
    assert effective_share([0, 0, 0, 5]) == pytest.approx(1 / 4)
    assert effective_share([1, 1, -1, 1]) == pytest.approx(1)
    assert effective_share([1, 3]) == pytest.approx(exp(0.25 * log(4) + 0.75 * log(4 / 3)) / 2)
    numbers = RNG.exponential(size=50)
    slow = np.abs(numbers[:, None] - numbers).sum() / (2 * 50**2 * numbers.mean())
    assert gini(numbers) == pytest.approx(slow, abs=1e-12)
    for scale in (1e-300, 1e300):
        assert gini(numbers * scale) == pytest.approx(slow, abs=1e-12)
        assert effective_share(numbers * scale) == pytest.approx(effective_share(numbers), abs=1e-12)


def test_structural_similarity_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    left, right = RNG.random((30, 41)), RNG.random((30, 41))
    for span in (1.0, 2.0):
        theirs = metrics.structural_similarity(left, right, data_range=span)
        assert ssim(left, right, span) == pytest.approx(theirs, abs=1e-12)
    assert ssim(left, left) == pytest.approx(1)
    assert isnan(ssim(left[:5], right[:5]))


def test_the_standard_error_and_the_images_that_tell_two_apart_by_hand() -> None:
    mean, error = mean_and_error([1.0, 2.0, nan, 3.0])
    assert (mean, error) == (2, pytest.approx(1 / 3**0.5))
    assert isnan(mean_and_error([1.0])[1])
    assert all(map(isnan, mean_and_error([nan])))
    # Differences 1, 3: mean 2, standard deviation sqrt(2): (2 sqrt(2) / 2)^2 = 2.
    assert images_to_tell([2.0, 4.0], [1.0, 1.0]) == 2
    # Differences 0, 1, 2: mean 1, standard deviation 1: 4 images.
    assert images_to_tell([0.0, 1.0, 2.0, nan], [0.0, 0.0, 0.0, 1.0]) == 4
    assert images_to_tell([1.0, 2.0], [1.0, 2.0]) is None
    assert images_to_tell([1.0], [0.0]) is None
