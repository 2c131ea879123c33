"""Units of a network: what was painted for each, beside the patches of images that excite it most and what these
project to. After Olah, Mordvintsev & Schubert (Feature Visualization, 2017) and Zeiler & Fergus (2013, figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from cnnviz_cli.render.dreamed import DreamTile
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
    Rectangle,
    blank_block,
    elide,
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
from cnnviz_cli.render.legends import format_number
from cnnviz_cli.render.overview import HEADING, make_sheet

GROUND = "#eef0f3"
"""What a frame shows where a patch ends at the border of its image."""

ACROSS = 3  # pairs in a row of a unit's sheet
PATCH, SMALLEST = 132, 64  # the frame of a patch on a unit's sheet, in units; the least where there is little room
DREAM = 416  # the width of what was painted, on a unit's sheet
JOINT = 2  # between a patch and its projection
ROWS = 6
"""Units on a page."""

ROW_PATCH, ROW_GAP = 112, 8  # the frame of a patch on a page of several units
LEGEND = (
    "beside each patch what it projects to by the deconvolutional network, mid-grey zero, each on its own scale",
    "under it the unit's value there and the image",
)
PAGE_LEGEND = (
    "above each patch the unit's value there, below it what it projects to by the deconvolutional network, mid-grey "
    "zero, each on its own scale",
)


@dataclass(frozen=True, slots=True)
class UnitPatch:
    """A part of an image that excites a unit.

    Attributes:
        picture: that part, upright.
        projection: what the unit projects to there, of the same part; None where there is none.
        value: of the unit.
        source: the image's name.
        frame: width and height of what a position sees, in any unit.
        place: left, top, right and bottom of the part in that frame.
        at_ceiling: whether a rectifier had reached its ceiling there, and counts as on in the projection.
    """

    picture: Image.Image
    projection: Image.Image | None
    value: float
    source: str
    frame: tuple[float, float]
    place: tuple[float, float, float, float]
    at_ceiling: bool = False


@dataclass(frozen=True, slots=True)
class UnitFigure:
    """One unit.

    Attributes:
        title: what it is called.
        dreams: what was painted for it.
        patches: the strongest first.
        note: what is said in their place, or beside them.
    """

    title: str
    dreams: Sequence[DreamTile]
    patches: Sequence[UnitPatch]
    note: str = ""


def compose_unit(unit: UnitFigure, facts: Sequence[str], more: Sequence[str], room: int) -> Block:
    """The sheet of one unit.

    Args:
        facts: about the network and the images, below the title.
        more: at the foot.
        room: the widest that it is laid out, in units.
    """
    inner = min(room - 2 * MARGIN, DREAM + 2 * GAP + ACROSS * (2 * PATCH + JOINT) + (ACROSS - 1) * GAP)
    beside = bool(unit.patches)
    # Narrow sheets have the patches below.
    below = inner < DREAM // 2 + 2 * GAP + ACROSS * (2 * SMALLEST + JOINT + GAP)
    side = min(DREAM, inner) if below or not beside else min(DREAM, round(inner * 0.325))
    dreams = stack_vertically([_dream(tile, side, headed=len(unit.dreams) > 1) for tile in unit.dreams], GAP)
    parts: list[Block] = [dreams]
    if beside:
        left = inner if below else inner - side - 2 * GAP
        across = max(1, min(ACROSS, (left + GAP) // (2 * SMALLEST + JOINT + GAP)))
        tile = min(PATCH, ((left + GAP) // across - GAP - JOINT) // 2)
        pairs = [_pair(patch, tile) for patch in unit.patches]
        lines = [stack_horizontally(pairs[at : at + across], GAP) for at in range(0, len(pairs), across)]
        parts.append(stack_vertically(lines, round(0.75 * GAP)))
    body = stack_vertically(parts, GAP) if below or not beside else stack_horizontally(parts, 2 * GAP)
    width = max(inner if below or beside else body.width, min(inner, 30 * TYPE), body.width)
    foot = [*more, *(LEGEND if any(patch.projection for patch in unit.patches) else LEGEND[1:] if beside else ())]
    rows = [unit_heading(unit.title, facts, unit.note, width), body]
    return make_sheet([*rows, set_lines(muted_lines(foot, SMALL, width), width)] if foot else rows, width)


def compose_page(
    units: Sequence[UnitFigure], heading: str, facts: Sequence[str], more: Sequence[str], room: int
) -> Block:
    """A page of several units, a row each: what was painted, the patches, and their projections below them."""
    most = max((len(unit.patches) for unit in units), default=0) or 1
    inner = room - 2 * MARGIN
    tile = min(ROW_PATCH, (inner - GAP + ROW_GAP) // (most + 2) - ROW_GAP)
    tile = max(SMALLEST // 2, tile)
    side = 2 * tile + line_height(SMALL) + JOINT
    rows = [_row(unit, tile, side) for unit in units]
    width = max(min(inner, 40 * TYPE), *(row.width for row in rows))
    foot = [*PAGE_LEGEND, *more]
    head = unit_heading(heading, facts, "", width)
    return make_sheet([head, *rows, set_lines(muted_lines(foot, SMALL, width), width)], width)


def unit_heading(title: str, facts: Sequence[str], note: str, width: int) -> Block:
    words = [Line(line, HEADING) for line in wrap_words(title, HEADING, width)]
    return set_lines([*words, *muted_lines(facts, TYPE, width), *note_lines(note, TYPE, width)], width)


def _dream(tile: DreamTile, side: int, *, headed: bool) -> Block:
    image = tile.picture
    height = max(1, round(image.height * side / image.width))
    parts: list[Block | Raster] = []
    if headed:
        parts.append(set_lines([Line(elide(tile.title, SECTION, side), SECTION)], side))
    parts.append(Raster(image, side, height))
    words = [
        line
        for number, text in enumerate(tile.facts)
        for line in ([Line(elide(text, TYPE, side), TYPE, INK)] if not number else muted_lines(text, TYPE, side))
    ]
    words += note_lines(tile.note, SMALL, side)
    if words:
        parts.append(set_lines(words, side))
    return stack_vertically(parts, GAP // 3)


def _pair(patch: UnitPatch, tile: int) -> Block:
    """A patch beside its projection, the value and the image's name below."""
    pictures = [patch.picture, *([patch.projection] if patch.projection else [])]
    couple = stack_horizontally([framed_patch(picture, patch, tile) for picture in pictures], JOINT)
    foot = blank_block(couple.width, line_height(TYPE))
    value = format_number(patch.value)
    put_text(foot, 0, TYPE, value, TYPE, INK)
    room = couple.width - text_width(value, TYPE) - TYPE
    name = elide(patch.source, SMALL, room, middle=True)
    put_text(foot, couple.width - text_width(name, SMALL), TYPE, name, SMALL, MUTED)
    return stack_vertically([couple, foot], 3)


