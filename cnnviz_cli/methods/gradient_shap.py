"""GradientSHAP."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    BASELINE_HELP,
    Baseline,
    BaselineChoice,
    GradientOver,
    MethodContext,
    Recipe,
    method,
    option,
    saliency_recipe,
    value,
)
from cnnviz_cli.methods.common.paths import Noisy, NoisyOptions, ScatteredLine


@value
class Options(NoisyOptions):
    baseline: BaselineChoice = option("black", BASELINE_HELP)


@method(
    "gradient-shap",
    title="Gradient SHAP",
    family="saliency",
    options=Options,
    paper="Lundberg & Lee, A Unified Approach to Interpreting Model Predictions, 2017, "
    "https://arxiv.org/abs/1705.07874; Erion et al., Expected Gradients, 2021, https://arxiv.org/abs/1906.10670",
)
def gradient_shap(options: Options, context: MethodContext) -> Recipe:
    """What each pixel adds to the class score or takes from it, estimated at random places between noise and image.

    1/n sum_i (x + e_i - b_i) g(b_i + u_i (x + e_i - b_i)): noise e_i, place u_i and, for the baseline noise, b_i too
    are drawn anew for each i.
    """
    line = ScatteredLine(Noisy(options.samples, options.noise), Baseline.within(context.input_spec, options.baseline))
    shares = GradientOver(line, of=context.target, weighted=True)
    return saliency_recipe(options, context, (shares,), signed=True)
