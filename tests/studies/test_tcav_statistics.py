"""What a concept's scores come to beside random directions: by hand, by enumeration, and how often it errs."""

from __future__ import annotations

from itertools import combinations
from math import comb, isnan, sqrt

import pytest
import torch
from torch import Tensor

from cnnviz_cli.studies.tcav.cav import fit_vectors
from cnnviz_cli.studies.tcav.statistics import (
    Scores,
    band_of,
    chance_of,
    cut_in_halves,
    draw_again,
    holm,
    mean_interval,
    middle_of,
    share_interval,
)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_scores_by_hand() -> None:
    scores = Scores.of([column(3, -1), column(0, 2)])
    assert float(scores.share[0]) == 0.5  # zero is not above zero
    assert float(scores.mean[0]) == 1
    assert float(scores.magnitude[0]) == pytest.approx(5 / 6)
    assert float(scores.deviation[0]) == pytest.approx(sqrt((4 + 4 + 1 + 1) / 3))
    assert isnan(float(Scores.of([column(0, 0)]).magnitude[0]))
    assert float(Scores.of([column(4)]).deviation[0]) == 0


def test_images_may_come_in_parts() -> None:
    draws = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, parts = Scores.of([draws]), Scores.of([draws[:2], draws[2:3], draws[3:]])
    for name in ("share", "mean", "magnitude", "deviation"):
        assert torch.allclose(getattr(whole, name), getattr(parts, name))
    assert torch.equal(whole.only(1, 2).mean, whole.mean[1:2])


@pytest.mark.parametrize("count", [4, 5, 6, 7, 8])
def test_a_small_folder_is_cut_in_every_way_there_is(count: int) -> None:
    cuts = cut_in_halves(count, 1000, seed=0)
    seen = {frozenset([frozenset((row == 1).nonzero()[:, 0].tolist()), frozenset((row == -1).nonzero()[:, 0].tolist())])
            for row in cuts}  # fmt: skip
    half = count // 2
    expected = {
        frozenset([frozenset(one), frozenset(other)])
        for one in combinations(range(count), half)
        for other in combinations(sorted(set(range(count)) - set(one)), half)
    }
    assert seen == expected
    assert len(cuts) == len(expected) == (count if count % 2 else 1) * comb(count - count % 2, half) // 2


