"""Smoothed Score-CAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import MethodContext, Recipe, method, option, value
from cnnviz_cli.methods.common.masking import ChannelOptions, NoisyMasks, mask_recipe


@value
class Options(ChannelOptions):
    noisy_masks: int = option(35, "How many noisy masks a channel; each costs a forward.", at_least=1)
    mask_noise: float = option(2.0, "Standard deviation of the masks' noise; a mask goes from 0 to 1.", at_least=0)


@method(
    "sscam",
    title="SS-CAM",
    family="gradcam",
    options=Options,
    paper="Wang et al., SS-CAM: Smoothed Score-CAM, 2020, https://arxiv.org/abs/2006.14255",
)
def sscam(options: Options, context: MethodContext) -> Recipe:
    """Where the maps lie through which the class scores high, on average over noise on what they let through.

    relu(sum_c w_c A_c) with w = softmax_c mean_i s(x (M_c + e_ci)): the masks M_c of Score-CAM, each `noisy_masks`
    times with normal noise of standard deviation `mask_noise`, drawn for each image. The scores are averaged before
    the softmax.
    """

    def masked(layer: str, channels: int, top: int) -> NoisyMasks:
        return NoisyMasks(layer, channels, top, options.noisy_masks, options.mask_noise)

    return mask_recipe(options, context, masked)
