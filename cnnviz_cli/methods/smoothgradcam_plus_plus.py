"""Smooth Grad-CAM++."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    Activation,
    CamOptions,
    GradientOver,
    MethodContext,
    Need,
    Recipe,
    Tensor,
    cam_recipe,
    method,
    option,
    value,
)
from cnnviz_cli.methods.common.cams import EPSILON
from cnnviz_cli.methods.common.paths import Noisy


@value
class Options(CamOptions):
    noisy_inputs: int = option(4, "How many noisy inputs; each costs a forward and a backward.", at_least=1)
    input_noise: float = option(
        0.3, "Standard deviation of the inputs' noise, as a share of the image's own range of values.", at_least=0
    )


@method(
    "smoothgradcam++",
    title="Smooth Grad-CAM++",
    family="gradcam",
    options=Options,
    paper="Omeiza et al., Smooth Grad-CAM++, 2019, https://arxiv.org/abs/1908.01224",
)
def smoothgradcam_plus_plus(options: Options, context: MethodContext) -> Recipe:
    """Where the evidence for the class still sits when noise is laid over the image.

    relu(sum_c w_c A_c) with w_c = sum_hw alpha_c relu(D1_c) and alpha_c = D2_c / (2 D2_c + S_c D3_c + 1e-6), 0 where
    D2_c or the denominator is 0; Dp is the mean of (dy/dA)^p over `noisy_inputs` inputs with normal noise of standard
    deviation `input_noise` (max x - min x), A is the layer's answer to the image itself and S_c = sum_hw A_c. So one
    input without noise gives Grad-CAM++. The paper has D1 in alpha's numerator; torchcam weighs with the gradient of
    the last noisy input alone instead of the mean, and has the sum over A D3 instead of the product.
    """
    noisy = Noisy(options.noisy_inputs, options.input_noise)

    def needs(layer: str) -> tuple[Need, ...]:
        moments = (GradientOver(noisy, context.target, layer, moment=moment) for moment in (1, 2, 3))
        return (Activation(layer), *moments)

    def weight(maps: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
        denominator = 2 * second + maps.sum((2, 3), keepdim=True) * third + EPSILON
        defined = (second != 0) & (denominator != 0)
        alpha = (second / denominator.where(defined, 1)).where(defined, 0)
        return (alpha * first.relu()).sum((2, 3), keepdim=True) * maps

    return cam_recipe(options, context, needs, weight)
