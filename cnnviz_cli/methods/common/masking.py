"""Inputs seen through a layer's maps, and layers that lack a map: the Variants of CAMs that follow no gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace
from typing import TYPE_CHECKING, ClassVar

from cnnviz_cli.core.geometry import Box
from cnnviz_cli.core.layers import min_max_normalize, pad_to_input, upsample
from cnnviz_cli.core.method import MethodContext, Recipe
from cnnviz_cli.core.needs import INPUT, Activation, Evidence, Input, Need, Scores, Seeds
from cnnviz_cli.core.network import match_memory_format
from cnnviz_cli.core.value import value
from cnnviz_cli.methods.common.cams import CamOptions, cam_recipe
from cnnviz_cli.methods.common.rng import normal

if TYPE_CHECKING:
    from torch import Tensor


@value
class ChannelMasks:
    """The input multiplied by each of a layer's maps, enlarged to its size and stretched to [0, 1], `each` times with
    changes. Variant number c * each + i is of channel c; `window` as in `LayerInfo`."""

    at: ClassVar[str] = INPUT

    layer: str
    channels: int
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
        return self.channels * self.each

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        picture = evidence[Input()][image]
        first, last = start // self.each, (stop - 1) // self.each
        maps = evidence[Activation(self.layer)][image, first : last + 1].to(picture.dtype).unsqueeze(1)
        masks = min_max_normalize(upsample(pad_to_input(maps, self.window), (picture.shape[1], picture.shape[2])))
        if self.each > 1:
            # Each channel's mask is made once a chunk, however many of its variants are in it.
            masks = masks.repeat_interleave(self.each, 0)[start - first * self.each :][: stop - start]
        return self.change_masks(masks, evidence, image, start) * picture

    def change_masks(self, masks: Tensor, _evidence: Evidence, _image: int, _start: int) -> Tensor:
        """What becomes of the masks (n, 1, H, W) of the variants from number `start` on; they may be overwritten."""
        return masks

    def label(self) -> str:
        return f"the input seen through each map of {self.layer}"


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

    def change_masks(self, masks: Tensor, evidence: Evidence, image: int, start: int) -> Tensor:
        seed = int(evidence[Seeds()][image])
        for place in range(len(masks)):
            masks[place] += self.std * normal(seed, start + place, tuple(masks.shape[1:])).to(masks)
        return masks

    def label(self) -> str:
        return f"the input seen through each map of {self.layer}, with {self.draws} noises each"


@value
class IntegratedMasks(ChannelMasks):
    """The same, each mask coming up from nothing in equal steps: i / steps of it, for i from 1 to `steps`."""

    steps: int

    @property
    def each(self) -> int:
        return self.steps

    def change_masks(self, masks: Tensor, _evidence: Evidence, _image: int, start: int) -> Tensor:
        shares = [((start + place) % self.steps + 1) / self.steps for place in range(len(masks))]
        return masks * masks.new_tensor(shares).view(-1, 1, 1, 1)

    def label(self) -> str:
        return f"the input seen through each map of {self.layer}, in {self.steps} steps each"


@value
class WithoutChannel:
    """The maps of a layer with one of its `channels` set to zero, each in turn; then the layer as it is."""

    layer: str
    channels: int

    @property
    def at(self) -> str:
        return self.layer

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Activation(self.layer),)

    @property
    def count(self) -> int:
        return self.channels + 1

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        maps = evidence[Activation(self.layer)][image : image + 1]
        # In the memory layout of the maps, as what comes after them expects: any other would have to be copied.
        made = match_memory_format(maps.expand(stop - start, -1, -1, -1).clone(), maps)
        removed = list(range(start, min(stop, self.channels)))
        made[list(range(len(removed))), removed] = 0
        return made

    def label(self) -> str:
        return f"the maps of {self.layer} without one of them"


def mask_recipe(options: CamOptions, context: MethodContext, masked: Callable[[str, int], ChannelMasks]) -> Recipe:
    """relu(sum_c w_c A_c) with w the softmax over channels of the target's mean score on each channel's masked inputs.
    `masked`: from a layer's name and its number of channels."""

    def needs(layer: str) -> tuple[Need, ...]:
        info = context.layers[layer]
        return (Activation(layer), Scores(replace(masked(layer, info.shape[0]), window=info.window), context.target))

    def weight(maps: Tensor, scores: Tensor) -> Tensor:
        # Averaged before the softmax, as the papers have it.
        weights = scores.reshape(*maps.shape[:2], -1).mean(2).softmax(1)
        return weights[:, :, None, None] * maps

    return cam_recipe(options, context, needs, weight, positive=True)
