"""XGrad-CAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import CamOptions, MethodContext, Recipe, Tensor, gradient_recipe, method

LEAST = 1e-7
"""The smallest size of a denominator: below it a channel is as good as dead."""


@method(
    "xgradcam",
    title="XGrad-CAM",
    family="gradcam",
    options=CamOptions,
    paper="Fu et al., Axiom-based Grad-CAM, BMVC 2020, https://arxiv.org/abs/2008.02312",
)
def xgradcam(options: CamOptions, context: MethodContext) -> Recipe:
    """Where in the image the evidence for the class sits, each map weighted by what it contributes to the score.

    relu(sum_c w_c A_c) with w_c = sum_hw(g_c A_c) / sum_hw(A_c), g = dy/dA: equation 8 of the paper. A denominator
    smaller than 1e-7 counts as 1e-7 with its sign, so that a dead channel adds nothing.
    """

    def weight(maps: Tensor, gradient: Tensor) -> Tensor:
        total = maps.sum((2, 3), keepdim=True)
        total = total.where(total.abs() >= LEAST, LEAST * (1 - 2 * (total < 0).to(total)))
        return (gradient * maps).sum((2, 3), keepdim=True) / total * maps

    return gradient_recipe(options, context, weight)
