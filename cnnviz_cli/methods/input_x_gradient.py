"""Input times gradient."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    Gradient,
    Input,
    MethodContext,
    Recipe,
    SaliencyOptions,
    Tensor,
    method,
    saliency_recipe,
)


@method(
    "input-x-gradient",
    title="Input x gradient",
    family="saliency",
    options=SaliencyOptions,
    paper="Shrikumar et al., Not Just a Black Box, 2016, https://arxiv.org/abs/1605.01713",
)
def input_x_gradient(options: SaliencyOptions, context: MethodContext) -> Recipe:
    """What each pixel would add to the class score, or take from it, if the network were linear.

    x dy/dx, where x is the normalised input: a colour of value 0 there has no share, whatever the slope.
    """

    def attribute(picture: Tensor, slope: Tensor) -> Tensor:
        return picture * slope

    return saliency_recipe(options, context, (Input(), Gradient(of=context.target)), attribute, signed=True)
