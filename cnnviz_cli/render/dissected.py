"""Which channel finds which annotated thing: a row for each label, and how many channels find each. After Bau, Zhou,
Khosla, Oliva & Torralba (Network Dissection, 2017), figures 1, 4 and 5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.geometry import Box
from cnnviz_cli.render.axes import BAND, BLUE, GRID, TICK, Axis, KeyEntry, key_line, round_ticks
from cnnviz_cli.render.canvas import DARK, LIGHT, hatching, widened
from cnnviz_cli.render.layout import (
    ALERT,
    GAP,
    INK,
    MARGIN,
    MUTED,
    PAPER,
    RULE,
    SECTION,
    SMALL,
    TYPE,
    Block,
    Line,
    Raster,
    Rectangle,
    blank_block,
    elide,
    layer_lines,
    line_height,
    muted_lines,
    note_lines,
    put_text,
    set_lines,
    stack_horizontally,
    stack_vertically,
    text_width,
    wrap_words,
)
from cnnviz_cli.render.leaderboard import NARROW
from cnnviz_cli.render.overview import HEADING, make_sheet

EXCITED = "#ffa41b"
"""The line around what is above a channel's threshold: told from the white one of annotations by all eyes."""

ROWS = 8
"""Labels on a page."""

TILES = 4
"""Images of a label."""

MOST_LABELS = 48
"""Labels in the chart of a layer."""

PLAIN_WIDTH = 1280  # units of a sheet that nothing narrower is asked of
NAMES = 296  # the room left of the tiles
TILE_GAP = 12
BESIDE = 180  # units of a tile from which on a name and a number stand beside each other
BAR = 12  # the height of a bar
SPECK = 5  # lines by which a region is so small that a ring stands around it
_DIMMED = 0.62  # how bright the image is where the channel is below its threshold


@dataclass(frozen=True, slots=True)
class DissectedTile:
    """What the network saw of one image.

    Attributes:
        picture: that part of it, of any size, see `cut_input`.
        excited: (H, W) which pixels of the input are above the channel's threshold.
        marked: (H, W) which are marked with the label.
        name: of the image.
        iou: of the two, in this image.
        labelled: whether the label is marked in this image at all.
    """

    picture: Image.Image
    excited: NDArray[np.bool_]
    marked: NDArray[np.bool_]
    name: str
    iou: float
    labelled: bool = True


@dataclass(frozen=True, slots=True)
class ChannelBar:
    """A channel, and its intersection over union with a label."""

    name: str
    iou: float


@dataclass(frozen=True, slots=True)
class LabelRow:
    """What finds a label.

    Attributes:
        images: in how many images it is marked.
        channels: the best ones, the best first; one at the least.
        chance: the best channel's lowest and highest value where annotations are shuffled; None without a shuffle.
        detectors: how many channels find this label before others.
        tiles: images in which the first channel is excited most.
        note: what has to be known of the row.
    """

    label: str
    images: int
    channels: Sequence[ChannelBar]
    chance: tuple[float, float] | None
    detectors: int
    tiles: Sequence[DissectedTile]
    note: str = ""


@dataclass(frozen=True, slots=True)
class LayerBars:
    """How many channels of a layer find each label.

    Attributes:
        bars: label, number of channels, and the mean number where annotations are shuffled; None without a shuffle.
        found: channels that find some label.
        by_chance: the mean of `found` where annotations are shuffled.
        silent: channels that are above their threshold nowhere.
    """

    layer: str
    channels: int
    bars: Sequence[tuple[str, int, float | None]]
    found: int
    by_chance: float | None
    silent: int = 0


