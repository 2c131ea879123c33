"""The patches of a folder's images that excite a channel most, in a square, beside a square of what they project to: as
in figure 2 of Zeiler & Fergus (Visualizing and Understanding Convolutional Networks, 2013)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isqrt

from PIL import Image

from cnnviz_cli.render.layout import (
    GAP,
    INK,
    MARGIN,
    MUTED,
    SMALL,
    TYPE,
    Block,
    Line,
    Raster,
    blank_block,
    elide,
    line_height,
    muted_lines,
    put_text,
    set_lines,
    stack_horizontally,
    stack_vertically,
    text_width,
)
from cnnviz_cli.render.legends import format_number
from cnnviz_cli.render.overview import make_sheet
from cnnviz_cli.render.raster import rasterize
from cnnviz_cli.render.unit_patches import UnitPatch, framed_patch, unit_heading

JOINT = 2  # between the patches of a square, in units
SQUARE, LARGEST, SMALLEST = 420, 264, 40  # a square on a unit's sheet, and the largest and the least patch in it
KEPT_PATCH = 96  # of a square in a file of its own, in pixels
CELL, CELL_GAP, ROWS = 238, 26, 5  # a square on a page, what is between two units, and the rows of a page
LISTED = 150  # the least width of a column of the list below the squares
CAPTIONED = 100  # the least width of patches that have what the list says below each other

PATCHES, PROJECTIONS = "the strongest patches", "what they project to"


def squares_on_page(room: int, *, projected: bool) -> int:
    """How many units stand beside each other on a page."""
    return max(1, round((room - 2 * MARGIN + CELL_GAP) / (_cell_width(projected=projected) + CELL_GAP)))


def _cell_width(*, projected: bool) -> int:
    return 2 * CELL + GAP // 4 if projected else CELL


@dataclass(frozen=True, slots=True)
class TopUnit:
    """One channel.

    Attributes:
        title: what it is called.
        patches: the strongest first; all of them with a projection, or none.
        count: how many were wanted.
        note: what is said in their place, or beside them.
    """

    title: str
    patches: Sequence[UnitPatch]
    count: int
    note: str = ""

    @property
    def across(self) -> int:
        """Patches in a row of a square."""
        return columns_of(self.count)

    @property
    def projected(self) -> bool:
        return any(patch.projection for patch in self.patches)


@dataclass(frozen=True, slots=True)
class TopTile:
    """One channel on a page: its squares, as `draw_squares` made them, below its title and the range of values."""

    title: str
    aside: str
    picture: Image.Image


def columns_of(count: int) -> int:
    """Patches in a row of a square of so many: 3 of 9."""
    return isqrt(max(0, count - 1)) + 1


def draw_squares(unit: TopUnit, *, projections: bool = True) -> Image.Image:
    """A channel's patches, and right of them what they project to, unless these are left out; nothing else."""
    kinds = (False, True) if unit.projected and projections else (False,)
    squares = [_square(unit, KEPT_PATCH, projections=kind) for kind in kinds]
    return rasterize(stack_horizontally(squares, KEPT_PATCH // 13))


def compose_top_unit(unit: TopUnit, facts: Sequence[str], more: Sequence[str], room: int) -> Block:
    """The sheet of one channel.

    Args:
        facts: about the network and the images, below the title.
        more: at the foot.
        room: the widest that it is laid out, in units.
    """
    inner, across, kinds = room - 2 * MARGIN, unit.across, 1 + unit.projected
    side = min(SQUARE, across * LARGEST)
    beside = kinds == 1 or inner >= 2 * (across * (SMALLEST + JOINT)) + GAP
    side = min(side, (inner - GAP) // 2 if kinds == 2 and beside else inner)
    tile = (side - (across - 1) * JOINT) // across
    blocks = []
    for projections in range(kinds):
        square = _square(unit, tile, projections=bool(projections))
        width = max(square.width, across * tile + (across - 1) * JOINT)
        head = set_lines([Line(elide((PATCHES, PROJECTIONS)[projections], TYPE, width), TYPE, MUTED)], width)
        blocks.append(stack_vertically([head, square], GAP // 6))
    body: list[Block] = []
    if unit.patches:
        body.append((stack_horizontally if beside else stack_vertically)(blocks, GAP))
    width = max([min(inner, 30 * TYPE), *(block.width for block in body)])
    if unit.patches:
        pitch = max(block.width + JOINT for block in _framed(unit, tile, projections=False))
        body.append(_captions(unit, pitch, width) if pitch >= CAPTIONED else _list(unit.patches, width))
    rows = [unit_heading(unit.title, facts, unit.note, width)]
    rows += [stack_vertically(body, GAP // 2)] if body else []
    if more and unit.patches:
        rows.append(set_lines(muted_lines(list(more), SMALL, width), width))
    return make_sheet(rows, width)


def compose_top_page(
    tiles: Sequence[TopTile], heading: str, facts: Sequence[str], more: Sequence[str], room: int, *, projected: bool
) -> Block:
    """A page of several channels; `projected`, with what their patches project to."""
    inner = room - 2 * MARGIN
    most = max((tile.picture.width for tile in tiles), default=1)
    across = squares_on_page(room, projected=projected)
    # They fill the page; a few of a layer are no larger than many.
    width = min((inner - (across - 1) * CELL_GAP) // across, round(1.2 * _cell_width(projected=projected)))
    across = max(1, min(len(tiles), across))
    cells = [_cell(tile, width, width / most) for tile in tiles]
    lines = [stack_horizontally(cells[at : at + across], CELL_GAP) for at in range(0, len(cells), across)]
    full = max([min(inner, 40 * TYPE), *(line.width for line in lines)])
    rows = [unit_heading(heading, facts, "", full)]
    rows += [stack_vertically(lines, CELL_GAP)] if lines else []
    if more:
        rows.append(set_lines(muted_lines(list(more), SMALL, full), full))
    return make_sheet(rows, full)


def describe_values(patches: Sequence[tuple[float, str]]) -> str:
    """The values of patches, each with its image, in words: of the strongest and of the last."""
    if not patches:
        return ""
    first, last = (format_number(value) for value, _ in (patches[0], patches[-1]))
    return first if first == last else f"{first} to {last}"


def _square(unit: TopUnit, tile: int, *, projections: bool) -> Block:
    """The patches in rows, or what they project to; of fewer images than were wanted there are fewer."""
    framed = _framed(unit, tile, projections=projections)
    wide = max((block.width for block in framed), default=tile)
    high = max((block.height for block in framed), default=tile)
    across = unit.across
    down = ceil(len(framed) / across)
    square = blank_block(across * (wide + JOINT) - JOINT, down * (high + JOINT) - JOINT)
    for number, block in enumerate(framed):
        square.put(block, (number % across) * (wide + JOINT), (number // across) * (high + JOINT))
    return square


def _framed(unit: TopUnit, tile: int, *, projections: bool) -> list[Block]:
    return [
        framed_patch(patch.projection if projections and patch.projection else patch.picture, patch, tile)
        for patch in unit.patches
    ]


def _captions(unit: TopUnit, pitch: int, width: int) -> Block:
    """Number and value of each patch, and below them its image, under the columns of the square: in its rows."""
    tall = 2 * line_height(SMALL) + 3
    block = blank_block(width, ceil(len(unit.patches) / unit.across) * tall)
    for at, patch in enumerate(unit.patches):
        left, top = (at % unit.across) * pitch, (at // unit.across) * tall
        number = str(at + 1)
        put_text(block, left, top + SMALL, number, SMALL, MUTED)
        start = left + text_width(number, SMALL) + SMALL // 2
        put_text(block, start, top + SMALL, format_number(patch.value), SMALL, INK)
        name = elide(patch.source, SMALL, pitch - SMALL, middle=True)
        put_text(block, left, top + line_height(SMALL) + SMALL, name, SMALL, MUTED)
    return block


def _list(patches: Sequence[UnitPatch], width: int) -> Block:
    """Number, value and image of each patch, one below the other in columns that have nothing to do with those of the
    square: its patches are too small for that."""
    columns = max(1, min(len(patches), width // LISTED))
    room = (width + GAP) // columns - GAP
    numbers = text_width(str(len(patches)), SMALL)
    values = max(text_width(format_number(patch.value), SMALL) for patch in patches)
    down = ceil(len(patches) / columns)
    block = blank_block(width, down * line_height(SMALL))
    for at, patch in enumerate(patches):
        left, base = (at // down) * (room + GAP), (at % down) * line_height(SMALL) + SMALL
        number, value = str(at + 1), format_number(patch.value)
        put_text(block, left + numbers - text_width(number, SMALL), base, number, SMALL, MUTED)
        put_text(block, left + numbers + SMALL, base, value, SMALL, INK)
        start = numbers + values + 2 * SMALL
        put_text(block, left + start, base, elide(patch.source, SMALL, room - start, middle=True), SMALL, MUTED)
    return block


def _cell(tile: TopTile, width: int, scale: float) -> Block:
    picture = tile.picture
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    head = blank_block(width, line_height(TYPE))
    aside = elide(tile.aside, SMALL, width)
    title = elide(tile.title, TYPE, max(0, width - text_width(aside, SMALL) - TYPE), middle=True)
    put_text(head, 0, TYPE, title, TYPE, INK)
    put_text(head, width - text_width(aside, SMALL), TYPE, aside, SMALL, MUTED)
    return stack_vertically([head, Raster(picture, *size)], 4)
