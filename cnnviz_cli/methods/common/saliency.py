"""From a map with colours to one value a pixel: what the option `reduce` of a whole family means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from cnnviz_cli.core.panels import Panel, PixelMap, SignedMap, State
from cnnviz_cli.core.scores import find_cancelled

if TYPE_CHECKING:
    from torch import Tensor

Reduce = Literal["auto", "max", "l2", "sum", "signed"]

REDUCE_HELP = (
    "Over colour channels: max, l2 or sum of the absolute values; signed adds with sign. "
    "Auto is max for slopes, signed for shares of the score."
)


def reduced(
    values: Tensor,
    how: Reduce,
    *,
    signed: bool,
    either_way: bool = True,
    target: int | None,
    statistics: Mapping[str, Tensor] | None = None,
    warnings: Mapping[State, Tensor] | None = None,
) -> Panel:
    """The panel of a map with colours, one value a pixel.

    Args:
        values: (B, C, H, W).
        how: max: max_c |v|. l2: (sum_c v^2)^(1/2). sum: sum_c |v|. signed: sum_c v. auto: see `signed`.
        signed: what auto means: signed for an attribution, whose values add up to a score; max for a slope or its
            spread, of which a pixel has one a colour.
        either_way: whether the magnitudes of slopes are the same for the target and against it.
        target: the rank of the target explained.
        statistics: see Panel.
        warnings: see Panel.

    Returns:
        SignedMap for signed, else PixelMap; (B, 1, H, W).
    """
    statistics, warnings = statistics or {}, warnings or {}
    if how == "auto":
        how = "signed" if signed else "max"
    if how == "signed":
        total = values.sum(1, keepdim=True)
        warnings = {**warnings, "flat": find_cancelled(total, values)}
        return SignedMap(total, slope=not signed, target=target, statistics=statistics, warnings=warnings)
    size = values.abs()
    if how == "max":
        size = size.amax(1, keepdim=True)
    elif how == "l2":
        size = size.square().sum(1, keepdim=True).sqrt()
    else:
        size = size.sum(1, keepdim=True)
    return PixelMap(size, target=target, statistics=statistics, warnings=warnings, unsigned=either_way)
