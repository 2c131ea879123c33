"""Score-CAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import MethodContext, Recipe, method
from cnnviz_cli.methods.common.masking import ChannelMasks, ChannelOptions, mask_recipe


@method(
    "scorecam",
    title="Score-CAM",
    family="gradcam",
    options=ChannelOptions,
    paper="Wang et al., Score-CAM, CVPR Workshops 2020, https://arxiv.org/abs/1910.01279",
)
def scorecam(options: ChannelOptions, context: MethodContext) -> Recipe:
    """Where the maps lie through which the network, shown nothing else, still gives the class a high score.

    relu(sum_c w_c A_c) with w = softmax_c s(x M_c), where M_c is A_c enlarged to the input x and stretched to [0, 1]
    (a flat map gives zero), and s is the score before softmax. The paper takes the score of a baseline off each s,
    which a softmax does not notice. One forward a channel; with `top_channels` N only for the N whose maps have the
    largest variance over positions, and the softmax is over these. That is Faster-Score-CAM of
    https://github.com/tabayashi0117/Score-CAM.
    """
    return mask_recipe(options, context, ChannelMasks)
