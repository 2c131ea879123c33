"""Concepts over images: a colour for each, laid over the grey image where a concept is, as strongly as it is there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.render.canvas import Canvas
from cnnviz_cli.render.compare import fit_input
from cnnviz_cli.render.layout import INK, PAPER, SMALL, Block, Raster, Rectangle, blank_block, put_text, text_width
from cnnviz_cli.render.scaling import resample

COLORS = (
    "#d95f02", "#5e3c99", "#1b9e77", "#d6185a", "#1f78b4", "#a6761d", "#5a9a12", "#00a3b8", "#e377c2", "#2f3e8f",
    "#b8860b", "#8c2d04", "#41ab5d", "#9e57c9", "#02818a", "#fb6a4a", "#7f7f00", "#6baed6", "#a50f5d", "#6b6f76",
)  # fmt: skip
"""The colours of concepts in the order of their numbers; neighbours differ in hue and in lightness."""

BEYOND = "#b4b9c0"
"""The colour of concepts that have none of their own."""

REST = "#30343b"
"""The colour of what no concept explains."""

OPAQUE = 0.86  # of a concept where there is most of it
PALE = 0.58  # how much of an image's contrast is left under concepts

Map = NDArray[np.float32]


def color_of(number: int) -> str:
    """The colour of a concept by its number, counted from 1."""
    return COLORS[number - 1] if number <= len(COLORS) else BEYOND


def rgb(color: str) -> NDArray[np.float32]:
    """(3,) of a colour as ``#rrggbb``."""
    return np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)], np.float32)


def paled(image: Image.Image) -> NDArray[np.float32]:
    """(h, w, 3) the image in light greys, on which colours stand out."""
    grey = np.asarray(image.convert("L"), np.float32)
    return np.repeat((255 - PALE * (255 - grey))[..., None], 3, axis=2)


def lay_concept(canvas: Canvas, values: Map, color: str) -> Image.Image:
    """One concept over the canvas; (h, w) `values` go from 0, nothing, to 1, as much as there is anywhere."""
    return lay_concepts(canvas, [values], [color])


def lay_concepts(canvas: Canvas, values: Sequence[Map], colors: Sequence[str]) -> Image.Image:
    """At each pixel the strongest of several concepts over the canvas, as opaque as it is strong there; each (h, w)
    from 0 to 1."""
    left, top, right, bottom = canvas.input_box
    ground = paled(canvas.image)
    placed = np.stack(
        [resample(np.asarray(one, np.float32), canvas.view.box, canvas.image.size, "bicubic") for one in values]
    ).clip(0, 1)
    first = placed.argmax(0)
    strength = np.take_along_axis(placed, first[None], 0)[0]
    # A square root: half of the most is to be seen as more than a tint.
    opacity = (OPAQUE * np.sqrt(strength) * np.minimum(1, 6 * strength))[..., None]
    table = np.stack([rgb(color) for color in colors])
    part = ground[top:bottom, left:right]
    ground[top:bottom, left:right] = part * (1 - opacity) + table[first] * opacity
    return Image.fromarray(np.rint(ground).astype(np.uint8))


def put_in_square(picture: Image.Image, side: int, density: float = 1.0) -> tuple[Block, int, int]:
    """A picture in the middle of a square of `side` units, and how wide and high it is there."""
    block = blank_block(side, side)
    width, height = (max(1, min(side, round(length / density))) for length in picture.size)
    block.put(Raster(picture, width, height), (side - width) // 2, (side - height) // 2)
    return block, width, height


def thumbnail(image: Image.Image, view: View, side: int, density: float) -> Canvas:
    """What the network saw of an image, fitted into `side` units."""
    return fit_input(image, view, side, density)


def put_chip(block: Block, left: float, top: int, number: int, color: str) -> int:
    """A concept's number on its colour; returns how wide the chip is."""
    text = str(number)
    width = max(18, round(text_width(text, SMALL)) + 10)
    block.put(Rectangle(width, 18, fill=color), left, top)
    put_text(block, left + (width - text_width(text, SMALL)) / 2, top + 13, text, SMALL, ink_on(color), strong=True)
    return width


def ink_on(color: str) -> str:
    """Black or white, whichever is read more easily on a colour."""
    red, green, blue = (float(part) / 255 for part in rgb(color))
    light = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    return PAPER if light < 0.3 else INK
