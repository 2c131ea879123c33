"""Inputs seen through a layer's maps, and layers that lack a map: the Variants of CAMs that follow no gradient.

Each variant is of one channel: with `top` less than a layer has, of the `top_channels` of its own image alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

from cnnviz_cli.core.draws import normal
from cnnviz_cli.core.geometry import Box
from cnnviz_cli.core.layers import LayerInfo, min_max_normalize, pad_to_input, upsample
from cnnviz_cli.core.method import MethodContext, Recipe, option
from cnnviz_cli.core.needs import INPUT, Activation, Evidence, Input, Need, Scores, Seeds
from cnnviz_cli.core.network import match_memory_format
from cnnviz_cli.core.panels import Heatmap, State
from cnnviz_cli.core.value import value
from cnnviz_cli.methods.common.cams import CamOptions, Part, finish, views_of

if TYPE_CHECKING:
    from torch import Tensor


@value
class ChannelOptions(CamOptions):
    """The options of a method that scores a layer's channels one by one."""

    top_channels: int | Literal["all"] = option(
        "all", "Score only the channels whose maps vary most; the others get no weight. An approximation.", at_least=1
    )

    def count_of(self, layer: LayerInfo) -> int:
        """How many channels of a layer are scored."""
        channels = layer.shape[0]
        return channels if self.top_channels == "all" else min(self.top_channels, channels)

    def part_of(
        self,
        layer: LayerInfo,
        maps: Tensor,
        weights: Tensor,
        statistics: Mapping[str, Tensor] = MappingProxyType({}),
        warnings: Mapping[State, Tensor] = MappingProxyType({}),
    ) -> Part:
        """The maps (B, C, h, w) of a layer by the weights (B, count) of those that were scored; the others are zero."""
        count, channels = self.count_of(layer), layer.shape[0]
        weights_of_all = maps.new_zeros(maps.shape[:2]).scatter(1, top_channels(maps, count), weights.to(maps))
        if self.top_channels != "all":
            statistics = {**statistics, "scored_channels": maps.new_full((len(maps),), count)}
        left_out = "" if count == channels else f"{count} of {channels} channels"
        return Part(layer.name, weights_of_all[:, :, None, None] * maps, statistics, warnings, left_out)


def top_channels(maps: Tensor, count: int) -> Tensor:
    """(..., count) the channels of maps (..., C, h, w) with the largest variance over positions, in their own order.

    Of channels with equal variance the first count. Each image has its own.
    """
    import torch

    if count >= maps.shape[-3]:
        return torch.arange(maps.shape[-3], dtype=torch.int64, device=maps.device).expand(*maps.shape[:-3], -1)
    # On the CPU: some devices have no float64.
    spread = maps.cpu().double().var((-2, -1), correction=0)
    chosen = spread.sort(dim=-1, descending=True, stable=True).indices[..., :count]
    return chosen.sort(dim=-1).values.to(maps.device)


