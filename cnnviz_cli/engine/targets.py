"""Which classes to explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from cnnviz_cli.core.classes import class_index, top_count


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets of a run, ready to be chosen for a batch.

    Attributes:
        ranks: for each target, the place in the image's own ranking (from 0) or, if negative, -1 - class index.
    """

    ranks: tuple[int, ...]

    @classmethod
    def parse(cls, specs: Sequence[str | int], labels: Sequence[str]) -> Targets:
        """Read ``top1``, ``topK``, a class index, or a class name; what is named twice counts once.

        Raises:
            UsageError: no such class, or a name that several classes bear.
        """
        ranks: dict[int, None] = {}
        for spec in specs:
            count = top_count(spec, labels)
            ranks.update(dict.fromkeys([-1 - class_index(spec, labels)] if count is None else range(count)))
        return cls(tuple(ranks))

    def __call__(self, logits: Tensor) -> Tensor:
        """(B, R) class indices for (B, K) scores; of equal scores the lower index ranks first."""
        order = logits.sort(dim=1, descending=True, stable=True).indices
        chosen = order.new_empty((logits.shape[0], len(self.ranks)))
        for column, rank in enumerate(self.ranks):
            chosen[:, column] = order[:, rank] if rank >= 0 else -1 - rank
        return chosen
