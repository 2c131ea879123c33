"""SmoothGrad-Squared."""

from __future__ import annotations

from cnnviz_cli.methods.api import Evidence, MethodContext, Panel, Recipe, method, reduced
from cnnviz_cli.methods.common.noisy import NoisyOptions, moment


@method(
    "smoothgrad-squared",
    title="SmoothGrad-Squared",
    family="saliency",
    options=NoisyOptions,
    paper="Hooker et al., A Benchmark for Interpretability Methods, 2019, https://arxiv.org/abs/1806.10758",
)
def smoothgrad_squared(options: NoisyOptions, scope: MethodContext) -> Recipe:
    """Which pixels the score hangs on strongly in either direction, over noisy copies of the image.

    1/n sum_i g(x + e_i)^2; slopes of changing sign do not cancel, as they do in the plain mean.
    """
    squares = moment(options, scope, 2)

    def explain(evidence: Evidence) -> list[Panel]:
        return [reduced(evidence[squares], options.reduce, signed=False, target=scope.rank)]

    return Recipe((squares,), explain)
