"""What is known of a network's layers after one probing forward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from cnnviz_cli.core.geometry import Box
from cnnviz_cli.core.value import value


@value
class ReceptiveField:
    """The input pixels that can change one position of a layer, in unbounded input coordinates.

    Attributes:
        size: height and width, in pixels.
        stride: how far it moves, down and across, from one position to the next, in pixels.
        start: top and left edge of the field of position (0, 0), in pixels; negative in the padding.
    """

    size: tuple[float, float]
    stride: tuple[float, float]
    start: tuple[float, float]

    def box(self, row: int, column: int) -> Box:
        """Left, top, right, bottom of one position's field, not cut at the border."""
        top = self.start[0] + row * self.stride[0]
        left = self.start[1] + column * self.stride[1]
        return (left, top, left + self.size[1], top + self.size[0])


@value
class LayerInfo:
    """One module's output, seen as maps.

    Attributes:
        name: the module path.
        kind: the module's class name.
        shape: channels, height and width of its maps.
        order: its place in the order in which modules finish.
        field: its receptive field; None where a global operation (attention, a global pool) precedes it, so that
            every position sees the whole input.
        window: left, top, right and bottom of the part of the input that its maps lie over, as shares of it; None for
            all of it, as far as is known. A layer that runs several times may get the input in parts.
    """

    name: str
    kind: str
    shape: tuple[int, int, int]
    order: int
    field: ReceptiveField | None
    window: Box | None = None

    @property
    def spatial(self) -> bool:
        """Whether its maps have more than one position."""
        return self.shape[1] * self.shape[2] > 1


def split_run(layer: str) -> tuple[str, int | None]:
    """A layer's module path, and which of its runs is meant: 2 of ``trunk.7@2``; None where that is not said.

    A module that runs several times in one forward has maps for each run.
    """
    path, mark, number = layer.rpartition("@")
    return (path, int(number)) if mark and number.isdecimal() else (layer, None)


class Layers(Protocol):
    """The layers of a loaded model that have maps."""

    @property
    def max_pooled(self) -> bool:
        """Whether the network pools by the maximum anywhere."""
        ...

    def __iter__(self) -> Iterator[LayerInfo]:
        """In the order in which they finish, low to high."""
        ...

    def __getitem__(self, name: str) -> LayerInfo: ...

    def resolve(self, selectors: Sequence[str]) -> tuple[str, ...]:
        """Names of the layers that the selectors mean, low to high, each once.

        A selector is a module path, a glob over paths, or one of the words ``last-conv``, ``conv``, ``stages``,
        ``low-mid-high``, ``low``, ``mid``, ``high``.

        Raises:
            UsageError: a selector matches nothing, or only maps of one position in a network that has larger ones.
        """
        ...
