"""The concepts of a folder on one sheet: for each the crops that have most of it, and what it adds in each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.render.axes import BLUE, GRID, TICK, gutter_for, make_axis, section_heading
from cnnviz_cli.render.concept_maps import REST, Map, color_of, lay_concept, put_chip, put_in_square, thumbnail
from cnnviz_cli.render.layout import (
    GAP,
    INK,
    MARGIN,
    MUTED,
    PAPER,
    RULE,
    SMALL,
    TYPE,
    Block,
    Dots,
    Line,
    Polyline,
    Rectangle,
    blank_block,
    elide,
    line_height,
    muted_lines,
    name_lines,
    note_lines,
    put_text,
    set_lines,
    stack_vertically,
    text_width,
    to_legible,
    wrap_words,
)
from cnnviz_cli.render.leaderboard import NARROW
from cnnviz_cli.render.overview import HEADING, make_sheet

ASIDE = 196  # units of the column that names concepts
CROPS = 6  # crops of a concept
MOST_IMAGES = 6  # columns of images
MOST_ROWS = 20  # concepts on the sheet
LARGEST, LEAST = 128, 64  # the side of a tile, in units
TIGHT = 7  # units between tiles
FADED = 0.3  # of a crop with none of the concept
ROUNDS_TO_ZERO = 0.005
BAR = 4  # units of the bar below a tile
UP, DOWN, TRACK = "#1f4e79", "#a33b00", "#eceef1"


@dataclass(frozen=True, slots=True)
class ConceptCrop:
    """A part of an image, and how much of a concept it has beside the crop that has most, from 0 to 1."""

    picture: Image.Image
    share: float
    source: str = ""


@dataclass(frozen=True, slots=True)
class ConceptRow:
    """One concept, or what none of them explains.

    Attributes:
        number: counted from 1; 0 for the rest.
        title: what it is called.
        facts: about it, a line each.
        maps: for each image of the sheet where it is, (h, w) from 0 to 1, as much as anywhere.
        adds: for each image what it adds to the score, or its share of what moves the score.
    """

    number: int
    title: str
    facts: Sequence[str]
    crops: Sequence[ConceptCrop]
    maps: Sequence[Map]
    adds: Sequence[float]


@dataclass(frozen=True, slots=True)
class ConceptColumn:
    """An image of the sheet: what was explained in it, and what the score is made of beside the concepts."""

    picture: Image.Image
    view: View
    source: str
    target: str
    score: float
    bias: float | None = None
    left_out: float | None = None


@dataclass(frozen=True, slots=True)
class ErrorCurve:
    """The relative error by the number of concepts; `chosen` is one of them."""

    counts: Sequence[int]
    errors: Sequence[float]
    chosen: int


@dataclass(frozen=True, slots=True)
class ConceptBoard:
    """All that the sheet of a folder shows.

    Attributes:
        rows: the most important first.
        rest: what no concept explains.
        adds_up: whether what concepts add, the bias and the rest make the score; otherwise the numbers are shares.
        score: what the score is, in one word.
        note: a warning.
        foot: lines below.
    """

    title: str
    facts: Sequence[str]
    rows: Sequence[ConceptRow]
    columns: Sequence[ConceptColumn]
    rest: ConceptRow | None
    adds_up: bool
    score: str = "logit"
    curve: ErrorCurve | None = None
    note: str = ""
    foot: Sequence[str] = ()


def compose_concepts(board: ConceptBoard, room: int, density: float = 2.0) -> Block:
    """The sheet, for so many units of room; images get `density` pixels a unit.

    Where names, crops and images have no room beside each other, they stand below each other.
    """
    beside = room >= _least_beside(board)
    margin = MARGIN if beside or room >= NARROW else MARGIN // 2
    inner = room - 2 * margin
    most = _largest(board)
    grid: _Grid
    if beside:
        tiles = CROPS + len(board.columns)
        side = min(LARGEST, (inner - ASIDE - GAP + TIGHT) // tiles - TIGHT)
        grid, width = _Grid(board, side, most, density), ASIDE + tiles * (side + TIGHT) - TIGHT + GAP
    else:
        side = min(LARGEST, (inner + TIGHT) // CROPS - TIGHT)
        grid, width = _NarrowGrid(board, side, most, density), inner
    rows = [*board.rows, *([board.rest] if board.rest else [])]
    table = [grid.heads(), *(grid.row(row) for row in rows)]
    if board.adds_up:
        table.append(grid.sums())
    parts = [_heading(board, width), stack_vertically(table, grid.pitch)]
    if board.curve:
        parts.append(_curve(board.curve, min(width, 620)))
    foot = [line for text in board.foot for line in muted_lines(text, SMALL, width)]
    if foot:
        parts.append(set_lines(foot, width))
    return make_sheet(parts, width, margin)


def _least_beside(board: ConceptBoard) -> int:
    """The narrowest sheet on which everything about a concept stands in one row."""
    tiles = CROPS + len(board.columns)
    return 2 * MARGIN + ASIDE + GAP + tiles * (LEAST + TIGHT) - TIGHT


def _largest(board: ConceptBoard) -> float:
    """What the longest bar stands for."""
    rows = [*board.rows, *([board.rest] if board.rest and board.adds_up else [])]
    return max((abs(value) for row in rows for value in row.adds), default=0.0) or 1.0


def _heading(board: ConceptBoard, width: int) -> Block:
    words = [Line(line, HEADING) for line in wrap_words(board.title, HEADING, width)]
    return set_lines([*words, *muted_lines(board.facts, TYPE, width), *note_lines(board.note, TYPE, width)], width)


@dataclass(frozen=True)
class _Grid:
    """The rows of the sheet on common columns: what a concept is called, its crops, and the images with it."""

    board: ConceptBoard
    side: int
    most: float
    density: float

    pitch = 12  # units between rows

    @property
    def images_left(self) -> int:
        return ASIDE + _wide(CROPS, self.side) + GAP

    @property
    def width(self) -> int:
        return self.images_left + _wide(len(self.board.columns), self.side)

    def place(self, number: int) -> int:
        """The left edge of an image's column, from that of the first one on."""
        return number * (self.side + TIGHT)

    def heads(self) -> Block:
        """Over the columns: what they show, and of each image its name, its class and its score."""
        images = self._image_heads()
        block = blank_block(self.width, images.height)
        base = images.height - line_height(SMALL) + SMALL
        what = "concept, and what it adds" if self.board.adds_up else "concept, part in the score"
        put_text(block, 0, base, elide(what, SMALL, ASIDE - 8), SMALL, MUTED)
        crops = elide("crops that have most of it, faded by how much", SMALL, CROPS * (self.side + TIGHT))
        put_text(block, ASIDE, base, crops, SMALL, MUTED)
        block.put(images, self.images_left, 0)
        return block

    def row(self, row: ConceptRow) -> Block:
        """One concept."""
        color = color_of(row.number) if row.number else REST
        block = blank_block(self.width, self._tall)
        block.put(Rectangle(8, self.side, fill=color), 0, 0)
        block.put(self._aside(row, color), 18, 0)
        block.put(self._crops(row, color), ASIDE, 0)
        block.put(self._images(row, color), self.images_left, 0)
        return block

    def sums(self) -> Block:
        """Below the columns: the bias, and the score that it all makes."""
        block = blank_block(self.width, 2 * line_height(SMALL) + 10)
        for line, (text, color) in enumerate(self._sum_words()):
            base = line * (line_height(SMALL) + 4) + SMALL + 2
            put_text(block, max(0.0, self.images_left - GAP - text_width(text, SMALL)), base, text, SMALL, color)
            self._sum(block, line, self.images_left, base, color)
        rule = Rectangle(self.width - self.images_left, 1, fill=RULE)
        block.put(rule, self.images_left, line_height(SMALL) + 3)
        return block

    def _sum_words(self) -> tuple[tuple[str, str], tuple[str, str]]:
        everything = f"all that is above, and the bias: the {self.board.score}"
        return ("the bias of the class", MUTED), (everything, INK)

    def _sum(self, block: Block, line: int, left: int, base: int, color: str) -> None:
        """Below each image its class's bias, on the second line its score."""
        for number, column in enumerate(self.board.columns):
            text = f"{column.score:.2f}" if line else signed(column.bias or 0.0)
            middle = left + self.place(number) + (self.side - text_width(text, SMALL)) / 2
            put_text(block, middle, base, text, SMALL, color, strong=bool(line))

    def _image_heads(self) -> Block:
        """The name, the class and the score of each image, each elided to its column."""
        block = blank_block(_wide(len(self.board.columns), self.side), 3 * line_height(SMALL))
        for number, column in enumerate(self.board.columns):
            lines = ((column.source, MUTED), (column.target, INK), (self._score_of(column), INK))
            for line, (text, color) in enumerate(lines):
                shown = elide(text, SMALL, self.side, middle=not line)
                put_text(block, self.place(number), line * line_height(SMALL) + SMALL, shown, SMALL, color)
        return block

    def _score_of(self, column: ConceptColumn) -> str:
        return f"{self.board.score} {column.score:.2f}"

    @property
    def _tall(self) -> int:
        """How high tiles are with what stands below them."""
        return self.side + BAR + 4 + line_height(SMALL)

    def _crops(self, row: ConceptRow, color: str) -> Block:
        block = blank_block(_wide(CROPS, self.side), self._tall)
        for number, crop in enumerate(row.crops[:CROPS]):
            left = self.place(number)
            picture = _faded(crop.picture, crop.share)
            tile, _, _ = put_in_square(_sized(picture, self.side, self.density), self.side, self.density)
            block.put(tile, left, 0)
            self._bar(block, left, crop.share, color)
            name = elide(crop.source, SMALL - 1, self.side, middle=True)
            put_text(block, left, self.side + BAR + 4 + SMALL, name, SMALL - 1, MUTED)
        return block

    def _images(self, row: ConceptRow, color: str) -> Block:
        block = blank_block(_wide(len(self.board.columns), self.side), self._tall)
        for number, (column, values, adds) in enumerate(zip(self.board.columns, row.maps, row.adds, strict=True)):
            canvas = thumbnail(column.picture, column.view, self.side, self.density)
            left = self.place(number)
            block.put(put_in_square(lay_concept(canvas, values, color), self.side, self.density)[0], left, 0)
            self._added(block, left, adds, whole=not row.number and not self.board.adds_up)
        return block

    def _aside(self, row: ConceptRow, color: str) -> Block:
        room = ASIDE - 18 - 12
        block = blank_block(room, self.side)
        left = 0
        if row.number:
            left = put_chip(block, 0, 0, row.number, color) + 8
        worth = row.facts[0] if row.facts else ""
        put_text(block, left, 14, elide(worth, TYPE, room - left), TYPE, INK, strong=True)
        most = max(1, (self.side - 22) // line_height(SMALL))
        lines = [Line(text, SMALL, INK) for text in wrap_words(row.title, SMALL, room)]
        lines += [line for text in row.facts[1:] for line in muted_lines(text, SMALL, room)]
        block.put(set_lines(lines[:most], room), 0, 22)
        return block

    def _bar(self, block: Block, left: int, share: float, color: str) -> None:
        block.put(Rectangle(self.side, BAR, fill=TRACK), left, self.side + 2)
        reach = round(min(1.0, max(0.0, share)) * self.side)
        if reach:
            block.put(Rectangle(reach, BAR, fill=color), left, self.side + 2)

    def _added(self, block: Block, left: int, value: float, *, whole: bool) -> None:
        """What a concept adds: a bar from the middle to the right, or to the left where it takes away; of the `whole`
        score that is left without concepts the number alone."""
        top, half = self.side + 2, self.side // 2
        if whole:
            text = f"{self.board.score} {value:.2f}"
            middle = left + (self.side - text_width(text, SMALL)) / 2
            put_text(block, middle, top + BAR + 2 + SMALL, text, SMALL, MUTED)
            return
        block.put(Rectangle(self.side, BAR, fill=TRACK), left, top)
        text = signed(value) if self.board.adds_up else f"{value:z.2f}"
        strong = abs(value) >= 0.1 * self.most
        if self.board.adds_up:
            reach = round(abs(value) / self.most * half)
            if reach:
                start = left + half if value > 0 else left + half - reach
                block.put(Rectangle(reach, BAR, fill=UP if value > 0 else DOWN), start, top)
            block.put(Rectangle(1, BAR + 2, fill=MUTED), left + half, top - 1)
        elif reach := round(max(0.0, value) / self.most * self.side):
            block.put(Rectangle(reach, BAR, fill=UP), left, top)
        color = INK if strong else MUTED
        middle = left + (self.side - text_width(text, SMALL)) / 2
        put_text(block, middle, top + BAR + 2 + SMALL, text, SMALL, color, strong=strong)


class _NarrowGrid(_Grid):
    """The same where there is no room for it: each concept under its name, its images under its crops."""

    pitch = GAP

    @property
    def width(self) -> int:
        return _wide(CROPS, self.side)

    def heads(self) -> Block:
        """What stands below each other, and over the columns of the images what they are."""
        share = "what it adds to" if self.board.adds_up else "its part in the score of"
        words = f"of each concept: crops that have most of it, faded by how much, and {share} each of these images"
        return stack_vertically([set_lines(muted_lines(words, SMALL, self.width), self.width), self._image_heads()], 6)

    def _image_heads(self) -> Block:
        """The name, the class and the score of each image, in as many lines as the column takes, up to two each."""
        columns = []
        for column in self.board.columns:
            name = [Line(text, SMALL, MUTED) for text in name_lines(column.source, SMALL, self.side)]
            target = [Line(text, SMALL, INK) for text in _first_lines(column.target, self.side)]
            score = Line(elide(self._score_of(column), SMALL, self.side), SMALL, INK)
            columns.append([*name, *target, score])
        most = max((len(lines) for lines in columns), default=0)
        block = blank_block(self.width, most * line_height(SMALL))
        for number, lines in enumerate(columns):
            block.put(set_lines(lines, self.side), self.place(number), (most - len(lines)) * line_height(SMALL))
        return block

    def row(self, row: ConceptRow) -> Block:
        color = color_of(row.number) if row.number else REST
        left = 0
        block = blank_block(self.width, line_height(TYPE))
        if row.number:
            left = put_chip(block, 0, 0, row.number, color) + 8
        worth = row.facts[0] if row.facts else ""
        put_text(block, left, 14, worth := elide(worth, TYPE, self.width - left), TYPE, INK, strong=True)
        left += round(text_width(worth, TYPE)) + TYPE if worth else 0
        words = [row.title, *row.facts[1:]]
        title = to_legible(row.title)
        if text_width(title, SMALL) <= self.width - left:
            put_text(block, left, 14, title, SMALL, INK)
            del words[0]
        lines = [line for text in words for line in muted_lines(text, SMALL, self.width)]
        more = [set_lines(lines, self.width)] if lines else []
        return stack_vertically([block, *more, self._crops(row, color), self._images(row, color)], 6)

    def sums(self) -> Block:
        tall = line_height(SMALL)
        block = blank_block(self.width, 4 * tall + 12)
        for line, (text, color) in enumerate(self._sum_words()):
            top = line * (2 * tall + 8)
            put_text(block, 0, top + SMALL, text, SMALL, color)
            self._sum(block, line, 0, top + tall + SMALL, color)
        block.put(Rectangle(self.width, 1, fill=RULE), 0, 2 * tall + 3)
        return block


def _wide(tiles: int, side: int) -> int:
    """The width of so many tiles beside each other."""
    return tiles * (side + TIGHT) - TIGHT


def _first_lines(text: str, width: int) -> list[str]:
    """Words in two lines at the most."""
    first, *others = wrap_words(text, SMALL, width) or [""]
    return [first, elide(" ".join(others), SMALL, width)] if others else [first]


def signed(value: float) -> str:
    """A number that is added, with its sign and two decimals; 0 for what rounds to that."""
    return f"{value:+.2f}" if abs(value) >= ROUNDS_TO_ZERO else "0"


def _faded(picture: Image.Image, share: float) -> Image.Image:
    kept = FADED + (1 - FADED) * min(1.0, max(0.0, share))
    return Image.blend(Image.new("RGB", picture.size, PAPER), picture.convert("RGB"), kept)


def _sized(picture: Image.Image, side: int, density: float) -> Image.Image:
    scale = side * density / max(picture.size)
    size = tuple(max(1, round(length * scale)) for length in picture.size)
    how = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return picture.resize((size[0], size[1]), how, reducing_gap=2.0)


def _curve(curve: ErrorCurve, width: int) -> Block:
    """The error by the number of concepts, the chosen number marked."""
    height = 190
    across = make_axis([float(count) for count in curve.counts], width - 80, 10, pad=0.03)
    up = make_axis([0.0, 1.08 * max(curve.errors)], height, 5, pad=0.0)
    gutter = gutter_for(up)
    plot = blank_block(round(across.length) + 1, height + 1)
    for tick in up.ticks:
        plot.put(Rectangle(plot.width, 1, fill=GRID), 0, round(height - up.place(tick)))
    points = [
        (across.place(count), height - up.place(error)) for count, error in zip(curve.counts, curve.errors, strict=True)
    ]
    ends = Polyline((points[0], points[-1]), RULE, 1)
    plot.put(ends, 0, 0)
    for one, other in pairwise(points):
        plot.put(Polyline((one, other), BLUE, 2), 0, 0)
    plot.put(Dots(tuple(points), 3.5, PAPER, BLUE, 1.5), 0, 0)
    chosen = points[list(curve.counts).index(curve.chosen)]
    plot.put(Dots((chosen,), 6, BLUE), 0, 0)
    words = f"{curve.chosen} concepts: furthest below the line between the ends"
    left = min(chosen[0] + 12, across.length - text_width(words, SMALL))
    put_text(plot, left, max(SMALL, round(chosen[1]) - 8), words, SMALL, INK)
    block = blank_block(gutter + plot.width + 8, height + 1 + TICK + line_height(SMALL) + 4)
    for tick in up.ticks:
        text = up.label(tick)
        base = round(height - up.place(tick)) + round(0.36 * SMALL)
        put_text(block, gutter - 8 - text_width(text, SMALL), max(SMALL - 2, base), text, SMALL, MUTED)
    block.put(plot, gutter, 0)
    for tick in across.ticks:
        if tick != round(tick):
            continue
        text = f"{tick:.0f}"
        place = gutter + across.place(tick)
        block.put(Rectangle(1, TICK, fill=RULE), round(place), height + 1)
        put_text(block, place - text_width(text, SMALL) / 2, height + 1 + TICK + SMALL, text, SMALL, MUTED)
    head = section_heading("How many", "the relative error of the factorisation by the number of concepts", width)
    return stack_vertically([head, block], GAP // 2)
