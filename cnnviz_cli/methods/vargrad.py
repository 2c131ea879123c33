"""VarGrad."""

from __future__ import annotations

from cnnviz_cli.methods.api import MethodContext, Recipe, Tensor, method, resolution, saliency_recipe
from cnnviz_cli.methods.common.paths import NoisyOptions, moment


@method(
    "vargrad",
    title="VarGrad",
    family="saliency",
    options=NoisyOptions,
    paper="Adebayo et al., Local Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter Values, "
    "2018, https://arxiv.org/abs/1810.03307",
)
def vargrad(options: NoisyOptions, context: MethodContext) -> Recipe:
    """Where the gradient changes most when a little noise is added to the image.

    1/n sum_i g_i^2 - (1/n sum_i g_i)^2 with g_i = g(x + e_i).
    """

    def variance(mean: Tensor, squares: Tensor) -> Tensor:
        # A variance of zero is a little beside it by rounding, as large as that of the two terms.
        spread = squares - mean.square()
        return spread.where(spread > resolution(squares) / 8 * squares, 0)

    needs = (moment(options, context, 1), moment(options, context, 2))
    return saliency_recipe(options, context, needs, variance, signed=False)
