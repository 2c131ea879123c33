"""Integrated Score-CAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import MethodContext, Recipe, method, option, value
from cnnviz_cli.methods.common.masking import ChannelOptions, IntegratedMasks, mask_recipe


@value
class Options(ChannelOptions):
    mask_steps: int = option(10, "In how many steps a channel's mask comes up; each costs a forward.", at_least=1)


@method(
    "iscam",
    title="IS-CAM",
    family="gradcam",
    options=Options,
    paper="Naidu et al., IS-CAM: Integrated Score-CAM, 2020, https://arxiv.org/abs/2010.03023",
)
def iscam(options: Options, context: MethodContext) -> Recipe:
    """Where the maps lie through which the class scores high, on average while they come up out of the dark.

    relu(sum_c w_c A_c) with w = softmax_c mean_i s(x M_c i / N), i from 1 to N: the masks M_c of Score-CAM, each in
    N = `mask_steps` strengths. torchcam multiplies by the running sum of i / N instead, up to (N + 1) / 2 times the
    input.
    """
    return mask_recipe(
        options, context, lambda layer, channels, top: IntegratedMasks(layer, channels, top, options.mask_steps)
    )
