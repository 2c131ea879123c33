"""Eigen-Grad-CAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import CamOptions, MethodContext, Recipe, Tensor, gradient_recipe, method


@method(
    "eigengradcam",
    title="Eigen-Grad-CAM",
    family="gradcam",
    options=CamOptions,
    paper="Gildenblat et al., pytorch-grad-cam, https://github.com/jacobgil/pytorch-grad-cam; Muhammad & Yeasin, 2020, https://arxiv.org/abs/2008.00299",
)
def eigengradcam(options: CamOptions, context: MethodContext) -> Recipe:
    """What in the image the evidence for the class has most in common across feature maps.

    Eigen-CAM of g A in place of A, with g = dy/dA, and the sign by which the component correlates with sum_c g_c A_c:
    it turns with the evidence. smooth=eigen takes the first principal component once more, of the maps X_c v_c.
    """

    def weight(maps: Tensor, gradient: Tensor) -> Tensor:
        return gradient * maps

    return gradient_recipe(options, context, weight, component="sum")
