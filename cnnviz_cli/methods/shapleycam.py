"""ShapleyCAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    Activation,
    CamOptions,
    Curvature,
    Gradient,
    MethodContext,
    Need,
    Recipe,
    Tensor,
    UsageError,
    cam_recipe,
    method,
)

ONCE_ONLY = ("Hardsigmoid",)
"""Kinds of module that torch differentiates once and no more."""


@method(
    "shapleycam",
    title="ShapleyCAM",
    family="gradcam",
    options=CamOptions,
    paper="Cai et al., CAMs as Shapley Value-based Explainers, 2025, https://arxiv.org/abs/2501.06261",
)
def shapleycam(options: CamOptions, context: MethodContext) -> Recipe:
    """Where in the image the evidence for the class sits, each map weighted by its share in a second-order game.

    relu(sum_c w_c A_c) with w_c = mean_hw(g - H A / 2)_c, g and H the gradient and the Hessian of y by A. The score
    explained is the run's, by default the logit; the paper prefers logit plus log-probability. Where everything up to
    the score is piecewise linear after the layer, H is 0 and this equals gradcam.
    """
    first = min(info.order for info in context.find_layers(options.layer).values())
    once = next((info for info in context.layers if info.kind in ONCE_ONLY and info.order > first), None)
    if once:
        raise UsageError(
            f"shapleycam takes a second derivative, and torch has none for the {once.kind} at '{once.name}'",
            fix="Use gradcam, which it equals but for that second derivative, or a later layer",
        )

    def weight(maps: Tensor, gradient: Tensor, curvature: Tensor) -> Tensor:
        return (gradient - curvature / 2).mean((2, 3), keepdim=True) * maps

    def needs(layer: str) -> tuple[Need, ...]:
        return Activation(layer), Gradient(layer, context.target), Curvature(layer, context.target)

    return cam_recipe(options, context, needs, weight)
