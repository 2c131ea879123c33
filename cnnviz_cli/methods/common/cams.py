"""What the methods that weight a layer's maps share: three options, and the way from weighted maps to panels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from cnnviz_cli.core.layers import LayerInfo, as_tensor, min_max_normalize, pad_to_input, upsample
from cnnviz_cli.core.method import AUGMENTATIONS, InputView, MethodContext, Recipe, option
from cnnviz_cli.core.needs import Activation, Evidence, Gradient, Need
from cnnviz_cli.core.panels import SHARED, Heatmap, State
from cnnviz_cli.core.scores import find_cancelled
from cnnviz_cli.core.value import value
from cnnviz_cli.methods.common.pca import principal

if TYPE_CHECKING:
    from torch import Tensor

Smooth = Literal["none", "eigen", "aug"]
Fuse = Literal["none", "mean", "max"]
Sign = Literal["size", "sum"]

EPSILON = 1e-6
"""Added to Grad-CAM++'s denominator, as in pytorch-grad-cam. Gradients of a score that is not softmaxed can be as small
as its square root, so its size is part of the definition."""

LAYER = option(("last-conv",), "Layer to read; its maps must still be spatial. Repeatable.")
SMOOTH = option(
    "none",
    "Less noise: eigen keeps the first principal component of the weighted maps, "
    "aug averages over flipped and dimmed inputs.",
)


@value
class SmoothOptions:
    """The option of the methods that have no layer to choose."""

    smooth: Smooth = SMOOTH


@value
class CamOptions:
    """The options of the whole family; a method with more of them inherits these."""

    layer: tuple[str, ...] = LAYER
    smooth: Smooth = SMOOTH
    fuse: Fuse = option(
        "none", "Of several layers one map each, or their mean or maximum, each scaled to [0, 1] before."
    )


@value
class Part:
    """(B, C, h, w) weighted maps of one layer, of which the sum over channels is the map, and (B,) statistics;
    `approximation` as in `Panel`."""

    layer: str
    maps: Tensor
    statistics: Mapping[str, Tensor] = field(default_factory=dict)
    warnings: Mapping[State, Tensor] = field(default_factory=dict)
    approximation: str = ""


def cam_recipe(
    options: CamOptions,
    context: MethodContext,
    needs: Callable[[str], tuple[Need, ...]],
    weight: Callable[..., Tensor],
    *,
    targeted: bool = True,
    positive: bool = False,
    component: Sign | None = None,
) -> Recipe:
    """The recipe of a method that treats each layer by itself.

    Args:
        needs: what it asks for, by layer.
        weight: from the answers to `needs`, in their order, to the layer's weighted maps (B, C, h, w).
    """
    layers = context.find_layers(options.layer)
    asked = {layer: needs(layer) for layer in layers}

    def explain(evidence: Evidence) -> list[Heatmap]:
        parts = [Part(layer, weight(*(evidence[need] for need in wanted))) for layer, wanted in asked.items()]
        target = context.rank if targeted else None
        return finish(
            parts,
            options.smooth,
            options.fuse,
            target=target,
            positive=positive,
            component=component,
            layers=layers,
        )

    return Recipe(tuple(need for wanted in asked.values() for need in wanted), explain, views_of(options))


def gradient_recipe(
    options: CamOptions,
    context: MethodContext,
    weight: Callable[[Tensor, Tensor], Tensor],
    *,
    component: Sign | None = None,
) -> Recipe:
    """`cam_recipe` of a method that needs a layer's maps and the gradient of the target: weight(maps, gradient)."""
    return cam_recipe(
        options,
        context,
        lambda layer: (Activation(layer), Gradient(layer, context.target)),
        weight,
        component=component,
    )


def views_of(options: CamOptions | SmoothOptions) -> tuple[InputView, ...]:
    """The views of the input over which the run averages."""
    return AUGMENTATIONS if options.smooth == "aug" else ()


