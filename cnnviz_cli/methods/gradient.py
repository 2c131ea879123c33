"""The gradient saliency map."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    REDUCE_HELP,
    Evidence,
    Gradient,
    MethodContext,
    Panel,
    Recipe,
    Reduce,
    method,
    option,
    reduced,
    value,
)


@value
class Options:
    reduce: Reduce = option("auto", REDUCE_HELP)


@method(
    "gradient",
    title="Gradient",
    family="saliency",
    options=Options,
    paper="Simonyan et al., Deep Inside Convolutional Networks, 2014, https://arxiv.org/abs/1312.6034",
)
def gradient(options: Options, scope: MethodContext) -> Recipe:
    """Which pixels change the class score most when they change a little.

    max_c |dy/dx|, of the same shape as the input but with one channel.
    """
    slope = Gradient(of=scope.target)

    def explain(evidence: Evidence) -> list[Panel]:
        return [reduced(evidence[slope], options.reduce, signed=False, target=scope.rank)]

    return Recipe((slope,), explain)
