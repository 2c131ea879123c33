"""Finer-CAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    Activation,
    CamOptions,
    FinerContrast,
    Gradient,
    MethodContext,
    Need,
    Negated,
    Objective,
    Recipe,
    Tensor,
    cam_recipe,
    method,
    option,
    value,
)


@value
class Options(CamOptions):
    similar: int = option(
        3, "How many of the classes with the most similar scores to tell the target from.", at_least=1
    )
    strength: float = option(1.0, "How much of the similar classes' score to take off the target's; 0 is gradcam.")


@method(
    "finercam",
    title="Finer-CAM",
    family="gradcam",
    options=Options,
    paper="Zhang et al., Finer-CAM, CVPR 2025, https://arxiv.org/abs/2501.11309",
)
def finercam(options: Options, context: MethodContext) -> Recipe:
    """Where in the image the class differs from those that look most like it.

    Grad-CAM of y_t - strength sum_d q_d y_d over the `similar` classes d with scores nearest to that of target t, with
    q their softmax among themselves, see core.objectives.FinerContrast. With a contrast the class given is the only d,
    and `similar` has no say.
    """
    context.require_classes("it tells the class from those most like it")
    objective: Objective = FinerContrast(
        context.rank, options.strength, options.similar, context.contrast_rank, context.score
    )
    if context.counterfactual:
        objective = Negated(objective)

    def needs(layer: str) -> tuple[Need, ...]:
        return Activation(layer), Gradient(layer, objective)

    def weight(maps: Tensor, gradient: Tensor) -> Tensor:
        return gradient.mean((2, 3), keepdim=True) * maps

    return cam_recipe(options, context, needs, weight)
