"""SmoothGrad."""

from __future__ import annotations

from cnnviz_cli.methods.api import MethodContext, Recipe, method, saliency_recipe
from cnnviz_cli.methods.common.paths import NoisyOptions, moment


@method(
    "smoothgrad",
    title="SmoothGrad",
    family="saliency",
    options=NoisyOptions,
    paper="Smilkov et al., SmoothGrad: removing noise by adding noise, 2017, https://arxiv.org/abs/1706.03825",
)
def smoothgrad(options: NoisyOptions, context: MethodContext) -> Recipe:
    """The gradient with its flicker averaged away, over copies of the image with a little noise.

    1/n sum_i g(x + e_i), with sign; then reduced over colours.
    """
    return saliency_recipe(options, context, (moment(options, context, 1),), signed=False)
