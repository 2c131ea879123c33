"""Feature maps."""

from __future__ import annotations

from cnnviz_cli.methods.api import (
    Activation,
    Evidence,
    FeatureMapGrid,
    Filters,
    MethodContext,
    Panel,
    Recipe,
    Tensor,
    method,
    option,
    value,
)


@value
class Options:
    layer: tuple[str, ...] = option(
        ("conv",), "Layers to draw, a sheet each, low to high. Repeatable.", in_all=("low-mid-high",)
    )
    channels: int = option(16, "How many feature maps a layer, those with the largest mean activation.", at_least=1)
    mean_only: bool = option(False, "Only the mean over a layer's channels.")
    all_channels: bool = option(False, "Under --save-arrays also every channel of a layer, not only those drawn.")
    filters: bool = option(False, "Also the kernels of the first convolution.")


@method(
    "feature-maps",
    title="Feature maps",
    family="features",
    options=Options,
    paper="Zeiler & Fergus, 2013, https://arxiv.org/abs/1311.2901; Yosinski et al., 2015, https://arxiv.org/abs/1506.06579",
)
def feature_maps(options: Options, context: MethodContext) -> Recipe:
    """What each convolution layer answers to this image, channel by channel."""
    reads = [Activation(name) for name in context.layers.resolve(options.layer)]
    kernels = context.kernels if options.filters else None

    def explain(evidence: Evidence) -> list[Panel]:
        panels: list[Panel] = []
        if kernels is not None:
            name, weight = kernels
            images = evidence[reads[0]].shape[0]
            panels.append(Filters(weight.float().expand(images, *weight.shape), layer=name))
        wanted = 0 if options.mean_only else options.channels
        panels += [_mosaic(evidence[read], wanted, read.layer, every=options.all_channels) for read in reads]
        return panels

    return Recipe(tuple(reads), explain)


def _mosaic(maps: Tensor, wanted: int, layer: str, *, every: bool) -> FeatureMapGrid:
    """The sheet of one layer; `maps` is (B, C, h, w)."""
    means = maps.mean((2, 3))
    flat = maps.amax((2, 3)) == maps.amin((2, 3))
    order = means.sort(dim=1, descending=True, stable=True).indices[:, :wanted]
    index = order[:, :, None, None].expand(-1, -1, *maps.shape[2:])
    return FeatureMapGrid(
        maps.gather(1, index),
        order,
        means.gather(1, order),
        maps.mean(1, keepdim=True),
        total=maps.shape[1],
        ranked_by="mean",
        every=maps if every else None,
        layer=layer,
        statistics={
            "dead_share": flat.float().mean(1),
            "max": maps.amax((1, 2, 3)),
            "mean": maps.mean((1, 2, 3)),
        },
    )
