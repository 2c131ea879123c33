"""Guided integrated gradients."""

from __future__ import annotations

from cnnviz_cli.methods.api import Baseline, MethodContext, PathIntegral, Recipe, method, saliency_recipe
from cnnviz_cli.methods.common.paths import FIXED_STEPS, GuidedPath, PathOptions

FRACTION, LEASH = 0.25, 0.02
"""The values of the authors' own code."""


@method(
    "guided-ig",
    title="Guided integrated gradients",
    family="saliency",
    options=PathOptions,
    paper="Kapishnikov et al., Guided Integrated Gradients, 2021, https://arxiv.org/abs/2106.09788",
)
def guided_ig(options: PathOptions, context: MethodContext) -> Recipe:
    """Integrated gradients along a way that goes round where the score is erratic, so that less noise is left.

    sum over steps of (x_k+1 - x_k) g(x_k). Each step moves the quarter of all values with the least slope, and more
    if they do not suffice; none strays from the straight line by more than 0.02 of its way.
    """
    steps = FIXED_STEPS if options.steps == "auto" else options.steps
    path = GuidedPath(steps, Baseline.within(context.input_spec, options.baseline), FRACTION, LEASH)
    return saliency_recipe(options, context, (PathIntegral(path, of=context.target),), signed=True)
