"""Layer-wise relevance propagation."""

from __future__ import annotations

from cnnviz_cli.core.evidence import Composite, Evidence, Relevance
from cnnviz_cli.core.method import Recipe, Scope, method, option
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.saliency import REDUCE_HELP, Reduce, reduced
from cnnviz_cli.core.value import value
from cnnviz_cli.methods._ends import Ends, scores_at

COMPOSITE_HELP = "Rules for convolutions and the first layer: epsilon for all, z-plus and flat, or gamma and z-box."


@value
class Options:
    composite: Composite = option("epsilon-plus-flat", COMPOSITE_HELP)
    reduce: Reduce = option("auto", REDUCE_HELP)


@method(
    "lrp",
    family="saliency",
    options=Options,
    paper="Bach et al., On Pixel-Wise Explanations, PLoS ONE 2015, https://doi.org/10.1371/journal.pone.0130140",
)
def lrp(options: Options, scope: Scope) -> Recipe:
    """How the class score is made up of the pixels, handed down layer by layer.

    R_i = x_i sum_j w_ij R_j / (z_j + epsilon sign(z_j)) and its kin (engine.relevance_rules). The statistic `conserved`
    is the sum over pixels / score: 1 but for what biases and epsilon take.
    """
    low, high = (scope.frame.black, scope.frame.white) if options.composite == "epsilon-gamma-box" else ((), ())
    relevance = Relevance(options.composite, scope.target, low, high)
    score = scores_at(Ends(None), scope.target)

    def explain(evidence: Evidence) -> list[Panel]:
        values, whole = evidence[relevance], evidence[score][:, 0]
        total = values.sum((1, 2, 3))
        conserved = (total / whole).where(whole != 0, total)
        statistics = {"conserved": conserved}
        return [reduced(values, options.reduce, signed=True, target=scope.rank, statistics=statistics)]

    return Recipe((relevance, score), explain)
