"""SmoothGrad-Squared."""

from __future__ import annotations

from cnnviz_cli.methods.api import MethodContext, Recipe, method, saliency_recipe
from cnnviz_cli.methods.common.paths import NoisyOptions, moment


@method(
    "smoothgrad-squared",
    title="SmoothGrad-Squared",
    family="saliency",
    options=NoisyOptions,
    paper="Hooker et al., A Benchmark for Interpretability Methods, 2019, https://arxiv.org/abs/1806.10758",
)
def smoothgrad_squared(options: NoisyOptions, context: MethodContext) -> Recipe:
    """Which pixels the score hangs on strongly in either direction, over noisy copies of the image.

    1/n sum_i g(x + e_i)^2; slopes of changing sign do not cancel, as they do in the plain mean.
    """
    return saliency_recipe(options, context, (moment(options, context, 2),), signed=False)
