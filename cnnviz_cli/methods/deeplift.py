"""DeepLIFT with the rescale rule."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    BASELINE_HELP,
    Baseline,
    BaselineChoice,
    Evidence,
    Input,
    MethodContext,
    Multipliers,
    Panel,
    Recipe,
    SaliencyOptions,
    Scores,
    method,
    option,
    value,
)
from cnnviz_cli.methods.common.saliency import Ends, shares_panel


@value
class Options(SaliencyOptions):
    baseline: BaselineChoice = option("black", BASELINE_HELP)


@method(
    "deeplift",
    title="DeepLIFT",
    family="saliency",
    options=Options,
    paper="Shrikumar et al., Learning Important Features Through Propagating Activation Differences, ICML 2017, "
    "https://arxiv.org/abs/1704.02685",
)
def deeplift(options: Options, context: MethodContext) -> Recipe:
    """How much each pixel adds to the class score, compared with an image that says nothing.

    m (x - b), the multiplier m being difference out / difference in at each nonlinearity, see engine.rescale. The
    shares add up to y(x) - y(b) exactly; the manifest's completeness_error says what rounding leaves.
    """
    context.require_logits("it shares out the score before softmax")
    baseline = Baseline.within(context.input_spec, options.baseline)
    multipliers = Multipliers(baseline, context.target)
    ends = Scores(Ends(baseline), context.target, full=True)

    def explain(evidence: Evidence) -> list[Panel]:
        picture = evidence[Input()]
        values = evidence[multipliers] * (picture - baseline.batch(evidence))
        at_image, at_baseline = evidence[ends][:, 0], evidence[ends][:, 1]
        return [shares_panel(values, at_baseline, at_image, options.reduce, target=context.rank)]

    return Recipe((*baseline.needs, multipliers, ends), explain)
