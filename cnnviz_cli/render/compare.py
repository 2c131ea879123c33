"""Maps of one family side by side on one sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import ADVICE, Panel, SingleMap
from cnnviz_cli.render.canvas import Canvas, draw_map
from cnnviz_cli.render.figures import Scene
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
    Part,
    blank_block,
    elide,
    finding_lines,
    layer_lines,
    note_lines,
    set_lines,
    stack_horizontally,
    stack_vertically,
    wrap_words,
)
from cnnviz_cli.render.legends import CaptionedMap, format_ticks, shared_legend, shared_scale
from cnnviz_cli.render.overview import make_sheet, sheet_heading
from cnnviz_cli.render.scaling import color_limits, state_of
from cnnviz_cli.render.style import Caption, Style

MOST_COLUMNS = 6  # maps in a row
LEAST_TILE = 150  # units of a column's width at the least; a narrower sheet has fewer columns
MOST_ROWS = 40  # rows of maps on a sheet; what comes after them goes to a further one
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class MapGroup:
    """All maps that came about the same way: one method, one layer, one kind."""

    title: str
    layer: str
    # by the number of the target; None for a map that is the same whatever the class
    cells: dict[int | None, CaptionedMap] = field(default_factory=dict)

    @property
    def follows_target(self) -> bool:
        """Whether there is a map for each class."""
        return None not in self.cells


@dataclass(frozen=True, slots=True)
class Table:
    """A row for each group, a column for each class, under the caption of a map for it; None where there is no map."""

    columns: tuple[Caption, ...]
    rows: tuple[tuple[MapGroup, tuple[CaptionedMap | None, ...]], ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """Maps for one class, or for any (`named` is None), in rows, each under its method's name."""

    named: Caption | None
    rows: tuple[tuple[CaptionedMap, ...], ...]


Section = Table | Flow
Page = list[Section]