@value
class ChannelMasks:
    """The input multiplied by each of a layer's maps, enlarged to its size and stretched to [0, 1], `each` times with
    changes. Variant number p * each + i is of channel number p of the `top_channels`; `window` as in `LayerInfo`."""

    at: ClassVar[str] = INPUT

    layer: str
    channels: int
    top: int
    window: Box | None = field(default=None, kw_only=True)

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Activation(self.layer), Input())

    @property
    def each(self) -> int:
        """How many variants a channel has."""
        return 1

    @property
    def count(self) -> int:
        return self.top * self.each

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        picture = evidence[Input()][image]
        first, last = start // self.each, (stop - 1) // self.each
        every = evidence[Activation(self.layer)][image]
        channels = top_channels(every, self.top)[first : last + 1]
        maps = every[channels].to(picture.dtype).unsqueeze(1)
        masks = min_max_normalize(upsample(pad_to_input(maps, self.window), (picture.shape[1], picture.shape[2])))
        if self.each > 1:
            # Each channel's mask is made once a chunk, however many of its variants are in it.
            masks = masks.repeat_interleave(self.each, 0)[start - first * self.each :][: stop - start]
        # The number of a channel's change is the same whether all channels are scored or some.
        own = channels.tolist()
        changes = [own[number // self.each - first] * self.each + number % self.each for number in range(start, stop)]
        return self.change_masks(masks, evidence, image, changes) * picture

    def keys(self, evidence: Evidence, image: int) -> Sequence[int]:
        """Flat maps, whose masks are all zero, have the same; a subclass that draws has to say otherwise."""
        every = evidence[Activation(self.layer)][image]
        maps = every[top_channels(every, self.top)].flatten(1)
        flat = maps.amin(1) == maps.amax(1)
        if self.window is not None:  # beyond it lies zero
            flat &= maps[:, 0] == 0
        return [-1 if flat else number for number, flat in enumerate(flat.repeat_interleave(self.each).tolist())]

    def change_masks(self, masks: Tensor, _evidence: Evidence, _image: int, _changes: Sequence[int]) -> Tensor:
        """What becomes of the masks (n, 1, H, W); they may be overwritten. Change number c * each + i is of channel c,
        the layer's."""
        return masks

    def label(self) -> str:
        which = "each map" if self.top == self.channels else f"each of the {self.top} most varied maps"
        return f"the input seen through {which} of {self.layer}"


@value
class NoisyMasks(ChannelMasks):
    """The same, each mask (from 0 to 1) `draws` times with Gaussian noise of standard deviation `std` added."""

    draws: int
    std: float

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Activation(self.layer), Input(), Seeds())

    @property
    def each(self) -> int:
        return self.draws

    def keys(self, _evidence: Evidence, _image: int) -> Sequence[int]:
        return range(self.count)

    def change_masks(self, masks: Tensor, evidence: Evidence, image: int, changes: Sequence[int]) -> Tensor:
        seed = int(evidence[Seeds()][image])
        for place, number in enumerate(changes):
            masks[place] += self.std * normal(seed, number, tuple(masks.shape[1:])).to(masks)
        return masks

    def label(self) -> str:
        return f"{super().label()}, with {self.draws} noises each"


@value
class IntegratedMasks(ChannelMasks):
    """The same, each mask coming up from nothing in equal steps: i / steps of it, for i from 1 to `steps`."""

    steps: int

    @property
    def each(self) -> int:
        return self.steps

    def change_masks(self, masks: Tensor, _evidence: Evidence, _image: int, changes: Sequence[int]) -> Tensor:
        shares = [(number % self.steps + 1) / self.steps for number in changes]
        return masks * masks.new_tensor(shares).view(-1, 1, 1, 1)

    def label(self) -> str:
        return f"{super().label()}, in {self.steps} steps each"


@value
class WithoutChannel:
    """The maps of a layer with one of its `top_channels` set to zero, each in turn; then the layer as it is."""

    layer: str
    channels: int
    top: int

    @property
    def at(self) -> str:
        return self.layer

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Activation(self.layer),)

    @property
    def count(self) -> int:
        return self.top + 1

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        maps = evidence[Activation(self.layer)][image : image + 1]
        # In the memory layout of the maps, as what comes after them expects: any other would have to be copied.
        made = match_memory_format(maps.expand(stop - start, -1, -1, -1).clone(), maps)
        removed = top_channels(maps[0], self.top)[start:stop]
        made[list(range(len(removed))), removed] = 0
        return made

    def keys(self, evidence: Evidence, image: int) -> Sequence[int]:
        """Without a map of zeros the layer is as it is."""
        maps = evidence[Activation(self.layer)][image]
        dead = (maps[top_channels(maps, self.top)] == 0).flatten(1).all(1).tolist()
        return [self.top if dead else number for number, dead in enumerate((*dead, True))]

    def label(self) -> str:
        which = "one of them" if self.top == self.channels else f"one of the {self.top} most varied"
        return f"the maps of {self.layer} without {which}"


def mask_recipe(
    options: ChannelOptions, context: MethodContext, masked: Callable[[str, int, int], ChannelMasks]
) -> Recipe:
    """relu(sum_c w_c A_c) with w the softmax over channels of the target's mean score on each channel's masked inputs.
    `masked`: from a layer's name, its number of channels, and how many of them are scored."""
    layers = context.find_layers(options.layer)
    reads = {}
    for layer, info in layers.items():
        masks = replace(masked(layer, info.shape[0], options.count_of(info)), window=info.window)
        reads[layer] = (Activation(layer), Scores(masks, context.target))

    def explain(evidence: Evidence) -> list[Heatmap]:
        parts = []
        for layer, (maps, scores) in reads.items():
            count = options.count_of(layers[layer])
            # Averaged before the softmax, as the papers have it.
            weights = evidence[scores].reshape(-1, count, scores.on.count // count).mean(2).softmax(1)
            parts.append(options.part_of(layers[layer], evidence[maps], weights))
        return finish(parts, options.smooth, options.fuse, target=context.rank, positive=True, layers=layers)

    return Recipe(tuple(need for pair in reads.values() for need in pair), explain, views_of(options))
