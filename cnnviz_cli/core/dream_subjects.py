"""What can be dreamt of besides a class, from the words and files of the command line and YAML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.layers import LayerInfo, Layers
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.core.unit_objectives import Channel, Direction, Position
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNIT_HELP = "12 is a channel, 12@centre or 12@3,4 its neuron at a row and column; commas list several; all: every one"

ALL_UNITS = "all"

_UNIT = re.compile(r"(\d+)(?:@(centre|center|(\d+),(\d+)))?(?:,|$)")

DREAM_SHARE = 16
"""The side of an input over that of the maps which DeepDream suits best: whole heads, and not yet scenes."""


@value
class Unit:
    """A channel, or the neuron of a channel at a position."""

    channel: int
    at: Position = None

    def of(self, layer: str) -> Channel:
        return Channel(layer, self.channel, self.at)

    def __str__(self) -> str:
        if self.at is None:
            return str(self.channel)
        return f"{self.channel}@{self.at if isinstance(self.at, str) else ','.join(map(str, self.at))}"


_RANGE = re.compile(r"(\d+)(?:-|:|\.\.)(\d+)")
_MOST_SPELT = 32  # units that a hint writes out


def _units_fix(text: str) -> str:
    """How units are written, or what a range of them would be."""
    if found := _RANGE.fullmatch(text):
        low, high = int(found[1]), int(found[2])
        if 0 < high - low < _MOST_SPELT:
            return f"Ranges are written out: --unit {','.join(map(str, range(low, high + 1)))}"
        return "Ranges are written out, unit by unit; all is every one."
    return f"{UNIT_HELP}."


def parse_units(text: str, channels: int) -> tuple[Unit, ...]:
    """The units that ``12,40@centre,7@3,4`` or ``all`` means, each once, of a layer with so many channels.

    Raises:
        UsageError: it is no list of units, or the layer has no such channel.
    """
    if text.strip() == ALL_UNITS:
        return tuple(Unit(channel) for channel in range(channels))
    compact, found, place = text.replace(" ", "").strip(","), [], 0
    while place < len(compact):
        match = _UNIT.match(compact, place)
        if match is None:
            raise UsageError(f"'{escape_text(text, 60)}' names no units", where="--unit", fix=_units_fix(compact))
        channel = int(match[1])
        if channel >= channels:
            raise UsageError(
                f"there is no channel {channel}: the layer has {channels}, 0 to {channels - 1}",
                where="--unit",
                fix=f"The closest is {channels - 1}.",
            )
        at: Position = None
        if match[3] is not None:
            at = (int(match[3]), int(match[4]))
        elif match[2]:
            at = "centre"
        found.append(Unit(channel, at))
        place = match.end()
    if not found:
        raise UsageError("no units are named", where="--unit", fix=f"{UNIT_HELP}.")
    return tuple(dict.fromkeys(found))


def directions_of(values: NDArray[Any], layer: LayerInfo, name: str) -> tuple[Direction, ...]:
    """The directions in an array of (C,) numbers, or (n, C) for n of them, in the space of a layer's channels.

    Raises:
        UsageError: the array is of another shape, or not of finite numbers.
    """
    import numpy as np

    rows = np.atleast_2d(values)
    channels = layer.shape[0]
    if rows.ndim != 2 or rows.shape[1] != channels or not len(rows):
        shape = " x ".join(map(str, values.shape)) or "one number"
        raise UsageError(
            f"'{escape_text(name, 60)}' is {shape}, and layer '{layer.name}' has {channels} channels",
            where="--direction",
            fix=f"Give an array of {channels} numbers, or of n x {channels}.",
        )
    if rows.dtype.kind not in "fiu" or not np.isfinite(rows).all() or not np.abs(rows).max(1).all():
        raise UsageError(
            f"'{escape_text(name, 60)}' is no direction: its numbers have to be finite, and not all zero",
            where="--direction",
        )
    with np.errstate(over="ignore", under="ignore"):
        lengths = np.square(rows.astype(np.float32)).sum(1)  # what networks reckon in
    if not ((lengths > 0) & (lengths < np.inf)).all():
        raise UsageError(
            f"the numbers of '{escape_text(name, 60)}' are too large or too small for 32 bits",
            where="--direction",
            fix="Only the way it points counts, not its length: divide it by its largest number.",
        )
    names = [name] if len(rows) == 1 else [f"{name}[{number}]" for number in range(len(rows))]
    return tuple(
        Direction(layer.name, tuple(map(float, row)), name=called) for row, called in zip(rows, names, strict=True)
    )


def layer_to_dream(layers: Layers, size: tuple[int, int], choices: Sequence[str] = ("stages",)) -> str:
    """The layer that suits a photograph where none is named: the last of the network's stages whose maps have a
    sixteenth of the input's side, or the nearest to that which comes before it.

    Args:
        size: height and width of the network's input.
        choices: selectors of the layers that come into question.
    """
    known = [layers[name] for name in layers.resolve(choices)]
    fitting = [info for info in known if size[0] / info.shape[1] <= DREAM_SHARE * 1.5]
    return (fitting or known)[-1].name