def columns_in(room: int) -> int:
    """How many maps stand in a row of a sheet that is so many units wide, beside the column that names rows."""
    return min(MOST_COLUMNS, max(1, (room - 2 * MARGIN + GAP) // (LEAST_TILE + GAP) - 1))


def pages(entries: Sequence[tuple[Panel, Caption]], most: int = MOST_COLUMNS) -> list[Page]:
    """The sheets on which these maps are compared, `most` in a row; none if fewer than two can be laid side by side."""
    singles = [(panel, named) for panel, named in entries if isinstance(panel, SingleMap)]
    if len(singles) < 2:
        return []
    found: list[Page] = []
    rows = MOST_ROWS
    for section in _sections(group_maps(singles), most):
        if rows + len(section.rows) > MOST_ROWS:
            found.append([])
            rows = 0
        found[-1].append(section)
        rows += len(section.rows)
    return found


def group_maps(entries: Sequence[CaptionedMap]) -> list[MapGroup]:
    """The maps by how they came about, in the order in which the first of each came."""
    found: dict[tuple[str, str, type[Panel], bool, int], MapGroup] = {}
    for panel, named in entries:
        turn = 0
        while True:
            key = (named.title, named.layer, type(panel), panel.target is None, turn)
            group = found.setdefault(key, MapGroup(named.title, named.layer))
            if panel.target not in group.cells:
                break
            turn += 1
        group.cells[panel.target] = (panel, named)
    return list(found.values())


def split_evenly(items: Sequence[_T], most: int) -> Iterator[tuple[_T, ...]]:
    """The items in as few portions of at most `most` as there can be, as even as they can be, the longer first."""
    count = -(-len(items) // most)
    for number in range(count):
        yield tuple(items[-(-len(items) * number // count) : -(-len(items) * (number + 1) // count)])


def _sections(found: Sequence[MapGroup], most: int) -> Iterator[Section]:
    following = [group for group in found if group.follows_target]
    targets = list(dict.fromkeys(target for group in following for target in group.cells))
    if len(targets) > 1:
        for columns in split_evenly(targets, most):
            for part in split_evenly(following, MOST_ROWS):
                yield _table(columns, part)
    elif 0 < len(following) < len(found) and sum(len(group.cells) for group in found) <= most:
        # One row holds them all; those that are the same whatever the class say so themselves.
        entries = [entry for group in found for entry in group.cells.values()]
        named = next(iter(following[0].cells.values()))[1]
        yield Flow(named, (tuple(sorted(entries, key=lambda entry: entry[0].target is None)),))
        return
    elif following:
        yield from _flows(following, next(iter(following[0].cells.values()))[1], most)
    yield from _flows([group for group in found if not group.follows_target], None, most)


def _table(columns: Sequence[int | None], part: Sequence[MapGroup]) -> Table:
    captions = tuple(next(group.cells[target][1] for group in part if target in group.cells) for target in columns)
    return Table(captions, tuple((group, tuple(group.cells.get(target) for target in columns)) for group in part))


def _flows(found: Sequence[MapGroup], named: Caption | None, most: int) -> Iterator[Flow]:
    sizes: dict[str, int] = {}
    for group in found:
        sizes[group.title] = sizes.get(group.title, 0) + 1
    each = next(iter(sizes.values()), 0)
    entries = [entry for group in found for entry in group.cells.values()]
    if len(sizes) > 1 and 1 < each <= most and set(sizes.values()) == {each}:
        # Every method read as many layers: a row for each method, a column for each layer.
        rows = [tuple(entries[start : start + each]) for start in range(0, len(entries), each)]
    else:
        rows = list(split_evenly(entries, most))
    for part in split_evenly(rows, MOST_ROWS):
        yield Flow(named, part)


TILE = 224  # the longer side of a map, in pixels, and the width of a column
LONG = 5  # rows from which on a table is folded into several next to each other, where they have room

LEAST_COLUMNS = 3
"""The sheet is at least so many columns wide, the one that names rows among them: its heading needs room."""


def compose_comparison(entries: Sequence[tuple[Panel, Caption]], scene: Scene) -> Iterator[Block]:
    """The sheets that `pages` lays out for the picked panels of one image: its input, the maps over it, a legend."""
    style = scene.style
    most = columns_in(style.size.layout_width)
    laid = pages(entries, most)
    for number, page in enumerate(laid, 1):
        more = [f"sheet {number} of {len(laid)}"] if len(laid) > 1 else []
        columns = max(min(LEAST_COLUMNS, most + 1), *(_columns(section, most) for section in page))
        side = tile_of(columns, style)
        canvas = fit_input(scene.image, scene.view, side, style.size.density)
        shown = [entry for section in page for entry in _entries(section)]
        yield _Sheet(scene, canvas, shown, side, columns, most).compose(page, more)


def tile_of(columns: int, style: Style) -> int:
    """The width of a column in units."""
    if style.size.source:
        return TILE
    return min(TILE, (style.size.layout_width - 2 * MARGIN + GAP) // columns - GAP)


def fit_input(image: Image.Image, view: View, side: int, density: float = 1.0) -> Canvas:
    """The part of the image that the network was shown, made to fit into a square of `side` units."""
    left, top, right, bottom = view.box
    # An input with a border of its own reaches beyond the image.
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


@dataclass(frozen=True, slots=True)
class _Sheet:
    scene: Scene
    canvas: Canvas
    shown: Sequence[CaptionedMap]  # every map on the sheet
    side: int  # the width of a column
    columns: int  # in which the sheet is set, the one that names rows among them
    most: int  # maps in a row

    @property
    def width(self) -> int:
        return self.columns * (self.side + GAP) - GAP

    def compose(self, page: Page, more: Sequence[str]) -> Block:
        original: Block | None = self._original()
        beside = isinstance(page[0], Table) and len(page[0].rows) > 1
        heading = sheet_heading(self.scene, self.width - (self.side + GAP) * beside, *more)
        rows = [] if beside else [heading]
        for section in page:
            if isinstance(section, Flow):
                rows.append(self._flow(section, original))
            elif len(section.rows) == 1:
                rows.append(self._single(section, original))
            elif (groups := count_folds(section, self.most)) > 1:
                if original:
                    rows.append(stack_horizontally([original, heading], GAP))
                each = -(-len(section.rows) // groups)
                parts = [Table(section.columns, part) for part in split_evenly(section.rows, each)]
                rows.append(stack_horizontally([self._table(part, self._above(part)) for part in parts], GAP))
            elif original:
                rows.append(self._table(section, _masthead(original, heading, self._captions(section))))
            else:
                rows.append(self._table(section, self._above(section)))
            original = None
        return make_sheet([*rows, shared_legend(self.shown, self.scene.style, self.width)], self.width)

    def _original(self) -> Block:
        words = "the image" if self.scene.view.is_whole else "the network's input"
        below = set_lines([Line(words, SMALL, MUTED)], self.side)
        return stack_vertically([self.canvas.as_raster(self.canvas.image), below], SMALL // 3)

    def _captions(self, table: Table) -> Block:
        blocks = [set_lines(_target_lines(named, self.side), self.side) for named in table.columns]
        return stack_horizontally(blocks, GAP)

    def _above(self, table: Table) -> Block:
        return stack_horizontally([blank_block(self.side, 1), self._captions(table)], GAP)

    def _table(self, table: Table, above: Block) -> Block:
        rows = []
        for group, cells in table.rows:
            names = set_lines(_method_lines(group.title, group.layer, self.side), self.side)
            rows.append(stack_horizontally([names, *map(self._tile, cells)], GAP))
        return stack_vertically([above, stack_vertically(rows, GAP)], GAP // 3)

    def _single(self, table: Table, original: Block | None) -> Block:
        """One row of maps, each under its class; the method's name stands above what the network saw."""
        group, cells = table.rows[0]
        heads = [_method_lines(group.title, group.layer, self.side)]
        heads += [_target_lines(named, self.side) for named in table.columns]
        return self._under(heads, [original, *map(self._tile, cells)])

    def _flow(self, flow: Flow, original: Block | None) -> Block:
        """Rows of maps, each under its method's name; to their left what they are for, `original` below that."""
        if flow.named is None:
            texts = [("any class", SECTION, INK), ("the same map for every class", TYPE, MUTED)]
            aside = [Line(elide(text, size, self.side), size, color) for text, size, color in texts]
        else:
            aside = _target_lines(flow.named, self.side)
        rows: list[Block] = []
        for row in flow.rows:
            heads, tiles = ([[]], [None]) if rows else ([aside], [original])
            for panel, named in row:
                any_class = "any class" if flow.named and panel.target is None else ""
                words = ", ".join(filter(None, [any_class, named.layer]))
                heads.append(_method_lines(named.title, words, self.side))
            rows.append(self._under(heads, [*tiles, *map(self._tile, row)]))
        return stack_vertically(rows, GAP)

    def _under(self, heads: Sequence[Sequence[Line]], tiles: Sequence[Part | None]) -> Block:
        """Each tile under its lines, which may be more above one than above another: the tiles start at one height."""
        blocks = [set_lines(lines, self.side) for lines in heads]
        tallest = max(block.height for block in blocks)
        level = []
        for block, tile in zip(blocks, tiles, strict=True):
            block.height = tallest
            level.append(stack_vertically([block, tile], GAP // 3) if tile else block)
        return stack_horizontally(level, GAP)

    def _tile(self, entry: CaptionedMap | None) -> Part:
        """One map; below it what was found out about it, the range of its colours, or why it cannot be read."""
        if entry is None:
            return blank_block(self.side, 1)
        panel, named = entry
        style = self.scene.style.for_caption(named)
        lines = note_lines(named.note or ADVICE[state_of(panel)], SMALL, self.side)
        ends = color_limits(panel, named.scale)
        if ends is not None and shared_scale(self.shown, type(panel)) is None:
            lines.insert(0, Line(elide(" to ".join(format_ticks(ends)), SMALL, self.side), SMALL, MUTED))
        # One line each, so that those of one kind stand at one height along a row.
        lines[:0] = [
            line for one in named.findings for line in finding_lines([(one.text, one.strong)], SMALL, self.side)
        ]
        picture = self.canvas.as_raster(draw_map(panel, self.canvas, style, named.scale, named.mark))
        return stack_vertically([picture, set_lines(lines, self.side)], SMALL // 3) if lines else picture


def count_folds(block: Table, most: int) -> int:
    """Into how many tables next to each other a long one is folded: no taller than it must be, none by itself."""
    if len(block.rows) < LONG:
        return 1
    return max(1, min((most + 1) // (1 + len(block.columns)), -(-len(block.rows) // (LONG - 1))))


def _masthead(original: Block, heading: Block, captions: Block) -> Block:
    """What the network saw; to its right the heading, and at the bottom what stands above the columns."""
    # The name of the first row comes right below the original; a long heading pushes both down.
    height = max(original.height + GAP // 2, heading.height + GAP + captions.height)
    right = blank_block(heading.width, height)
    right.put(heading, 0, 0)
    right.put(captions, 0, height - captions.height)
    return stack_horizontally([original, right], GAP)


def _target_lines(named: Caption, width: int = TILE) -> list[Line]:
    facts = f"{named.detail}  {named.contrast_text}".strip()
    return [
        Line(elide(named.subject or named.title, SECTION, width), SECTION),
        Line(elide(facts, TYPE, width), TYPE, MUTED),
    ]


def _method_lines(title: str, layer: str, width: int = TILE) -> list[Line]:
    """A method, in as many lines as its name takes, and the layer that it read."""
    titles, layers = wrap_words(title, SECTION, width), layer_lines(layer, TYPE, width)
    below = layers if layers or len(titles) > 1 else [""]
    return [*(Line(text, SECTION) for text in titles), *(Line(text, TYPE, MUTED) for text in below)]


def _entries(section: Section) -> Iterator[CaptionedMap]:
    rows = section.rows if isinstance(section, Flow) else [cells for _, cells in section.rows]
    yield from (entry for row in rows for entry in row if entry is not None)


def _columns(section: Section, most: int) -> int:
    if isinstance(section, Flow):
        return 1 + max(map(len, section.rows))
    return (1 + len(section.columns)) * count_folds(section, most)
