"""Input times gradient."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    REDUCE_HELP,
    Evidence,
    Gradient,
    Input,
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
    "input-x-gradient",
    title="Input x gradient",
    family="saliency",
    options=Options,
    paper="Shrikumar et al., Not Just a Black Box, 2016, https://arxiv.org/abs/1605.01713",
)
def input_x_gradient(options: Options, scope: MethodContext) -> Recipe:
    """What each pixel adds to the class score, or takes from it, if the network were linear.

    x dy/dx, where x is the normalised input: a colour of value 0 there has no share, whatever the slope.
    """
    picture, slope = Input(), Gradient(of=scope.target)

    def explain(evidence: Evidence) -> list[Panel]:
        return [reduced(evidence[picture] * evidence[slope], options.reduce, signed=True, target=scope.rank)]

    return Recipe((picture, slope), explain)
