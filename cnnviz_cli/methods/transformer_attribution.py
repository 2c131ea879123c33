"""Transformer attribution."""

from __future__ import annotations

from typing import ClassVar

from cnnviz_cli.methods.api import (
    AttentionFlow,
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
class PositiveAttention:
    """A token stays what it is, and takes what its attention brings in favour of the target."""

    shares: ClassVar[tuple[float, float]] = (1.0, 1.0)

    def pass_on(self, weights: Tensor, gradient: Tensor) -> Tensor:
        return (weights * gradient).clamp(min=0).mean(2)


@method(
    "transformer-attribution",
    title="Transformer attribution",
    family="gradcam",
    options=NoOptions,
    paper="Chefer, Gur & Wolf, Generic Attention-model Explainability, ICCV 2021, https://arxiv.org/abs/2103.15679",
)
def transformer_attribution(_options: NoOptions, context: MethodContext) -> Recipe:
    """Which patches a vision transformer's attention brought in favour of the class.

    R = (I + A_L) ... (I + A_1) with A_l the mean over heads of relu(attention x dy/d attention) of layer l, in the row
    of the class token; where the scores are read from all patches, the mean of their rows. This is the authors' rule
    for networks of self-attention (equations 5 and 6 of ICCV 2021). Their CVPR paper of the same year has relevance by
    layer-wise propagation in the place of the attention itself. The part of R that passed through no attention, which
    is the same for every patch, is left out.
    """
    context.require_attention()
    flow = AttentionFlow(PositiveAttention(), context.target)

    def explain(evidence: Evidence) -> list[Heatmap]:
        return [patch_map(evidence[flow], context.rank)]

    return Recipe((flow,), explain)
