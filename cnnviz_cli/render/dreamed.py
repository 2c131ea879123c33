"""Painted pictures: by themselves, side by side on a sheet, and beside the image that they were painted into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cnnviz_cli.core.dream_facts import to_bytes
from cnnviz_cli.core.panels import Dreamed
from cnnviz_cli.render.figures import Scene, draws
from cnnviz_cli.render.layout import (
    GAP,
    INK,
    MARGIN,
    MUTED,
    SECTION,
    SMALL,
    TYPE,
    Block,
    Line,
    Raster,
    blank_block,
    muted_lines,
    note_lines,
    set_lines,
    stack_horizontally,
    stack_vertically,
    wrap_words,
)
from cnnviz_cli.render.overview import HEADING, make_sheet

DIFFERENCE_FACTORS = (8, 4, 2, 1)
"""How many times a change is enlarged, so that one can see it: the first by which hardly any of it is cut off."""

MOST_CUT = 0.02
"""The share of values that may be cut off."""

MOST_COLUMNS = 4  # pictures in a row where each subject has one
MOST_ACROSS = 6  # pictures of one subject in a row
MOST_ROWS = 12  # on a sheet; what comes after them goes to a further one
WIDTH = 1280  # of the pictures of a full row, in units
TILE = 320  # the width of a picture on a sheet, in units, where there is room
SMALLEST = 120
TALLEST = 1120  # of a picture on a sheet, in units; a taller one is drawn narrower


@dataclass(frozen=True, slots=True)
class DreamTile:
    """One picture on a sheet.

    Attributes:
        title: what was painted, empty where a row says it.
        facts: how the network receives it, a line each.
        note: a warning, if one is due.
        changed: whether it is an image that was changed, and not painted beside one from noise.
    """

    picture: Image.Image
    title: str
    facts: Sequence[str] = ()
    note: str = ""
    changed: bool = True


@dataclass(frozen=True, slots=True)
class DreamRow:
    """The pictures of one subject, and what it is called."""

    title: str
    tiles: Sequence[DreamTile]


def compose_dreamed(panel: Dreamed, _scene: Scene) -> Block:
    """The picture as it is: no frame, a unit for each of its pixels."""
    pixels = to_bytes(np.asarray(panel.values))
    shown = pixels[:, :, :3] if pixels.shape[2] >= 3 else np.repeat(pixels[:, :, :1], 3, 2)
    return picture_block(Image.fromarray(np.ascontiguousarray(shown)))


def picture_block(image: Image.Image) -> Block:
    """An image by itself, a unit for each of its pixels."""
    block = blank_block(*image.size)
    block.put(image, 0, 0)
    return block


def compose_dreams(rows: Sequence[DreamRow], heading: str, facts: Sequence[str], room: int) -> list[Block]:
    """The sheets that show pictures side by side, each under its subject and over what the network says of it.

    Args:
        rows: one for each subject; where each has one picture, they flow on in rows of several.
        facts: about all of them.
        room: the widest that a sheet is laid out, in units.
    """
    across = max(len(row.tiles) for row in rows)
    flat = across == 1
    if flat:
        tiles = [DreamTile(row.tiles[0].picture, row.title, row.tiles[0].facts, row.tiles[0].note) for row in rows]
        columns = min(MOST_COLUMNS, len(tiles), _columns_in(room))
        # As few rows as there can be, as even as they can be.
        columns = -(-len(tiles) // -(-len(tiles) // columns))
        lines = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
        titles = [""] * len(lines)
    else:
        columns = min(across, MOST_ACROSS, _columns_in(room))
        lines, titles = [], []
        for row in rows:
            for start in range(0, len(row.tiles), columns):
                lines.append(list(row.tiles[start : start + columns]))
                titles.append(row.title if not start else "")
    side = max(SMALLEST, min(TILE, (min(room, WIDTH + 2 * MARGIN) - 2 * MARGIN + GAP) // columns - GAP))
    width = columns * (side + GAP) - GAP
    found = []
    for start in range(0, len(lines), MOST_ROWS):
        head = _heading(heading, facts, width)
        parts = zip(titles[start : start + MOST_ROWS], lines[start : start + MOST_ROWS], strict=True)
        found.append(make_sheet([head, stack_vertically([_row(*part, side) for part in parts], GAP)], width))
    return found


def compose_change(
    before: Image.Image, tiles: Sequence[DreamTile], heading: str, facts: Sequence[str], room: int
) -> Block:
    """An image, what was painted into it, and the difference, for each picture a row; no difference to what was painted
    from noise."""
    flat = before.width > 1.9 * before.height
    columns = 1 if flat else 3 if any(tile.changed for tile in tiles) else 2
    most = (room - 2 * MARGIN + GAP) // columns - GAP
    side = max(SMALLEST, min(most, 2 * TILE if flat else round(1.4 * TILE)))
    width = columns * (side + GAP) - GAP
    rows = []
    for tile in tiles:
        after = tile.picture
        shown = before if before.size == after.size else before.resize(after.size, Image.Resampling.LANCZOS)
        cells = [DreamTile(shown, "the image"), tile]
        if tile.changed:
            change, factor = enlarge_difference(shown, after)
            words = "the difference" if factor == 1 else f"the difference, {factor} times"
            cells.append(DreamTile(change, words, ("grey is none",)))
        stack = stack_vertically if flat else stack_horizontally
        rows.append(stack(_tiles(cells, side), GAP))
    return make_sheet([_heading(heading, facts, width), *rows], width)


def enlarge_difference(before: Image.Image, after: Image.Image) -> tuple[Image.Image, int]:
    """The change of each value around mid-grey, enlarged; and how many times."""
    old, new = (np.asarray(image.convert("RGB"), np.int16) for image in (before, after))
    change = new - old
    size = np.abs(change)
    factor = next((one for one in DIFFERENCE_FACTORS if (size * one > 127).mean() <= MOST_CUT), DIFFERENCE_FACTORS[-1])
    return Image.fromarray((128 + factor * change).clip(0, 255).astype(np.uint8)), factor


def _columns_in(room: int) -> int:
    return max(1, (room - 2 * MARGIN + GAP) // (SMALLEST + GAP))


def _heading(title: str, facts: Sequence[str], width: int) -> Block:
    words = wrap_words(title, HEADING, width)
    return set_lines([*(Line(line, HEADING) for line in words), *muted_lines(facts, TYPE, width)], width)


def _row(title: str, tiles: Sequence[DreamTile], side: int) -> Block:
    row = stack_horizontally(_tiles(tiles, side), GAP)
    if not title:
        return row
    words = [Line(line, SECTION) for line in wrap_words(title, SECTION, row.width)]
    return stack_vertically([set_lines(words, row.width), row], GAP // 3)


def _tiles(tiles: Sequence[DreamTile], side: int) -> list[Block]:
    """Pictures that stand at one height, however many lines their titles take."""
    heads = [wrap_words(tile.title, SECTION, side) for tile in tiles]
    most = max(len(head) for head in heads)
    return [_tile(tile, side, [""] * (most - len(head)) + head) for tile, head in zip(tiles, heads, strict=True)]


def _tile(tile: DreamTile, side: int, head: Sequence[str]) -> Block:
    """A picture, the lines of what it is of above it, and what the network says of it below."""
    image = tile.picture
    height = max(1, round(image.height * side / image.width))
    width = side
    if height > TALLEST:
        width, height = max(1, round(image.width * TALLEST / image.height)), TALLEST
    parts: list[Block | Raster] = []
    if head:
        parts.append(set_lines([Line(text, SECTION, INK) for text in head], side))
    parts.append(Raster(image, width, height))
    words = [
        Line(line, TYPE, INK if not number else MUTED)
        for number, text in enumerate(tile.facts)
        for line in wrap_words(text, TYPE, side)
    ]
    words += note_lines(tile.note, SMALL, side)
    if words:
        parts.append(set_lines(words, side))
    return stack_vertically(parts, GAP // 3)


draws(Dreamed, compose_dreamed)
