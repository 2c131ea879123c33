"""Layer-wise relevance propagation."""

from __future__ import annotations

from typing import Literal

from cnnviz_cli.methods.api import (
    Composite,
    Evidence,
    MethodContext,
    Panel,
    Recipe,
    Relevance,
    SaliencyOptions,
    Scores,
    method,
    option,
    reduce_channels,
    value,
)
from cnnviz_cli.methods.common.saliency import Ends

EXPLODED = 10.0
"""Of the statistic `conserved`, from which a map is called unstable: sums next to zero have blown relevance up."""


@value
class Options(SaliencyOptions):
    composite: Composite = option(
        "epsilon-plus-flat",
        "Rules for convolutions and the first layer: epsilon for all, z-plus and flat, or gamma and z-box.",
    )
    biases: Literal["share", "nothing"] = option(
        "share", "What biases take of the relevance: their share, or nothing, so that the pixels get all of it."
    )


@method(
    "lrp",
    title="Layer-wise relevance propagation",
    family="saliency",
    options=Options,
    paper="Bach et al., On Pixel-Wise Explanations, PLoS ONE 2015, https://doi.org/10.1371/journal.pone.0130140",
)
def lrp(options: Options, context: MethodContext) -> Recipe:
    """How the class score is made up of the pixels, handed down layer by layer.

    R_i = x_i sum_j w_ij R_j / (z_j + epsilon sign(z_j)) and its kin (engine.relevance_rules). The statistic `conserved`
    is the sum over pixels / score: 1 but for what biases and epsilon take, and in a deep network biases may take nearly
    all. With biases=nothing they are left out of z (zennit's zero_params="bias"); only what neurons owe to biases alone
    is then lost. Without them z may be next to zero, most of all where it is a sum of few, as in depthwise
    convolutions: by the rules that weigh both signs relevance then explodes, which is said. epsilon-plus-flat adds up
    one sign, so that it cannot.
    """
    context.require_logits("it hands the score before softmax down, of which the pixels are to be parts")
    low, high = (
        (context.input_spec.black, context.input_spec.white) if options.composite == "epsilon-gamma-box" else ((), ())
    )
    relevance = Relevance(options.composite, context.target, low, high, options.biases == "share")
    score = Scores(Ends(None), context.target, full=True)

    def explain(evidence: Evidence) -> list[Panel]:
        values, whole = evidence[relevance], evidence[score][:, 0]
        total = values.sum((1, 2, 3))
        conserved = (total / whole).where(whole != 0, total)
        return [
            reduce_channels(
                values,
                options.reduce,
                signed=True,
                target=context.rank,
                statistics={"conserved": conserved},
                warnings={"unstable": conserved.abs() > EXPLODED},
            )
        ]

    return Recipe((relevance, score), explain)
