"""GradientSHAP."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    BASELINE_HELP,
    REDUCE_HELP,
    Baseline,
    BaselineChoice,
    Evidence,
    GradientOver,
    MethodContext,
    Panel,
    Recipe,
    Reduce,
    method,
    option,
    reduced,
    value,
)
from cnnviz_cli.methods.common.paths import NOISE, NOISE_HELP, SAMPLES, SAMPLES_HELP, Noisy, ScatteredLine


@value
class Options:
    reduce: Reduce = option("auto", REDUCE_HELP)
    samples: int = option(SAMPLES, SAMPLES_HELP, at_least=1)
    noise: float = option(NOISE, NOISE_HELP, at_least=0)
    baseline: BaselineChoice = option("black", BASELINE_HELP)


@method(
    "gradient-shap",
    title="Gradient SHAP",
    family="saliency",
    options=Options,
    paper="Lundberg & Lee, A Unified Approach to Interpreting Model Predictions, 2017, "
    "https://arxiv.org/abs/1705.07874; Erion et al., Expected Gradients, 2021, https://arxiv.org/abs/1906.10670",
)
def gradient_shap(options: Options, scope: MethodContext) -> Recipe:
    """What each pixel adds to the class score or takes from it, estimated at random places between noise and image.

    1/n sum_i (x + e_i - b_i) g(b_i + u_i (x + e_i - b_i)): noise e_i, place u_i and, for the baseline noise, b_i too
    are drawn anew for each i.
    """
    line = ScatteredLine(Noisy(options.samples, options.noise), Baseline.within(scope.input_spec, options.baseline))
    shares = GradientOver(line, of=scope.target, weighted=True)

    def explain(evidence: Evidence) -> list[Panel]:
        return [reduced(evidence[shares], options.reduce, signed=True, target=scope.rank)]

    return Recipe((shares,), explain)
