"""Sheets of many maps: feature maps, and kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.panels import Filters, Mosaic, Panel
from cnnviz_cli.render.blocks import hatching
from cnnviz_cli.render.figures import caption_lines
from cnnviz_cli.render.look import Caption, Look
from cnnviz_cli.render.numerals import short
from cnnviz_cli.render.palettes import Bytes, levels
from cnnviz_cli.render.scaling import finite, stretched
from cnnviz_cli.render.typeset import INK, QUIET, Line, elide, flow, length, set_lines, write

TYPE = 14
SMALL = 12
GAP, MARGIN = 10, 16
BAR = (120, 10)
TILE = 140
"""Tiles are as near to this as a whole factor brings them; maps above 70 pixels stay as they are, or double."""

WIDEST = 1560
"""A row of tiles is no longer, where one tile is not."""

HEAT = 240
INKS = 16
"""An indexed sheet's 256 colours: the palette's levels, then white to black for type."""
FIRST_INK = HEAT


@dataclass(frozen=True, slots=True)
class Tile:
    """One cell of a sheet: palette indices (h, w) or colours (h, w, 3), and the two texts above it."""

    picture: NDArray[np.uint8]
    left: str
    right: str = ""


def enlarged(size: int) -> int:
    """The whole factor by which maps of this longer side are drawn."""
    return max(1, TILE // size)


def columns_for(count: int, cell: int) -> int:
    """How many tiles stand in a row: a grid a little wider than high, with a full last row where one is near."""
    most = max(1, WIDEST // cell)
    if count <= 3:
        return min(most, count)
    ideal = min((count * 1.5) ** 0.5, most)
    near = range(max(1, round(ideal * 0.75)), min(most, round(ideal * 1.35)) + 1)
    return min(near, key=lambda columns: (-(-count // columns) * columns - count + 0.8 * abs(columns - ideal), columns))


def mosaic(panel: Mosaic, seen: Image.Image, caption: Caption, look: Look) -> Image.Image:
    """The crop the network saw and the channel mean, then every map on a scale of its own. Mode RGB.

    The crop keeps its colours: an indexed sheet has no room for them beside those of the maps.
    """
    look = look.under(caption)
    maps, average = np.asarray(panel.values), np.asarray(panel.average)
    height, width = average.shape[-2:]
    factor = enlarged(max(height, width))
    size = (width * factor, height * factor)
    crop = np.asarray(seen.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    first = [Tile(crop, "input"), Tile(_drawn(average[0], factor), f"mean of all {panel.total}")]
    shown = [
        Tile(_drawn(values, factor), f"#{int(channel)}", remark(values, float(strength)))
        for values, channel, strength in zip(maps, np.asarray(panel.channels), np.asarray(panel.strengths), strict=True)
    ]
    flat = sum(is_flat(values) for values in maps)
    facts = f"{len(shown)} of {panel.total} channels" if shown else f"mean of all {panel.total} channels"
    notes = [
        f"{facts}, maps of {width} x {height}" + (f", enlarged {factor} times" if factor > 1 else ""),
        "each map is scaled by itself, from its own minimum to its own maximum",
    ]
    if shown:
        notes.append(f"the number above a map is its {panel.ranked_by}")
    if flat:
        notes.append(f"{flat} flat, drawn grey")
    heading = replace(caption, target="", figure="")
    colours = levels(look.palette, HEAT)
    return _sheet(first, shown, lambda width: _head(heading, panel, width), notes, colours, bar=True)


def filters(panel: Filters, caption: Caption, look: Look) -> Image.Image:
    """The kernels, each on a symmetric scale of its own. Mode RGB where they read colours, else P."""
    kernels = finite(np.asarray(panel.values))
    count, channels, height, width = kernels.shape
    factor = max(1, 84 // max(height, width))
    tops = np.abs(kernels).max((1, 2, 3))
    shares = 0.5 + 0.5 * kernels / np.where(tops > 0, tops, 1)[:, None, None, None]
    notes = [f"{count} kernels of {width} x {height}, enlarged {factor} times"]
    colours = levels(look.signed_palette, HEAT)
    if channels == 3:
        pictures = np.rint(255 * shares.transpose(0, 2, 3, 1)).astype(np.uint8)
        notes.append("mid-grey is zero; brighter is positive, darker negative, in red, green and blue")
    else:
        pictures = np.rint(shares.mean(1) * (HEAT - 1)).astype(np.uint8)
        low, high = look.signed_palette.split("-")
        notes.append(f"white is zero, {high} positive, {low} negative")
    notes.append("each kernel on its own scale, from minus to plus the magnitude in its title")
    tiles = [
        Tile(picture.repeat(factor, 0).repeat(factor, 1), f"#{number}", short(float(top)))
        for number, (picture, top) in enumerate(zip(pictures, tops, strict=True))
    ]
    heading = replace(caption, target="", figure="", source="")
    return _sheet([], tiles, lambda width: _head(heading, panel, width), notes, colours, bar=False)


def is_flat(values: NDArray[Any]) -> bool:
    """Whether a map has one finite value everywhere."""
    return bool(np.isfinite(values).all() and values.min() == values.max())


def remark(values: NDArray[Any], strength: float) -> str:
    """The right-hand title of a map: its strength, or what is wrong with it."""
    if not np.isfinite(values).all():
        return "not finite"
    return f"flat {short(float(values.min()))}" if is_flat(values) else short(strength)


def _head(caption: Caption, panel: Panel, width: int) -> Image.Image:
    return set_lines(caption_lines(caption, panel, width, TYPE), width, "L")


def _sheet(
    first: list[Tile],
    tiles: list[Tile],
    head: Callable[[int], Image.Image],
    notes: list[str],
    colours: Bytes,
    *,
    bar: bool,
) -> Image.Image:
    """Everything put together: the first tiles in a column of their own at the left. Mode P if all tiles are indices.

    Args:
        head: the block above the tiles, for a width.
        colours: (HEAT, 3) of the tiles' indices.
        bar: whether the palette's levels stand beside the notes.
    """
    height, width = (first or tiles)[0].picture.shape[:2]
    across, down = width + GAP, height + SMALL + 6 + GAP
    columns = columns_for(len(tiles), across) if tiles else 0
    rows = ceil(len(tiles) / columns) if tiles else 0
    # The first tiles stand under each other, or next to each other where the sheet is a single row.
    side = 1 if rows >= len(first) > 0 else len(first)
    start = side * across + (GAP if first and tiles else 0)
    places = [(number % side * across, number // side * down) for number in range(len(first))]
    places += [(start + number % columns * across, number // columns * down) for number in range(len(tiles))]

    room = max(start + columns * across - GAP, 30 * TYPE)
    above = head(room)
    indent = BAR[0] + 12 if bar else 0
    words = [Line(text, SMALL, QUIET) for text in flow(notes, SMALL, room - indent)]
    below = set_lines(words, room - indent, "L")
    top = MARGIN + above.height + 12
    base = top + max(upper for _, upper in places) + down - GAP + 12
    inked = Image.new("L", (room + 2 * MARGIN, base + below.height + MARGIN), "white")
    inked.paste(above, (MARGIN, MARGIN))
    inked.paste(below, (MARGIN + indent, base))
    laid = [(tile, MARGIN + left, top + upper) for tile, (left, upper) in zip([*first, *tiles], places, strict=True)]
    for tile, left, upper in laid:
        _titled(inked, tile, left, upper + SMALL)

    sheet = inked.point([FIRST_INK + round((255 - value) / 17) for value in range(256)])
    if bar:
        ramp = np.rint(np.linspace(0, HEAT - 1, BAR[0])).astype(np.uint8)
        sheet.paste(Image.fromarray(np.repeat(ramp[None], BAR[1], axis=0)), (MARGIN, base + 3))
    # Indices first, whose numbers are colours only once the sheet has its palette; then what is in colours itself.
    for coloured in (False, True):
        if coloured:
            sheet.putpalette(np.concatenate([colours, _inks()]).tobytes())
            sheet = sheet.convert("RGB") if any(tile.picture.ndim == 3 for tile, _, _ in laid) else sheet
        for tile, left, upper in laid:
            if (tile.picture.ndim == 3) == coloured:
                sheet.paste(Image.fromarray(tile.picture), (left, upper + SMALL + 6))
    return sheet


def _titled(sheet: Image.Image, tile: Tile, left: int, baseline: int) -> None:
    """The two texts above a tile; the right one gives way where both do not fit."""
    width = tile.picture.shape[1]
    name = elide(tile.left, SMALL, width)
    write(sheet, left, baseline, name, SMALL, INK)
    if length(name, SMALL) + 6 + length(tile.right, SMALL) <= width:
        write(sheet, left + width - length(tile.right, SMALL), baseline, tile.right, SMALL, QUIET)


def _drawn(values: NDArray[Any], factor: int) -> NDArray[np.uint8]:
    """One map as palette indices; a flat one a flat grey, what is not finite hatched."""
    if is_flat(values):
        index = np.full(values.shape, FIRST_INK + 3, np.uint8)
    else:
        index = np.rint(stretched(values) * (HEAT - 1)).astype(np.uint8)
    picture = index.repeat(factor, 0).repeat(factor, 1)
    bad = ~np.isfinite(values).repeat(factor, 0).repeat(factor, 1)
    if bad.any():
        lines = np.asarray(hatching((picture.shape[1], picture.shape[0]), TYPE))
        picture[bad] = np.where(lines, FIRST_INK + INKS - 1, FIRST_INK)[bad]
    return picture


def _inks() -> Bytes:
    """(16, 3) white to black."""
    return np.repeat((255 - 17 * np.arange(INKS, dtype=np.uint8))[:, None], 3, axis=1)
