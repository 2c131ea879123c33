"""The deconvolutional network."""

from __future__ import annotations

from typing import Literal

from cnnviz_cli.methods.api import (
    Activation,
    Evidence,
    Gradient,
    LayerInfo,
    MethodContext,
    ProjectionRow,
    Projections,
    Recipe,
    StrongestChannel,
    Tensor,
    method,
    option,
    strongest_channels,
    value,
)
from cnnviz_cli.methods.common.deconvolution import NOTES, RULE_HELP, RuleChoice, rule_for


@value
class Options:
    layer: tuple[str, ...] = option(("low-mid-high",), "Layers to project back, drawn low to high. Repeatable.")
    maps: int = option(4, "How many feature maps a layer, those with the highest peaks.", at_least=1)
    start: Literal["map", "peak"] = option("map", "Project the whole feature map, or only its strongest position.")
    rule: RuleChoice = option("auto", RULE_HELP)


@method(
    "deconvnet",
    title="Deconvolutional network",
    family="deconv",
    options=Options,
    paper="Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, 2013, https://arxiv.org/abs/1311.2901",
)
def deconvnet(options: Options, context: MethodContext) -> Recipe:
    """What the strongest feature maps of each layer respond to, beside the patch of the image that caused it.

    One backward for each layer and rank serves the whole batch, each image with its own feature map of that rank.
    """
    rule = rule_for(options.rule, context.layers)
    infos = context.find_layers(options.layer).values()
    needs: dict[str, list[Gradient]] = {
        info.name: [
            Gradient(of=StrongestChannel(info.name, rank, options.start), through=rule)
            for rank in range(min(options.maps, info.shape[0]))
        ]
        for info in infos
    }

    def explain(evidence: Evidence) -> list[Projections]:
        rows, silent = [], []
        for info in infos:
            maps = evidence[Activation(info.name, full=True)]
            projections = [evidence[need] for need in needs[info.name]]
            channels = strongest_channels(maps, len(projections))
            index = channels[:, :, None, None].expand(-1, -1, *maps.shape[2:])
            peaks, places = maps.gather(1, index).flatten(2).max(2)
            size = (projections[0].shape[2], projections[0].shape[3])
            boxes = _boxes(places, maps, info, size)
            field = info.field.size if info.field else None
            means = maps.mean((2, 3)).gather(1, channels)
            rows.append(ProjectionRow(info.name, _stack_images(projections), channels, peaks, boxes, field, means))
            silent.append((peaks <= 0).float().mean(1))
        statistics = {"silent_share": sum(silent[1:], silent[0]) / len(silent)}
        return [Projections(tuple(rows), NOTES[rule], statistics=statistics)]

    activations = tuple(Activation(info.name, full=True) for info in infos)
    return Recipe(activations + tuple(need for row in needs.values() for need in row), explain)


def _stack_images(pictures: list[Tensor]) -> Tensor:
    """k images (B, 3, H, W) as (B, k, 3, H, W), without importing torch."""
    stacked = pictures[0].new_empty((pictures[0].shape[0], len(pictures), *pictures[0].shape[1:]))
    for rank, picture in enumerate(pictures):
        stacked[:, rank] = picture
    return stacked


def _boxes(places: Tensor, maps: Tensor, info: LayerInfo, size: tuple[int, int]) -> Tensor:
    """(B, k, 4) receptive fields of flat map positions (B, k), cut at the border of an input of `size` (H, W)."""
    height, width = size
    boxes = []
    for place in places.flatten().tolist():
        if info.field is None:
            boxes.append((0.0, 0.0, float(width), float(height)))
            continue
        row, column = divmod(place, maps.shape[3])
        left, top, right, bottom = info.field.box(row, column)
        # A field can lie wholly in the padding; one pixel of the image always remains.
        left, right = min(max(left, 0.0), width - 1.0), max(min(right, float(width)), 1.0)
        top, bottom = min(max(top, 0.0), height - 1.0), max(min(bottom, float(height)), 1.0)
        boxes.append((left, top, right, bottom))
    return maps.new_tensor(boxes).reshape(*places.shape, 4)
