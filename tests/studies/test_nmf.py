"""Factorisations: by hand, against a slow HALS in double precision and scikit-learn's, and what has none."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.rows import RowPieces, rows_of
from cnnviz_cli.studies.concepts.blocks import BLOCK, Workers, rows_at_even_distances, workers
from cnnviz_cli.studies.concepts.nmf import (
    Factors,
    NegativeValuesError,
    _canonical,
    _Survey,
    count_at_knee,
    factorize,
    knee_of,
)

Matrix = NDArray[np.float32]


def gamma(rows: int, columns: int, rank: int, noise: float, seed: int = 0) -> Matrix:
    """Sparse non-negative factors and non-negative noise."""
    draws = np.random.default_rng(seed)
    left, right = draws.gamma(0.3, 1, (rows, rank)), draws.gamma(0.3, 1, (rank, columns))
    return (left @ right + noise * draws.random((rows, columns))).astype(np.float32)


def rectified(rows: int, columns: int) -> Matrix:
    return np.maximum(np.random.default_rng(3).standard_normal((rows, columns)), 0).astype(np.float32)


def norm(values: Any) -> float:
    return float(np.linalg.norm(np.asarray(values, np.float64)))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_matrix_of_rank_one_by_hand() -> None:
    weights = np.empty((3, 1), np.float32)
    found = factorize(rows_of(np.outer([1, 2, 2], [3, 4])), 1, weights=weights)
    assert found.basis == pytest.approx(np.array([[0.6, 0.8]]))
    assert weights == pytest.approx(np.array([[5], [10], [10]]), rel=1e-5)
    assert found.energies == pytest.approx([np.sqrt((25 + 100 + 100) / 3)], rel=1e-5)
    assert found.error < 1e-6
    assert found.converged


def test_two_concepts_of_orthogonal_rows_by_hand() -> None:
    # Two rows of (3, 4, 0, 0), three of (0, 0, 0, 1): the concepts are these directions, the first has more energy.
    matrix = np.array([[3, 4, 0, 0]] * 2 + [[0, 0, 0, 1]] * 3, np.float32)
    found = factorize(rows_of(matrix), 2)
    assert found.basis == pytest.approx(np.array([[0.6, 0.8, 0, 0], [0, 0, 0, 1]]), abs=1e-6)
    assert found.energies == pytest.approx([np.sqrt(50 / 5), np.sqrt(3 / 5)], rel=1e-5)


MATRICES = {
    "planted": gamma(1500, 80, 6, 0.1),
    "noise": np.random.default_rng(1).random((500, 60)).astype(np.float32),
    "rectified noise": rectified(1200, 90),
    "wide": gamma(60, 300, 8, 0.3),
    "small values": gamma(700, 40, 5, 0.2) * np.float32(1e-3),
}


@pytest.mark.parametrize("count", [1, 4, 6])
@pytest.mark.parametrize("name", MATRICES)
def test_the_error_is_that_of_scikit_learn(name: str, count: int) -> None:
    matrix = MATRICES[name]
    peer = NMF(count, init="nndsvda", max_iter=300, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer.fit(matrix)
    found = factorize(rows_of(matrix), count)
    assert found.error == pytest.approx(peer.reconstruction_err_ / norm(matrix), rel=1e-3)
    assert found.converged == (found.iterations < 300)


def test_the_scale_of_a_layer_changes_nothing() -> None:
    # scikit-learn's start does not scale with the rows: of these it leaves 41 % unexplained, after two iterations.
    matrix = gamma(700, 40, 5, 0.2)
    small, large = (factorize(rows_of(matrix * np.float32(2.0**power)), 4) for power in (-14, 14))
    assert (small.error, small.iterations) == (large.error, large.iterations)
    assert small.error < 0.2
    assert np.array_equal(small.basis, large.basis)
    assert large.energies == pytest.approx(small.energies * 2.0**28)


def test_one_concept_is_the_first_singular_vector() -> None:
    matrix = MATRICES["planted"]
    found = factorize(rows_of(matrix), 1)
    assert found.basis[0] == pytest.approx(abs(np.linalg.svd(matrix, full_matrices=False)[2][0]), abs=1e-5)
    assert found.converged
    assert found.iterations < 3


def slow_hals(matrix: Matrix, count: int, rounds: int) -> tuple[NDArray[Any], NDArray[Any], int]:
    """NNDSVDa out of a full SVD, then coordinate descent, a number at a time, three times for the weights and six for
    the basis, which goes on by a share of its last step; and how often that was too much."""
    wide = matrix.astype(np.float64)
    left, sizes, right = np.linalg.svd(wide, full_matrices=False)
    weights, basis = np.zeros((len(wide), count)), np.zeros((count, wide.shape[1]))
    for one in range(count):
        pairs = [(np.maximum(s * left[:, one], 0), np.maximum(s * right[one], 0)) for s in (1, -1)]
        u, v = max(pairs, key=lambda pair: norm(pair[0]) * norm(pair[1]))
        scale = np.sqrt(sizes[one] * norm(u) * norm(v))
        weights[:, one], basis[one] = scale * u / norm(u), scale * v / norm(v)
    weights[weights < 1e-6] = basis[basis < 1e-6] = 0.01 * np.sqrt(wide.mean())
    ahead, last, falls, straight = basis, np.inf, 0, 0
    for _ in range(rounds):
        for _ in range(3):
            descend_slowly(weights, ahead, wide)
        rest = norm(wide - weights @ ahead) ** 2 - norm(wide) ** 2
        before, basis = basis, ahead.copy()
        for _ in range(6):
            descend_slowly(basis.T, weights.T, wide.T)
        straight += 1
        if rest > last + 1e-6 * abs(last) or ((basis - ahead) * (basis - before)).sum() < 0:
            falls, straight = falls + 1, 0
        ahead = np.maximum(basis + min(0.9, straight / (straight + 3)) * (basis - before), 0)
        last = rest
    return weights, basis, falls


def descend_slowly(held: NDArray[Any], other: NDArray[Any], target: NDArray[Any]) -> None:
    for row in range(len(held)):
        for one in range(len(other)):
            rest = target[row] - held[row] @ other + held[row, one] * other[one]
            held[row, one] = max(0.0, float(rest @ other[one] / (other[one] @ other[one])))


@pytest.mark.parametrize(
    ("matrix", "count", "falls"), [(gamma(40, 13, 4, 0.4, seed=2), 4, 0), (gamma(24, 9, 3, 0.2, seed=3), 3, 4)]
)
def test_each_iteration_is_that_of_a_slow_factorisation(matrix: Matrix, count: int, falls: int) -> None:
    for rounds in (1, 2, 16):
        weights, basis, fallen = slow_hals(matrix, count, rounds)
        assert fallen == (falls if rounds == 16 else 0)
        lengths = np.linalg.norm(basis, axis=1)
        order = np.argsort(-np.linalg.norm(weights, axis=0) * lengths)
        found = factorize(rows_of(matrix), count, tolerance=0, most=rounds)
        assert found.iterations == rounds
        assert not found.converged
        assert found.basis == pytest.approx((basis / lengths[:, None])[order], abs=2e-5)
        energies = (np.linalg.norm(weights, axis=0) * lengths)[order] / np.sqrt(len(matrix))
        assert found.energies == pytest.approx(energies, rel=1e-4)


def test_planted_concepts_are_found() -> None:
    draws = np.random.default_rng(5)
    basis = draws.gamma(0.2, 1, (5, 64))
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    weights = draws.gamma(0.2, 1, (2500, 5))
    found = factorize(rows_of((weights @ basis).astype(np.float32)), 5, tolerance=1e-6, most=2000)
    likeness = found.basis @ basis.T
    assert sorted(likeness.argmax(1)) == [0, 1, 2, 3, 4]
    assert likeness.max(1) == pytest.approx(np.ones(5), abs=1e-3)
    assert (np.diff(found.energies) <= 0).all()


def pieces_of(matrix: Matrix, length: int) -> RowPieces:
    return RowPieces(lambda: [matrix[at : at + length] for at in range(0, len(matrix), length)], matrix.shape)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, 5])
def test_neither_threads_nor_pieces_nor_places_in_memory_move_a_bit(count: int, tmp_path: Path) -> None:
    matrix = gamma(3 * BLOCK + 77, 50, 6, 0.3)
    mapped = np.memmap(tmp_path / "rows", np.float32, "w+", shape=matrix.shape, offset=4)
    mapped[:] = matrix
    seen = set()
    for number, rows in ((1, rows_of(matrix)), (2, rows_of(mapped)), (3, pieces_of(matrix, 49)), (2, rows_of(matrix))):
        torch.set_num_threads(number)
        weights = np.empty((len(matrix), count), np.float32)
        found = factorize(rows, count, weights=weights)
        seen.add((found.basis.tobytes(), weights.tobytes(), found.error, found.energies.tobytes()))
        assert torch.get_num_threads() == number
    assert len(seen) == 1


@pytest.mark.usefixtures("threads")
def test_an_error_in_a_block_ends_the_work_and_gives_the_threads_back() -> None:
    torch.set_num_threads(2)

    def work(where: slice, block: torch.Tensor) -> int:
        assert torch.get_num_threads() == 1
        if where.start == 0:
            raise KeyError("block")
        return len(block)

    with pytest.raises(KeyError), workers() as team:
        list(team.blocks(rows_of(np.zeros((5 * BLOCK, 2))), work))
    assert torch.get_num_threads() == 2


def test_blocks_come_in_order_and_few_are_ahead() -> None:
    given: list[int] = []

    def items() -> Iterator[int]:
        for number in range(40):
            given.append(number)
            yield number

    with workers() as team:
        assert isinstance(team, Workers)
        for number, found in enumerate(team.in_order(items(), lambda item: -item)):
            assert found == -number
            assert len(given) <= number + torch.get_num_threads() + 4


def test_the_space_of_equal_eigenvalues_has_one_basis() -> None:
    draws = torch.Generator().manual_seed(0)
    space = torch.linalg.qr(torch.randn(9, 3, dtype=torch.float64, generator=draws))[0]
    first = torch.stack(_canonical(space), 1)
    assert torch.allclose(first.T @ first, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(first @ first.T, space @ space.T, atol=1e-12)
    for seed in range(4):
        turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=draws.manual_seed(seed + 1)))[0]
        assert torch.allclose(torch.stack(_canonical(space @ turn), 1), first, atol=1e-10)
    assert float(_canonical(-space[:, :1])[0].abs().max()) == float(_canonical(space[:, :1])[0].max())


def test_directions_of_equal_size_do_not_depend_on_what_was_found_first() -> None:
    draws = torch.Generator().manual_seed(3)
    vectors = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=draws))[0]
    values = torch.tensor([9.0, 4, 4 - 1e-9, 4 - 2e-9, 1, 0], dtype=torch.float64)
    sizes, first = _Survey(1.0, 22.0, values, vectors).directions(3)
    assert sizes.tolist() == pytest.approx([3, 2, 2])
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=draws))[0]
    turned = torch.cat([-vectors[:, :1], vectors[:, 1:4] @ turn, vectors[:, 4:]], 1)
    assert torch.allclose(_Survey(1.0, 22.0, values, turned).directions(3)[1], first, atol=1e-10)
    assert _Survey(1.0, 22.0, values, vectors).directions(6)[1].shape == (6, 5)


def test_concepts_of_equal_weight_are_told_apart() -> None:
    # Three equal blocks: the largest eigenvalue three times over.
    matrix = np.kron(np.eye(3), np.outer([1, 2, 3, 1], [2, 1, 1])).astype(np.float32)
    found = factorize(rows_of(matrix), 3)
    assert found.error < 1e-6
    expected = np.kron(np.eye(3), np.array([2, 1, 1]) / np.sqrt(6))
    assert found.basis[found.basis.argmax(1).argsort()] == pytest.approx(expected, abs=1e-5)


def test_a_negative_value_is_named() -> None:
    matrix = gamma(BLOCK + 500, 6, 2, 0.1)
    matrix[BLOCK + 30, 4], matrix[BLOCK + 31, 1] = -2.5, -0.5
    with pytest.raises(NegativeValuesError, match=r"channel 4 of the layer falls to -2\.5") as caught:
        factorize(rows_of(matrix), 2)
    assert (caught.value.lowest, caught.value.row, caught.value.column) == (-2.5, BLOCK + 30, 4)
    assert "ReLU" in caught.value.fix
    with pytest.raises(NegativeValuesError):
        count_at_knee(rows_of(matrix[-500:]))


@pytest.mark.parametrize(
    ("matrix", "count", "words"),
    [
        (np.array([[1, np.nan], [1, 1]]), 1, "not all finite"),
        (np.array([[1, np.inf], [1, 1]]), 1, "not all finite"),
        (np.zeros((5, 3)), 2, "all activations are zero"),
        (np.full((5, 3), 1e25), 2, "activations reach 1e.25, too much"),
        (np.ones((2, 6)), 3, "3 concepts cannot be told apart by 2 positions"),
        (np.ones((9, 2)), 3, "3 concepts cannot be told apart by 2 channels"),
        (np.ones((0, 4)), 1, "there are no activations"),
    ],
)
def test_what_cannot_be_factorised_is_refused_in_a_sentence(matrix: NDArray[Any], count: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        factorize(rows_of(matrix), count)


def test_a_position_of_zeros_has_no_concept() -> None:
    matrix = gamma(50, 8, 3, 0.1)
    matrix[[4, 20]] = 0
    weights = np.empty((50, 3), np.float32)
    found = factorize(rows_of(matrix), 3, weights=weights)
    assert not weights[[4, 20]].any()
    assert np.isfinite(found.basis).all()


@pytest.mark.parametrize(
    "matrix",
    [
        gamma(60, 9, 2, 0),
        np.ones((30, 7), np.float32),
        np.tile(np.array([[3, 0, 1, 0]], np.float32), (8, 1)),
        np.eye(1, 5, 2).repeat(6, 0).astype(np.float32),
    ],
    ids=["rank 2", "constant", "constant columns and empty ones", "one channel alone"],
)
def test_more_concepts_than_the_rank_leave_nothing_unexplained(matrix: Matrix) -> None:
    weights = np.empty((len(matrix), 4), np.float32)
    found = factorize(rows_of(matrix), 4, weights=weights)
    assert found.error < 2e-3
    lengths = np.linalg.norm(found.basis, axis=1)
    assert all(length == 0 or length == pytest.approx(1) for length in lengths)
    assert (np.diff(found.energies) <= 0).all()
    assert np.isfinite(weights).all()
    assert norm(matrix - weights @ found.basis) == pytest.approx(found.error * norm(matrix), abs=1e-4)


def test_the_error_and_the_weights_are_those_of_the_basis(tmp_path: Path) -> None:
    matrix = gamma(BLOCK + 200, 30, 6, 0.3)
    weights = np.memmap(tmp_path / "weights", np.float32, "w+", shape=(len(matrix), 4))
    found = factorize(rows_of(matrix), 4, weights=weights, most=12)
    assert found.error == pytest.approx(norm(matrix - weights @ found.basis) / norm(matrix), rel=1e-5)
    assert found.error_on(rows_of(matrix)) == pytest.approx(found.error, rel=1e-9)
    assert weights.tobytes() == found.encode_rows(rows_of(matrix)).tobytes()
    out = np.memmap(tmp_path / "again", np.float32, "w+", shape=(len(matrix), 4))
    assert found.encode_rows(rows_of(matrix), out) is out
    assert out.tobytes() == weights.tobytes()
    for wrong in (np.empty((5, 4), np.float32), np.empty((len(matrix), 4))):
        with pytest.raises(ValueError, match="weights of"):
            factorize(rows_of(matrix), 4, weights=wrong)  # type: ignore[arg-type]


def test_the_error_over_other_rows_by_hand() -> None:
    found = Factors(np.array([[1, 0]], np.float32), np.array([1.0]), 0.0)
    assert found.error_on(rows_of(np.array([[3, 4], [0, 0]]))) == pytest.approx(4 / 5)
    assert np.isnan(found.error_on(rows_of(np.zeros((2, 2)))))


def test_maps_have_the_weights_of_their_positions() -> None:
    found = factorize(rows_of(gamma(200, 12, 4, 0.1)), 3)
    maps = torch.rand(2, 12, 3, 5)
    codes = found.encode_maps(maps)
    assert codes.shape == (2, 3, 3, 5)
    assert torch.allclose(codes[1, :, 2, 4], found.encode(maps[1, :, 2, 4][None])[0], atol=1e-7)
    assert torch.allclose(found.decode(codes[0, :, 1, 1]), codes[0, :, 1, 1] @ torch.from_numpy(found.basis))
    assert found.encode(maps[0, :, 0].T.double()).dtype == torch.float32


def test_factors_come_back_from_a_file(tmp_path: Path) -> None:
    found = factorize(rows_of(gamma(90, 8, 3, 0.1)), 3)
    np.savez(tmp_path / "concepts.npz", **found.arrays())
    with np.load(tmp_path / "concepts.npz") as arrays:
        again = Factors.of(arrays)
        broken = {**arrays, "basis": np.full((3, 8), np.nan)}
    assert (again.count, again.error, again.energies.tolist()) == (3, found.error, found.energies.tolist())
    rows = torch.rand(5, 8)
    assert torch.equal(again.encode(rows), found.encode(rows))
    with pytest.raises(ValueError, match="no matrix"):
        Factors.of(broken)
    with pytest.raises(KeyError):
        Factors.of({"basis": found.basis})


def test_the_knee_by_hand() -> None:
    # From 0 to 1 the heights are 1, 1/4, 1/8, 1/16, 0; below the line 0, 1/2, 3/8, 3/16, 0.
    assert knee_of((2, 3, 4, 5, 6), (0.9, 0.3, 0.2, 0.15, 0.1)) == 3
    # Heights 1, 1/2, 0, 0 at 0, 1/4, 1/2, 1: below the line 0, 1/4, 1/2, 0.
    assert knee_of((2, 4, 6, 10), (0.5, 0.3, 0.1, 0.1)) == 6
    # A rise counts as none: 1, 0.2, 0.2, 0 at 0, 1/3, 2/3, 1.
    assert knee_of((1, 2, 3, 4), (1.0, 0.2, 0.6, 0.0)) == 2
    # A straight line, and one that falls ever faster: heights 1, 3/4, 0.
    assert knee_of((2, 3, 4), (0.3, 0.2, 0.1)) == 4
    assert knee_of((2, 3, 4), (0.5, 0.4, 0.1)) == 4
    # Equal distances, 1/6 below the line: heights 1, 1/2, 1/6, 0.
    assert knee_of((2, 3, 4, 5), (0.7, 0.4, 0.2, 0.1)) == 3
    assert knee_of((2, 3, 4), (0.3, 0.3, 0.3)) == 2
    assert knee_of((7,), (0.3,)) == 7
    assert knee_of((2, 3), (0.3, 0.1)) == 3
    assert knee_of((2, 3, 4, 5), (0.4, 0.3, 0.1, 0.1)) == 4


def test_the_knee_is_at_the_planted_rank() -> None:
    draws = np.random.default_rng(8)
    matrix = (draws.gamma(0.1, 1, (400, 5)) @ draws.gamma(0.1, 1, (5, 40)) + 0.02 * draws.random((400, 40))).astype(
        np.float32
    )
    knee = count_at_knee(rows_of(matrix), range(2, 12))
    assert knee.at == 5
    assert knee.counts == tuple(range(2, 12))
    assert knee.errors[2] == pytest.approx(factorize(rows_of(matrix), 4, tolerance=1e-3).error, rel=1e-9)


def test_the_knee_is_looked_for_among_counts_that_the_rows_allow() -> None:
    assert count_at_knee(rows_of(gamma(4, 9, 3, 0.1))).counts == (2, 3, 4)
    assert count_at_knee(rows_of(gamma(9, 3, 3, 0.1))).counts == (2, 3)
    with pytest.raises(UsageError, match="2 concepts"):
        count_at_knee(rows_of(gamma(1, 9, 1, 0.1)))


def test_rows_at_even_distances() -> None:
    matrix = np.arange(20, dtype=np.float32).reshape(10, 2)
    assert rows_at_even_distances(pieces_of(matrix, 3), 4)[:, 0].tolist() == [0, 4, 10, 14]
    assert rows_at_even_distances(rows_of(matrix), 99).tolist() == matrix.tolist()