def framed_patch(picture: Image.Image, patch: UnitPatch, tile: int) -> Block:
    """A picture in its place in the frame of what a position sees."""
    across, down = patch.frame
    scale = tile / max(across, down)
    cell = blank_block(max(1, round(across * scale)), max(1, round(down * scale)))
    left, top, right, bottom = (round(edge * scale) for edge in patch.place)
    whole = left <= 0 and top <= 0 and right >= cell.width and bottom >= cell.height
    if not whole:
        cell.put(Rectangle(cell.width, cell.height, fill=GROUND), 0, 0)
    cell.put(Raster(picture, max(1, right - left), max(1, bottom - top)), left, top)
    return cell


def _row(unit: UnitFigure, tile: int, side: int) -> Block:
    """One unit on a page."""
    first = unit.dreams[0]
    scale = min(side / first.picture.width, side / first.picture.height)
    dream = blank_block(side, side)
    dream.put(Raster(first.picture, round(first.picture.width * scale), round(first.picture.height * scale)), 0, 0)
    columns = [dream]
    for patch in unit.patches:
        head = blank_block(tile, line_height(SMALL))
        put_text(head, 0, SMALL, elide(format_number(patch.value), SMALL, tile), SMALL, MUTED)
        pictures = [framed_patch(picture, patch, tile) for picture in (patch.picture, patch.projection) if picture]
        columns.append(stack_vertically([head, *pictures], JOINT))
    strip = stack_horizontally(columns[1:], ROW_GAP) if len(columns) > 1 else None
    body = stack_horizontally([dream, strip], GAP) if strip else dream
    words = " · ".join(first.facts)
    title = elide(unit.title, SECTION, max(body.width, 30 * TYPE))
    width = max(body.width, 30 * TYPE, round(text_width(title, SECTION)))
    head = blank_block(width, line_height(SECTION))
    put_text(head, 0, SECTION, title, SECTION, INK)
    left = text_width(title, SECTION) + TYPE
    put_text(head, left, SECTION, elide(words, TYPE, width - left), TYPE, MUTED)
    notes = [*note_lines(first.note, TYPE, width), *note_lines(unit.note, TYPE, width)]
    return stack_vertically([head, *([set_lines(notes, width)] if notes else []), body], GAP // 4)