def finish(
    parts: Sequence[Part],
    smooth: Smooth = "none",
    fuse: Fuse = "none",
    *,
    target: int | None,
    positive: bool = False,
    component: Sign | None = None,
    layers: Mapping[str, LayerInfo] = MappingProxyType({}),
) -> list[Heatmap]:
    """Panels of weighted maps: added up over channels, rectified, fused if asked.

    By smooth=eigen the first principal component of the weighted maps takes the place of their sum, with the sign by
    which it correlates with the sum; the share of variance that it explains is a statistic.

    Args:
        smooth: aug is the run's work, see `views_of`.
        fuse: mean or max of all layers' maps, each scaled to [0, 1] by itself and brought to the size of the largest
            by bilinear interpolation; a map with one value everywhere becomes 0.
        target: the rank of the target that the maps depend on; None if on none, and then there is no `raw_max` or
            `raw_min`: all negative says nothing about a class.
        positive: no weight is negative, so that a map below zero is the layer's and no evidence against the target:
            where nothing is above zero it is called silent.
        component: the map is the principal component of `Part.maps`, with the sign by which it correlates with the
            mean of their absolute values (size) or with their sum (sum). Smoothing by eigen then works on the maps as
            this component weighs them. Components are centred, never all negative, so they have no `raw_max` either.
        layers: by name: they tell over which part of the input a layer's maps lie.
    """
    panels = [_panel(part, smooth == "eigen", target, component, positive, layers) for part in parts]
    return panels if fuse == "none" else [_fuse_maps(panels, fuse)]


def _panel(
    part: Part, eigen: bool, target: int | None, component: Sign | None, positive: bool, layers: Mapping[str, LayerInfo]
) -> Heatmap:
    maps, statistics, warnings = part.maps, dict(part.statistics), dict(part.warnings)
    if component:
        toward = maps.abs() if component == "size" else maps
        maps, statistics["explained_share"] = principal(maps, toward.sum(1, keepdim=True))
    if eigen:
        maps, statistics["explained_share"] = principal(maps, maps.sum(1, keepdim=True))
    signed = maps.sum(1, keepdim=True)
    if not (eigen or component):
        warnings["flat"] = find_cancelled(signed, maps)
        if positive:
            warnings["silent"] = (signed.amax((1, 2, 3)) <= 0) & (signed.amin((1, 2, 3)) < 0)
    rectified = not (target is None or eigen or component)
    return Heatmap(
        pad_to_input(signed.relu(), layers[part.layer].window if part.layer in layers else None),
        signed.amax((1, 2, 3)) if rectified else None,
        signed.amin((1, 2, 3)) if rectified else None,
        layer=part.layer,
        target=target,
        statistics=statistics,
        warnings=warnings,
        approximation=part.approximation,
    )


def _fuse_maps(panels: Sequence[Heatmap], how: Fuse) -> Heatmap:
    import torch

    maps = [as_tensor(panel.values) for panel in panels]
    size = max((tuple(values.shape[2:]) for values in maps), key=lambda shape: shape[0] * shape[1])
    scaled = torch.stack([upsample(min_max_normalize(values), (size[0], size[1])) for values in maps])
    peaks = [as_tensor(panel.raw_max) for panel in panels if panel.raw_max is not None]
    lowest = [as_tensor(panel.raw_min) for panel in panels if panel.raw_min is not None]
    return Heatmap(
        scaled.mean(0) if how == "mean" else scaled.amax(0),
        torch.stack(peaks).amax(0) if peaks else None,
        torch.stack(lowest).amin(0) if lowest else None,
        layer=panels[0].layer if len(panels) == 1 else None,
        layers=tuple(panel.layer for panel in panels if panel.layer) if len(panels) > 1 else (),
        joined=how,
        target=panels[0].target,
        approximation="; ".join(dict.fromkeys(panel.approximation for panel in panels if panel.approximation)),
        statistics={
            name: torch.stack([as_tensor(panel.statistics[name]) for panel in panels]).mean(0)
            for name in panels[0].statistics
        },
        warnings={
            state: combine(torch.stack([as_tensor(panel.warnings[state]) for panel in panels]), 0)
            for state, combine in ((state, torch.all if state in SHARED else torch.any) for state in panels[0].warnings)
        },
    )
