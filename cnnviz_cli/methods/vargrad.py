"""VarGrad."""

from __future__ import annotations

from cnnviz_cli.methods.api import Evidence, MethodContext, Panel, Recipe, method, reduced, resolution
from cnnviz_cli.methods.common.noisy import NoisyOptions, moment


@method(
    "vargrad",
    title="VarGrad",
    family="saliency",
    options=NoisyOptions,
    paper="Adebayo et al., Local Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter Values, "
    "2018, https://arxiv.org/abs/1810.03307",
)
def vargrad(options: NoisyOptions, scope: MethodContext) -> Recipe:
    """Where the gradient changes most when a little noise is added to the image.

    1/n sum_i g_i^2 - (1/n sum_i g_i)^2 with g_i = g(x + e_i).
    """
    mean, squares = moment(options, scope, 1), moment(options, scope, 2)

    def explain(evidence: Evidence) -> list[Panel]:
        # A variance of zero is a little beside it by rounding, as large as that of the two terms.
        large = evidence[squares]
        spread = large - evidence[mean].square()
        spread = spread.where(spread > resolution(large) / 8 * large, 0)
        return [reduced(spread, options.reduce, signed=False, target=scope.rank)]

    return Recipe((mean, squares), explain)
