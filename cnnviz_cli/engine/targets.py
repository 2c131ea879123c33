"""Which classes to explain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.suggest import did_you_mean

_TOP = re.compile(r"top-?(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets of a run, ready to be chosen for a batch.

    Attributes:
        ranks: for each target, the place in the image's own ranking (from 0) or, if negative, -1 - class index.
    """

    ranks: tuple[int, ...]

    @classmethod
    def parse(cls, specs: Sequence[str | int], labels: Sequence[str]) -> Targets:
        """Read ``top1``, ``topK``, a class index, or a class name.

        Raises:
            UsageError: no such class, or a name that several classes bear.
        """
        ranks: dict[int, None] = {}
        for spec in specs:
            top = _TOP.fullmatch(str(spec).strip())
            if top:
                count = int(top.group(1))
                if not 1 <= count <= len(labels):
                    raise UsageError(f"'{spec}': the model has {len(labels)} classes", where="--target")
                ranks.update(dict.fromkeys(range(count)))
            else:
                ranks[-1 - class_index(spec, labels)] = None
        return cls(tuple(ranks))

    def __call__(self, logits: Tensor) -> Tensor:
        """(B, R) class indices for (B, K) scores; of equal scores the lower index ranks first."""
        order = logits.sort(dim=1, descending=True, stable=True).indices
        chosen = order.new_empty((logits.shape[0], len(self.ranks)))
        for column, rank in enumerate(self.ranks):
            chosen[:, column] = order[:, rank] if rank >= 0 else -1 - rank
        return chosen


def class_index(spec: str | int, labels: Sequence[str]) -> int:
    """The index of a class given by index or by name (case ignored).

    Raises:
        UsageError: out of range, unknown or ambiguous.
    """
    text = str(spec).strip()
    if re.fullmatch(r"[+-]?\d+", text):
        index = int(text)
        if not 0 <= index < len(labels):
            raise UsageError(f"there is no class {index}: the model has 0 to {len(labels) - 1}", where="--target")
        return index
    found = [index for index, label in enumerate(labels) if label.casefold() == text.casefold()]
    if len(found) > 1:
        listed = " or ".join(str(index) for index in found)
        raise UsageError(f"'{text}' is the name of {len(found)} classes", where="--target", fix=f"Say {listed}.")
    if not found:
        hint = did_you_mean(text, labels)
        raise UsageError(
            f"the model has no class '{text}'", where="--target", fix=f"{hint}\nSee: cnnviz classes".strip()
        )
    return found[0]
