"""Objectives of what a network has inside: a layer, a channel, a position, a direction, the likeness to a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, cast

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.objectives import Forward, Objective
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor

Position = tuple[int, int] | Literal["centre"] | None
"""A row and a column of a layer's maps, or the middle; None is every position alike."""


class Accompanied(Forward, Protocol):
    """A forward pass beside which those of other pictures are known."""

    def maps_beside(self, picture: str, layer: str) -> Tensor:
        """(1, C, h, w) output of `layer` for the picture of that name."""


def maps_beside(forward: Forward, picture: str, layer: str) -> Tensor:
    """(1, C, h, w) the maps of a picture beside the one that is looked at. Raises UsageError if there is none."""
    if not hasattr(forward, "maps_beside"):
        raise UsageError(f"there is no {picture} to compare with here")
    return cast("Accompanied", forward).maps_beside(picture, layer)


@value
class OfLayer(Objective):
    """Something that is read of the maps of one layer alone."""

    layer: str

    def layers(self) -> tuple[str, ...]:
        return (self.layer,)

    @property
    def follows_target(self) -> bool:
        return False


@value
class Energy(OfLayer):
    """Half the mean square of all maps: whatever the layer sees, more of it. Its gradient at the layer is the
    activation, DeepDream's start signal."""

    def value(self, forward: Forward) -> Tensor:
        return forward.maps(self.layer).square().mean((1, 2, 3)) / 2

    def label(self) -> str:
        return f"the energy of {self.layer}"


@value
class Channel(OfLayer):
    """The mean of one feature map over its positions, or its value at one of them: a neuron."""

    channel: int
    at: Position = None

    def value(self, forward: Forward) -> Tensor:
        maps = forward.maps(self.layer)
        if not 0 <= self.channel < maps.shape[1]:
            raise UsageError(
                f"layer '{self.layer}' has {maps.shape[1]} channels, 0 to {maps.shape[1] - 1}: there is no "
                f"{self.channel}",
                where="--unit",
            )
        return (maps * _channel_mask(maps, self.channel) * _position_mask(maps, self.at, self.layer)).sum((1, 2, 3))

    def label(self) -> str:
        return f"channel {self.channel} of {self.layer}{_position_words(self.at)}"


@value
class Direction(OfLayer):
    """How far the maps go along a direction in the space of channels: the mean over positions of
    (a . v) max(0.1, cos(a, v)) ** power, with v of unit length, as lucid has it; or that of one position.

    Attributes:
        vector: a number for each channel.
        power: 0 is the plain product; the higher, the less of other directions.
        name: what it is called.
    """

    vector: tuple[float, ...]
    power: float = 0.0
    at: Position = None
    name: str = ""

    def value(self, forward: Forward) -> Tensor:
        maps = forward.maps(self.layer)
        if len(self.vector) != maps.shape[1]:
            raise UsageError(
                f"the direction has {len(self.vector)} numbers, and layer '{self.layer}' has {maps.shape[1]} channels",
                where="--direction",
            )
        vector = maps.new_tensor(self.vector).view(1, -1, 1, 1)
        length = float(vector.norm())
        if not 0 < length < float("inf"):
            raise UsageError("the direction has no length: all of its numbers are zero, or some are not finite")
        along = (maps * (vector / length)).sum(1, keepdim=True)
        if self.power:
            along = along * (along / (maps.norm(dim=1, keepdim=True) + _TINY)).clamp(min=_LEAST) ** self.power
        return (along * _position_mask(maps, self.at, self.layer)).sum((1, 2, 3))

    def label(self) -> str:
        return f"direction {self.name or 'given'} of {self.layer}{_position_words(self.at)}"


@value
class Likeness(OfLayer):
    """How much the maps resemble those of another picture, wherever in it: each position's product with the position
    of the other picture that gives the most, over the number of values (guided DeepDream).

    Attributes:
        to: the name of the other picture.
    """

    to: str = "guide"

    def value(self, forward: Forward) -> Tensor:
        maps, other = forward.maps(self.layer).flatten(2), maps_beside(forward, self.to, self.layer).flatten(2)
        nearest = (other.transpose(1, 2) @ maps.detach()).argmax(1, keepdim=True).expand(-1, maps.shape[1], -1)
        return (maps * other.expand(len(maps), -1, -1).gather(2, nearest)).mean((1, 2))

    def label(self) -> str:
        return f"the likeness of {self.layer} to the {self.to}"

    @property
    def compares_with(self) -> tuple[str, ...]:
        return (self.to,)


@value
class Agreement(OfLayer):
    """How strongly the maps say what those of the same view of another picture say, position by position:
    (a . b) max(0.1, cos(a, b)) ** power over the number of values (lucid's caricatures)."""

    to: str = "photograph"
    power: float = 1.0

    def value(self, forward: Forward) -> Tensor:
        maps, other = forward.maps(self.layer).flatten(1), maps_beside(forward, self.to, self.layer).flatten(1)
        product = (maps * other).sum(1)
        cosine = product / ((maps.norm(dim=1) + _TINY) * (other.norm(dim=1) + _TINY))
        agreed: Tensor = product * cosine.clamp(min=_LEAST) ** self.power / maps.shape[1]
        return agreed

    def label(self) -> str:
        return f"what {self.layer} says of the {self.to}"

    @property
    def compares_with(self) -> tuple[str, ...]:
        return (self.to,)


@value
class Nearness(OfLayer):
    """Minus the squared difference of the maps to those of the same view of another picture, over the square of those:
    0 where they are the same, about -1 where they have nothing in common."""

    to: str = "photograph"

    def value(self, forward: Forward) -> Tensor:
        maps, other = forward.maps(self.layer), maps_beside(forward, self.to, self.layer)
        return -(maps - other).square().sum((1, 2, 3)) / (other.square().sum((1, 2, 3)) + _TINY)

    def label(self) -> str:
        return f"the nearness of {self.layer} to the {self.to}"

    @property
    def compares_with(self) -> tuple[str, ...]:
        return (self.to,)


_LEAST = 0.1
"""Lucid's floor of a cosine: below it a direction would have no gradient to follow."""

_TINY = 1e-6


def _channel_mask(maps: Tensor, channel: int) -> Tensor:
    # Masks, not indexing: the gradient of an indexed map would come in another memory layout than the map itself.
    mask = maps.new_zeros(1, maps.shape[1], 1, 1)
    mask[0, channel] = 1
    return mask


def _position_mask(maps: Tensor, at: Position, layer: str) -> Tensor:
    """(1, 1, h, w) which adds up to 1."""
    height, width = maps.shape[2:]
    mask = maps.new_zeros(1, 1, height, width)
    if at is None:
        return mask + 1 / (height * width)
    row, column = (height // 2, width // 2) if at == "centre" else at
    if not (0 <= row < height and 0 <= column < width):
        raise UsageError(
            f"layer '{layer}' has {height} x {width} positions: there is none at row {row}, column {column}",
            where="--unit",
        )
    mask[0, 0, row, column] = 1
    return mask


def _position_words(at: Position) -> str:
    if at is None:
        return ""
    return " at its centre" if at == "centre" else f" at row {at[0]}, column {at[1]}"
