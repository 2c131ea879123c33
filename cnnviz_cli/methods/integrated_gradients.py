"""Integrated gradients."""

from __future__ import annotations

from cnnviz_cli.methods.api import Baseline, Evidence, GradientOver, Input, MethodContext, Panel, Recipe, Scores, method
from cnnviz_cli.methods.common.paths import Line, PathOptions
from cnnviz_cli.methods.common.saliency import shares_panel


@method(
    "integrated-gradients",
    title="Integrated gradients",
    family="saliency",
    options=PathOptions,
    paper="Sundararajan et al., Axiomatic Attribution for Deep Networks, 2017, https://arxiv.org/abs/1703.01365",
)
def integrated_gradients(options: PathOptions, context: MethodContext) -> Recipe:
    """What each pixel adds to the class score, or takes from it, on the way from a baseline to the image.

    (x - b) times the integral of g(b + t (x - b)) over t from 0 to 1, by a Gauss-Legendre rule. The shares add up to
    y(x) - y(b); the manifest's completeness_error says by how much they miss it.
    """
    baseline = Baseline.within(context.input_spec, options.baseline)
    line = Line(options.steps, baseline)
    slope, scores = GradientOver(line, of=context.target, weighted=True), Scores(line, of=context.target)

    def explain(evidence: Evidence) -> list[Panel]:
        shares = (evidence[Input()] - baseline.batch(evidence)) * evidence[slope]
        ends = evidence[scores][:, -2], evidence[scores][:, -1]
        return [shares_panel(shares, *ends, options.reduce, target=context.rank)]

    return Recipe((*baseline.needs, slope, scores), explain)
