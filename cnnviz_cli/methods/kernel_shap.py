"""Kernel SHAP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnviz_cli.methods.api import (
    Baseline,
    BaselineChoice,
    Evidence,
    MethodContext,
    Recipe,
    Scores,
    SignedMap,
    method,
    option,
    value,
)
from cnnviz_cli.methods.common.perturbation import COVER_HELP, DRAWS, DRAWS_HELP, ShapleySwitches
from cnnviz_cli.methods.common.segments import CELLS, CELLS_HELP, SEGMENTS_HELP, Segmenting, SegmentsChoice
from cnnviz_cli.methods.common.surrogates import Trials, shares_of_a_sum, surrogate_map

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@value
class Options:
    segments: SegmentsChoice = option("slic", SEGMENTS_HELP)
    cells: int = option(CELLS, CELLS_HELP, at_least=1)
    draws: int = option(DRAWS, DRAWS_HELP, at_least=1)
    cover: BaselineChoice = option("mean", COVER_HELP)


@method(
    "kernel-shap",
    title="Kernel SHAP",
    family="saliency",
    options=Options,
    paper="Lundberg & Lee, A Unified Approach to Interpreting Model Predictions, 2017, https://arxiv.org/abs/1705.07874",
)
def kernel_shap(options: Options, scope: MethodContext) -> Recipe:
    """What each segment of the image adds to the class score, shared out fairly among all of them.

    Shapley values by least squares over coalitions of segments, weighted by (M - 1) / (C(M, k) k (M - k)) for k of M.
    They add up to y(x) - y(all covered) by construction, not by a large weight. Exact where `draws` suffice for all
    coalitions, else an estimate. In the manifest: the number of `segments`, and which share of the scores'
    variance the sums explain (`fit`).
    """
    switches = ShapleySwitches(
        Segmenting.within(scope.input_spec, options.segments, options.cells),
        Baseline.within(scope.input_spec, options.cover),
        options.draws,
    )
    scores = Scores(switches, of=scope.target)

    def fit(trials: Trials) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        import numpy as np

        everything, nothing = trials.scores[:2]
        importance = np.array(switches.weights(trials.on.shape[1]))
        gained = shares_of_a_sum(trials.on[2:], trials.scores[2:] - nothing, importance, everything - nothing)
        return gained, np.concatenate(([0, 0], importance)), float(nothing)

    def explain(evidence: Evidence) -> list[SignedMap]:
        return [surrogate_map(evidence, scores, switches, fit, scope.rank)]

    return Recipe((scores, *switches.needs), explain)
