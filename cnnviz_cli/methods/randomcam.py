"""Random weights: what a map of no meaning looks like."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    Activation,
    CamOptions,
    Evidence,
    Heatmap,
    MethodContext,
    Part,
    Recipe,
    Seeds,
    finish,
    method,
    uniform,
    views_of,
)

DRAWS = 1 << 41
"""Where the numbers of its draws begin: apart from those of variants, which count from 0."""


@method(
    "randomcam",
    title="Random-CAM",
    family="gradcam",
    options=CamOptions,
    paper="Gildenblat et al., pytorch-grad-cam, https://github.com/jacobgil/pytorch-grad-cam",
)
def randomcam(options: CamOptions, context: MethodContext) -> Recipe:
    """What comes out when the feature maps are weighted at random: no explanation, but what one has to beat.

    relu(sum_c w_c A_c) with w_c uniform in [-1, 1), drawn for each image and layer from the run's seed and the image's
    bytes. It does not depend on the target.
    """
    layers = context.find_layers(options.layer)

    def part(evidence: Evidence, layer: str) -> Part:
        maps = evidence[Activation(layer)]
        weighted = maps.new_empty(maps.shape)
        for image, seed in enumerate(evidence[Seeds()].tolist()):
            draw = uniform(seed, DRAWS + layers[layer].order, (maps.shape[1], 1, 1))
            weighted[image] = (2 * draw - 1).to(maps) * maps[image]
        return Part(layer, weighted)

    def explain(evidence: Evidence) -> list[Heatmap]:
        parts = [part(evidence, layer) for layer in layers]
        return finish(parts, options.smooth, options.fuse, target=None, layers=layers)

    return Recipe((Seeds(), *(Activation(layer) for layer in layers)), explain, views_of(options))
