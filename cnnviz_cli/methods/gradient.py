"""The gradient saliency map."""

from __future__ import annotations

from cnnviz_cli.methods.api import Gradient, MethodContext, Recipe, SaliencyOptions, method, saliency_recipe


@method(
    "gradient",
    title="Gradient",
    family="saliency",
    options=SaliencyOptions,
    paper="Simonyan et al., Deep Inside Convolutional Networks, 2014, https://arxiv.org/abs/1312.6034",
)
def gradient(options: SaliencyOptions, context: MethodContext) -> Recipe:
    """Which pixels change the class score most when they change a little.

    max_c |dy/dx|, of the same shape as the input but with one channel.
    """
    return saliency_recipe(options, context, (Gradient(of=context.target),), signed=False)