@pytest.mark.parametrize("count", [30, 31])
def test_a_larger_folder_is_cut_at_random_from_a_seed(count: int) -> None:
    cuts = cut_in_halves(count, 50, seed=3)
    assert cuts.shape == (50, count)
    assert ((cuts == 1).sum(1) == count // 2).all()
    assert ((cuts == -1).sum(1) == count // 2).all()
    assert len({tuple(row.tolist()) for row in cuts}) == 50
    assert torch.equal(cuts, cut_in_halves(count, 50, seed=3))
    assert torch.equal(cuts[:20], cut_in_halves(count, 20, seed=3))
    assert not torch.equal(cuts, cut_in_halves(count, 50, seed=4))


def test_images_are_drawn_again_within_their_side() -> None:
    labels = torch.tensor([1.0, 1, 1, -1, -1], dtype=torch.float64)
    counts = draw_again(labels, 200, seed=0)
    assert (counts[:, :3].sum(1) == 3).all()
    assert (counts[:, 3:].sum(1) == 2).all()
    assert float(counts[:, 0].mean()) == pytest.approx(1, abs=0.2)
    assert torch.equal(counts, draw_again(labels, 200, seed=0))


def test_a_p_is_counted_out() -> None:
    null = torch.tensor([0.5, 0.4, 0.8, 0.1, 0.6], dtype=torch.float64)
    assert chance_of(0.9, null, 0.5) == pytest.approx(2 / 6)  # 0.1 is as far from a half
    assert chance_of(0.2, null, 0.5) == pytest.approx(3 / 6)
    assert chance_of(1.0, null, 0.5) == pytest.approx(1 / 6)
    assert chance_of(0.5, null, 0.5) == 1
    assert chance_of(0.0, torch.zeros(4, dtype=torch.float64), 0.0) == 1


def test_a_p_of_a_tiny_folder_is_that_of_all_its_cuts() -> None:
    """Six images of one number each, cut into halves in all ten ways: the mean of one half less that of the other."""
    values = torch.tensor([0.1, 0.7, -0.4, 1.3, 0.2, -0.9], dtype=torch.float64)
    cuts = cut_in_halves(6, 1000, seed=0)
    null = cuts @ values / 3
    for observed in (0.05, 0.6, 1.4):
        slow = 0
        for half in combinations(range(6), 3):
            rest = [one for one in range(6) if one not in half]
            difference = sum(float(values[one]) for one in half) / 3 - sum(float(values[one]) for one in rest) / 3
            slow += abs(difference) >= observed - 1e-12
        assert chance_of(observed, null, 0.0) == pytest.approx((1 + slow / 2) / 11)


def test_holms_correction_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_with_one_direction_the_interval_is_wilsons() -> None:
    z, count, above = 1.959964, 20, 15
    share = above / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    low, high = share_interval(Scores.of([column(*[1.0] * above, *[-1.0] * (count - above))]))
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=0.01)
    low, high = share_interval(Scores.of([column(1, 1, 1, 1)]))
    assert low == pytest.approx(4 / (4 + z**2), abs=0.01)
    assert high == pytest.approx(1)


def test_an_interval_of_the_mean_has_both_kinds_of_chance() -> None:
    alone = Scores.of([column(0, 1, 2, 3)])
    error = sqrt(5 / 3 / 4)
    assert mean_interval(alone) == pytest.approx((1.5 - 1.96 * error, 1.5 + 1.96 * error), abs=0.05)
    several = Scores.of([torch.tensor([[-5.0, 0, 5.0]], dtype=torch.float64)])  # one image: directions alone vary
    assert mean_interval(several) == pytest.approx((-5, 5))
    assert middle_of(torch.arange(101, dtype=torch.float64)) == pytest.approx((2.5, 97.5))


def test_the_band_has_each_random_direction_and_its_opposite() -> None:
    """Where all ten cuts of six images are made, each is made once, with the first image in the first half."""
    null = torch.tensor([0.5, 0.4, 0.8, 0.1, 0.6], dtype=torch.float64)
    both = sorted([*null.tolist(), 0.5, 0.6, 0.2, 0.9, 0.4])
    low = both[0] + 0.025 * 9 * (both[1] - both[0])  # a fortieth of the way from the first to the last of ten
    assert band_of(null, 0.5) == pytest.approx((low, 1 - low))
    values = torch.tensor([2.0, 0.3, -0.4, 0.1, 0.2, -0.9], dtype=torch.float64)
    means = cut_in_halves(6, 1000, seed=0) @ values / 3
    assert float(means.min()) > 0  # of one sign, all of them
    low, high = band_of(means, 0.0)
    assert low == pytest.approx(-high)
    again = -cut_in_halves(6, 1000, seed=0) @ values / 3
    assert (low, high) == pytest.approx(middle_of(torch.cat([means, again])))


def test_what_lies_beyond_the_band_is_what_has_a_small_p() -> None:
    null = torch.randn(999, generator=torch.Generator().manual_seed(2), dtype=torch.float64).exp()
    low, high = band_of(null, 0.0)
    assert chance_of(0.99 * high, null, 0.0) > 0.05 > chance_of(1.01 * high, null, 0.0)
    assert chance_of(0.99 * low, null, 0.0) > 0.05 > chance_of(1.01 * low, null, 0.0)


def random_folder(seed: int, *, along: float = 0.0) -> tuple[float, float]:
    """The p of share and mean where the concept's images are drawn as the random ones are, or lie `along` the gradients
    that the images of the class have in common."""
    draws = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    mixed, common = normal(24, 24) / 5, normal(24)
    common /= common.norm()
    concept, others = normal(15, 24) @ mixed + along * common, normal(30, 24) @ mixed
    gradients = 2 * common + normal(20, 24)
    found = torch.cat([concept, others])
    labels = torch.cat([torch.ones(15), -torch.ones(30)]).double()
    products, slopes = found @ found.T, gradients @ found.T
    scores = Scores.of([fit_vectors(products, labels[None], 0.1, "ridge").along(slopes)])
    halves = fit_vectors(products[15:, 15:], cut_in_halves(30, 99, seed), 0.1, "ridge")
    null = Scores.of([halves.along(slopes[:, 15:])])
    return chance_of(float(scores.share), null.share, 0.5), chance_of(float(scores.mean), null.mean, 0.0)


def test_of_random_folders_a_twentieth_is_called_a_concept() -> None:
    chances = torch.tensor([random_folder(seed) for seed in range(200)])
    share, mean = (chances <= 0.05).double().mean(0).tolist()
    assert share <= 0.09
    assert 0.01 <= mean <= 0.095
    found = torch.tensor([random_folder(seed, along=2.0) for seed in range(40)])
    assert float((found[:, 1] <= 0.05).double().mean()) > 0.9


def test_a_t_test_over_runs_calls_random_folders_concepts() -> None:
    """What TCAV's authors do: the concept against 20 halves, beside these halves against the others. The runs share the
    concept's images, so that they are no independent draws; docs/tcav.md has the numbers of a larger simulation."""
    stats = pytest.importorskip("scipy.stats")
    wrong = 0
    for seed in range(60):
        draws = torch.Generator().manual_seed(seed)
        found = torch.randn(90, 64, generator=draws, dtype=torch.float64)
        gradients = torch.randn(64, generator=draws, dtype=torch.float64) + torch.randn(
            40, 64, generator=draws, dtype=torch.float64
        )
        cuts = torch.cat([torch.zeros(20, 30, dtype=torch.float64), cut_in_halves(60, 20, seed)], 1)
        concepts = torch.where(cuts < 0, -1.0, 0.0).double()
        concepts[:, :30] = 1
        products, slopes = found @ found.T, gradients @ found.T
        shares = [Scores.of([fit_vectors(products, one, 0.1, "ridge").along(slopes)]).share for one in (concepts, cuts)]
        wrong += stats.ttest_ind(*(one.numpy() for one in shares)).pvalue <= 0.05
    assert wrong > 20
