"""Maps of one family side by side on one sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import ADVICE, Panel
from cnnviz_cli.render.block import Block, Part, beside, blank, framed, stack
from cnnviz_cli.render.compare_layout import Entry, Flow, Page, Section, Table, columns_in, pages, portions
from cnnviz_cli.render.compare_legend import shared_legend, shared_scale
from cnnviz_cli.render.figures import pictured
from cnnviz_cli.render.numerals import ticks
from cnnviz_cli.render.overview_cells import GAP, SECTION, SMALL, TYPE
from cnnviz_cli.render.overview_sheet import HEADING, MARGIN, ruled
from cnnviz_cli.render.photograph import Canvas
from cnnviz_cli.render.scaling import color_limits, state_of
from cnnviz_cli.render.style import Caption, Style
from cnnviz_cli.render.typeset import INK, QUIET, Line, elide, flow, layer_lines, noted, prose, set_lines

TILE = 224
"""The longer side of a map, in pixels, and the width of a column."""

LONG = 5
"""Rows from which on a table is folded into several next to each other, where they have room."""

LEAST_COLUMNS = 3
"""The sheet is at least so many columns wide, the one that names rows among them: its heading needs room."""


def compose_comparison(
    photo: Image.Image, view: View, entries: Sequence[tuple[Panel, Caption]], caption: Caption, style: Style
) -> Iterator[Block]:
    """The sheets that `pages` lays out, each by itself: what the network saw, the maps over it, a legend.

    Args:
        photo: the upright photograph, RGB; `view` says where the input lies in it.
        entries: the picked panels of one image, with their captions; only single maps are shown.
        caption: the sheet's title, and the facts for its head.
    """
    facts = [
        caption.title,
        caption.model,
        f"photograph of {photo.width} x {photo.height} pixels",
        f"network input {view.size[0]} x {view.size[1]}",
    ]
    most = columns_in(style.size.room)
    laid = pages(entries, most)
    for number, page in enumerate(laid, 1):
        part = [f"sheet {number} of {len(laid)}"] if len(laid) > 1 else []
        shown = [entry for block in page for entry in _entries(block)]
        columns = max(min(LEAST_COLUMNS, most + 1), *(_columns(block, most) for block in page))
        side = tile_of(columns, style)
        sheet = _Sheet(seen(photo, view, side, style.size.density), style, shown, side, columns, most, view.whole)
        yield sheet.block(page, [*facts, *part], caption)


def tile_of(columns: int, style: Style) -> int:
    """The width of a column in units."""
    if style.size.source:
        return TILE
    return min(TILE, (style.size.room - 2 * MARGIN + GAP) // columns - GAP)


def seen(photo: Image.Image, view: View, side: int, density: float = 1.0) -> Canvas:
    """The part of the photograph that the network was shown, made to fit into a square of `side` units."""
    left, top, right, bottom = view.box
    # An input with a border of its own reaches beyond the photograph.
    inner = (max(0.0, left), max(0.0, top), min(float(photo.width), right), min(float(photo.height), bottom))
    across, down = inner[2] - inner[0], inner[3] - inner[1]
    ratio = side * density / max(across, down)
    size = max(1, round(across * ratio)), max(1, round(down * ratio))
    how = Image.Resampling.LANCZOS if ratio < 1 else Image.Resampling.BICUBIC
    box = (
        (left - inner[0]) / across * size[0],
        (top - inner[1]) / down * size[1],
        (right - inner[0]) / across * size[0],
        (bottom - inner[1]) / down * size[1],
    )
    shown = photo.resize(size, how, box=inner, reducing_gap=2.0)
    return Canvas(shown, View(size, view.size, box), 1, max(1, round(TYPE * density)), density)


def tile(entry: Entry, canvas: Canvas, style: Style, side: int = TILE, *, scaled: bool) -> Part:
    """One map, and below it the range of its colours (left out if `scaled`), or why it cannot be read."""
    panel, named = entry
    style = style.under(named)
    lines = noted(named.note or ADVICE[state_of(panel)], SMALL, side)
    ends = color_limits(panel, named.scale)
    if ends is not None and not scaled:
        lines.insert(0, Line(elide(" to ".join(ticks(ends)), SMALL, side), SMALL, QUIET))
    picture = canvas.placed(pictured(panel, canvas, style, named.scale, named.mark))
    return stack([picture, set_lines(lines, side)], SMALL // 3) if lines else picture


@dataclass(frozen=True, slots=True)
class _Sheet:
    """What all cells of a sheet have in common.

    Attributes:
        shown: every map on the sheet.
        side: the width of a column.
        columns: in which the sheet is set, the one that names rows among them.
        most: maps in a row.
        whole: whether the network saw the whole photograph.
    """

    canvas: Canvas
    style: Style
    shown: Sequence[Entry]
    side: int
    columns: int
    most: int
    whole: bool

    @property
    def width(self) -> int:
        return self.columns * (self.side + GAP) - GAP

    def block(self, page: Page, facts: Sequence[str], caption: Caption) -> Block:
        """The sheet with its heading, its maps and its legend."""
        rows: list[Block] = []
        for number, block in enumerate(page):
            first = self._original() if number == 0 else None
            if first and (isinstance(block, Flow) or len(block.rows) == 1):
                rows.append(_heading(facts, caption, self.width))
            if isinstance(block, Flow):
                rows.append(self._flow(block, first))
            elif len(block.rows) == 1:
                rows.append(self._single(block, first))
            elif (groups := folds(block, self.most)) > 1:
                if first:
                    rows.append(beside([first, _heading(facts, caption, self.width - self.side - GAP)], GAP))
                parts = [Table(block.columns, part) for part in portions(block.rows, -(-len(block.rows) // groups))]
                rows.append(beside([self._table(part, self._above(part, None)) for part in parts], GAP))
            else:
                heading = _heading(facts, caption, self.width - self.side - GAP) if first else None
                above = self._above(block, heading)
                rows.append(self._table(block, _masthead(first, heading, above) if first and heading else above))
        rows.append(shared_legend(self.shown, self.style, self.width))
        return framed(stack([rows[0], *(ruled(row, self.width) for row in rows[1:])], GAP), MARGIN)

    def _original(self) -> Block:
        words = "the photograph" if self.whole else "what the network saw"
        below = set_lines([Line(words, SMALL, QUIET)], self.side)
        return stack([self.canvas.placed(self.canvas.photo), below], SMALL // 3)

    def _above(self, block: Table, heading: Block | None) -> Block:
        """What stands above the columns; with a place for the names of rows if there is no heading to go beside."""
        captions = beside([set_lines(_class_lines(named, self.side), self.side) for named in block.columns], GAP)
        return captions if heading else beside([blank(self.side, 1), captions], GAP)

    def _table(self, block: Table, above: Block) -> Block:
        rows = []
        for way, cells in block.rows:
            names = set_lines(_way_lines(way.title, way.layer, self.side), self.side)
            rows.append(beside([names, *(self._tile(entry) for entry in cells)], GAP))
        return stack([above, stack(rows, GAP)], GAP // 3)

    def _single(self, block: Table, original: Block | None) -> Block:
        """One row of maps, each under its class; the method's name stands above what the network saw."""
        way, cells = block.rows[0]
        heads = [_way_lines(way.title, way.layer, self.side)]
        heads += [_class_lines(named, self.side) for named in block.columns]
        return beside(_under(heads, [original, *map(self._tile, cells)], self.side), GAP)

    def _flow(self, block: Flow, original: Block | None) -> Block:
        """Rows of maps, each under its method's name; to their left what they are for, `original` below that."""
        if block.named is None:
            lines = [Line("any class", SECTION, INK), Line("the same map whatever the class", TYPE, QUIET)]
        else:
            lines = _class_lines(block.named, self.side)
        aside = [Line(elide(line.text, line.size, self.side), line.size, line.colour) for line in lines]
        rows: list[Block] = []
        for row in block.rows:
            heads, tiles = ([], [None]) if rows else (aside, [original])
            ways = [_way_lines(named.title, self._words(block, panel, named), self.side) for panel, named in row]
            rows.append(beside(_under([heads, *ways], [*tiles, *map(self._tile, row)], self.side), GAP))
        return stack(rows, GAP)

    def _words(self, block: Flow, panel: Panel, named: Caption) -> str:
        any_class = "any class" if block.named and panel.target is None else ""
        return ", ".join(filter(None, [any_class, named.layer]))

    def _tile(self, entry: Entry | None) -> Part:
        if entry is None:
            return blank(self.side, 1)
        scaled = shared_scale(self.shown, type(entry[0])) is not None
        return tile(entry, self.canvas, self.style, self.side, scaled=scaled)


