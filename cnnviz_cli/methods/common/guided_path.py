"""A way from a baseline to the image that takes the pixels on which the score hangs least first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnviz_cli.core.needs import Evidence, Input, Need
from cnnviz_cli.core.value import value
from cnnviz_cli.methods.common.baselines import Baseline

if TYPE_CHECKING:
    from torch import Tensor


@value
class GuidedPath:
    """Kapishnikov et al., 2021: each step goes 1 / steps of the L1 distance, by the values of least |gradient|.

    Attributes:
        steps: how many.
        baseline: where it starts.
        fraction: of all values, how many are moved at a time; when they do not suffice, the next ones follow.
        leash: how far a value may be ahead of or behind the straight line, as a share of its way.
    """

    steps: int
    baseline: Baseline
    fraction: float
    leash: float

    @property
    def needs(self) -> tuple[Need, ...]:
        return tuple(dict.fromkeys((Input(), *self.baseline.needs)))

    @property
    def count(self) -> int:
        return self.steps

    def begin(self, evidence: Evidence) -> Tensor:
        return self.baseline.batch(evidence).cpu().double()

    def advance(self, evidence: Evidence, step: int, point: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        # On the CPU in double precision: distances to the image are compared, and some devices have no float64.
        ends, starts = evidence[Input()].cpu().double(), self.begin(evidence)
        slopes = gradient.cpu()
        moved = torch.stack([self._moved(step, *one) for one in zip(point, slopes, starts, ends, strict=True)])
        return moved, (moved - point) * slopes

    def _moved(self, step: int, point: Tensor, slope: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Where one image's point goes; all (3, H, W)."""
        along = (step + 1) / self.steps
        way = end - start
        rear, front = (start + way * min(max(along + off, 0.0), 1.0) for off in (-self.leash, self.leash))
        # Whoever fell behind catches up.
        point = point.where((point - start) * way.sign() >= (rear - start) * way.sign(), rear)
        length = float(way.abs().sum())
        left = length * (1 - along)
        size = slope.abs()
        while (gap := float((point - end).abs().sum()) - left) > 1e-9 * length:
            chosen = _least(size, point != front, self.fraction)
            reach = float((front - point)[chosen].abs().sum())
            if reach == 0:
                break
            if gap <= reach:
                return point.where(~chosen, point + (front - point) * (gap / reach))
            point = point.where(~chosen, front)
        return point

    def label(self) -> str:
        return f"{self.steps} steps from {self.baseline.label()}, least slopes first"


def _least(size: Tensor, free: Tensor, fraction: float) -> Tensor:
    """Which of the free values have a size up to the `fraction` quantile of all, the others counting as infinite.

    What differs by rounding alone is taken together: in a plain baseline many slopes are equal but for their last bits,
    which depend on the batch.
    """
    import torch

    open_ones = size.where(free, torch.inf).flatten()
    limit = open_ones.kthvalue(int(fraction * (open_ones.numel() - 1)) + 1).values
    slack = 16 * torch.finfo(size.dtype).eps * size.max()
    return free & (size <= limit + slack)
