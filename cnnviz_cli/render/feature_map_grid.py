"""Sheets of many maps: feature maps, and kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.figure_settings import LAYOUT_WIDTH
from cnnviz_cli.core.panels import FeatureMapGrid, Filters, Panel
from cnnviz_cli.render.canvas import no_data
from cnnviz_cli.render.figures import Scene, caption_lines, draws
from cnnviz_cli.render.layout import (
    SMALL,
    TYPE,
    Block,
    Ramp,
    Raster,
    add_margin,
    blank_block,
    muted_lines,
    put_title,
    set_lines,
)
from cnnviz_cli.render.legends import format_number
from cnnviz_cli.render.scaling import ByteArray, color_table, is_constant, replace_nonfinite, stretch_range
from cnnviz_cli.render.style import Caption, Style

GAP, MARGIN = 10, 16
BAR = (120, 10)
TILE = 140  # tiles are as near to this as a whole factor brings them; maps above 70 pixels stay as they are, or double
MARGINS = 40  # units that a row of tiles leaves free of the figure's width, where one tile is not wider

FLAT = "#cccccc"  # a map with one value everywhere


@dataclass(frozen=True, slots=True)
class MapTile:
    """One cell of a sheet: its image, and the two texts above it."""

    image: Image.Image
    left: str
    right: str = ""


def enlargement_factor(size: int) -> int:
    """The whole factor by which maps of this longer side are drawn."""
    return max(1, TILE // size)


def columns_for(count: int, cell: int, room: int = LAYOUT_WIDTH - MARGINS) -> int:
    """How many tiles stand in a row: a grid a little wider than high, with a full last row where one is near."""
    most = max(1, room // cell)
    if count <= 3:
        return min(most, count)
    ideal = min((count * 1.5) ** 0.5, most)
    near = range(max(1, round(ideal * 0.75)), min(most, round(ideal * 1.35)) + 1)
    return min(near, key=lambda columns: (-(-count // columns) * columns - count + 0.8 * abs(columns - ideal), columns))


def compose_feature_maps(panel: FeatureMapGrid, scene: Scene) -> Block:
    """The input and the channel mean, then every map on a scale of its own."""
    style = scene.style.for_caption(scene.caption)
    maps, average = np.asarray(panel.values), np.asarray(panel.average)
    height, width = average.shape[-2:]
    factor = enlargement_factor(max(height, width))
    size = (width * factor, height * factor)
    colours = color_table(style.palette)
    crop = scene.crop.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    first = [MapTile(crop, "input"), MapTile(_draw_map(average[0], factor, colours), f"mean of all {panel.total}")]
    shown = [
        MapTile(_draw_map(values, factor, colours), f"#{int(channel)}", describe_map(values, float(strength)))
        for values, channel, strength in zip(maps, np.asarray(panel.channels), np.asarray(panel.strengths), strict=True)
    ]
    flat = sum(is_constant(values) for values in maps)
    facts = f"{len(shown)} of {panel.total} channels" if shown else f"mean of all {panel.total} channels"
    notes = [
        f"{facts}, maps of {width} x {height}" + (f", enlarged {factor} times" if factor > 1 else ""),
        "each map is scaled by itself, from its own minimum to its own maximum",
    ]
    if shown:
        notes.append(f"the number above a map is its {panel.ranked_by}")
    if flat:
        notes.append(f"{flat} flat, drawn grey")
    heading = replace(scene.caption, target="", detail="")
    return add_margin(_sheet(panel, heading, style, first, shown, notes, colours), MARGIN)


def compose_kernels(panel: Filters, caption: Caption, style: Style) -> Block:
    """The kernels, each on a symmetric scale of its own; without a margin."""
    kernels = replace_nonfinite(np.asarray(panel.values))
    count, channels, height, width = kernels.shape
    factor = max(1, 84 // max(height, width))
    tops = np.abs(kernels).max((1, 2, 3))
    shares = 0.5 + 0.5 * kernels / np.where(tops > 0, tops, 1)[:, None, None, None]
    notes = [f"{count} kernels of {width} x {height}, enlarged {factor} times"]
    if channels == 3:
        pictures = np.rint(255 * shares.transpose(0, 2, 3, 1)).astype(np.uint8)
        notes.append("mid-grey is zero; brighter is positive, darker negative, in red, green and blue")
    else:
        colours = color_table(style.signed_palette)
        pictures = colours[np.rint(shares.mean(1) * (len(colours) - 1)).astype(int)]
        low, high = style.signed_palette.split("-")
        notes.append(f"white is zero, {high} positive, {low} negative")
    notes.append("each kernel on its own scale, from minus to plus the magnitude in its title")
    tiles = [
        MapTile(Image.fromarray(picture.repeat(factor, 0).repeat(factor, 1)), f"#{number}", format_number(float(top)))
        for number, (picture, top) in enumerate(zip(pictures, tops, strict=True))
    ]
    heading = replace(caption, target="", detail="", source="")
    return _sheet(panel, heading, style, [], tiles, notes)


def describe_map(values: NDArray[Any], strength: float) -> str:
    """The right-hand title of a map: its strength, or what is wrong with it."""
    if not np.isfinite(values).all():
        return "not finite"
    return f"flat {format_number(float(values.min()))}" if is_constant(values) else format_number(strength)


def _sheet(
    panel: Panel,
    caption: Caption,
    style: Style,
    first: list[MapTile],
    tiles: list[MapTile],
    notes: list[str],
    colors: ByteArray | None = None,
) -> Block:
    """Everything put together, the first tiles in a column at the left; the bar of `colors` stands beside the notes."""
    room = style.size.layout_width
    width, height = (first or tiles)[0].image.size
    if width > room - 2 * MARGIN:  # a single map that is wider than the figure
        width, height = room - 2 * MARGIN, max(1, round(height * (room - 2 * MARGIN) / width))
    across, down = width + GAP, height + SMALL + 6 + GAP
    free = room - MARGINS if room == LAYOUT_WIDTH else room - MARGINS - (across + GAP if first else 0)
    columns = columns_for(len(tiles), across, max(across, free)) if tiles else 0
    rows = ceil(len(tiles) / columns) if tiles else 0
    # The first tiles stand under each other, or next to each other where the sheet is a single row.
    side = 1 if rows >= len(first) > 0 else len(first)
    start = side * across + (GAP if first and tiles else 0)
    places = [(number % side * across, number // side * down) for number in range(len(first))]
    places += [(start + number % columns * across, number // columns * down) for number in range(len(tiles))]

    whole = max(start + columns * across - GAP, 30 * TYPE)
    above = set_lines(caption_lines(caption, panel, whole, TYPE), whole)
    indent = BAR[0] + 12 if colors is not None else 0
    below = set_lines(muted_lines(notes, SMALL, whole - indent), whole - indent)
    top = above.height + 12
    base = top + max(upper for _, upper in places) + down - GAP + 12
    sheet = blank_block(whole, base + below.height)
    sheet.put(above, 0, 0)
    for tile, (left, upper) in zip([*first, *tiles], places, strict=True):
        put_title(sheet, left, top + upper + SMALL, width, tile.left, tile.right)
        sheet.put(Raster(tile.image, width, height, crisp=True), left, top + upper + SMALL + 6)
    if colors is not None:
        sheet.put(Ramp(colors[None], *BAR), 0, base + 3)
    sheet.put(below, indent, base)
    return sheet


def _draw_map(values: NDArray[Any], factor: int, colors: ByteArray) -> Image.Image:
    """One map in sharp cells; a flat one a flat grey, what is not finite hatched."""
    height, width = values.shape
    size = (width * factor, height * factor)
    if is_constant(values):
        return Image.new("RGB", size, FLAT)
    index = np.rint(stretch_range(values) * (len(colors) - 1)).astype(np.uint8)
    picture = Image.fromarray(colors[index].repeat(factor, 0).repeat(factor, 1))
    bad = ~np.isfinite(values).repeat(factor, 0).repeat(factor, 1)
    if bad.any():
        picture.paste(no_data(size, TYPE), mask=Image.fromarray(bad))
    return picture


draws(FeatureMapGrid, compose_feature_maps)
draws(Filters, lambda panel, scene: add_margin(compose_kernels(panel, scene.caption, scene.style), MARGIN))
