"""Element-wise Grad-CAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import CamOptions, MethodContext, Recipe, Tensor, gradient_recipe, method


@method(
    "gradcam-elementwise",
    title="Element-wise Grad-CAM",
    family="gradcam",
    options=CamOptions,
    paper="Gildenblat et al., pytorch-grad-cam, https://github.com/jacobgil/pytorch-grad-cam",
)
def gradcam_elementwise(options: CamOptions, context: MethodContext) -> Recipe:
    """Where in the image any feature map speaks for the class, none of them cancelling another.

    sum_c relu(g_c A_c) with g = dy/dA: what speaks against the class is dropped before the sum, not after it.
    """

    def weight(maps: Tensor, gradient: Tensor) -> Tensor:
        return (gradient * maps).relu()

    return gradient_recipe(options, context, weight)
