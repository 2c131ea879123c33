"""Maps of one family side by side on one sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from PIL import Image

from cnnviz_cli.core.figure_settings import Scale
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import ADVICE, Panel, ScaleKind, SingleMap
from cnnviz_cli.render.block import Block, Part, add_margin, blank_block, stack_horizontally, stack_vertically
from cnnviz_cli.render.canvas import Canvas, checkerboard
from cnnviz_cli.render.figures import describe_outside, describe_overlay, draw_map, map_colors
from cnnviz_cli.render.legends import color_bar, format_ticks, legend_entry
from cnnviz_cli.render.overview import GAP, HEADING, MARGIN, SECTION, SMALL, TYPE, add_rule
from cnnviz_cli.render.scaling import color_limits, count_outside, overlay_of, state_of
from cnnviz_cli.render.style import Caption, Style
from cnnviz_cli.render.typeset import (
    INK,
    MUTED,
    Line,
    elide,
    layer_lines,
    note_lines,
    set_lines,
    wrap_pieces,
    wrap_words,
)

MOST_COLUMNS = 6
"""Maps in a row."""

LEAST_TILE = 150
"""Units of a column's width at the least; a narrower sheet has fewer columns."""

MOST_ROWS = 40
"""Rows of maps on a sheet; what comes after them goes to a further one."""

CaptionedMap = tuple[SingleMap, Caption]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class MapGroup:
    """All maps that came about the same way: one method, one layer, one kind.

    Attributes:
        cells: by the number of the target; None for a map that is the same whatever the class.
    """

    title: str
    layer: str
    cells: dict[int | None, CaptionedMap] = field(default_factory=dict)

    @property
    def follows_target(self) -> bool:
        """Whether there is a map for each class."""
        return None not in self.cells


