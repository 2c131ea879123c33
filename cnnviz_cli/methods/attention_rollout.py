"""Attention rollout."""

from __future__ import annotations

from typing import ClassVar, Literal

from cnnviz_cli.methods.api import (
    AttentionFlow,
    Evidence,
    Heatmap,
    MethodContext,
    Recipe,
    Tensor,
    method,
    option,
    value,
)
from cnnviz_cli.methods.common.patches import patch_map

Heads = Literal["mean", "max", "min"]


@value
class Options:
    heads: Heads = option("mean", "How the heads of a layer of attention become one.")


@value
class Rollout:
    """Half of a token stays what it is, half is what its attention brings."""

    shares: ClassVar[tuple[float, float]] = (0.5, 0.5)

    heads: Heads

    def pass_on(self, weights: Tensor, _gradient: Tensor) -> Tensor:
        if self.heads == "mean":
            return weights.mean(2)
        joined = weights.amax(2) if self.heads == "max" else weights.amin(2)
        return joined / joined.sum(-1, keepdim=True)


@method(
    "attention-rollout",
    title="Attention rollout",
    family="gradcam",
    options=Options,
    paper="Abnar & Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, https://arxiv.org/abs/2005.00928",
)
def attention_rollout(options: Options, context: MethodContext) -> Recipe:
    """Which patches a vision transformer's attention has mixed into what it classifies, for any class.

    A_L ... A_2 A_1 with A_l = 1/2 (mean over heads of the attention of layer l) + 1/2 I, in the row of the class token;
    where the scores are read from all patches, the mean of their rows. It follows no gradient, so it is the same map
    for every class. Of windows (Swin) each layer's matrix is the one over all patches that they make up.
    """
    context.require_attention()
    flow = AttentionFlow(Rollout(options.heads), follows=False)

    def explain(evidence: Evidence) -> list[Heatmap]:
        return [patch_map(evidence[flow], None)]

    return Recipe((flow,), explain)
