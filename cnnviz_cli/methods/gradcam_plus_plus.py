"""Grad-CAM++."""

from __future__ import annotations

from cnnviz_cli.methods.api import CamOptions, MethodContext, Recipe, Tensor, gradient_recipe, method
from cnnviz_cli.methods.common.cams import EPSILON


@method(
    "gradcam++",
    title="Grad-CAM++",
    family="gradcam",
    options=CamOptions,
    paper="Chattopadhyay et al., Grad-CAM++, WACV 2018, https://arxiv.org/abs/1710.11063",
)
def gradcam_plus_plus(options: CamOptions, context: MethodContext) -> Recipe:
    """Where in the image the evidence for the class sits, several instances of it more evenly than by one mean.

    relu(sum_c w_c A_c) with w_c = sum_hw alpha_c relu(g_c), g = dy/dA, and alpha_c = g_c^2 / (2 g_c^2 + S_c g_c^3 +
    1e-6), 0 where g_c or the denominator is 0; S_c = sum_hw A_c: equations 7 and 19 of the paper.
    """

    def weight(maps: Tensor, gradient: Tensor) -> Tensor:
        square = gradient**2
        denominator = 2 * square + maps.sum((2, 3), keepdim=True) * square * gradient + EPSILON
        defined = (gradient != 0) & (denominator != 0)
        alpha = (square / denominator.where(defined, 1)).where(defined, 0)
        return (alpha * gradient.relu()).sum((2, 3), keepdim=True) * maps

    return gradient_recipe(options, context, weight)
