"""A block drawn as pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from cnnviz_cli.render.block import Block, Ramp, Raster, Rectangle, Text
from cnnviz_cli.render.typeset import PAPER, write, write_fitted


def rasterize(block: Block, scale: float = 1.0) -> Image.Image:
    """The block, RGB.

    Args:
        scale: pixels a unit.
    """
    sheet = Image.new("RGB", size_in_pixels(block, scale), PAPER)
    _draw(sheet, ImageDraw.Draw(sheet), block, 0, 0, scale)
    return sheet


def size_in_pixels(block: Block, scale: float) -> tuple[int, int]:
    """Width and height of a block in pixels."""
    return max(1, round(block.width * scale)), max(1, round(block.height * scale))


def _draw(sheet: Image.Image, pen: ImageDraw.ImageDraw, block: Block, across: float, down: int, scale: float) -> None:
    bounds = across, down, across + block.width, down + block.height
    within = (round(bounds[0] * scale), round(bounds[1] * scale), round(bounds[2] * scale), round(bounds[3] * scale))
    for left, top, item in block.items:
        place = (across + left, down + top)
        if isinstance(item, Block):
            _draw(sheet, pen, item, *place, scale)
        elif isinstance(item, Text):
            if scale == 1:
                write(sheet, place[0], place[1], item.text, item.size, item.colour, within)
            else:
                write_fitted(sheet, *place, item.text, item.size, item.colour, scale, within)
        else:
            # Edges are rounded, not sizes: what touches in units touches in pixels.
            edges = (*place, place[0] + item.width, place[1] + item.height)
            _fill(sheet, pen, item, [round(edge * scale) for edge in edges], scale)


def _fill(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, item: Raster | Rectangle | Ramp, edges: list[int], scale: float
) -> None:
    left, top, right, bottom = edges
    size = (max(1, right - left), max(1, bottom - top))
    if isinstance(item, Raster):
        sheet.paste(resized(item, size), (left, top))
    elif isinstance(item, Ramp):
        index = np.rint(np.linspace(0, item.colours.shape[1] - 1, size[0])).astype(int)
        rows = np.arange(size[1]) * len(item.colours) // size[1]
        sheet.paste(Image.fromarray(item.colours[:, index][rows]), (left, top))
    else:
        box = (left, top, left + size[0] - 1, top + size[1] - 1)
        width = max(1, round(item.line * scale))
        pen.rectangle(box, fill=item.fill or None, outline=item.outline or None, width=width)


def resized(item: Raster, size: tuple[int, int]) -> Image.Image:
    """The image of an item, RGB, at another size."""
    image = item.image if item.image.mode == "RGB" else item.image.convert("RGB")
    if abs(image.width - size[0]) <= 1 and abs(image.height - size[1]) <= 1:
        return image  # rounding of edges: better a pixel more or less than a blur over all of them
    if item.crisp and size[0] >= image.width and size[1] >= image.height:
        return image.resize(size, Image.Resampling.NEAREST)
    larger = size[0] > image.width
    return image.resize(size, Image.Resampling.BICUBIC if larger else Image.Resampling.LANCZOS, reducing_gap=2.0)