@dataclass(frozen=True, slots=True)
class Table:
    """A row for each way, a column for each class.

    Attributes:
        columns: what stands above each column: a map's caption, for its class and probability.
        rows: the maps of each way, None where one has none for a class.
    """

    columns: tuple[Caption, ...]
    rows: tuple[tuple[MapGroup, tuple[CaptionedMap | None, ...]], ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """Maps for one class, or for any, one after the other, each under its method's name.

    Attributes:
        named: for the class; None where the maps are the same whatever the class.
        rows: at most MOST_COLUMNS maps each.
    """

    named: Caption | None
    rows: tuple[tuple[CaptionedMap, ...], ...]


Section = Table | Flow
Page = list[Section]


def columns_in(room: int) -> int:
    """How many maps stand in a row of a sheet that is so many units wide, beside the column that names rows."""
    return min(MOST_COLUMNS, max(1, (room - 2 * MARGIN + GAP) // (LEAST_TILE + GAP) - 1))


def pages(entries: Sequence[tuple[Panel, Caption]], most: int = MOST_COLUMNS) -> list[Page]:
    """The sheets on which these maps are compared; none if fewer than two can be laid side by side.

    Args:
        most: maps in a row.
    """
    singles = [(panel, named) for panel, named in entries if isinstance(panel, SingleMap)]
    if len(singles) < 2:
        return []
    found: list[Page] = []
    rows = MOST_ROWS
    for block in _blocks(group_maps(singles), most):
        if rows + len(block.rows) > MOST_ROWS:
            found.append([])
            rows = 0
        found[-1].append(block)
        rows += len(block.rows)
    return found


def group_maps(entries: Sequence[CaptionedMap]) -> list[MapGroup]:
    """The maps by the way they came about, in the order in which the first of each came."""
    found: dict[tuple[str, str, type[Panel], bool, int], MapGroup] = {}
    for panel, named in entries:
        turn = 0
        while True:
            key = (named.title, named.layer, type(panel), panel.target is None, turn)
            way = found.setdefault(key, MapGroup(named.title, named.layer))
            if panel.target not in way.cells:
                break
            turn += 1
        way.cells[panel.target] = (panel, named)
    return list(found.values())


def split_evenly(items: Sequence[_T], most: int) -> Iterator[tuple[_T, ...]]:
    """The items in as few portions of at most `most` as there can be, as even as they can be, the longer first."""
    count = -(-len(items) // most)
    for number in range(count):
        yield tuple(items[-(-len(items) * number // count) : -(-len(items) * (number + 1) // count)])


def _blocks(found: Sequence[MapGroup], most: int) -> Iterator[Section]:
    following = [way for way in found if way.follows_target]
    targets = list(dict.fromkeys(target for way in following for target in way.cells))
    if len(targets) > 1:
        for columns in split_evenly(targets, most):
            for part in split_evenly(following, MOST_ROWS):
                yield _table(columns, part)
    elif 0 < len(following) < len(found) and sum(len(way.cells) for way in found) <= most:
        # One row holds them all; those that are the same whatever the class say so themselves.
        entries = [entry for way in found for entry in way.cells.values()]
        named = next(iter(following[0].cells.values()))[1]
        yield Flow(named, (tuple(sorted(entries, key=lambda entry: entry[0].target is None)),))
        return
    elif following:
        yield from _flows(following, next(iter(following[0].cells.values()))[1], most)
    yield from _flows([way for way in found if not way.follows_target], None, most)


def _table(columns: Sequence[int | None], part: Sequence[MapGroup]) -> Table:
    captions = tuple(next(way.cells[target][1] for way in part if target in way.cells) for target in columns)
    return Table(captions, tuple((way, tuple(way.cells.get(target) for target in columns)) for way in part))


def _flows(found: Sequence[MapGroup], named: Caption | None, most: int) -> Iterator[Flow]:
    """One flow, or several where one would not fit on a sheet."""
    sizes: dict[str, int] = {}
    for way in found:
        sizes[way.title] = sizes.get(way.title, 0) + 1
    each = next(iter(sizes.values()), 0)
    entries = [entry for way in found for entry in way.cells.values()]
    if len(sizes) > 1 and 1 < each <= most and set(sizes.values()) == {each}:
        # Every method read as many layers: a row for each method, a column for each layer.
        rows = [tuple(entries[start : start + each]) for start in range(0, len(entries), each)]
    else:
        rows = list(split_evenly(entries, most))
    for part in split_evenly(rows, MOST_ROWS):
        yield Flow(named, part)


WIDEST = 340

_ORDER: tuple[ScaleKind, ...] = ("peak", "percentile", "centred")
"""Of the legends on a sheet."""


def shared_scale(entries: Sequence[CaptionedMap], kind: type[SingleMap]) -> Scale | None:
    """The given range that all maps of a kind share, if they do."""
    scales = {named.scale for panel, named in entries if type(panel) is kind and panel.takes_scale}
    return scales.pop() if len(scales) == 1 else None


def shared_legend(entries: Sequence[CaptionedMap], style: Style, width: int) -> Block:
    """For each kind of map what its colours mean; next to each other while there is room."""
    kinds = sorted(
        dict.fromkeys(type(panel) for panel, _ in entries),
        key=lambda kind: (_ORDER.index(kind.scale_kind), kind.in_colour),
    )
    across = max(1, min(len(kinds), (width + GAP) // (WIDEST * 2 // 3 + GAP)))
    cell = min(WIDEST, (width - (across - 1) * GAP) // across)
    cells = [_one([entry for entry in entries if type(entry[0]) is kind], kind, style, cell) for kind in kinds]
    rows = [stack_horizontally(cells[start : start + across], GAP) for start in range(0, len(cells), across)]
    if any(state_of(panel) == "nonfinite" for panel, _ in entries):
        rows.append(legend_entry("not finite", checkerboard((4 * SMALL, 2 * SMALL), SMALL), SMALL, width))
    return stack_vertically(rows, GAP // 2)


def _one(entries: Sequence[CaptionedMap], kind: type[SingleMap], style: Style, width: int) -> Block:
    title = kind.legend_title
    style = style.for_caption(entries[0][1])
    if kind.scale_kind == "peak" and overlay_of(entries[0][0], style) != "none":
        title += " over the photograph"
    scale = shared_scale(entries, kind)
    labels, remarks = list(kind.bar_words), [_own_scale(kind)]
    counter = entries[0][1].counterfactual
    signed = kind.scale_kind == "centred" and not kind.in_colour
    if counter and signed:
        labels.reverse()
    elif counter and kind.scale_kind == "peak":
        labels[1] += " against"
    given = [(panel, named.scale) for panel, named in entries if named.scale and panel.takes_scale]
    if given:
        counts = [count_outside(panel, one) for panel, one in given]
        below, above = sum(low for low, _ in counts), sum(high for _, high in counts)
        whose = " and ".join(sorted({one.label for _, one in given}))
        remarks = [
            f"raw values, {whose} scale for each method and layer" if scale is None else f"raw values, {whose} scale"
        ]
        remarks.append(describe_outside(below + above))
        if scale:
            numbers = format_ticks([scale.low, (scale.low + scale.high) / 2, scale.high])
            labels = [numbers[0] + " or less" * bool(below), numbers[1], numbers[2] + " or more" * bool(above)]
    if signed and scale:
        remarks.append("below 0 for, above 0 against" if counter else "below 0 against, above 0 for")
    remarks[-1] += describe_overlay(entries[0][0], style)
    remarks += sorted({panel.made_how() for panel, _ in entries} - {""})
    bar = color_bar(map_colors(entries[0][0], style, scale), labels, width, SMALL)
    head = set_lines([Line(text, TYPE, INK) for text in wrap_words(title, TYPE, width)], width)
    foot = set_lines([Line(text, SMALL, MUTED) for text in wrap_words("; ".join(remarks), SMALL, width)], width)
    return stack_vertically([head, bar, foot], SMALL // 3)


def _own_scale(kind: type[SingleMap]) -> str:
    """What each map of a kind is scaled by, in words."""
    if kind.scale_kind == "peak":
        return "each map from 0 to its own highest value"
    if kind.scale_kind == "percentile":
        return "each map from 0 to the 99.5th percentile of its values"
    return f"each {'picture' if kind.in_colour else 'map'} to the 99.5th percentile of its magnitudes"


TILE = 224
"""The longer side of a map, in pixels, and the width of a column."""

LONG = 5
"""Rows from which on a table is folded into several next to each other, where they have room."""

LEAST_COLUMNS = 3
"""The sheet is at least so many columns wide, the one that names rows among them: its heading needs room."""


def compose_comparison(
    image: Image.Image, view: View, entries: Sequence[tuple[Panel, Caption]], caption: Caption, style: Style
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
        f"photograph of {image.width} x {image.height} pixels",
        f"network input {view.size[0]} x {view.size[1]}",
    ]
    most = columns_in(style.size.layout_width)
    laid = pages(entries, most)
    for number, page in enumerate(laid, 1):
        part = [f"sheet {number} of {len(laid)}"] if len(laid) > 1 else []
        shown = [entry for block in page for entry in _entries(block)]
        columns = max(min(LEAST_COLUMNS, most + 1), *(_columns(block, most) for block in page))
        side = tile_of(columns, style)
        sheet = _Sheet(
            fit_input(image, view, side, style.size.density), style, shown, side, columns, most, view.is_whole
        )
        yield sheet.block(page, [*facts, *part], caption)


def tile_of(columns: int, style: Style) -> int:
    """The width of a column in units."""
    if style.size.source:
        return TILE
    return min(TILE, (style.size.layout_width - 2 * MARGIN + GAP) // columns - GAP)


def fit_input(image: Image.Image, view: View, side: int, density: float = 1.0) -> Canvas:
    """The part of the photograph that the network was shown, made to fit into a square of `side` units."""
    left, top, right, bottom = view.box
    # An input with a border of its own reaches beyond the photograph.
    inner = (max(0.0, left), max(0.0, top), min(float(image.width), right), min(float(image.height), bottom))
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
    shown = image.resize(size, how, box=inner, reducing_gap=2.0)
    return Canvas(shown, View(size, view.size, box), 1, max(1, round(TYPE * density)), density)


def map_tile(entry: CaptionedMap, canvas: Canvas, style: Style, side: int = TILE, *, scaled: bool) -> Part:
    """One map, and below it the range of its colours (left out if `scaled`), or why it cannot be read."""
    panel, named = entry
    style = style.for_caption(named)
    lines = note_lines(named.note or ADVICE[state_of(panel)], SMALL, side)
    ends = color_limits(panel, named.scale)
    if ends is not None and not scaled:
        lines.insert(0, Line(elide(" to ".join(format_ticks(ends)), SMALL, side), SMALL, MUTED))
    picture = canvas.as_raster(draw_map(panel, canvas, style, named.scale, named.mark))
    return stack_vertically([picture, set_lines(lines, side)], SMALL // 3) if lines else picture


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
    shown: Sequence[CaptionedMap]
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
            elif (groups := count_folds(block, self.most)) > 1:
                if first:
                    rows.append(
                        stack_horizontally([first, _heading(facts, caption, self.width - self.side - GAP)], GAP)
                    )
                parts = [Table(block.columns, part) for part in split_evenly(block.rows, -(-len(block.rows) // groups))]
                rows.append(stack_horizontally([self._table(part, self._above(part, None)) for part in parts], GAP))
            else:
                heading = _heading(facts, caption, self.width - self.side - GAP) if first else None
                above = self._above(block, heading)
                rows.append(self._table(block, _masthead(first, heading, above) if first and heading else above))
        rows.append(shared_legend(self.shown, self.style, self.width))
        return add_margin(stack_vertically([rows[0], *(add_rule(row, self.width) for row in rows[1:])], GAP), MARGIN)

    def _original(self) -> Block:
        words = "the photograph" if self.whole else "what the network saw"
        below = set_lines([Line(words, SMALL, MUTED)], self.side)
        return stack_vertically([self.canvas.as_raster(self.canvas.image), below], SMALL // 3)

    def _above(self, block: Table, heading: Block | None) -> Block:
        """What stands above the columns; with a place for the names of rows if there is no heading to go beside."""
        captions = stack_horizontally(
            [set_lines(_class_lines(named, self.side), self.side) for named in block.columns], GAP
        )
        return captions if heading else stack_horizontally([blank_block(self.side, 1), captions], GAP)

    def _table(self, block: Table, above: Block) -> Block:
        rows = []
        for way, cells in block.rows:
            names = set_lines(_way_lines(way.title, way.layer, self.side), self.side)
            rows.append(stack_horizontally([names, *(self._tile(entry) for entry in cells)], GAP))
        return stack_vertically([above, stack_vertically(rows, GAP)], GAP // 3)

    def _single(self, block: Table, original: Block | None) -> Block:
        """One row of maps, each under its class; the method's name stands above what the network saw."""
        way, cells = block.rows[0]
        heads = [_way_lines(way.title, way.layer, self.side)]
        heads += [_class_lines(named, self.side) for named in block.columns]
        return stack_horizontally(_under(heads, [original, *map(self._tile, cells)], self.side), GAP)

    def _flow(self, block: Flow, original: Block | None) -> Block:
        """Rows of maps, each under its method's name; to their left what they are for, `original` below that."""
        if block.named is None:
            lines = [Line("any class", SECTION, INK), Line("the same map whatever the class", TYPE, MUTED)]
        else:
            lines = _class_lines(block.named, self.side)
        aside = [Line(elide(line.text, line.size, self.side), line.size, line.color) for line in lines]
        rows: list[Block] = []
        for row in block.rows:
            heads, tiles = ([], [None]) if rows else (aside, [original])
            ways = [_way_lines(named.title, self._words(block, panel, named), self.side) for panel, named in row]
            rows.append(stack_horizontally(_under([heads, *ways], [*tiles, *map(self._tile, row)], self.side), GAP))
        return stack_vertically(rows, GAP)

    def _words(self, block: Flow, panel: Panel, named: Caption) -> str:
        any_class = "any class" if block.named and panel.target is None else ""
        return ", ".join(filter(None, [any_class, named.layer]))

    def _tile(self, entry: CaptionedMap | None) -> Part:
        if entry is None:
            return blank_block(self.side, 1)
        scaled = shared_scale(self.shown, type(entry[0])) is not None
        return map_tile(entry, self.canvas, self.style, self.side, scaled=scaled)


def count_folds(block: Table, most: int) -> int:
    """Into how many tables next to each other a long one is folded: no taller than it must be, none by itself."""
    if len(block.rows) < LONG:
        return 1
    return max(1, min((most + 1) // (1 + len(block.columns)), -(-len(block.rows) // (LONG - 1))))


def _heading(facts: Sequence[str], caption: Caption, width: int) -> Block:
    lines = [Line(elide(caption.source, HEADING, width, middle=True), HEADING)] if caption.source else []
    lines += [Line(text, TYPE, MUTED) for text in wrap_pieces(facts, TYPE, width)]
    return set_lines([*lines, *note_lines(caption.note, TYPE, width)], width)


def _masthead(original: Block, heading: Block, captions: Block) -> Block:
    """What the network saw; to its right the heading, and at the bottom what stands above the columns."""
    # The name of the first row comes right below the original; a long heading pushes both down.
    height = max(original.height + GAP // 2, heading.height + GAP + captions.height)
    right = blank_block(heading.width, height)
    right.put(heading, 0, 0)
    right.put(captions, 0, height - captions.height)
    return stack_horizontally([original, right], GAP)


def _class_lines(named: Caption, width: int = TILE) -> list[Line]:
    """What is explained and its figure, and what it is told apart from."""
    facts = f"{named.detail}  {named.contrast_text}".strip()
    return [
        Line(elide(named.subject or named.title, SECTION, width), SECTION, INK),
        Line(elide(facts, TYPE, width), TYPE, MUTED),
    ]


def _way_lines(title: str, layer: str, width: int = TILE) -> list[Line]:
    """A method, in as many lines as its name takes, and the layer that it read."""
    titles, layers = wrap_words(title, SECTION, width), layer_lines(layer, TYPE, width)
    below = layers if layers or len(titles) > 1 else [""]
    return [*(Line(text, SECTION, INK) for text in titles), *(Line(text, TYPE, MUTED) for text in below)]


def _under(heads: Sequence[Sequence[Line]], tiles: Sequence[Part | None], width: int) -> list[Block]:
    """Each tile under its lines, which may be more above one than above another: the tiles start at one height."""
    blocks = [set_lines(lines, width) for lines in heads]
    tallest = max(block.height for block in blocks)
    level = []
    for block, tile_ in zip(blocks, tiles, strict=True):
        block.height = tallest
        level.append(stack_vertically([block, tile_], GAP // 3) if tile_ else block)
    return level


def _entries(block: Section) -> Iterator[CaptionedMap]:
    if isinstance(block, Flow):
        yield from (entry for row in block.rows for entry in row)
    else:
        yield from (entry for _, cells in block.rows for entry in cells if entry is not None)


def _columns(block: Section, most: int) -> int:
    """Columns of a block, those that name rows among them."""
    if isinstance(block, Flow):
        return 1 + max(map(len, block.rows))
    return (1 + len(block.columns)) * count_folds(block, most)
