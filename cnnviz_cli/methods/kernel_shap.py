"""Kernel SHAP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnviz_cli.methods.api import MethodContext, Recipe, method
from cnnviz_cli.methods.common.perturbation import ShapleySwitches
from cnnviz_cli.methods.common.surrogates import (
    SurrogateOptions,
    Trials,
    shares_of_a_sum,
    surrogate_recipe,
    switches_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@method(
    "kernel-shap",
    title="Kernel SHAP",
    family="saliency",
    options=SurrogateOptions,
    paper="Lundberg & Lee, A Unified Approach to Interpreting Model Predictions, 2017, https://arxiv.org/abs/1705.07874",
)
def kernel_shap(options: SurrogateOptions, context: MethodContext) -> Recipe:
    """What each segment of the image adds to the class score, shared out fairly among all of them.

    Shapley values by least squares over coalitions of segments, weighted by (M - 1) / (C(M, k) k (M - k)) for k of M.
    They add up to y(x) - y(all covered) by construction, not by a large weight. Exact where `draws` suffice for all
    coalitions, else an estimate. In the manifest: the number of `segments`, and which share of the scores'
    variance the sums explain (`fit`).
    """
    switches = switches_of(options, context, ShapleySwitches)

    def fit(trials: Trials) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        import numpy as np

        everything, nothing = trials.scores[:2]
        importance = np.array(switches.weights(trials.on.shape[1]))
        gained = shares_of_a_sum(trials.on[2:], trials.scores[2:] - nothing, importance, everything - nothing)
        return gained, np.concatenate(([0, 0], importance)), float(nothing)

    return surrogate_recipe(context, switches, fit)
