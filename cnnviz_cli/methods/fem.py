"""Feature-based explanation."""

from __future__ import annotations

from cnnviz_cli.methods.api import Activation, CamOptions, MethodContext, Recipe, Tensor, cam_recipe, method

SIGMAS = 2
"""How many standard deviations above its mean a position of a map counts as strong: the paper's k-sigma rule."""


@method(
    "fem",
    title="FEM",
    family="gradcam",
    options=CamOptions,
    paper="Fuad et al., Features Understanding in 3D CNNs for Actions Recognition in Video, IPTA 2020, https://hal.science/hal-02963298",
)
def fem(options: CamOptions, context: MethodContext) -> Recipe:
    """Where the layer answers unusually strongly, whatever the class.

    relu(sum_c w_c A_c) with w_c the share of positions at which A_c exceeds its mean by more than 2 standard deviations
    (of the positions, not an estimate from a sample). It does not depend on the target.
    """

    def weight(maps: Tensor) -> Tensor:
        mean = maps.mean((2, 3), keepdim=True)
        spread = (maps - mean).square().mean((2, 3), keepdim=True).sqrt()
        return (maps > mean + SIGMAS * spread).to(maps).mean((2, 3), keepdim=True) * maps

    return cam_recipe(options, context, lambda layer: (Activation(layer),), weight, targeted=False)
