"""A sparse autoencoder: more concepts than a factorisation tells apart, of which each row uses a few alone.

The TopK autoencoder (Makhzani and Frey 2014, Gao et al. 2024) in the manner of the Overcomplete library (Fel et al.
2025): weights = top-k(ReLU(v E + b)), row = weights . D with atoms D of unit length and no offset, so that a row is the
sum of its concepts, as it is with a factorisation. Weights are non-negative; atoms have both signs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnviz_cli.core.draws import generator
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.rows import Rows
from cnnviz_cli.studies.concepts.blocks import (
    Workers,
    refuse_too_few,
    refuse_values_that_are_none,
    refuse_zeros,
    rows_at_even_distances,
    workers,
)
from cnnviz_cli.studies.concepts.dictionary import Dictionary, Numbers, unit_rows

TOP_K = 5
STEPS = 3000
"""Of the optimiser, at least, where the number of epochs is not given."""

_BATCH = 256
_SHUFFLED = 8192
"""Rows that are shuffled together."""
_SEEN_FIRST = 4096
"""Rows at even distances out of which the first atoms are drawn."""
_RATE = 2e-3
_MOMENTS = (0.9, 0.999)
_REVIVAL = 1e-3
"""Weight of what brings back concepts that no row of a batch uses."""


@dataclass(frozen=True, eq=False)
class Autoencoder(Dictionary):
    """A trained autoencoder; its basis are the decoder's atoms.

    Attributes:
        encoder: (C, k) float32.
        bias: (k,) float32.
        top_k: concepts that a row uses at most.
        epochs: passes over the rows.
    """

    encoder: Numbers = field(kw_only=True)
    bias: Numbers = field(kw_only=True)
    top_k: int = field(kw_only=True)
    epochs: int = field(default=0, kw_only=True)

    def _codes(self, values: Tensor) -> Tensor:
        inner = values.double() @ torch.from_numpy(self.encoder).double() + torch.from_numpy(self.bias).double()
        return keep_largest(inner, self.top_k).T

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`basis`, `energies`, `error`, `encoder`, `bias` and `top_k`."""
        return {
            "basis": self.basis,
            "energies": self.energies,
            "error": np.array(self.error),
            "encoder": self.encoder,
            "bias": self.bias,
            "top_k": np.array(self.top_k),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Out of what `arrays` gave."""
        basis, encoder, bias = (
            np.array(arrays[name], dtype=np.float32, order="C") for name in ("basis", "encoder", "bias")
        )
        top_k = int(arrays["top_k"])
        if basis.ndim != 2 or encoder.shape != basis.T.shape or bias.shape != basis.shape[:1]:
            raise ValueError("the shapes of basis, encoder and bias do not fit together")
        if not 0 < top_k <= len(basis) or not all(np.isfinite(each).all() for each in (basis, encoder, bias)):
            raise ValueError("these are no numbers of an autoencoder")
        energies = np.array(arrays["energies"], dtype=np.float64)
        return cls(basis, energies, float(arrays["error"]), encoder=encoder, bias=bias, top_k=top_k)


def keep_largest(inner: Tensor, top_k: int) -> Tensor:
    """The `top_k` largest of each row of (m, k) where they are positive, zero elsewhere."""
    values, places = inner.clamp(min=0).topk(top_k, dim=1)
    return torch.zeros_like(inner).scatter_(1, places, values)


class Parameters(NamedTuple):
    """What is trained, or its gradient: atoms (k, C), encoder (C, k), bias (k,)."""

    atoms: Tensor
    encoder: Tensor
    bias: Tensor


def gradient(rows: Tensor, at: Parameters, top_k: int) -> tuple[float, Parameters]:
    """The loss of (m, C) rows and its gradient.

    The loss is the mean over rows of |weights . D - v|^2, less a thousandth of the mean of what the encoder gives to
    concepts that none of the rows uses, so that they come back.
    """
    inner = torch.addmm(at.bias, rows, at.encoder)
    weights = keep_largest(inner, top_k)
    used = weights > 0
    unused = ~used.any(0)
    rest = weights @ at.atoms - rows
    loss = float(rest.square().sum() / len(rows)) - _REVIVAL * float((inner * unused).mean())
    outer = rest * (2 / len(rows))
    slopes = (outer @ at.atoms.T).masked_fill_(~used, 0.0)
    slopes[:, unused] = -_REVIVAL / inner.numel()
    return loss, Parameters(weights.T @ outer, rows.T @ slopes, slopes.sum(0))


class Adam:
    """Adam (Kingma and Ba 2015) with a rate for each step."""

    def __init__(self, like: Parameters) -> None:
        self._first = [torch.zeros_like(each) for each in like]
        self._second = [torch.zeros_like(each) for each in like]
        self._steps = 0

    def step(self, at: Parameters, slopes: Parameters, rate: float) -> None:
        """Change the parameters in place."""
        self._steps += 1
        one, two = (1 - moment**self._steps for moment in _MOMENTS)
        for value, slope, first, second in zip(at, slopes, self._first, self._second, strict=True):
            first.lerp_(slope, 1 - _MOMENTS[0])
            second.lerp_(slope.square(), 1 - _MOMENTS[1])
            value.addcdiv_(first, (second / two).sqrt_().add_(1e-8), value=-rate / one)


def train_autoencoder(
    rows: Rows, count: int, *, top_k: int = TOP_K, epochs: int | None = None, seed: int = 0
) -> Autoencoder:
    """`count` concepts of which each row uses `top_k` at most; the same bits for the same seed.

    Args:
        epochs: passes over the rows; None for as many as `STEPS` batches of 256 rows take.

    Raises:
        UsageError: values that are no numbers, zeros alone, or fewer rows than concepts.
    """
    refuse_too_few(rows, count, of_channels=False)
    if not 0 < top_k <= count:
        raise UsageError(f"a row cannot use {top_k} of {count} concepts")
    passes = max(1, math.ceil(STEPS / math.ceil(rows.shape[0] / _BATCH))) if epochs is None else epochs
    with torch.no_grad(), workers() as team:
        scale = math.sqrt(_energy_of(rows, team) / rows.shape[0])
        at = _first_atoms(rows, count, top_k, seed)
        adam = Adam(at)
        total = passes * _batch_count(rows.shape[0])
        for step, batch in enumerate(_batches(rows, passes, seed)):
            _, slopes = gradient(batch / scale, at, top_k)
            adam.step(at, slopes, _RATE * 0.5 * (1 + math.cos(math.pi * step / total)))
            at.atoms.copy_(unit_rows(at.atoms))
        return _finished(rows, team, at._replace(bias=at.bias * scale), top_k, passes)


def _energy_of(rows: Rows, team: Workers) -> float:
    def work(_where: slice, block: Tensor) -> float:
        refuse_values_that_are_none(block)
        return float(block.square().sum(dtype=torch.float64))

    energy = sum(team.blocks(rows, work))
    refuse_zeros(energy)
    return energy


def _first_atoms(rows: Rows, count: int, top_k: int, seed: int) -> Parameters:
    """Directions of rows, each drawn by how far it lies from those before (k-means++); the encoder looks for them."""
    seen = unit_rows(torch.from_numpy(rows_at_even_distances(rows, _SEEN_FIRST)))
    draws = generator(seed, 0)
    far, atoms = seen.square().sum(1), list[Tensor]()
    for _ in range(count):
        if float(far.sum()) > 0:
            atoms.append(seen[int(torch.multinomial(far, 1, generator=draws))])
        else:  # no direction is left: any
            atoms.append(torch.randn(seen.shape[1], generator=draws, dtype=torch.float32, device="cpu"))
        far = torch.minimum(far, (1 - (seen @ atoms[-1]).square()).clamp(min=0) * far.sign())
    basis = unit_rows(torch.stack(atoms))
    return Parameters(basis, basis.T.contiguous() / top_k, torch.zeros(count, dtype=torch.float32, device="cpu"))


def _batch_count(rows: int) -> int:
    """Of one pass."""
    return sum(math.ceil(min(_SHUFFLED, rows - start) / _BATCH) for start in range(0, rows, _SHUFFLED))


def _batches(rows: Rows, passes: int, seed: int) -> Iterator[Tensor]:
    """Shuffled within a few thousand rows: neighbours are positions of one image."""
    number = 0
    for _ in range(passes):
        for chunk in rows.chunks(_SHUFFLED):
            number += 1
            several = torch.from_numpy(np.array(chunk))
            order = torch.randperm(len(several), generator=generator(seed, number), dtype=torch.int64, device="cpu")
            yield from (several[order[start : start + _BATCH]] for start in range(0, len(order), _BATCH))


def _finished(rows: Rows, team: Workers, at: Parameters, top_k: int, passes: int) -> Autoencoder:
    """In the order of their energies; what no row uses is zero."""

    def made(order: Tensor, energies: Tensor, error: float) -> Autoencoder:
        basis, encoder, bias = (
            (each * live).contiguous().numpy()
            for each, live in (
                (at.atoms[order], (energies > 0).unsqueeze(1)),
                (at.encoder[:, order], energies > 0),
                (at.bias[order], energies > 0),
            )
        )
        return Autoencoder(basis, energies.numpy(), error, encoder=encoder, bias=bias, top_k=top_k, epochs=passes)

    everything = torch.arange(len(at.atoms), dtype=torch.int64, device="cpu")
    alive = torch.ones(len(at.atoms), dtype=torch.float64, device="cpu")
    left, whole, energy = made(everything, alive, 0.0)._encode_blocks(rows, team, None)
    energies = torch.from_numpy(np.sqrt(energy / rows.shape[0]))
    order = torch.argsort(energies, descending=True, stable=True)
    return made(order, energies[order], math.sqrt(left / whole))
