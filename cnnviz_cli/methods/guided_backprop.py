"""Guided backpropagation."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    Evidence,
    Gradient,
    InputProjection,
    MethodContext,
    Panel,
    Recipe,
    SaliencyOptions,
    method,
    reduce_channels,
)
from cnnviz_cli.methods.common.deconvolution import NOTES


@method(
    "guided-backprop",
    title="Guided backpropagation",
    family="saliency",
    options=SaliencyOptions,
    paper="Springenberg et al., Striving for Simplicity, 2015, https://arxiv.org/abs/1412.6806",
)
def guided_backprop(options: SaliencyOptions, context: MethodContext) -> Recipe:
    """The strokes and colours in the image that feed the class score through positive signals alone.

    The gradient with the incoming signal clamped at zero at every rectifier, times its derivative. By --reduce auto it
    is drawn as the paper draws it, an image with colours around zero; any other choice gives one value a pixel.
    """
    slope = Gradient(of=context.target, through="guide")

    def explain(evidence: Evidence) -> list[Panel]:
        if options.reduce == "auto":
            return [InputProjection(evidence[slope], target=context.rank, note=NOTES["guide"])]
        return [reduce_channels(evidence[slope], options.reduce, signed=False, either_way=False, target=context.rank)]

    return Recipe((slope,), explain)
