"""Blur integrated gradients."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    GradientOver,
    MethodContext,
    Recipe,
    SaliencyOptions,
    method,
    option,
    saliency_recipe,
    value,
)
from cnnviz_cli.methods.common.paths import FIXED_STEPS, STEPS, STEPS_HELP, Blurring, Steps


@value
class Options(SaliencyOptions):
    steps: Steps = option(STEPS, STEPS_HELP, at_least=1)
    max_sigma: int = option(
        50, "Standard deviation of the strongest blur, in pixels of the network's input.", at_least=1
    )


@method(
    "blur-ig",
    title="Blur integrated gradients",
    family="saliency",
    options=Options,
    paper="Xu et al., Attribution in Scale and Space, 2020, https://arxiv.org/abs/2004.03383",
)
def blur_ig(options: Options, context: MethodContext) -> Recipe:
    """What each pixel adds to the class score, or takes from it, as the image sharpens out of a blur.

    - sum_i g(L(s_i)) dL/ds(s_i) ds, where L(s) is the image blurred by s pixels, s_i = i max_sigma / steps.
    """
    steps = FIXED_STEPS if options.steps == "auto" else options.steps
    shares = GradientOver(Blurring(steps, options.max_sigma), of=context.target, weighted=True)
    return saliency_recipe(options, context, (shares,), signed=True)
