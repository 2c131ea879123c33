"""Mosaics of images of different classes, and in which cell each method looks for each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from cnnviz_cli.core.geometry import BoxAnnotation, View
from cnnviz_cli.core.panels import SingleMap
from cnnviz_cli.render.axes import BLUE, GRID, format_fixed
from cnnviz_cli.render.canvas import Canvas, draw_map
from cnnviz_cli.render.compare import fit_input
from cnnviz_cli.render.layout import (
    ALERT,
    INK,
    MARGIN,
    MUTED,
    PAPER,
    RULE,
    SMALL,
    TYPE,
    Block,
    Line,
    Rectangle,
    blank_block,
    elide,
    layer_lines,
    line_height,
    muted_lines,
    put_text,
    set_lines,
    stack_horizontally,
    stack_vertically,
    text_width,
    wrap_words,
)
from cnnviz_cli.render.leaderboard import NARROW
from cnnviz_cli.render.legends import shared_legend
from cnnviz_cli.render.overview import HEADING, make_sheet
from cnnviz_cli.render.style import Caption, Style

TILE = 190  # the side of a mosaic, in units
CLOSE = 14
BAR = 6  # the height of the bar of a share


@dataclass(frozen=True, slots=True)
class MosaicMaps:
    """A method's maps over one mosaic.

    Attributes:
        panels: for each cell's class; one and the same where the method knows no class; None where there is none.
        shares: of all positive evidence, what lies in the class's own cell, from 0 to 1; None where there is none.
    """

    named: Caption
    panels: tuple[SingleMap | None, ...]
    shares: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Images side by side, rows x columns of them, row by row, and the class of each."""

    picture: Image.Image
    classes: tuple[str, ...]
    maps: tuple[MosaicMaps, ...]
    cells: tuple[int, int] = (2, 2)