def folds(block: Table, most: int) -> int:
    """Into how many tables next to each other a long one is folded: no taller than it must be, none by itself."""
    if len(block.rows) < LONG:
        return 1
    return max(1, min((most + 1) // (1 + len(block.columns)), -(-len(block.rows) // (LONG - 1))))


def _heading(facts: Sequence[str], caption: Caption, width: int) -> Block:
    lines = [Line(elide(caption.source, HEADING, width, middle=True), HEADING)] if caption.source else []
    lines += [Line(text, TYPE, QUIET) for text in flow(facts, TYPE, width)]
    return set_lines([*lines, *noted(caption.note, TYPE, width)], width)


def _masthead(original: Block, heading: Block, captions: Block) -> Block:
    """What the network saw; to its right the heading, and at the bottom what stands above the columns."""
    # The name of the first row comes right below the original; a long heading pushes both down.
    height = max(original.height + GAP // 2, heading.height + GAP + captions.height)
    right = blank(heading.width, height)
    right.put(heading, 0, 0)
    right.put(captions, 0, height - captions.height)
    return beside([original, right], GAP)


def _class_lines(named: Caption, width: int = TILE) -> list[Line]:
    """What is explained and its figure, and what it is told apart from."""
    facts = f"{named.figure}  {named.apart}".strip()
    return [
        Line(elide(named.subject or named.title, SECTION, width), SECTION, INK),
        Line(elide(facts, TYPE, width), TYPE, QUIET),
    ]


def _way_lines(title: str, layer: str, width: int = TILE) -> list[Line]:
    """A method, in as many lines as its name takes, and the layer that it read."""
    titles, layers = prose(title, SECTION, width), layer_lines(layer, TYPE, width)
    below = layers if layers or len(titles) > 1 else [""]
    return [*(Line(text, SECTION, INK) for text in titles), *(Line(text, TYPE, QUIET) for text in below)]


def _under(heads: Sequence[Sequence[Line]], tiles: Sequence[Part | None], width: int) -> list[Block]:
    """Each tile under its lines, which may be more above one than above another: the tiles start at one height."""
    blocks = [set_lines(lines, width) for lines in heads]
    tallest = max(block.height for block in blocks)
    level = []
    for block, tile_ in zip(blocks, tiles, strict=True):
        block.height = tallest
        level.append(stack([block, tile_], GAP // 3) if tile_ else block)
    return level


def _entries(block: Section) -> Iterator[Entry]:
    if isinstance(block, Flow):
        yield from (entry for row in block.rows for entry in row)
    else:
        yield from (entry for _, cells in block.rows for entry in cells if entry is not None)


def _columns(block: Section, most: int) -> int:
    """Columns of a block, those that name rows among them."""
    if isinstance(block, Flow):
        return 1 + max(map(len, block.rows))
    return (1 + len(block.columns)) * folds(block, most)
