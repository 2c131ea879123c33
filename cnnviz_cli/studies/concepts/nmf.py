"""Non-negative matrix factorisation V = W H + rest, V far larger than memory (Lee and Seung 1999), by HALS.

Hierarchical alternating least squares (Cichocki and Phan 2009): each column of W, then each row of H, is brought to its
best in turn, as scikit-learn's coordinate descent does. One sweep over the rows an iteration: a block of rows gets its
weights, and leaves what H needs to know of it, W^T W and W^T V, behind.

Products with V cost most, so two things make the most of each sweep over the rows. Several rounds of coordinate descent
use the same products (accelerated HALS, Gillis and Glineur 2012). And H goes on in the direction that it came, by ever
more until it has overshot (Ang and Gillis 2019; O'Donoghue and Candes 2015).

The start is NNDSVDa (Boutsidis and Gallopoulos 2008), of the eigenvectors of the C x C matrix V^T V.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.rows import Rows, rows_of
from cnnviz_cli.studies.concepts.blocks import (
    Workers,
    refuse_too_few,
    refuse_values_that_are_none,
    refuse_zeros,
    rows_at_even_distances,
    workers,
)
from cnnviz_cli.studies.concepts.dictionary import Dictionary, Numbers, unit_rows
from cnnviz_cli.studies.concepts.nonnegative import nonnegative_weights

TOLERANCE = 1e-4
ITERATIONS = 300
KNEE_ROWS = 4096
"""As many rows, at even distances, say where the knee is."""

_KNEE_TOLERANCE = 1e-3
_WEIGHT_ROUNDS, _BASIS_ROUNDS = 3, 6
"""Of coordinate descent for each product with V. More gain nothing: the other factor moves next."""
_MOMENTUM = 0.9
"""Share of its last step that H goes on by, at most."""
_GROWN = 1e-6
"""Of what H explains: a rest that grows by less may be rounding, which must not decide."""
_CUT = 1e-6
"""Of the root of the mean: what is below counts as zero in the start, as in scikit-learn."""
_FILL = 0.01
"""Of the same root: what takes the place of zero."""
_TIE = 1e-9
"""Of the largest eigenvalue: a difference below is none, nor is a sign of it."""
_NULL = 1e-12
"""Of the largest eigenvalue: what is below is rounding."""
_ROUNDING = 1e-6
"""Of the numbers that a gradient is the difference of: what is below is rounding."""
_EQUAL = 1e-9
"""Distances from the line that differ by less are equal."""
_PANEL = 320


class NegativeValuesError(UsageError):
    """The layer has negative activations, which no sum of concepts can be.

    Attributes:
        lowest: the lowest of the first block of rows with a negative one; at `row` and `column`.
    """

    def __init__(self, lowest: float, row: int, column: int) -> None:
        super().__init__(
            f"channel {column} of the layer falls to {lowest:.3g}: a factorisation needs activations of at least 0",
            where="--layer",
            fix="Name the layer behind the ReLU.",
        )
        self.lowest, self.row, self.column = lowest, row, column


@dataclass(frozen=True, eq=False)
class Factors(Dictionary):
    """The basis H of a factorisation; a row's weights are its non-negative least squares in it.

    Attributes:
        iterations: sweeps over the rows.
        converged: whether gradients fell to the tolerance before the sweeps were used up.
    """

    iterations: int = 0
    converged: bool = True

    def _codes(self, values: Tensor) -> Tensor:
        basis = torch.from_numpy(self.basis).double()
        return nonnegative_weights(basis @ values.double().T, basis @ basis.T)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`basis`, `energies` and `error`."""
        return {"basis": self.basis, "energies": self.energies, "error": np.array(self.error)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Out of what `arrays` gave."""
        basis = np.array(arrays["basis"], dtype=np.float32, order="C")
        if basis.ndim != 2 or not np.isfinite(basis).all():
            raise ValueError("the basis is no matrix of numbers")
        return cls(basis, np.array(arrays["energies"], dtype=np.float64), float(arrays["error"]))


def factorize(
    rows: Rows, count: int, *, weights: Numbers | None = None, tolerance: float = TOLERANCE, most: int = ITERATIONS
) -> Factors:
    """`count` concepts of non-negative rows; the same bits for any number of threads and any chunks.

    Args:
        weights: (n, count) float32 in memory or in a file, to work in; at the end it has the weights of the rows, as
            `Factors.encode_rows` gives them. None takes memory.
        tolerance: ends the iterations when the projected gradient has fallen to this share of what it first was.
        most: iterations at most.

    Raises:
        NegativeValuesError: a value is below zero.
        UsageError: values that are no numbers, zeros alone, or fewer rows or columns than concepts.
    """
    refuse_too_few(rows, count)
    with torch.no_grad(), workers() as team:
        survey = _Survey.of(rows, team)
        return _factorize(rows, survey, count, team, weights, tolerance, most)


@dataclass(frozen=True)
class _Survey:
    """What one sweep over the rows tells of them, for factorisations into any number of concepts.

    Attributes:
        values: (C,) eigenvalues of V^T V, the largest first.
        vectors: (C, C), their eigenvectors as columns.
    """

    mean: float
    energy: float
    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, rows: Rows, team: Workers) -> Self:
        def work(where: slice, block: Tensor) -> tuple[Tensor, float]:
            _refuse_values(block, where.start)
            wide = block.double()
            return _gram_of(wide), float(wide.sum())

        columns = rows.shape[1]
        gram, total = torch.zeros(columns, columns, dtype=torch.float64, device="cpu"), 0.0
        for one, other in team.blocks(rows, work):
            gram += one
            total += other
        gram = gram.triu() + gram.triu(1).T
        energy = float(gram.trace())
        refuse_zeros(energy)
        values, vectors = torch.linalg.eigh(gram)
        return cls(total / (rows.shape[0] * columns), energy, values.flip(0), vectors.flip(1))

    def directions(self, count: int) -> tuple[Tensor, Tensor]:
        """The first singular values (r,) and right singular vectors (C, r), r <= `count` of those that are not zero.

        Where eigenvalues are equal, any turn of their vectors would do. One is chosen that depends on the space they
        span alone, and not on the last bits of the matrix.
        """
        values, top, found = self.values, float(self.values[0]), list[Tensor]()
        while len(found) < count and values[len(found)] > _NULL * top:
            start = end = len(found)
            while end < len(values) and (end == start or values[end - 1] - values[end] <= _TIE * top):
                end += 1
            found += _canonical(self.vectors[:, start:end])
        chosen = torch.stack(found[:count], 1)
        return values[: chosen.shape[1]].sqrt(), chosen


def _canonical(vectors: Tensor) -> list[Tensor]:
    """Orthonormal vectors that span what (C, g) orthonormal ones do, the same whichever were given.

    Columns of the projection onto the space: first the one of the channel that lies nearest to it, then again in what
    is left. A single vector gets its sign that way: its largest entry is positive.
    """
    found = []
    for _ in range(vectors.shape[1]):
        near = vectors.square().sum(1)
        pivot = int((near >= (1 - _TIE) * near.max()).int().argmax())
        turn = vectors[pivot] / vectors[pivot].norm()
        found.append(vectors @ turn)
        vectors = vectors - torch.outer(found[-1], turn)
    return found


def _gram_of(block: Tensor) -> Tensor:
    """The upper triangle of V^T V, in panels: half of the work of all."""
    columns = block.shape[1]
    gram = torch.zeros(columns, columns, dtype=block.dtype, device=block.device)
    for start in range(0, columns, _PANEL):
        gram[start : start + _PANEL, start:] = block[:, start : start + _PANEL].T @ block[:, start:]
    return gram


def _refuse_values(block: Tensor, start: int) -> None:
    low, _ = refuse_values_that_are_none(block)
    if low < 0:
        row, column = divmod(int(block.argmin()), block.shape[1])
        raise NegativeValuesError(low, start + row, column)


def _factorize(
    rows: Rows, survey: _Survey, count: int, team: Workers, weights: Numbers | None, tolerance: float, most: int
) -> Factors:
    held = np.empty((rows.shape[0], count), dtype=np.float32) if weights is None else weights
    if held.shape != (rows.shape[0], count) or held.dtype != np.float32:
        raise ValueError(f"weights of {held.shape} and {held.dtype} for {rows.shape[0]} rows and {count} concepts")
    ahead = basis = _start(rows, survey, count, team, held)
    first, iterations, converged = 0.0, 0, False
    rest, straight = np.inf, 0  # what is unexplained, and for how many steps H has gone on without overshooting
    while iterations < most and not converged:
        iterations += 1
        squares, products, steepness = _improve_weights(rows, ahead, team, held)
        last, rest = rest, _unexplained(ahead, products, squares)
        before, basis = basis, ahead.clone()
        steepness = steepness + _descend(basis, products, squares, _BASIS_ROUNDS)
        turned = float(((ahead - basis) * (basis - before)).sum()) > 0
        straight = 0 if turned or rest > last + _GROWN * abs(last) else straight + 1
        ahead = (basis + min(_MOMENTUM, straight / (straight + 3)) * (basis - before)).clamp_(min=0)
        violation, scale = steepness.tolist()
        first = first or violation
        converged = violation <= max(tolerance * first, _ROUNDING * scale if tolerance else 0.0)
    energies = (squares.diagonal() / rows.shape[0]).sqrt() * basis.norm(dim=1)
    order = torch.argsort(energies, descending=True, stable=True)
    made = Factors(unit_rows(basis[order]).float().numpy(), energies[order].numpy(), 0.0, iterations, bool(converged))
    left, _, _ = made._encode_blocks(rows, team, held)
    return Factors(made.basis, made.energies, float(np.sqrt(left / survey.energy)), iterations, made.converged)


def _unexplained(basis: Tensor, products: Tensor, squares: Tensor) -> float:
    """|V - W H|^2 without |V|^2, out of W^T V and W^T W."""
    return float(((squares @ basis - 2 * products) * basis).sum())


def _start(rows: Rows, survey: _Survey, count: int, team: Workers, weights: Numbers) -> Tensor:
    """NNDSVDa: (count, C) float64; the weights are written.

    Of each pair of singular vectors the positive parts or the negative ones, whichever pair is larger. What is zero,
    and concepts beyond the rank, is filled with a hundredth of the root of the rows' mean, so that all scales with the
    rows. (With the mean, as it was published, rows of large numbers start far off, and the iterations end at once.)
    """
    sizes, right = survey.directions(count)
    known, mean = len(sizes), float(np.sqrt(survey.mean))
    cut, fill = _CUT * mean, _FILL * mean
    project = (right / sizes).float()

    def left(where: slice, block: Tensor) -> tuple[Tensor, Tensor]:
        found = block @ project
        weights[where, :known] = found.numpy()
        squares = found.square()
        above = torch.where(found > 0, squares, 0.0).sum(0, dtype=torch.float64)
        return above, torch.where(found < 0, squares, 0.0).sum(0, dtype=torch.float64)

    positive, negative = (torch.zeros(known, dtype=torch.float64, device="cpu") for _ in range(2))
    for one, other in team.blocks(rows, left):
        positive, negative = positive + one, negative + other
    factors = torch.zeros(known, dtype=torch.float32, device="cpu")
    basis = torch.zeros(count, rows.shape[1], dtype=torch.float64, device="cpu")
    for number in range(known):
        vector = right[:, number]
        parts = {1.0: vector.clamp(min=0), -1.0: (-vector).clamp(min=0)}
        lengths = {1.0: positive[number].sqrt(), -1.0: negative[number].sqrt()}
        extents = {sign: float(lengths[sign] * parts[sign].norm()) for sign in parts}
        sign = 1.0 if extents[1.0] >= (1 - _CUT) * extents[-1.0] else -1.0
        scale = np.sqrt(float(sizes[number]) * extents[sign])
        basis[number] = scale * parts[sign] / parts[sign].norm()
        factors[number] = sign * scale / float(lengths[sign])
    basis[basis < cut] = fill
    for start in range(0, len(weights), 1 << 16):
        part = torch.from_numpy(weights[start : start + (1 << 16)])
        part[:, :known] *= factors
        part[:, known:] = 0
        part[part < cut] = fill
    return basis


def _improve_weights(rows: Rows, basis: Tensor, team: Workers, weights: Numbers) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinate descent for the weights of each row, written; of all rows W^T W (k, k), W^T V (k, C), and what
    `_descend` gives."""
    narrow, gram = basis.float(), (basis @ basis.T).float()

    def work(where: slice, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        held = torch.from_numpy(weights[where]).T.clone(memory_format=torch.contiguous_format)
        steepness = _descend(held, narrow @ block.T, gram, _WEIGHT_ROUNDS)
        weights[where] = held.T.numpy()
        return (held @ held.T).double(), (held @ block).double(), steepness

    count, columns = basis.shape
    squares = torch.zeros(count, count, dtype=torch.float64, device="cpu")
    products = torch.zeros(count, columns, dtype=torch.float64, device="cpu")
    total = torch.zeros(2, dtype=torch.float64, device="cpu")
    for one, other, steepness in team.blocks(rows, work):
        squares += one
        products += other
        total += steepness
    return squares, products, total


def _descend(weights: Tensor, products: Tensor, gram: Tensor, rounds: int) -> Tensor:
    """One step for each of k in turn, for all columns of (k, m) `weights`, in place; so many times.

    Returns:
        (2,) float64: the sum of the projected gradients in the first round, by which scikit-learn ends its iterations,
        too; and of what they are the differences of.
    """
    held, slopes = weights.clone(), torch.empty_like(weights)
    curvatures = gram.diagonal().tolist()
    for number in range(rounds):
        for one, curvature in enumerate(curvatures):
            slope = torch.sub(gram[one] @ weights, products[one], out=slopes[one])
            if curvature > 0:
                weights[one].sub_(slope, alpha=1 / curvature).clamp_(min=0)
        if number == 0:
            violated = torch.where(held > 0, slopes, slopes.clamp(max=0)).abs().sum(dtype=torch.float64)
    return torch.stack([violated, products.sum(dtype=torch.float64)])


@dataclass(frozen=True)
class Knee:
    """How the error falls with the number of concepts.

    Attributes:
        counts: rising.
        errors: relative, of each.
        at: the count beyond which more concepts gain little, see `knee_of`.
    """

    counts: tuple[int, ...]
    errors: tuple[float, ...]
    at: int


def count_at_knee(rows: Rows, counts: Sequence[int] = range(2, 21)) -> Knee:
    """Factorise for each of the counts that the rows allow, on at most `KNEE_ROWS` rows at even distances.

    Raises:
        UsageError: as `factorize` does.
    """
    refuse_too_few(rows, min(counts))
    few = rows_of(rows_at_even_distances(rows, KNEE_ROWS))
    possible = tuple(sorted(count for count in counts if count <= min(few.shape)))
    with torch.no_grad(), workers() as team:
        survey = _Survey.of(few, team)
        errors = tuple(
            _factorize(few, survey, count, team, None, _KNEE_TOLERANCE, ITERATIONS).error for count in possible
        )
    return Knee(possible, errors, knee_of(possible, errors))


def knee_of(counts: Sequence[int], errors: Sequence[float]) -> int:
    """The count at which the curve of errors lies farthest below the line from its first to its last point.

    Kneedle (Satopaa et al. 2011) without smoothing, both axes from 0 to 1. An error above that of fewer concepts counts
    as that one: more concepts cannot explain less. Of equal distances the fewest concepts. A flat curve gives the first
    count; one that nowhere falls below the line gives the last, since each concept explains as much as those before.
    """
    lowest = np.minimum.accumulate(np.asarray(errors, dtype=np.float64))
    places = np.asarray(counts, dtype=np.float64)
    if lowest[0] == lowest[-1]:
        return int(counts[0])
    along = (places - places[0]) / (places[-1] - places[0])
    height = (lowest - lowest[-1]) / (lowest[0] - lowest[-1])
    below = 1 - along - height
    if below.max() <= _EQUAL:
        return int(counts[-1])
    return int(counts[int(np.flatnonzero(below >= below.max() - _EQUAL)[0])])
