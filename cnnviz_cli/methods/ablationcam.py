"""Ablation-CAM."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    Activation,
    Evidence,
    Heatmap,
    MethodContext,
    Recipe,
    Scores,
    finish,
    method,
    views_of,
)
from cnnviz_cli.methods.common.masking import ChannelOptions, WithoutChannel

NEAR_ZERO = 1e-3
"""A score is next to zero if it is less than so much of the largest change that removing a channel makes to it."""


@method(
    "ablationcam",
    title="Ablation-CAM",
    family="gradcam",
    options=ChannelOptions,
    paper="Desai & Ramaswamy, Ablation-CAM, WACV 2020, https://doi.org/10.1109/WACV45572.2020.9093360",
)
def ablationcam(options: ChannelOptions, context: MethodContext) -> Recipe:
    """Where the maps lie without which the class score falls.

    relu(sum_c w_c A_c) with w_c = (y - y_c) / |y|, where y is the score and y_c that with channel c of the layer set
    to 0; only what comes after the layer runs again. The paper divides by y: the same for y > 0, where a class is
    usually asked about; of a negative score that would show what speaks against the class as what speaks for it.
    grad-cam sets the channel 10,000,000 below the layer's minimum instead, unless that is 0. The score is recorded
    as `y`; next to zero it makes the map huge, which is said. With `top_channels` N only the N channels whose maps have
    the largest variance over positions are removed in turn.
    """
    layers = context.find_layers(options.layer)
    reads = {
        layer: (Activation(layer), Scores(WithoutChannel(layer, info.shape[0], options.count_of(info)), context.target))
        for layer, info in layers.items()
    }

    def explain(evidence: Evidence) -> list[Heatmap]:
        parts = []
        for layer, (maps, scores) in reads.items():
            found = evidence[scores]
            y, drops = found[:, -1], found[:, -1:] - found[:, :-1]
            doubtful = y.abs() <= NEAR_ZERO * drops.abs().amax(1)
            # At zero itself the map is left undivided.
            weights = drops / y.abs().where(y != 0, 1).unsqueeze(1)
            parts.append(options.part_of(layers[layer], evidence[maps], weights, {"y": y}, {"unstable": doubtful}))
        return finish(parts, options.smooth, options.fuse, target=context.rank, layers=layers)

    return Recipe(tuple(need for pair in reads.values() for need in pair), explain, views_of(options))
