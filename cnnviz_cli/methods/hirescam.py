"""HiResCAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import CamOptions, MethodContext, Recipe, Tensor, gradient_recipe, method


@method(
    "hirescam",
    title="HiResCAM",
    family="gradcam",
    options=CamOptions,
    paper="Draelos & Carin, HiResCAM, 2020, https://arxiv.org/abs/2011.08891",
)
def hirescam(options: CamOptions, context: MethodContext) -> Recipe:
    """Where in the image the model found what it added to the class score, without averaging the gradient.

    relu(sum_c g_c A_c) with g = dy/dA: equation 4 of the paper. Equal to gradcam where the maps are averaged and
    weighted by a linear layer.
    """

    def weight(maps: Tensor, gradient: Tensor) -> Tensor:
        return gradient * maps

    return gradient_recipe(options, context, weight)
