"""What is kept of a picture while the run goes on to compute the others, for a scale that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cnnviz_cli.core.panels import Panel
from cnnviz_cli.run.prepare import Prepared
from cnnviz_cli.run.present import Explained


@dataclass(frozen=True)
class Waiting:
    """An `Explained` that can lie on the disk.

    Attributes:
        sha256: of the photograph's file, which is read again when its maps are drawn.
        probabilities: (K,).
        targets: the R classes explained, by rank.
        panels: of each of the run's tasks, in their order.
    """

    sha256: str
    probabilities: np.ndarray[Any, Any]
    targets: Sequence[int]
    panels: Sequence[Sequence[Panel]]

    @classmethod
    def of(cls, sha256: str, explained: Explained) -> Waiting:
        """All of it but the tasks, which belong to the run."""
        panels = [found for _, found in explained.results]
        return cls(sha256, explained.probabilities.numpy(), explained.targets, panels)

    def back(self, prepared: Prepared) -> Explained:
        """What it was."""
        results = list(zip(prepared.tasks, self.panels, strict=True))
        return Explained(torch.from_numpy(self.probabilities), self.targets, results)
