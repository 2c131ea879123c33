"""Directions of concepts: against scikit-learn, by brute force, and what holds of every one of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cnnviz_cli.studies.tcav.cav import Fit, accuracy, balanced, fit_vectors, leave_one_out

FITS: tuple[Fit, ...] = ("ridge", "logistic")
PENALTY = 0.1


def images(count: int, width: int, *, shown: int, apart: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Activations far from zero, of which the first images lie apart along the first of them; and labels."""
    draws = torch.Generator().manual_seed(seed)
    found = torch.randn(count, width, generator=draws, dtype=torch.float64) + 1
    found[:shown, 0] += apart
    labels = -torch.ones(count, dtype=torch.float64)
    labels[:shown] = 1
    return found, labels


def variance(found: Tensor, shares: Tensor) -> float:
    return float(shares @ (found - shares @ found).square().sum(1))


def peer(found: Tensor, labels: Tensor, shares: Tensor, scale: float, how: Fit) -> tuple[np.ndarray, float]:
    """What scikit-learn finds: the coefficients and the intercept."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if how == "ridge":
        fit = Ridge(alpha=scale, tol=1e-14).fit(found.numpy(), labels.numpy(), sample_weight=shares.numpy())
        return fit.coef_, float(fit.intercept_)
    logistic = LogisticRegression(C=1 / scale, tol=1e-14, max_iter=10_000, solver="newton-cholesky")
    logistic.fit(found.numpy(), labels.numpy(), sample_weight=shares.numpy())
    return logistic.coef_[0], float(logistic.intercept_[0])


@pytest.mark.parametrize("how", FITS)
@pytest.mark.parametrize(("width", "count"), [(6, 40), (200, 24)])
def test_a_vector_is_scikit_learns(how: Fit, width: int, count: int) -> None:
    pytest.importorskip("sklearn")
    found, labels = images(count, width, shown=count // 3)
    shares = balanced(labels[None])[0]
    coefficients, intercept = peer(found, labels, shares, PENALTY * variance(found, shares), how)
    vectors = fit_vectors(found @ found.T, labels[None], PENALTY, how)
    length = np.linalg.norm(coefficients)
    assert np.allclose((vectors.weights @ found)[0], coefficients / length, atol=1e-8)
    assert float(vectors.biases[0]) == pytest.approx(intercept / length, abs=1e-8)
    decisions = vectors.decisions(found @ found.T)[0]
    assert np.allclose(decisions, (found.numpy() @ coefficients + intercept) / length, atol=1e-8)


@pytest.mark.parametrize("how", FITS)
@pytest.mark.parametrize(("width", "count", "shown"), [(8, 21, 6), (40, 24, 12), (3, 9, 2)])
def test_leaving_one_out_is_fitting_without_it(how: Fit, width: int, count: int, shown: int) -> None:
    """Without it from the start: the sides of the others count one half each, and the variance is theirs."""
    pytest.importorskip("sklearn")
    found, labels = images(count, width, shown=shown)
    found[0] *= 4  # one that the variance shows the lack of
    without = []
    for one in range(len(labels)):
        rest = [at for at in range(len(labels)) if at != one]
        shares = balanced(labels[rest][None])[0]
        scale = PENALTY * variance(found[rest], shares)
        coefficients, intercept = peer(found[rest], labels[rest], shares, scale, how)
        without.append(float(found[one].numpy() @ coefficients + intercept))
    assert np.allclose(leave_one_out(found @ found.T, labels, PENALTY, how), without, atol=1e-7)


@pytest.mark.parametrize("how", FITS)
def test_leaving_one_out_is_what_a_vector_of_the_others_says(how: Fit) -> None:
    found, labels = images(14, 30, shown=5)
    products = found @ found.T
    said = leave_one_out(products, labels, PENALTY, how)
    for one in range(14):
        others = labels.clone()
        others[one] = 0
        (decision,) = fit_vectors(products, others[None], PENALTY, how).decisions(products[one : one + 1])[0].tolist()
        assert decision * float(said[one]) > 0


@pytest.mark.parametrize("how", FITS)
def test_noise_is_told_apart_half_of_the_time(how: Fit) -> None:
    """If the side of the image that is left out counted less than the other, it would be less than half: 45 %."""
    told = []
    for seed in range(40):
        found, labels = images(60, 112, shown=30, apart=0.0, seed=seed)
        told.append(accuracy(leave_one_out(found @ found.T, labels, PENALTY, how), labels))
    assert sum(told) / len(told) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("how", FITS)
def test_many_at_once_are_each_by_itself(how: Fit) -> None:
    found, labels = images(16, 5, shown=8)
    draws = torch.Generator().manual_seed(1)
    several = torch.stack([labels, -labels, labels[torch.randperm(16, generator=draws)], labels.clone()])
    several[3, 5] = 0  # an image that has no part
    together = fit_vectors(found @ found.T, several, PENALTY, how)
    for number, one in enumerate(several):
        kept = one != 0
        alone = fit_vectors(found[kept] @ found[kept].T, one[kept][None], PENALTY, how)
        assert torch.allclose(together.weights[number] @ found, alone.weights[0] @ found[kept], atol=1e-9)
        assert float(together.biases[number]) == pytest.approx(float(alone.biases[0]), abs=1e-8)
    assert torch.allclose(together.weights[0], -together.weights[1], atol=1e-10)


@pytest.mark.parametrize("how", FITS)
def test_an_image_that_is_drawn_twice_counts_twice(how: Fit) -> None:
    found, labels = images(10, 4, shown=5)
    counts = torch.tensor([[2.0, 0, 1, 1, 1, 0, 3, 1, 1, 0]], dtype=torch.float64)
    drawn = torch.repeat_interleave(torch.arange(10), counts[0].long())
    weighed = fit_vectors(found @ found.T, labels[None], PENALTY, how, counts)
    repeated = fit_vectors(found[drawn] @ found[drawn].T, labels[drawn][None], PENALTY, how)
    assert torch.allclose(weighed.weights @ found, repeated.weights @ found[drawn], atol=1e-9)


@pytest.mark.parametrize("how", FITS)
def test_neither_scale_nor_an_offset_of_the_layer_turns_a_vector(how: Fit) -> None:
    found, labels = images(30, 7, shown=10)
    plain = fit_vectors(found @ found.T, labels[None], PENALTY, how).weights @ found
    other = 1e3 * found + 500
    moved = fit_vectors(other @ other.T, labels[None], PENALTY, how)
    assert torch.allclose(moved.weights @ other, plain, atol=1e-6)
    assert float(moved.weights.sum()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("how", FITS)
def test_both_sides_count_alike_however_many_they_are(how: Fit) -> None:
    """Six images beside sixty that are no different: chance is one half, and not 91 %."""
    found, labels = images(66, 4, shown=6, apart=0.0)
    told = accuracy(leave_one_out(found @ found.T, labels, PENALTY, how), labels)
    assert 0.2 < told < 0.8
    apart, _ = images(66, 4, shown=6, apart=8.0)
    assert accuracy(leave_one_out(apart @ apart.T, labels, PENALTY, how), labels) == 1


def test_accuracy_is_the_mean_of_both_sides() -> None:
    labels = torch.tensor([1.0, 1, -1, -1, -1, -1], dtype=torch.float64)
    decisions = torch.tensor([0.5, 0.0, -1, -1, -1, 2.0], dtype=torch.float64)  # 0 is on neither side
    assert accuracy(decisions, labels) == pytest.approx((1 / 2 + 3 / 4) / 2)


@pytest.mark.parametrize("how", FITS)
def test_activations_that_are_all_equal_have_no_direction(how: Fit) -> None:
    found = torch.full((8, 3), 2.0, dtype=torch.float64)
    labels = torch.tensor([1.0] * 4 + [-1.0] * 4, dtype=torch.float64)
    vectors = fit_vectors(found @ found.T, labels[None], PENALTY, how)
    assert float(vectors.weights.abs().max()) == 0
    assert accuracy(leave_one_out(found @ found.T, labels, PENALTY, how), labels) == 0


@pytest.mark.parametrize("how", FITS)
def test_a_planted_direction_is_found(how: Fit) -> None:
    found, labels = images(400, 6, shown=200, apart=3.0)
    vector = (fit_vectors(found @ found.T, labels[None], PENALTY, how).weights @ found)[0]
    assert float(vector[0]) > 0.98
    assert float(vector.norm()) == pytest.approx(1)
