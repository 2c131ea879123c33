"""What a figure is made of: images, text, rules and colour ramps, each in its place. No pixel is drawn here.

`raster` draws a block as pixels, `svg` and `pdf` write it with its text, rules and ramps as vectors. Lengths are in
units: a pixel each, unless the figure is drawn larger or smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.render.color_tables import ByteArray


@dataclass(frozen=True, slots=True)
class Raster:
    """An image, stretched to width x height units.

    Attributes:
        crisp: whether its pixels stay sharp squares where they are enlarged.
    """

    image: Image.Image
    width: int
    height: int
    crisp: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A line of legible text from its place to the right, on the baseline.

    Attributes:
        width: in units, as it was measured when room was made for it.
    """

    text: str
    size: int
    color: str
    width: float


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A filled or an outlined rectangle; the outline, `line` units wide, lies within."""

    width: int
    height: int
    fill: str = ""
    outline: str = ""
    line: int = 1


@dataclass(frozen=True, slots=True)
class Ramp:
    """A palette from left to right.

    Attributes:
        colours: (rows, n, 3), the rows under each other.
    """

    colors: ByteArray
    width: int
    height: int


@dataclass(slots=True)
class Block:
    """A part of a figure, or all of it, on white paper.

    Attributes:
        items: each with its left and upper edge (of a text its baseline), in the order of drawing.
    """

    width: int
    height: int
    items: list[tuple[float, int, Raster | Text | Rectangle | Ramp | Block]] = field(default_factory=list)

    def put(self, item: Raster | Text | Rectangle | Ramp | Block | Image.Image, left: float, top: int) -> None:
        """Place an item; an image at a unit for each of its pixels."""
        self.items.append((left, top, Raster(item, *item.size) if isinstance(item, Image.Image) else item))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """(height, width, 3): the block as pixels."""
        from cnnviz_cli.render.raster import rasterize

        return np.asarray(rasterize(self), dtype)


Part = Block | Raster | Image.Image
"""What blocks are put together from."""


def blank_block(width: int, height: int) -> Block:
    """Paper, at least one unit."""
    return Block(max(1, width), max(1, height))


def stack_vertically(blocks: Sequence[Part], gap: int) -> Block:
    """Blocks under each other, flush left."""
    sheet = blank_block(
        max(block.width for block in blocks), sum(block.height for block in blocks) + gap * (len(blocks) - 1)
    )
    top = 0
    for block in blocks:
        sheet.put(block, 0, top)
        top += block.height + gap
    return sheet


def stack_horizontally(blocks: Sequence[Part], gap: int) -> Block:
    """Blocks next to each other, tops aligned."""
    sheet = blank_block(sum(block.width for block in blocks) + gap * (len(blocks) - 1), max(b.height for b in blocks))
    left = 0
    for block in blocks:
        sheet.put(block, left, 0)
        left += block.width + gap
    return sheet


def add_margin(block: Part, margin: int) -> Block:
    """The block with paper round it."""
    sheet = blank_block(block.width + 2 * margin, block.height + 2 * margin)
    sheet.put(block, margin, margin)
    return sheet
