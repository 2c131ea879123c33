"""Projections beside the patches that caused them, layers from low to high: Zeiler & Fergus, 2013, figure 2."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.figure_settings import FigureSize
from cnnviz_cli.core.geometry import Box
from cnnviz_cli.core.panels import ProjectionRow, Projections
from cnnviz_cli.render.canvas import checkerboard, no_data
from cnnviz_cli.render.figures import Scene, caption_lines, draws
from cnnviz_cli.render.layout import (
    INK,
    MUTED,
    SMALL,
    TYPE,
    Block,
    Line,
    Raster,
    add_margin,
    add_title,
    elide,
    line_height,
    muted_lines,
    put_text,
    set_lines,
    stack_horizontally,
    stack_vertically,
    text_width,
    to_legible,
)
from cnnviz_cli.render.legends import format_number
from cnnviz_cli.render.scaling import pixels_in_box, replace_nonfinite, to_rgb, top_of

TILE = 128
MOST = 5  # pairs that stand next to each other; more go to a further line

CONVENTION = (
    "in each pair, left the projection, right the input patch that caused the channel's peak activation",
    "mid-grey is zero, each projection on its own scale (99.5th percentile of its magnitudes)",
    "above each pair the channel and its peak activation",
)

TIED = "channels with equal peaks are ranked by their mean activation, given beside the peak"


def compose_projections(panel: Projections, scene: Scene) -> Block:
    """A block for each layer: its name, what one position sees, and its pairs."""
    rows = [_block(row, scene.crop, scene.style.size) for row in panel.rows]
    width = max([30 * TYPE, *(row.width for row in rows)])
    head = set_lines(caption_lines(replace(scene.caption, layer=""), panel, width, TYPE), width)
    words = [*CONVENTION, *([TIED] if any(map(is_tied, panel.rows)) else []), panel.note]
    foot = set_lines(muted_lines(words, SMALL, width), width)
    return add_margin(stack_vertically([head, *rows, foot], TYPE), TYPE)


def describe_extent(row: ProjectionRow, seen: Image.Image) -> str:
    """What one position of a layer sees, in words."""
    if row.field is None:
        return "the receptive field is the whole input"
    down, across = row.field
    return f"receptive field of {across:.0f} x {down:.0f} pixels, input of {seen.width} x {seen.height}"


def frame_of(row: ProjectionRow, seen: Image.Image) -> tuple[float, float]:
    """Width and height of the frame in which a layer's patches stand: its receptive field, or the whole input."""
    down, across = row.field or (float(seen.height), float(seen.width))
    return min(across, seen.width), min(down, seen.height)


def projection_pair(row: ProjectionRow, number: int, seen: Image.Image, tile: int, density: float = 1.0) -> Block:
    """One projection beside its patch, at one scale, under a title; what a patch lacks at the border is hatched."""
    left, top, right, bottom = (float(edge) for edge in np.asarray(row.boxes)[number])
    box = (left, top, right, bottom)
    across, down = frame_of(row, seen)
    scale = tile / max(across, down)
    cell = (max(1, round(across * scale)), max(1, round(down * scale)))
    shape = cell
    scale *= density
    cell = (max(1, round(shape[0] * density)), max(1, round(shape[1] * density)))
    size = (min(cell[0], max(1, round((right - left) * scale))), min(cell[1], max(1, round((bottom - top) * scale))))
    # A patch cut at the left or upper border fills the right or lower part of its frame.
    corner = (cell[0] - size[0] if left <= 0 else 0, cell[1] - size[1] if top <= 0 else 0)
    reach = ceil(2 * max(1.0, 1 / scale)) + 2  # how far beside the patch resizing may look
    pictures: list[Image.Image] = []
    for source in (draw_projection(np.asarray(row.values)[number], box, reach), seen.convert("RGB")):
        picture = source.resize(size, Image.Resampling.BICUBIC, box=box)
        if size != cell:
            part, picture = picture, no_data(cell, round(TYPE * density))
            picture.paste(part, corner)
        pictures.append(picture)
    values = np.asarray(row.values)[number]
    if not np.isfinite(values).all():
        pictures[0] = checkerboard(cell, round(TYPE * density))
    couple = stack_horizontally([Raster(picture, *shape) for picture in pictures], 2)
    return add_title(couple, f"#{int(np.asarray(row.channels)[number])}", describe_peak(row, number))


def describe_peak(row: ProjectionRow, number: int) -> str:
    """The right-hand title of a pair: the map's peak, and its mean where the peaks of the layer do not differ."""
    peak = float(np.asarray(row.peaks)[number])
    if peak <= 0:
        return f"silent {format_number(peak)}"
    return (
        f"{format_number(peak)}, mean {format_number(float(np.asarray(row.means)[number]))}"
        if is_tied(row)
        else format_number(peak)
    )


def is_tied(row: ProjectionRow) -> bool:
    """Whether several maps have one and the same peak, as where a ReLU6 saturates: only their means differ."""
    peaks = [float(peak) for peak in np.asarray(row.peaks) if peak > 0]
    return row.means is not None and len(set(peaks)) < len(peaks)


def draw_projection(projected: NDArray[Any], box: Box, reach: int) -> Image.Image:
    """A (C, H, W) projection as RGB, mid-grey at zero, scaled by its part in a box; drawn `reach` pixels round it."""
    values = to_rgb(projected)
    left, top, right, bottom = pixels_in_box(box, (values.shape[2], values.shape[1]))
    limit, _ = top_of(values[:, top:bottom, left:right])
    rows = slice(max(0, top - reach), bottom + reach)
    columns = slice(max(0, left - reach), right + reach)
    grey = np.full((*values.shape[1:], 3), 128, np.uint8)
    shares = (replace_nonfinite(values[:, rows, columns]) / np.float32(limit)).clip(-1, 1)
    grey[rows, columns] = np.rint(128 + 127 * shares).astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(grey)


def _block(row: ProjectionRow, seen: Image.Image, size: FigureSize) -> Block:
    count = len(np.asarray(row.channels))
    most = min(MOST, max(1, (size.layout_width - 2 * TYPE + TYPE) // (2 * TILE + 2 + TYPE)))
    lines = -(-count // most)
    across = -(-count // lines)
    pairs = [projection_pair(row, number, seen, TILE, size.density) for number in range(count)]
    grid = stack_vertically(
        [stack_horizontally(pairs[start : start + across], TYPE) for start in range(0, count, across)], TYPE // 2
    )
    width = max(grid.width, 30 * TYPE)
    name = elide(row.layer, TYPE, width)
    head = set_lines([Line(name, TYPE, INK)], width)
    words = to_legible(describe_extent(row, seen))
    room = width - text_width(name, TYPE) - TYPE
    if text_width(words, SMALL) <= room:
        put_text(head, text_width(name, TYPE) + TYPE, TYPE, words, SMALL, MUTED)
        return stack_vertically([head, grid], line_height(SMALL) // 4)
    below = set_lines(muted_lines(words, SMALL, width), width)
    return stack_vertically([head, below, grid], line_height(SMALL) // 4)


draws(Projections, compose_projections)
