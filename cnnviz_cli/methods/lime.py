"""LIME."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnviz_cli.methods.api import MethodContext, Recipe, method, option, value
from cnnviz_cli.methods.common.perturbation import EvenSwitches
from cnnviz_cli.methods.common.surrogates import SurrogateOptions, Trials, lasso, surrogate_recipe, switches_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@value
class Options(SurrogateOptions):
    penalty: float = option(
        0.01, "What a segment's weight costs, in units of the score: small ones become zero.", at_least=0
    )


@method(
    "lime",
    title="LIME",
    family="saliency",
    options=Options,
    paper="Ribeiro et al., Why Should I Trust You?, 2016, https://arxiv.org/abs/1602.04938",
)
def lime(options: Options, context: MethodContext) -> Recipe:
    """Which segments of the image raise the class score and which lower it, by a sparse linear model.

    A lasso is fitted to the scores of inputs with random segments covered, each input weighted by exp(-d^2 / 2) with d
    its cosine distance to the image (the defaults of captum's Lime). A pixel shows its segment's weight. In the
    manifest: the number of `segments`, and which share of the scores' variance the model explains (`fit`).
    """
    switches = switches_of(options, context, EvenSwitches)

    def fit(trials: Trials) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        closeness = trials.closeness()
        weights, start = lasso(trials.on, trials.scores, closeness, options.penalty)
        return weights, closeness, start

    return surrogate_recipe(context, switches, fit)