def compose_labels(
    rows: Sequence[LabelRow],
    title: str,
    facts: Sequence[str],
    threshold: float,
    room: int,
    *,
    note: str = "",
    density: float = 1.0,
) -> Block:
    """A page: each label's best channels with their values, and beside them four images.

    Args:
        threshold: the value from which on a channel is a detector.
    """
    margin, width = _frame(room)
    reach = max([threshold, *(bar.iou for row in rows for bar in row.channels), *(_high(row) for row in rows)])
    names = NAMES if room >= NARROW else min(NAMES, width // 2)
    across = TILES if room >= NARROW else TILES // 2
    side = (width - names - GAP + TILE_GAP) // across - TILE_GAP
    axis = _axis(reach, names - 2)
    parts = [_heading(title, facts, note, width)]
    for row in rows:
        tiles = [_tile(tile, side, density) for tile in row.tiles]
        lines = [stack_horizontally(tiles[at : at + across], TILE_GAP) for at in range(0, len(tiles), across)]
        left = _row_names(row, axis, threshold, names)
        parts.append(stack_horizontally([left, stack_vertically(lines, GAP // 2)], GAP) if lines else left)
    parts.append(_key(rows, threshold, width))
    return make_sheet(parts, width, margin)


def compose_image(
    tiles: Sequence[tuple[str, str, DissectedTile]], title: str, facts: Sequence[str], picture: Image.Image, room: int
) -> Block:
    """One image: for each label its channel, as a tile under the names of both.

    Args:
        picture: what the network saw, shown by itself where there are no tiles.
    """
    margin, width = _frame(room)
    across = max(1, min(TILES, len(tiles))) if room >= NARROW else max(1, min(2, len(tiles)))
    side = min(300, (width + TILE_GAP) // across - TILE_GAP)
    cells = []
    for label, channel, tile in tiles:
        words = elide(channel, SMALL, side, middle=True)
        head = [Line(elide(label, TYPE + 1, side), TYPE + 1, INK, strong=True), Line(words, SMALL, MUTED)]
        cells.append(stack_vertically([set_lines(head, side), _tile(tile, side, 1.0)], 4))
    rows: list[Block] = [stack_horizontally(cells[at : at + across], TILE_GAP) for at in range(0, len(cells), across)]
    inner = max(min(width, 36 * TYPE), *(row.width for row in rows)) if rows else min(width, 36 * TYPE)
    if not rows:
        scale = side / max(picture.size)
        plain = Raster(picture, max(1, round(scale * picture.width)), max(1, round(scale * picture.height)))
        silent = "Nothing is marked in it, and no detector is above its threshold."
        rows = [stack_vertically([plain, set_lines(muted_lines(silent, TYPE, inner), inner)], GAP // 3)]
    parts = [_heading(title, facts, "", inner), stack_vertically(rows, GAP), *([_legend(inner)] if tiles else [])]
    return make_sheet(parts, inner, margin)


def compose_detectors(
    layers: Sequence[LayerBars], title: str, facts: Sequence[str], room: int, note: str = ""
) -> Block:
    """How many channels find each label, in a chart for each layer."""
    margin, width = _frame(room)
    across = max(1, min(len(layers), (width + GAP) // (360 + GAP)))
    side = (width + GAP) // across - GAP if across > 1 else min(width, 760)
    reach = max([1.0, *(max(count, chance or 0) for layer in layers for _, count, chance in layer.bars)])
    charts = [_chart(layer, reach, side) for layer in layers]
    width = max(across * (side + GAP) - GAP, 0)
    lines = [stack_horizontally(charts[at : at + across], GAP) for at in range(0, len(charts), across)]
    parts = [_heading(title, facts, note, width), stack_vertically(lines, GAP)]
    bars = [bar for layer in layers for bar in layer.bars]
    if any(chance is not None for *_, chance in bars):
        entries: list[KeyEntry] = [(_sample_bar, "channels")]
        if any(count and chance is not None and count <= chance for _, count, chance in bars):
            entries.append((_sample_lucky, "no more than by chance"))
        if any(chance for *_, chance in bars):
            entries.append((_sample_tick, "as many by chance: images have each other's annotations"))
        parts.append(key_line(entries, width))
    return make_sheet(parts, width, margin)


def _frame(room: int) -> tuple[int, int]:
    """The margin, and the width within it."""
    margin = MARGIN if room >= NARROW else MARGIN // 2
    return margin, min(room, PLAIN_WIDTH + 2 * MARGIN) - 2 * margin


def _heading(title: str, facts: Sequence[str], note: str, width: int) -> Block:
    lines = [Line(text, HEADING) for text in wrap_words(title, HEADING, width)]
    return set_lines([*lines, *muted_lines(facts, TYPE, width), *note_lines(note, TYPE, width)], width)


def _high(row: LabelRow) -> float:
    return row.chance[1] if row.chance else 0.0


def _is_lucky(row: LabelRow, bar: ChannelBar) -> bool:
    """Whether a channel overlaps with a label no more than the best one does by chance."""
    return row.chance is not None and bar.iou <= row.chance[1]


def _axis(reach: float, length: float) -> Axis:
    """From nothing to the highest value, with a little room."""
    top = 1.04 * reach or 1.0
    ticks, decimals = round_ticks(0, top, 4)
    return Axis(0, top, length, ticks, decimals)


def _row_names(row: LabelRow, axis: Axis, threshold: float, width: int) -> Block:
    """The label, what is known of it, and its channels with their bars, all on one axis."""
    head = [Line(text, SECTION, strong=True) for text in wrap_words(row.label, SECTION, width)[:2]]
    some = "1 channel is its detector" if row.detectors == 1 else f"{row.detectors:,} channels are its detectors"
    count = some if row.detectors else "no channel is its detector"
    marked = f"marked in {row.images:,} image{'s' * (row.images != 1)}"
    head += muted_lines([marked, count], SMALL, width)
    head += note_lines(row.note, SMALL, width)
    pitch = line_height(TYPE) + BAR + 10
    tall = pitch * len(row.channels)
    block = blank_block(width, tall + TICK + line_height(SMALL))
    for number, bar in enumerate(row.channels):
        top = number * pitch
        ground = top + line_height(TYPE) - 3
        if row.chance:
            low, high = (round(axis.place(value)) for value in row.chance)
            block.put(Rectangle(max(3, high - low), BAR + 8, fill=BAND), low, ground)
        lucky = _is_lucky(row, bar)
        figure = f"{bar.iou:.3f}"
        ink = INK if not number else MUTED
        put_text(block, 0, top + TYPE, elide(bar.name, TYPE, width - 60), TYPE, ink)
        put_text(block, width - text_width(figure, TYPE), top + TYPE, figure, TYPE, ALERT if lucky else ink)
        long = max(2, round(axis.place(bar.iou)))
        drawn = Rectangle(long, BAR, fill=PAPER, outline=ALERT, line=2) if lucky else Rectangle(long, BAR, fill=BLUE)
        block.put(drawn, 0, top + line_height(TYPE) + 1)
        block.put(Rectangle(2, BAR + 8, fill=INK), round(axis.place(threshold)) - 1, ground)
    block.put(Rectangle(round(axis.length), 1, fill=RULE), 0, tall)
    for tick in axis.ticks:
        text = axis.label(tick)
        place = axis.place(tick)
        block.put(Rectangle(1, TICK, fill=RULE), round(place), tall)
        left = min(max(0.0, place - text_width(text, SMALL) / 2), width - text_width(text, SMALL))
        put_text(block, left, tall + TICK + SMALL, text, SMALL, MUTED)
    return stack_vertically([set_lines(head, width), block], GAP // 3)


def _tile(tile: DissectedTile, side: int, density: float) -> Block:
    """What the network saw, dark where the channel is below its threshold, and both outlines; name and value below."""
    height, width = tile.excited.shape
    scale = side / max(height, width)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    drawn = draw_tile(tile, (max(1, round(across * density)), max(1, round(down * density))))
    figure = f"IoU {tile.iou:.2f}" if tile.labelled else "not marked here"
    below = side < BESIDE
    block = blank_block(side, down + 4 + (1 + below) * line_height(SMALL))
    block.put(Raster(drawn, across, down), 0, 0)
    base = down + 4 + SMALL
    room = side if below else across - text_width(figure, SMALL) - 8
    put_text(block, 0, base, elide(tile.name, SMALL, room, middle=True), SMALL, MUTED)
    color = INK if tile.labelled else MUTED
    if below:
        put_text(block, 0, base + line_height(SMALL), elide(figure, SMALL, side), SMALL, color)
    else:
        put_text(block, across - text_width(figure, SMALL), base, figure, SMALL, color)
    return block


def draw_tile(tile: DissectedTile, size: tuple[int, int]) -> Image.Image:
    """The part of an image that the network saw in a width and height, what is below the threshold darkened."""
    unit = max(1.0, max(size) / 220)
    sheet = tile.picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    excited, marked = _smooth(tile.excited, size), _smooth(tile.marked, size)
    dark = Image.blend(sheet, sheet.convert("L").convert("RGB"), 0.6).point(lambda value: round(_DIMMED * value))
    dark.paste(sheet, mask=excited)
    line = max(1, round(unit))
    for region, colour in ((marked, LIGHT), (_ringed(excited, line), EXCITED)):
        edge, halo = _line_around(region, line)
        dark.paste(DARK, mask=halo)
        dark.paste(colour, mask=edge)
    return dark


def cut_input(image: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """What the network saw of an upright image, in a width and height; hatched where its input lies beyond the image.

    Args:
        box: left, top, right and bottom of that part, in pixels of the image.
    """
    left, top, right, bottom = box
    within = (max(left, 0.0), max(top, 0.0), min(right, float(image.width)), min(bottom, float(image.height)))
    across, down = size[0] / (right - left), size[1] / (bottom - top)
    places = [round((within[side] - box[side % 2]) * (across, down)[side % 2]) for side in range(4)]
    part = (max(1, places[2] - places[0]), max(1, places[3] - places[1]))
    cut = image.convert("RGB").resize(part, Image.Resampling.LANCZOS, box=within, reducing_gap=2.0)
    if part == size:
        return cut
    sheet = Image.new("RGB", size, "#eeeeee")
    sheet.paste("#cdcdcd", mask=hatching(size, 14))
    sheet.paste(cut, (places[0], places[1]))
    return sheet


def _smooth(inside: NDArray[Any], size: tuple[int, int]) -> Image.Image:
    """A region in a width and height, as a mask with smooth edges."""
    region = Image.fromarray(inside).convert("L")
    mask = region.resize(size, Image.Resampling.BICUBIC).point([255 * (value > 127) for value in range(256)])
    if mask.getbbox() is None and region.getbbox() is not None:  # a few pixels, lost in a smaller tile
        return region.resize(size, Image.Resampling.BOX).point([255 * (value > 0) for value in range(256)])
    return mask


def _ringed(region: Image.Image, line: int) -> Image.Image:
    """A region; one of a few pixels, which no line could show, with so much around it that a ring is drawn there."""
    if region.histogram()[255] > (SPECK * line) ** 2:
        return region
    return widened(region, SPECK * line)


def _line_around(region: Image.Image, line: int) -> tuple[Image.Image, Image.Image]:
    """Masks of a line along the border of a region, within it, and of the same with a darker one on both its sides. A
    region that reaches an edge of the image is closed along it, so far within that the line shows on any ground."""
    inside = Image.new("L", region.size, 0)
    ring = line
    inside.paste(region.crop((ring, ring, region.width - ring, region.height - ring)), (ring, ring))
    inner = widened(inside, -2 * line)
    edge = Image.fromarray(np.asarray(inside) > np.asarray(inner)).convert("L")
    return edge, widened(edge, line)


def _chart(layer: LayerBars, reach: float, width: int) -> Block:
    """The bars of a layer, the longest first."""
    shown = layer.bars[:MOST_LABELS]
    head = [Line(text, TYPE + 1, strong=True) for text in layer_lines(layer.layer, TYPE + 1, width)]
    labels = sum(count > 0 for _, count, _ in layer.bars)
    facts = [
        f"{layer.found:,} of {layer.channels:,} channels find something marked",
        f"{labels} of {len(layer.bars)} label{'s' * (len(layer.bars) != 1)} found",
        "" if layer.by_chance is None else f"by chance {layer.by_chance:,.1f} channels",
        f"{layer.silent:,} nowhere above their thresholds" if layer.silent else "",
    ]
    head += muted_lines(facts, SMALL, width)
    names = round(min(0.4 * width, max((text_width(label, TYPE) for label, *_ in shown), default=0) + 10))
    room = width - names - 48
    pitch = 26
    block = blank_block(width, pitch * len(shown) + 4)
    for number, (label, count, chance) in enumerate(shown):
        top = number * pitch
        put_text(block, 0, top + TYPE + 4, elide(label, TYPE, names - 10), TYPE, INK if count else MUTED)
        block.put(Rectangle(room, 14, fill=GRID), names, top + 5)
        if count:
            long = max(4, round(count / reach * room))
            lucky = chance is not None and count <= chance
            bar = Rectangle(long, 14, fill=PAPER, outline=ALERT, line=2) if lucky else Rectangle(long, 14, fill=BLUE)
            block.put(bar, names, top + 5)
        put_text(block, names + room + 8, top + TYPE + 4, f"{count:,}", TYPE, INK if count else MUTED)
        if chance:
            place = min(room - 3, max(0, round(chance / reach * room) - 1))
            block.put(Rectangle(3, 20, fill=ALERT), names + place, top + 2)
    parts = [set_lines(head, width), block]
    if len(layer.bars) > len(shown):
        rest = f"and {len(layer.bars) - len(shown)} labels more, none with more channels: they are in the table"
        parts.append(set_lines(muted_lines(rest, SMALL, width), width))
    return stack_vertically(parts, GAP // 2)


def _key(rows: Sequence[LabelRow], threshold: float, width: int) -> Block:
    entries: list[KeyEntry] = [(_sample_threshold, f"from {threshold:g} on a channel is called a detector")]
    chance = any(row.chance for row in rows)
    if any(not _is_lucky(row, bar) for row in rows for bar in row.channels):
        beyond = ", more than by chance" * chance
        entries.append((_sample_bar, f"intersection over union of a channel, detector or not{beyond}"))
    if chance:
        entries.append((_sample_band, "what the best channel reaches by chance: images have each other's annotations"))
    if any(_is_lucky(row, bar) for row in rows for bar in row.channels):
        entries.append((_sample_lucky, "no more than by chance"))
    return stack_vertically([key_line(entries, width), _legend(width)], 0)


def _legend(width: int) -> Block:
    """What the two lines in images are."""
    return key_line(
        [(_sample_excited, "the channel is above its threshold"), (_sample_marked, "what people have marked")], width
    )


def _sample_bar(block: Block, middle: int) -> None:
    block.put(Rectangle(block.width - 4, 10, fill=BLUE), 2, middle - 5)


def _sample_tick(block: Block, middle: int) -> None:
    block.put(Rectangle(3, 16, fill=ALERT), block.width // 2, middle - 8)


def _sample_threshold(block: Block, middle: int) -> None:
    block.put(Rectangle(2, 16, fill=INK), block.width // 2, middle - 8)


def _sample_band(block: Block, middle: int) -> None:
    block.put(Rectangle(block.width - 4, 14, fill=BAND), 2, middle - 7)


def _sample_lucky(block: Block, middle: int) -> None:
    block.put(Rectangle(block.width - 4, 10, fill=PAPER, outline=ALERT, line=2), 2, middle - 5)


def _sample_excited(block: Block, middle: int) -> None:
    _sample_line(block, middle, EXCITED)


def _sample_marked(block: Block, middle: int) -> None:
    _sample_line(block, middle, LIGHT)


def _sample_line(block: Block, middle: int, colour: str) -> None:
    """A line of a colour within the dark one that it has in images."""
    block.put(Rectangle(block.width - 4, 7, fill=DARK), 2, middle - 3)
    block.put(Rectangle(block.width - 8, 3, fill=colour), 4, middle - 1)
