"""Integrated gradients."""

from __future__ import annotations

from cnnviz_cli.methods.api import Baseline, Evidence, MethodContext, Panel, Recipe, method, reduce_channels
from cnnviz_cli.methods.common.paths import LineShares, PathOptions


@method(
    "integrated-gradients",
    title="Integrated gradients",
    family="saliency",
    options=PathOptions,
    paper="Sundararajan et al., Axiomatic Attribution for Deep Networks, 2017, https://arxiv.org/abs/1703.01365",
)
def integrated_gradients(options: PathOptions, context: MethodContext) -> Recipe:
    """What each pixel adds to the class score, or takes from it, on the way from a baseline to the image.

    (x - b) times the integral of g(b + t (x - b)) over t from 0 to 1. The shares add up to y(x) - y(b); the manifest's
    completeness_error says by how much they miss it. By default the gradients are taken where the score moves: a
    trapezoid rule halves the pieces of the line whose shares miss the change of the score across them, until all
    together miss it by no more than 1 %; `steps` are the gradients that took. A number of steps is a Gauss-Legendre
    rule.
    """
    line = LineShares(options.steps, Baseline.within(context.input_spec, options.baseline), context.target)

    def explain(evidence: Evidence) -> list[Panel]:
        shares = line.shares(evidence)
        statistics, incomplete = line.check(evidence, shares)
        return [
            reduce_channels(
                shares,
                options.reduce,
                signed=True,
                target=context.rank,
                statistics=statistics,
                warnings={"incomplete": incomplete},
            )
        ]

    return Recipe(line.needs, explain)
