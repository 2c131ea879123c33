"""Integrated gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnviz_cli.core.baselines import BASELINE_HELP, Baseline, BaselineChoice
from cnnviz_cli.core.evidence import Evidence, GradientOver, Input, Scores
from cnnviz_cli.core.method import Recipe, Scope, method, option
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.paths import STEPS, STEPS_HELP, Line
from cnnviz_cli.core.saliency import REDUCE_HELP, Reduce, reduced
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor

TOLERATED = 0.05
"""Completeness error from which the map is called incomplete."""


@value
class Options:
    reduce: Reduce = option("auto", REDUCE_HELP)
    steps: int = option(STEPS, STEPS_HELP, at_least=1)
    baseline: BaselineChoice = option("black", BASELINE_HELP)


@method(
    "integrated-gradients",
    family="saliency",
    options=Options,
    paper="Sundararajan et al., Axiomatic Attribution for Deep Networks, 2017, https://arxiv.org/abs/1703.01365",
)
def integrated_gradients(options: Options, scope: Scope) -> Recipe:
    """What each pixel adds to the class score, or takes from it, on the way from a baseline to the image.

    (x - b) times the integral of g(b + t (x - b)) over t from 0 to 1, by a Gauss-Legendre rule. The shares add up to
    y(x) - y(b); the manifest's completeness_error says by how much they miss it.
    """
    baseline = Baseline.within(scope.frame, options.baseline)
    line = Line(options.steps, baseline)
    slope, scores = GradientOver(line, of=scope.target, weighed=True), Scores(line, of=scope.target)

    def explain(evidence: Evidence) -> list[Panel]:
        shares = (evidence[Input()] - baseline.batch(evidence)) * evidence[slope]
        error = completeness_error(shares, evidence[scores][:, -2], evidence[scores][:, -1])
        return [
            reduced(
                shares,
                options.reduce,
                signed=True,
                target=scope.rank,
                statistics={"completeness_error": error},
                doubts={"incomplete": error > TOLERATED},
            )
        ]

    return Recipe((*baseline.needs, slope, scores), explain)


def completeness_error(shares: Tensor, at_baseline: Tensor, at_image: Tensor) -> Tensor:
    """(B,) |sum of the shares - score difference|, relative to that difference.

    Where the difference is less than a thousandth of the larger score, relative to the latter, because the scores' own
    rounding would decide.

    Args:
        shares: (B, 3, H, W).
        at_baseline: (B,) scores.
        at_image: (B,) scores.
    """
    gained = at_image - at_baseline
    floor = 1e-3 * at_image.abs().maximum(at_baseline.abs())
    missed = (shares.sum((1, 2, 3)) - gained).abs()
    return missed / gained.abs().maximum(floor).clamp(min=1e-12)
