"""Which classes to explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cnnviz_cli.core.classes import TRUE, Rank


@dataclass(frozen=True, slots=True)
class TargetSelector:
    """The targets of a run, ready to be chosen for a batch.

    Attributes:
        contrast: what the targets are told apart from.
        wanted: what an attack on them is to reach.
        truths: for each image of the batch the class that is true of it, None where that is unknown.
    """

    ranks: tuple[Rank, ...]
    contrast: Rank | None = None
    wanted: Rank | None = None
    truths: tuple[int | None, ...] | None = None

    @property
    def contrast_rank(self) -> int | None:
        """The rank among the chosen classes of the one that the others are told apart from."""
        return None if self.contrast is None else len(self.ranks)

    @property
    def wanted_rank(self) -> int | None:
        """The rank among the chosen classes of the one that an attack is to reach."""
        return None if self.wanted is None else self.width - 1

    @property
    def width(self) -> int:
        """How many classes are chosen for each image."""
        return len(self._columns)

    @property
    def uses_truth(self) -> bool:
        """Whether any target depends on an image's true class."""
        return TRUE in self._columns

    @property
    def needs_truth(self) -> bool:
        """Whether nothing can be explained of an image whose true class is unknown."""
        return TRUE in (self.contrast, self.wanted) or set(self.ranks) == {TRUE}

    def with_truths(self, truths: Sequence[int | None]) -> TargetSelector:
        """The same targets for a batch with these true classes."""
        return replace(self, truths=tuple(truths))

    def __call__(self, logits: Tensor) -> Tensor:
        """(B, width) class indices for (B, K) scores; of equal scores the lower index ranks first.

        In the place of a truth that is not known stands another class that is explained, so that it adds nothing.
        Raises ValueError if no truths are given, or not one for each image of the batch.
        """
        order = logits.sort(dim=1, descending=True, stable=True).indices
        chosen = order.new_empty((logits.shape[0], self.width))
        for column, rank in enumerate(self._columns):
            if rank != TRUE:
                chosen[:, column] = order[:, rank] if rank >= 0 else -1 - rank
        if self.uses_truth:
            spare = next((column for column, rank in enumerate(self.ranks) if rank != TRUE), None)
            true = self._true(order, order[:, 0] if spare is None else chosen[:, spare])
            for column, rank in enumerate(self._columns):
                if rank == TRUE:
                    chosen[:, column] = true
        return chosen

    def drawn_ranks(self, chosen: Sequence[int]) -> list[int]:
        """The ranks that are drawn of an image for which these classes were chosen: each class once, no contrast."""
        contrast = None if self.contrast_rank is None else chosen[self.contrast_rank]
        return [
            rank
            for rank, index in enumerate(chosen[: len(self.ranks)])
            if index != contrast and index not in chosen[:rank]
        ]

    def names(self, labels: Sequence[str]) -> list[str]:
        """Each target as file names say it; ``top-K`` and ``true`` where only an image can tell the class."""
        return [_name(rank, labels) for rank in self.ranks]

    @property
    def _columns(self) -> tuple[Rank, ...]:
        return (*self.ranks, *(one for one in (self.contrast, self.wanted) if one is not None))

    def _true(self, order: Tensor, otherwise: Tensor) -> Tensor:
        if self.truths is None or len(self.truths) != len(order):
            raise ValueError("what is true of these images was not said")
        known = [-1 if truth is None else truth for truth in self.truths]
        truths = torch.tensor(known, dtype=order.dtype, device=order.device)
        return truths.where(truths >= 0, otherwise)


def _name(rank: Rank, labels: Sequence[str]) -> str:
    if rank == TRUE:
        return TRUE
    return f"top-{rank + 1}" if rank >= 0 else f"{-1 - rank}-{labels[-1 - rank]}"
