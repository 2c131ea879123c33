"""The sparse autoencoder: its gradient by hand and by autograd, a step of Adam, and planted sparse sums."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.rows import rows_of
from cnnviz_cli.studies.concepts.autoencoder import (
    Adam,
    Autoencoder,
    Parameters,
    _batch_count,
    _batches,
    _first_atoms,
    gradient,
    keep_largest,
    train_autoencoder,
)
from cnnviz_cli.studies.concepts.nmf import factorize


def sparse_sums(rows: int, columns: int, count: int, used: int, seed: int = 0) -> tuple[NDArray[np.float32], ...]:
    """Rows that are sums of `used` of `count` random directions, and these directions."""
    draws = np.random.default_rng(seed)
    atoms = draws.standard_normal((count, columns))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    weights = np.zeros((rows, count))
    for row in weights:
        row[draws.choice(count, used, replace=False)] = draws.uniform(0.5, 2, used)
    return (weights @ atoms).astype(np.float32), atoms.astype(np.float32)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_largest_are_kept_where_they_are_positive() -> None:
    inner = torch.tensor([[3.0, -1, 2, 5], [-1, -2, 4, -3], [-1, -1, -1, -1]])
    assert keep_largest(inner, 2).tolist() == [[3, 0, 0, 5], [0, 0, 4, 0], [0, 0, 0, 0]]


def parameters(count: int, columns: int, seed: int) -> Parameters:
    draws = torch.Generator().manual_seed(seed)
    shapes = ((count, columns), (columns, count), (count,))
    return Parameters(*(torch.randn(shape, dtype=torch.float64, generator=draws) for shape in shapes))


def slow_loss(rows: torch.Tensor, at: Parameters, top_k: int) -> torch.Tensor:
    """The loss with loops over rows and concepts; autograd goes through it."""
    inner = [[row @ at.encoder[:, one] + at.bias[one] for one in range(len(at.bias))] for row in rows]
    used = []
    total = torch.zeros((), dtype=torch.float64)
    for row, values in zip(rows, inner, strict=True):
        plain = [value.item() for value in values]
        kept = [one for one in sorted(range(len(plain)), key=lambda one: -plain[one])[:top_k] if plain[one] > 0]
        used.append(kept)
        made = sum((values[one] * at.atoms[one] for one in kept), torch.zeros_like(row))
        total = total + ((made - row) ** 2).sum() / len(rows)
    dead = [one for one in range(len(at.bias)) if not any(one in kept for kept in used)]
    lifted = sum((values[one] for values in inner for one in dead), torch.zeros((), dtype=torch.float64))
    return total - 1e-3 * lifted / (len(rows) * len(at.bias))


@pytest.mark.parametrize("bias", [0.0, -30.0], ids=["all in use", "one that no row uses"])
def test_the_gradient_is_that_of_autograd_through_loops(bias: float) -> None:
    at = parameters(6, 5, 1)
    at.bias[2] += bias
    rows = torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    loss, slopes = gradient(rows, at, 2)
    leaves = Parameters(*(each.clone().requires_grad_() for each in at))
    slow = slow_loss(rows, leaves, 2)
    slow.backward()
    assert loss == pytest.approx(slow.item(), rel=1e-12)
    for mine, leaf in zip(slopes, leaves, strict=True):
        assert leaf.grad is not None
        assert torch.allclose(mine, leaf.grad, rtol=1e-10, atol=1e-12)
    assert bool((slopes.encoder[:, 2] != 0).all())


def test_a_gradient_by_hand() -> None:
    # One row (2, 1), one concept: the encoder gives 2, the atom (1, 0) makes (2, 0), the rest is (0, -1).
    at = Parameters(*(torch.tensor(each, dtype=torch.float64) for each in ([[1.0, 0]], [[1.0], [0]], [0.0])))
    loss, slopes = gradient(torch.tensor([[2.0, 1]], dtype=torch.float64), at, 1)
    assert loss == 1
    assert slopes.atoms.tolist() == [[0, -4]]
    assert slopes.encoder.tolist() == [[0], [0]]
    assert slopes.bias.tolist() == [0]


def test_steps_are_those_of_torchs_adam() -> None:
    at = parameters(3, 4, 5)
    peers = [each.clone().requires_grad_() for each in at]
    peer = torch.optim.Adam(peers, lr=0.02)
    ours = Adam(at)
    for seed in range(5):
        slopes = parameters(3, 4, 10 + seed)
        for leaf, slope in zip(peers, slopes, strict=True):
            leaf.grad = slope.clone()
        peer.step()
        ours.step(at, slopes, 0.02)
    for mine, leaf in zip(at, peers, strict=True):
        assert torch.allclose(mine, leaf.detach(), rtol=1e-10)


def test_planted_concepts_are_found_where_a_factorisation_cannot() -> None:
    rows, atoms = sparse_sums(3000, 24, 36, 2)
    found = train_autoencoder(rows_of(rows), 36, top_k=2, epochs=160)
    likeness = (found.basis @ atoms.T).max(0)
    chance = (sparse_sums(1, 24, 36, 1, seed=9)[1] @ atoms.T).max(0)
    assert likeness.mean() > 0.9
    assert chance.mean() < 0.5
    assert (likeness > 0.95).mean() > 0.7
    assert found.error < 0.35
    codes = found.encode(torch.from_numpy(rows))
    assert bool((codes >= 0).all())
    assert int((codes > 0).sum(1).max()) <= 2
    assert found.error == pytest.approx(
        float((torch.from_numpy(rows) - found.decode(codes)).norm() / np.linalg.norm(rows)), rel=1e-4
    )
    assert found.energies == pytest.approx(codes.double().square().mean(0).sqrt().numpy(), rel=1e-4)
    assert (np.diff(found.energies) <= 0).all()
    used = found.energies > 0
    assert np.linalg.norm(found.basis[used], axis=1) == pytest.approx(np.ones(used.sum()), rel=1e-5)


def test_more_training_explains_more() -> None:
    rows, _ = sparse_sums(600, 16, 20, 2)
    errors = [train_autoencoder(rows_of(rows), 20, top_k=2, epochs=epochs).error for epochs in (0, 5, 60)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.8 * errors[0]


def test_what_a_layer_gives_in_other_units_changes_nothing() -> None:
    rows, _ = sparse_sums(300, 8, 6, 2)
    one, other = (train_autoencoder(rows_of(rows * np.float32(scale)), 6, top_k=2, epochs=20) for scale in (1, 64))
    assert np.array_equal(one.basis, other.basis)
    assert other.error == pytest.approx(one.error, rel=1e-6)
    assert other.energies == pytest.approx(64 * one.energies)


@pytest.mark.usefixtures("threads")
def test_the_same_seed_gives_the_same_bits_with_any_number_of_threads() -> None:
    rows, _ = sparse_sums(1500, 30, 12, 2)
    made = []
    for number, seed in ((1, 3), (2, 3), (1, 4)):
        torch.set_num_threads(number)
        made.append(train_autoencoder(rows_of(rows), 12, top_k=2, epochs=3, seed=seed))
    assert [each.tobytes() for each in made[0].arrays().values()] == [
        each.tobytes() for each in made[1].arrays().values()
    ]
    assert not np.array_equal(made[0].basis, made[2].basis)
    assert made[0].epochs == 3


def test_the_first_atoms_are_rows_that_lie_apart_and_the_seed_draws_them() -> None:
    # Four directions, one of them in two rows of three hundred alone.
    rows = np.repeat(np.eye(4, dtype=np.float32), [150, 100, 48, 2], axis=0) * np.float32(3)
    orders = set()
    for seed in range(6):
        found = _first_atoms(rows_of(rows), 4, 2, seed)
        assert sorted(found.atoms.argmax(1).tolist()) == [0, 1, 2, 3]
        assert torch.equal(found.encoder, found.atoms.T / 2)
        orders.add(tuple(found.atoms.argmax(1).tolist()))
    assert len(orders) > 1


def test_batches_are_all_rows_shuffled_by_the_seed_anew_each_time() -> None:
    rows = np.arange(600, dtype=np.float32)[:, None]
    drawn = {seed: [batch[:, 0].tolist() for batch in _batches(rows_of(rows), 2, seed)] for seed in (0, 1)}
    for batches in drawn.values():
        assert [len(batch) for batch in batches] == [256, 256, 88] * 2
        first, second = [*chain(*batches[:3])], [*chain(*batches[3:])]
        assert sorted(first) == sorted(second) == rows[:, 0].tolist()
        assert first != second
    assert drawn[0] != drawn[1]
    assert _batch_count(600) == 3
    assert _batch_count(8192 + 10) == 33


def test_the_rate_falls_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(Adam, "step", lambda _self, _at, _slopes, rate: rates.append(rate))
    train_autoencoder(rows_of(sparse_sums(300, 8, 6, 2)[0]), 6, top_k=2, epochs=2)
    assert rates == pytest.approx([2e-3 * (1 + np.cos(np.pi * step / 4)) / 2 for step in range(4)])


def test_a_concept_that_no_row_uses_is_zero_and_last() -> None:
    rows = np.tile(np.array([[1, 0, 0], [0, 2, 0]], np.float32), (20, 1))
    found = train_autoencoder(rows_of(rows), 5, top_k=1, epochs=30)
    unused = found.energies == 0
    assert 0 < unused.sum() < 5
    assert unused.tolist() == sorted(unused)
    assert not found.basis[unused].any()
    assert not found.encode(torch.rand(50, 3) * 9)[:, torch.from_numpy(unused)].any()


def test_it_comes_back_from_a_file(tmp_path: Path) -> None:
    rows, _ = sparse_sums(200, 8, 6, 2)
    found = train_autoencoder(rows_of(rows), 6, top_k=2, epochs=5)
    np.savez(tmp_path / "concepts.npz", **found.arrays())
    with np.load(tmp_path / "concepts.npz") as arrays:
        again = Autoencoder.of(arrays)
        for name, broken in (("bias", np.zeros(5)), ("top_k", np.array(7)), ("encoder", np.full((8, 6), np.nan))):
            with pytest.raises(ValueError, match=r"shapes|numbers"):
                Autoencoder.of({**arrays, name: broken})
    assert (again.count, again.top_k, again.error) == (6, 2, found.error)
    assert np.array_equal(again.encode_rows(rows_of(rows)), found.encode_rows(rows_of(rows)))


def test_it_reads_negative_rows_and_has_more_concepts_than_channels() -> None:
    rows = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    found = train_autoencoder(rows_of(rows), 9, top_k=3, epochs=200)
    assert found.error < 0.5
    with pytest.raises(UsageError):
        factorize(rows_of(rows), 3)


@pytest.mark.parametrize(
    ("rows", "count", "top_k", "words"),
    [
        (np.zeros((9, 3)), 2, 1, "all activations are zero"),
        (np.full((9, 3), -1e25), 2, 1, "activations reach 1e.25, too much"),
        (np.full((9, 3), np.nan), 2, 1, "not all finite"),
        (np.ones((2, 3)), 5, 1, "5 concepts cannot be told apart by 2 positions"),
        (np.ones((9, 3)), 2, 3, "a row cannot use 3 of 2 concepts"),
        (np.ones((9, 3)), 2, 0, "a row cannot use 0 of 2 concepts"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_a_sentence(
    rows: NDArray[np.float64], count: int, top_k: int, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        train_autoencoder(rows_of(rows), count, top_k=top_k)
