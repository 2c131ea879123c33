"""What concepts are, whoever found them: directions of a layer's channels, and how a row is composed of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnviz_cli.core.rows import Rows
from cnnviz_cli.studies.concepts.blocks import Workers, workers

Numbers = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Dictionary(ABC):
    """Concepts, and the weights with which they make up a row: row = weights . basis + what is not explained.

    Attributes:
        basis: (k, C) float32, each row of unit length; one of zeros where nothing needs a concept, always last.
        energies: (k,) float64, the root mean square of each concept's weights over the rows it was made from; the order
            of the concepts is theirs.
        error: ``||V - W H|| / ||V||`` (Frobenius) over those rows.
    """

    basis: Numbers
    energies: NDArray[np.float64]
    error: float

    @property
    def count(self) -> int:
        """How many concepts there are."""
        return len(self.basis)

    @abstractmethod
    def _codes(self, values: Tensor) -> Tensor:
        """(k, m) float64 weights of (m, C) float32 rows, on the CPU."""

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is needed to have it back, by name, for a .npz file."""

    @classmethod
    @abstractmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The same dictionary again; KeyError or ValueError if that is not what the arrays are."""

    def encode(self, values: Tensor) -> Tensor:
        """(m, k) float32 non-negative weights of (m, C) rows, on their device.

        The weights of a row do not depend on the others. Computed on the CPU in double precision.
        """
        with torch.no_grad():
            found = self._codes(values.to(device="cpu", dtype=torch.float32))
            return found.T.to(dtype=torch.float32, device=values.device).contiguous()

    def encode_maps(self, maps: Tensor) -> Tensor:
        """(B, k, h, w) float32 weights of each position of (B, C, h, w) maps."""
        count, channels, height, width = maps.shape
        rows = maps.permute(0, 2, 3, 1).reshape(-1, channels)
        return self.encode(rows).view(count, height, width, self.count).permute(0, 3, 1, 2).contiguous()

    def encode_rows(self, rows: Rows, out: Numbers | None = None) -> Numbers:
        """(n, k) float32 weights of all rows; `out` takes them where memory would not, for instance a memmap."""
        found = np.empty((rows.shape[0], self.count), dtype=np.float32) if out is None else out
        with torch.no_grad(), workers() as team:
            self._encode_blocks(rows, team, found)
        return found

    def decode(self, weights: Tensor) -> Tensor:
        """(m, C) rows of (m, k) weights, in their precision and on their device."""
        return weights @ torch.as_tensor(self.basis, device=weights.device).to(weights.dtype)

    def error_on(self, rows: Rows) -> float:
        """The relative error over other rows, as `error` is over the dictionary's own; NaN if all are zero."""
        with torch.no_grad(), workers() as team:
            left, whole = self._encode_blocks(rows, team, None)[:2]
        return float(np.sqrt(left / whole)) if whole else float("nan")

    def _encode_blocks(
        self, rows: Rows, team: Workers, out: Numbers | None
    ) -> tuple[float, float, NDArray[np.float64]]:
        """Squares of what is not explained, of the rows and of the weights of each concept, summed; weights go to
        `out`."""
        basis = torch.from_numpy(self.basis)

        def work(where: slice, values: Tensor) -> tuple[float, float, Tensor]:
            codes = self._codes(values)
            weights = codes.T.to(torch.float32)
            if out is not None:
                out[where] = weights.numpy()
            rest = torch.addmm(values, weights, basis, alpha=-1)
            return _squares(rest), _squares(values), codes.square().sum(1)

        left, whole, energy = 0.0, 0.0, torch.zeros(self.count, dtype=torch.float64, device="cpu")
        for one, other, of_each in team.blocks(rows, work):
            left, whole, energy = left + one, whole + other, energy + of_each
        return left, whole, energy.numpy()


def _squares(values: Tensor) -> float:
    return float(values.square().sum(dtype=torch.float64))


def unit_rows(basis: Tensor) -> Tensor:
    """Each row at unit length; one of zeros stays."""
    lengths = basis.norm(dim=1, keepdim=True)
    return torch.where(lengths > 0, basis / lengths.clamp(min=torch.finfo(basis.dtype).tiny), 0.0)
