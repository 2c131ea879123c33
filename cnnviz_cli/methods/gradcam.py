"""Grad-CAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import CamOptions, MethodContext, Recipe, Tensor, gradient_recipe, method


@method(
    "gradcam",
    title="Grad-CAM",
    family="gradcam",
    options=CamOptions,
    paper="Selvaraju et al., Grad-CAM, ICCV 2017, https://arxiv.org/abs/1610.02391",
)
def gradcam(options: CamOptions, context: MethodContext) -> Recipe:
    """Where in the image the evidence for the class sits.

    relu(sum_c w_c A_c) with w_c the mean of dy/dA_c over positions: equation 1 and 2 of the paper.
    """

    def weight(maps: Tensor, gradient: Tensor) -> Tensor:
        return gradient.mean((2, 3), keepdim=True) * maps

    return gradient_recipe(options, context, weight)