def compose_mosaics(mosaics: Sequence[Mosaic], title: str, facts: Sequence[str], style: Style) -> Block:
    """The sheet: each mosaic with a row for each method and a column for each class, the class's cell outlined."""
    room = style.size.layout_width
    margin = MARGIN if room >= NARROW else MARGIN // 2
    count = max(len(one.classes) for one in mosaics)
    wide = room >= NARROW
    gap = CLOSE if wide else CLOSE // 2
    columns = count + wide
    side = min(TILE, (room - 2 * margin + gap) // columns - gap)
    width = columns * (side + gap) - gap if wide else room - 2 * margin
    head = [Line(text, HEADING) for text in wrap_words(title, HEADING, width)]
    below = "below each map: how much of the positive evidence lies in the outlined cell; the tick is chance"
    head += [*muted_lines(facts, TYPE, width), *muted_lines(below, SMALL, width)]
    rows = [set_lines(head, width)]
    rows += [(_wide if wide else _narrow)(one, style, side, gap) for one in mosaics]
    shown = [(panel, maps.named) for one in mosaics for maps in one.maps for panel in maps.panels if panel is not None]
    if shown:
        rows.append(shared_legend(shown, style, width))
    words = "Red: no more than chance, which is the cell's share of the mosaic. Such a map does not tell these classes"
    if any(is_chance(share, one) for one in mosaics for maps in one.maps for share in maps.shares):
        rows.append(set_lines(muted_lines(f"{words} apart.", SMALL, width), width))
    return make_sheet(rows, width, margin)


def chance_of(mosaic: Mosaic) -> float:
    """The share of a cell."""
    return 1 / (mosaic.cells[0] * mosaic.cells[1])


def is_chance(share: float | None, mosaic: Mosaic) -> bool:
    """Whether a share, as it is written, is no more than chance."""
    return share is not None and round(share, 2) <= round(chance_of(mosaic), 2)


def _canvas(mosaic: Mosaic, side: int, style: Style) -> Canvas:
    across, down = mosaic.picture.size
    view = View((across, down), (across, down), (0.0, 0.0, float(across), float(down)))
    return fit_input(mosaic.picture, view, side, style.size.density)


def _wide(mosaic: Mosaic, style: Style, side: int, gap: int) -> Block:
    """The mosaic at the left, its classes above the columns, and each method's name before its row."""
    heads = [[Line(text, TYPE) for text in wrap_words(name, TYPE, side)[:2]] for name in mosaic.classes]
    titles = [set_lines(lines, side) for lines in heads]
    tall = max(block.height for block in titles)
    rows: list[Block] = []
    for number, maps in enumerate(mosaic.maps):
        names = _names(maps, side)
        tiles = [_tile(mosaic, maps, cell, style, side) for cell in range(len(mosaic.classes))]
        if not number:
            # No lower than the maps beside it.
            canvas = _canvas(
                mosaic, max(side // 2, min(side, tiles[0].height - line_height(SMALL) - names.height)), style
            )
            names = stack_vertically([names, canvas.as_raster(canvas.image)], 0)
        rows.append(stack_horizontally([names, *tiles], gap))
    head = blank_block(rows[0].width, tall)
    for number, block in enumerate(titles, 1):
        head.put(block, number * (side + gap), tall - block.height)
    return stack_vertically([head, *rows], gap // 2)


def _narrow(mosaic: Mosaic, style: Style, side: int, gap: int) -> Block:
    """The mosaic, and below it for each method a row of maps, each under its class."""
    canvas = _canvas(mosaic, 2 * side + gap, style)
    parts: list[Block] = [stack_vertically([canvas.as_raster(canvas.image)], 0)]
    for maps in mosaic.maps:
        cells = []
        for cell, name in enumerate(mosaic.classes):
            title = set_lines([Line(elide(name, SMALL, side), SMALL, MUTED)], side)
            cells.append(stack_vertically([title, _tile(mosaic, maps, cell, style, side)], 2))
        row = stack_horizontally(cells, gap)
        parts.append(stack_vertically([_names(maps, row.width), row], 4))
    return stack_vertically(parts, CLOSE)


def _names(maps: MosaicMaps, width: int) -> Block:
    titles = [Line(text, TYPE + 1) for text in wrap_words(maps.named.title, TYPE + 1, width)]
    layers = [Line(text, SMALL, MUTED) for text in layer_lines(maps.named.layer, SMALL, width)]
    return set_lines([*titles, *layers], width)


def _tile(mosaic: Mosaic, maps: MosaicMaps, cell: int, style: Style, side: int) -> Block:
    """A map with the class's own cell outlined, and below it the share that lies there."""
    canvas = _canvas(mosaic, side, style)
    raster = canvas.as_raster(canvas.image)
    block = blank_block(side, raster.height + 6 + line_height(SMALL))
    panel = maps.panels[cell]
    if panel is None:
        block.put(Rectangle(raster.width, raster.height, outline=RULE), 0, 0)
    else:
        drawn = draw_map(panel, canvas, style.for_caption(maps.named), maps.named.scale, own_cell(mosaic, cell))
        block.put(canvas.as_raster(drawn), 0, 0)
    share, base = maps.shares[cell], raster.height + 6 + SMALL
    text = "-" if share is None else format_fixed(share, 2)
    red = is_chance(share, mosaic)
    wide = round(text_width("0.00", SMALL)) + 8
    put_text(block, 0, base, text, SMALL, ALERT if red else INK)
    if share is None:
        return block
    track, top = side - wide, base - SMALL // 2 - BAR // 2 + 1
    block.put(Rectangle(track, BAR, fill=GRID), wide, top)
    filled = max(1, round(track * min(1.0, share)))
    bar = Rectangle(filled, BAR, fill=PAPER, outline=ALERT) if red else Rectangle(filled, BAR, fill=BLUE)
    block.put(bar, wide, top)
    block.put(Rectangle(1, BAR + 6, fill=MUTED), wide + round(track * chance_of(mosaic)), top - 3)
    return block


def own_cell(mosaic: Mosaic, cell: int) -> BoxAnnotation:
    """Where the image of a class lies in its mosaic."""
    down, across = divmod(cell, mosaic.cells[1])
    rows, columns = mosaic.cells
    return BoxAnnotation((across / columns, down / rows, (across + 1) / columns, (down + 1) / rows))
