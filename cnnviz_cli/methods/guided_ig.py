"""Guided integrated gradients."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    BASELINE_HELP,
    REDUCE_HELP,
    Baseline,
    BaselineChoice,
    Evidence,
    MethodContext,
    Panel,
    PathIntegral,
    Recipe,
    Reduce,
    method,
    option,
    reduced,
    value,
)
from cnnviz_cli.methods.common.guided_path import GuidedPath
from cnnviz_cli.methods.common.paths import STEPS, STEPS_HELP

FRACTION, LEASH = 0.25, 0.02
"""The values of the authors' own code."""


@value
class Options:
    reduce: Reduce = option("auto", REDUCE_HELP)
    steps: int = option(STEPS, STEPS_HELP, at_least=1)
    baseline: BaselineChoice = option("black", BASELINE_HELP)


@method(
    "guided-ig",
    title="Guided integrated gradients",
    family="saliency",
    options=Options,
    paper="Kapishnikov et al., Guided Integrated Gradients, 2021, https://arxiv.org/abs/2106.09788",
)
def guided_ig(options: Options, scope: MethodContext) -> Recipe:
    """Integrated gradients along a way that goes round where the score is erratic, so that less noise is left.

    sum over steps of (x_k+1 - x_k) g(x_k). Each step moves the quarter of all values with the least slope, and more
    if they do not suffice; none strays from the straight line by more than 0.02 of its way.
    """
    path = GuidedPath(options.steps, Baseline.within(scope.input_spec, options.baseline), FRACTION, LEASH)
    shares = PathIntegral(path, of=scope.target)

    def explain(evidence: Evidence) -> list[Panel]:
        return [reduced(evidence[shares], options.reduce, signed=True, target=scope.rank)]

    return Recipe((shares,), explain)
