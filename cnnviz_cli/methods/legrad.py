"""LeGrad."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    AttentionLayers,
    Evidence,
    Heatmap,
    MethodContext,
    NoOptions,
    Recipe,
    Tensor,
    method,
    value,
)
from cnnviz_cli.methods.common.patches import patch_map


@value
class PositiveSlope:
    """The positive part of the gradient by the weights, whatever they are."""

    def pass_on(self, _weights: Tensor, gradient: Tensor) -> Tensor:
        return gradient.clamp(min=0).mean(2)


@method(
    "legrad",
    title="LeGrad",
    family="gradcam",
    options=NoOptions,
    paper="Bousselham et al., LeGrad: An Explainability Method for Vision Transformers via Feature Formation "
    "Sensitivity, ICCV 2025, https://arxiv.org/abs/2404.03214",
)
def legrad(_options: NoOptions, context: MethodContext) -> Recipe:
    """Where more attention would raise the score of the class, over all layers of a vision transformer.

    The mean over layers l, heads and queries of relu(dy_l / d attention of layer l), with y_l the score that the
    network's head gives for the tokens behind layer l. The authors' code takes the last layers of CLIP alone; their
    paper sums over all, as this does. Where the tokens of a layer are not those of the last (Swin), y_l is the
    network's own score.
    """
    layers = AttentionLayers(PositiveSlope(), context.require_attention(), context.target)

    def explain(evidence: Evidence) -> list[Heatmap]:
        return [patch_map(evidence[layers].mean(1, keepdim=True), context.rank)]

    return Recipe((layers,), explain)
