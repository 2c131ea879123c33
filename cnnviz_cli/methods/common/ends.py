"""The score of the image itself, and of what it is compared with: what shares of a score should add up to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnviz_cli.core.needs import INPUT, Evidence, Input, Need, Scores
from cnnviz_cli.core.objectives import Objective
from cnnviz_cli.core.value import value
from cnnviz_cli.methods.common.baselines import Baseline

if TYPE_CHECKING:
    from torch import Tensor


@value
class Ends:
    """Variants: the image unaltered; then its baseline, if there is one."""

    baseline: Baseline | None

    @property
    def at(self) -> str:
        return INPUT

    @property
    def needs(self) -> tuple[Need, ...]:
        return self.baseline.needs if self.baseline else (Input(),)

    @property
    def count(self) -> int:
        return 2 if self.baseline else 1

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        picture = evidence[Input()][image]
        both = picture.new_empty((self.count, *picture.shape))
        both[0] = picture
        if self.baseline:
            both[1] = self.baseline.of(evidence, image)
        return both[start:stop]

    def label(self) -> str:
        return "the image" + (f" and {self.baseline.label()}" if self.baseline else "")


def scores_at(ends: Ends, of: Objective) -> Scores:
    """(B, 1) or (B, 2) the objective there."""
    return Scores(ends, of)
