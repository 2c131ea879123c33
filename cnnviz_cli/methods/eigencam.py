"""Eigen-CAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import Activation, CamOptions, MethodContext, Recipe, Tensor, cam_recipe, method


@method(
    "eigencam",
    title="Eigen-CAM",
    family="gradcam",
    options=CamOptions,
    paper="Muhammad & Yeasin, Eigen-CAM, IJCNN 2020, https://arxiv.org/abs/2008.00299",
)
def eigencam(options: CamOptions, context: MethodContext) -> Recipe:
    """What in the image the layer as a whole is about, whatever the class.

    relu(X v) with X the (h w, C) matrix of the maps less their means and v its first right singular vector, with the
    sign by which X v correlates with mean_c |A_c|. It does not depend on the target. smooth=eigen takes the first
    principal component once more, of the maps X_c v_c.
    """

    def weight(maps: Tensor) -> Tensor:
        return maps

    return cam_recipe(options, context, lambda layer: (Activation(layer),), weight, targeted=False, component="size")
