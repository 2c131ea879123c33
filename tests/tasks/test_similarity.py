"""What is read of an embedding: cosines by hand, their slopes, and what has none."""

from __future__ import annotations

import math
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.scores import embedding
from cnnviz_cli.tasks.similarity import Similarity, reference_of


def doubles(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


DIAGONAL = Similarity(torch.tensor([1.0, 1.0], dtype=torch.float64))


def slope(readout: Similarity, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 1) scores and (B, D) their slopes."""
    leaf = vectors.clone().requires_grad_()
    scores = readout.scores(leaf, None)
    (found,) = torch.autograd.grad(scores.sum(), leaf)
    return scores.detach(), found


def test_the_cosine_and_its_slope_worked_by_hand() -> None:
    # r = (1, 1)/sqrt 2. z = (2, 0): cos = 1/sqrt 2, slope (r - cos (1, 0)) / 2 = (0, 1/(2 sqrt 2)).
    # z = (0, -3): cos = -1/sqrt 2, slope (r + (0, -1)/sqrt 2) / 3 = (1/(3 sqrt 2), 0). z = (3, 4): cos = 7/(5 sqrt 2),
    # slope (r - cos (.6, .8)) / 5 = (1 - .84, 1 - 1.12)/(5 sqrt 2).
    scores, found = slope(DIAGONAL, doubles([2, 0], [0, -3], [3, 4]))
    root = math.sqrt(2)
    torch.testing.assert_close(scores, doubles([1 / root], [-1 / root], [1.4 / root]), rtol=1e-14, atol=0)
    expected = doubles([0, 1 / (2 * root)], [1 / (3 * root), 0], [0.16 / (5 * root), -0.12 / (5 * root)])
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-16)


def test_the_cosine_and_its_slopes_by_formula_and_by_difference_quotients() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, other = (torch.randn(n, 7, dtype=torch.float64, generator=generator) for n in (5, 1))
    readout = Similarity(other[0])
    scores, found = slope(readout, vectors)
    for row, vector in enumerate(vectors):
        z, r = vector.tolist(), other[0].tolist()
        length, whole = (math.sqrt(sum(v * v for v in one)) for one in (z, r))
        cosine = sum(a * b for a, b in zip(z, r, strict=True)) / (length * whole)
        assert scores[row, 0].item() == pytest.approx(cosine, rel=1e-13)
        for place in range(7):
            by_hand = (r[place] / whole - cosine * z[place] / length) / length
            assert found[row, place].item() == pytest.approx(by_hand, rel=1e-9)
    assert torch.autograd.gradcheck(lambda v: readout.scores(v, None), vectors.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda v: readout.scores(v, None), vectors)
    # Nothing along z itself: the cosine does not ask how long it is.
    torch.testing.assert_close((found * vectors).sum(1), torch.zeros(5).double(), rtol=0, atol=1e-15)


def test_of_zeros_the_cosine_is_0_and_every_slope_finite() -> None:
    vectors = doubles([0, 0], [1, 0]).requires_grad_()
    scores = DIAGONAL.scores(vectors, None)
    (once,) = torch.autograd.grad(scores.sum(), vectors, create_graph=True)
    (twice,) = torch.autograd.grad(once.sum(), vectors)
    assert scores[0].item() == 0
    assert once[0].tolist() == twice[0].tolist() == [0, 0]
    assert once[1].any()
    assert twice[1].isfinite().all()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_no_length_is_too_short_or_too_long(scale: float) -> None:
    readout = Similarity(torch.tensor([3.0, 4.0]) * scale)
    scores, found = slope(readout, torch.tensor([[4.0, 3.0]]) * scale)
    torch.testing.assert_close(scores, torch.tensor([[0.96]]))
    torch.testing.assert_close(found * scale, torch.tensor([[(0.6 - 0.768) / 5, (0.8 - 0.576) / 5]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_of_a_picture_and_itself_the_slope_is_none_instead_of_rounding(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    reference = torch.randn(512, generator=generator).to(dtype)
    readout = Similarity(reference)
    itself = reference * 1.5
    opposite = -reference
    # What another batch, or another order of the same sums, leaves of it.
    off = itself * (1 + torch.finfo(dtype).eps * torch.randn(512, generator=generator).to(dtype))
    other = reference + 0.1 * torch.randn(512, generator=generator).to(dtype)
    scores, found = slope(readout, torch.stack([itself, opposite, off, other]))
    unit = 1e-12 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(scores[:3, 0], torch.tensor([1.0, -1, 1]).to(scores), rtol=0, atol=unit)
    assert not found[:3].any()
    assert found[3].any()


def test_without_that_it_would_be_rounding() -> None:
    # What is left of the slope is a thousandth of a thousandth of what it is for another picture, and not zero.
    vector = torch.randn(1, 512, generator=torch.Generator().manual_seed(1)).requires_grad_()
    cosine = nn.functional.cosine_similarity(vector, vector.detach() * 1.1)
    (found,) = torch.autograd.grad(cosine.sum(), vector)
    assert 0 < float(found.detach().norm() * vector.detach().norm()) < 1e-5


def test_a_direction_hardly_off_is_followed() -> None:
    # cos = 1 - 5e-9, that float32 has no number for: the slope is there.
    _, found = slope(Similarity(torch.tensor([1.0, 0.0])), torch.tensor([[1.0, 1e-4]]))
    torch.testing.assert_close(found, torch.tensor([[1e-8, -1e-4]]), rtol=1e-3, atol=1e-8)


def test_similar_is_always_first() -> None:
    scores = doubles([-1, 1], [1, -1], [0, 0], [math.nan, math.nan])
    assert DIAGONAL.order(scores, None).argmax(1).tolist() == [1, 1, 1, 1]
    assert DIAGONAL.hold(scores, None) is None


def test_what_networks_return() -> None:
    vectors = doubles([2, 0], [0, -3])
    for output in (vectors, vectors[:, :, None, None], SimpleNamespace(logits=vectors), (vectors, None), [vectors]):
        assert torch.equal(embedding(output), vectors)
    for output in (vectors[0], vectors[None], {"out": vectors}, (), None, torch.zeros(2, 2, 1, 2), SimpleNamespace()):
        with pytest.raises(UsageError, match="cannot be compared") as refused:
            DIAGONAL.scores(output, None)
        assert refused.value.fix
    with pytest.raises(UsageError, match=r"returns 3 numbers .* has 2"):
        DIAGONAL.scores(torch.ones(1, 3), None)


def test_precision() -> None:
    readout = Similarity(torch.tensor([1.0, 1.0]))
    for given, expected in ((torch.float64,) * 2, (torch.float32,) * 2, (torch.bfloat16, torch.float32)):
        assert readout.scores(torch.ones(1, 2).to(given), None).dtype == expected
    assert not readout.scores(torch.tensor([[math.nan, 1.0], [math.inf, 1.0]]), None).isfinite().any()


def test_equal_only_for_equal_references() -> None:
    first, again = (Similarity(torch.tensor([1.0, 2.0])) for _ in range(2))
    assert first == again == pickle.loads(pickle.dumps(first))
    assert hash(first) == hash(again)
    for other in (torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0], dtype=torch.float64)):
        assert Similarity(other) != first
    assert "tensor" not in repr(first)


def test_the_reference_is_its_own() -> None:
    given = torch.tensor([1.0, 2.0])
    readout = Similarity(given)
    given.zero_()
    assert readout.reference.tolist() == [1, 2]


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.tensor([1.0, math.nan]), torch.ones(1, 2), torch.tensor(1.0)])
def test_references_that_are_none(bad: Tensor) -> None:
    with pytest.raises(ValueError, match="reference"):
        Similarity(bad)


class Writes(nn.Module):
    """Rewrites its input, as a first layer may."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(self.factor).mean((2, 3))


def test_the_reference_of_a_picture() -> None:
    batch = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64, requires_grad=True).view(1, 3, 1, 1)
    found = reference_of(Writes(2), batch)
    assert (found.tolist(), found.dtype, found.requires_grad) == ([2, 4, -6], torch.float32, False)
    assert batch.flatten().tolist() == [1, 2, -3]


@pytest.mark.parametrize(("net", "why"), [(Writes(0), "zeros"), (Writes(math.nan), "not finite")])
def test_pictures_with_which_nothing_can_be_compared(net: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        reference_of(net, torch.ones(1, 3, 2, 2))
    assert refused.value.fix
    with pytest.raises(UsageError, match="cannot be compared"):
        reference_of(nn.Conv2d(3, 2, 1), torch.ones(1, 3, 2, 2))
