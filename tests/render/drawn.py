"""Photographs and panels made from nothing."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import ProjectionRow
from cnnviz_cli.render.block import Block, Ramp, Raster, Rectangle, Text

# chelsea.png: 451 x 300, the shorter side resized to 256 (451 * 256 / 300 = 384.85, cut to 384), the middle 224 taken.
CHELSEA = View((451, 300), (224, 224), (80 * 451 / 384, 16 * 300 / 256, 304 * 451 / 384, 240 * 300 / 256))


def centre_crop(width: int, height: int) -> View:
    """The middle square of seven eighths of the shorter side."""
    half = min(width, height) * 7 / 16
    return View((width, height), (224, 224), (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half))


def whole(width: int, height: int) -> View:
    return View((width, height), (width, height), (0.0, 0.0, float(width), float(height)))


def plain(width: int, height: int, colour: tuple[int, int, int] = (120, 90, 60)) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def row(
    boxes: list[tuple[float, float, float, float]],
    size: int = 32,
    layer: str = "conv",
    field: tuple[float, float] | None = None,
) -> ProjectionRow:
    values = np.random.default_rng(3).normal(size=(len(boxes), 3, size, size)).astype(np.float32)
    return ProjectionRow(
        layer, values, np.arange(len(boxes)), np.ones(len(boxes), np.float32), np.array(boxes, np.float32), field
    )


Leaf = Raster | Text | Rectangle | Ramp


def placed(block: Block, left: float = 0, top: int = 0) -> Iterator[tuple[float, int, Leaf]]:
    """Everything that is drawn in a block, with its place in it."""
    for across, down, item in block.items:
        if isinstance(item, Block):
            yield from placed(item, left + across, top + down)
        else:
            yield left + across, top + down, item
