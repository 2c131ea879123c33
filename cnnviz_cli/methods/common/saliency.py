"""What methods with a value a colour of each pixel share: `reduce`, and whether shares add up to a score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from cnnviz_cli.core.method import MethodContext, Recipe, option
from cnnviz_cli.core.needs import INPUT, Evidence, Input, Need
from cnnviz_cli.core.panels import Panel, PixelMap, SignedMap, State
from cnnviz_cli.core.scores import find_cancelled
from cnnviz_cli.core.value import value
from cnnviz_cli.methods.common.baselines import Baseline

if TYPE_CHECKING:
    from torch import Tensor

Reduce = Literal["auto", "max", "l2", "sum", "signed"]

TOLERATED = 0.05
"""Completeness error from which the map is called incomplete."""


@value
class SaliencyOptions:
    """The option of the whole family; a method with more of them inherits it."""

    reduce: Reduce = option(
        "auto",
        "Over colour channels: max, l2 or sum of the absolute values; signed adds with sign. "
        "Auto is max for slopes, signed for shares of the score.",
    )


def saliency_recipe(
    options: SaliencyOptions,
    context: MethodContext,
    needs: tuple[Need, ...],
    attribute: Callable[..., Tensor] = lambda answer: answer,
    *,
    signed: bool,
) -> Recipe:
    """The recipe of a method whose map (B, C, H, W) `attribute` makes of the answers to its needs alone."""

    def explain(evidence: Evidence) -> list[Panel]:
        values = attribute(*(evidence[need] for need in needs))
        return [reduce_channels(values, options.reduce, signed=signed, target=context.rank)]

    return Recipe(needs, explain)


def reduce_channels(
    values: Tensor,
    how: Reduce,
    *,
    signed: bool,
    either_way: bool = True,
    target: int | None,
    statistics: Mapping[str, Tensor] | None = None,
    warnings: Mapping[State, Tensor] | None = None,
) -> Panel:
    """The panel of a map (B, C, H, W) with colours, one value a pixel: a SignedMap for signed, else a PixelMap.

    Args:
        how: max: max_c |v|. l2: (sum_c v^2)^(1/2). sum: sum_c |v|. signed: sum_c v. auto: see `signed`.
        signed: what auto means: signed for an attribution, whose values add up to a score; max for a slope or its
            spread, of which a pixel has one a colour.
        either_way: whether the magnitudes of slopes are the same for the target and against it.
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


@value
class Ends:
    """Variants: the image unaltered; then its baseline, if there is one. Shares of a score should add up to theirs."""

    at: ClassVar[str] = INPUT

    baseline: Baseline | None

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


def shares_panel(shares: Tensor, at_baseline: Tensor, at_image: Tensor, how: Reduce, *, target: int | None) -> Panel:
    """The panel of the (B, C, H, W) shares that pixels add to a score on the way from a baseline to the image.

    The statistic `completeness_error` says by how much the shares miss the difference of the (B,) scores.
    """
    error = completeness_error(shares, at_baseline, at_image)
    return reduce_channels(
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
