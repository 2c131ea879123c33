"""Shares of a score, and whether they add up to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnviz_cli.methods.common.saliency import Reduce, reduced

if TYPE_CHECKING:
    from torch import Tensor

    from cnnviz_cli.core.panels import Panel

TOLERATED = 0.05
"""Completeness error from which the map is called incomplete."""


def shared(shares: Tensor, at_baseline: Tensor, at_image: Tensor, how: Reduce, *, target: int | None) -> Panel:
    """The panel of what each pixel adds to a score on the way from a baseline to the image.

    The statistic `completeness_error` says by how much the shares miss the difference of the scores.

    Args:
        shares: (B, C, H, W).
        at_baseline: (B,) scores.
        at_image: (B,) scores.
        how: see `reduced`.
        target: the rank of the target explained.
    """
    error = completeness_error(shares, at_baseline, at_image)
    return reduced(
        shares,
        how,
        signed=True,
        target=target,
        statistics={"completeness_error": error},
        warnings={"incomplete": error > TOLERATED},
    )


def completeness_error(shares: Tensor, at_baseline: Tensor, at_image: Tensor) -> Tensor:
    """(B,) |sum of the shares - score difference|, relative to that difference.

    Where the difference is less than a thousandth of the larger score, relative to the latter, because the scores' own
    rounding would decide.
    """
    gained = at_image - at_baseline
    floor = 1e-3 * at_image.abs().maximum(at_baseline.abs())
    missed = (shares.sum((1, 2, 3)) - gained).abs()
    return missed / gained.abs().maximum(floor).clamp(min=1e-12)
