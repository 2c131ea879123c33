"""LayerCAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import CamOptions, MethodContext, Recipe, Tensor, gradient_recipe, method


@method(
    "layercam",
    title="Layer-CAM",
    family="gradcam",
    options=CamOptions,
    paper="Jiang et al., LayerCAM, IEEE TIP 2021, https://ieeexplore.ieee.org/document/9462463",
)
def layercam(options: CamOptions, context: MethodContext) -> Recipe:
    """Where in the image the evidence for the class sits, position by position, sharp in shallow layers too.

    relu(sum_c relu(g_c) A_c) with g = dy/dA: equations 6 to 8 of the paper, without the tanh that it scales
    shallow layers by.
    """

    def weight(maps: Tensor, gradient: Tensor) -> Tensor:
        return gradient.relu() * maps

    return gradient_recipe(options, context, weight)
