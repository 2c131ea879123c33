"""Non-negative least squares, against scipy's for each row and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from cnnviz_cli.studies.concepts.nonnegative import nonnegative_weights

Matrix = NDArray[np.float64]


def weights_of(rows: Matrix, basis: Matrix) -> Matrix:
    values, directions = torch.from_numpy(rows), torch.from_numpy(basis)
    return nonnegative_weights(directions @ values.T, directions @ directions.T).T.numpy()


def bases() -> dict[str, Matrix]:
    draws = np.random.default_rng(0)
    dense = np.abs(draws.standard_normal((9, 30)))
    near = 1 + 0.01 * np.abs(draws.standard_normal((12, 20)))
    signed = draws.standard_normal((6, 15))
    twice, empty, sums = dense.copy(), dense.copy(), dense.copy()
    twice[4], empty[3], sums[5] = twice[1], 0, sums[0] + sums[7]
    found = {"dense": dense, "near": near, "signed": signed, "twice": twice, "empty": empty, "sums": sums}
    return {name: each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-30) for name, each in found.items()}


@pytest.mark.parametrize("name", bases())
def test_each_row_has_the_least_rest(name: str) -> None:
    basis = bases()[name]
    rows = np.random.default_rng(1).standard_normal((150, basis.shape[1])) + 0.4
    found = weights_of(rows, basis)
    assert (found >= 0).all()
    for row, weights in zip(rows, found, strict=True):
        peer, rest = nnls(basis.T, row)
        assert np.linalg.norm(row - weights @ basis) == pytest.approx(rest, rel=1e-9)
        if name not in ("twice", "sums"):
            assert weights == pytest.approx(peer, abs=1e-4 if name == "near" else 1e-7)
        assert (weights == 0).any() or (peer > 0).all()


def test_by_hand() -> None:
    basis = np.array([[1.0, 0.0], [0.6, 0.8]])
    # (2, 0) lies on the first; (0, 1) would need less than nothing of the first: 0.8 of the second is nearest.
    # (1.2, 1.6) lies on the second; (-1, 0) has nothing of either; (1.6, 0.8) is the sum of both.
    rows = np.array([[2, 0], [0, 1], [1.2, 1.6], [-1, 0], [0, 0], [1.6, 0.8]])
    assert weights_of(rows, basis) == pytest.approx(
        np.array([[2, 0], [0, 0.8], [0, 2], [0, 0], [0, 0], [1, 1]]), abs=1e-8
    )


def test_concepts_that_are_equal_share_alike() -> None:
    basis = np.array([[0.6, 0.8], [0.6, 0.8]])
    assert weights_of(np.array([[3.0, 4.0]]), basis) == pytest.approx(np.array([[2.5, 2.5]]), rel=1e-5)


def test_a_row_does_not_depend_on_the_others() -> None:
    basis = bases()["near"]
    rows = np.random.default_rng(2).random((300, 20))
    together = weights_of(rows, basis)
    alone = np.concatenate([weights_of(row[None], basis) for row in rows])
    assert np.array_equal(together.astype(np.float32) > 0, alone.astype(np.float32) > 0)
    assert together == pytest.approx(alone, abs=1e-7)


def test_zeros_alone_have_no_weights() -> None:
    assert not weights_of(np.ones((3, 4)), np.zeros((2, 4))).any()
    assert not weights_of(np.zeros((3, 4)), np.eye(2, 4)).any()


def test_rows_of_any_scale() -> None:
    basis = bases()["dense"]
    rows = np.random.default_rng(4).random((40, 30))
    plain = weights_of(rows, basis)
    assert weights_of(rows * 1e-12, basis) == pytest.approx(plain * 1e-12, rel=1e-6)
    assert weights_of(rows * 1e12, basis) == pytest.approx(plain * 1e12, rel=1e-6)


def test_what_is_given_stays() -> None:
    basis = torch.from_numpy(bases()["dense"])
    products: Tensor = basis @ torch.rand(30, 5, dtype=torch.float64)
    before = products.clone()
    gram = basis @ basis.T
    nonnegative_weights(products, gram)
    assert torch.equal(products, before)
    assert torch.equal(gram, basis @ basis.T)
