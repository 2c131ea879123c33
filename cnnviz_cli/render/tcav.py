"""Concepts that were named: how many images of a class answer each, beside what random directions come to.

After Kim et al. (Interpretability Beyond Feature Attribution, 2018, figure 5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from cnnviz_cli.render.axes import (
    BAND,
    BLUE,
    GRID,
    QUIET,
    TICK,
    KeyEntry,
    format_fixed,
    key_line,
    percent,
)
from cnnviz_cli.render.layout import (
    ALERT,
    GAP,
    INK,
    MARGIN,
    MUTED,
    RULE,
    SMALL,
    TYPE,
    Block,
    Dots,
    Line,
    Polyline,
    Raster,
    Rectangle,
    blank_block,
    elide,
    line_height,
    muted_lines,
    put_text,
    set_lines,
    stack_horizontally,
    stack_vertically,
    text_width,
    wrap_words,
)
from cnnviz_cli.render.legends import format_number
from cnnviz_cli.render.overview import HEADING, make_sheet

NATURAL = 1360  # units of a sheet where nothing narrower was asked for
ABREAST = 1000  # units from which on a concept's images and its bars stand side by side
LEFT = 300  # the column of the concepts
EXAMPLE, EXAMPLES, TIGHT = 66, 4, 5  # an image of a concept, how many of them, and the room between them
PLOT, BAR = 30, 14  # the height of a plot and of its bar
SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Measured:
    """A number with what is known of it.

    Attributes:
        interval: in which it lies with 95 %.
        random: between which two numbers the middle 95 % of random directions lie.
        chance: the corrected p.
    """

    value: float
    interval: tuple[float, float]
    random: tuple[float, float]
    chance: float

    @property
    def counts(self) -> bool:
        """Whether it is called significant."""
        return self.chance <= SIGNIFICANT


@dataclass(frozen=True, slots=True)
class LayerScore:
    """A concept at one layer.

    Attributes:
        accuracy: the share of images that the vector tells apart, leaving each out.
        share: of the class's images whose score rises along the vector; None with a note that says why not.
        mean: the mean derivative.
    """

    layer: str
    accuracy: float
    share: Measured | None = None
    mean: Measured | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ConceptRow:
    """A concept with some of its images, and a score for each layer."""

    name: str
    count: str
    examples: Sequence[Image.Image]
    scores: Sequence[LayerScore]


@dataclass(frozen=True, slots=True)
class TcavFigure:
    """All concepts.

    Attributes:
        title: what was asked.
        facts: about images, vectors and network.
        against: what the concepts are told apart from, in a word or two.
        foot: what a reader has to know, a sentence each.
    """

    title: str
    facts: Sequence[str]
    against: str
    concepts: Sequence[ConceptRow]
    foot: Sequence[str] = ()


def compose_tcav(figure: TcavFigure, room: int) -> Block:
    """The sheet, at most `room` units wide."""
    width_of_sheet = min(NATURAL, room)
    margin = MARGIN if width_of_sheet >= 800 else MARGIN // 2
    width = width_of_sheet - 2 * margin
    lines = [Line(text, HEADING) for text in wrap_words(figure.title, HEADING, width)]
    heads = set_lines([*lines, *muted_lines(list(figure.facts), TYPE, width)], width)
    reach = _reach(figure)
    drawn = any(score.share is not None for concept in figure.concepts for score in concept.scores)
    right = width - LEFT - GAP if width >= ABREAST else width
    axes = [_axes(right, reach)] if drawn else []
    groups = [
        _concept(concept, figure.against, width, reach, () if number else axes)
        for number, concept in enumerate(figure.concepts)
    ]
    foot = [line for text in figure.foot for line in muted_lines(text, SMALL, width)]
    below = stack_vertically([_key(figure, width), *([set_lines(foot, width)] if foot else [])], GAP // 2)
    return make_sheet([heads, *groups, below], width, margin)


def _concept(concept: ConceptRow, against: str, width: int, reach: float, axes: Sequence[Block]) -> Block:
    beside = width >= ABREAST
    left = LEFT if beside else width
    name = set_lines(
        [
            *(Line(text, TYPE + 2, strong=True) for text in wrap_words(concept.name, TYPE + 2, left)),
            *muted_lines(concept.count, SMALL, left),
        ],
        left,
    )
    parts: list[Block] = [name]
    if concept.examples:
        parts.append(_examples(concept.examples, left))
    column = stack_vertically(parts, 6)
    right = width - left - GAP if beside else width
    rows = [_score(score, against, right, reach) for score in concept.scores]
    bars = stack_vertically([*axes, *rows], 10)
    return stack_horizontally([column, bars], GAP) if beside else stack_vertically([column, bars], GAP // 2)


def _examples(pictures: Sequence[Image.Image], width: int) -> Block:
    count = max(1, min(len(pictures), (width + TIGHT) // (EXAMPLE + TIGHT), EXAMPLES))
    row = blank_block(count * (EXAMPLE + TIGHT) - TIGHT, EXAMPLE)
    for number, picture in enumerate(pictures[:count]):
        row.put(Raster(picture, EXAMPLE, EXAMPLE), number * (EXAMPLE + TIGHT), 0)
    return row


def _axes(width: int, reach: float) -> Block:
    """What the plots of all concepts show, and the numbers of their axes."""
    side = (width - 2 * GAP) // 2
    length = side - 1
    unit = length / 2 / reach
    titles = [wrap_words(title, SMALL, side) for title in ("images whose score rises", "mean rise, random = 1")]
    ticks = [
        [(0, "0"), (0.5 * length, "half"), (length, "all")],
        [(length / 2 - unit, "-1"), (length / 2, "0"), (length / 2 + unit, "1")],
    ]
    top = line_height(SMALL) * max(map(len, titles)) + 6
    blocks = []
    for title, places in zip(titles, ticks, strict=True):
        block = blank_block(side, top + line_height(SMALL) + TICK)
        block.put(set_lines([Line(text, SMALL) for text in title], side), 0, 0)
        for place, text in places:
            room = text_width(text, SMALL)
            left = min(max(0.0, place - room / 2), side - room)
            put_text(block, left, top + SMALL, text, SMALL, MUTED)
            block.put(Rectangle(1, TICK, fill=RULE), round(place), block.height - TICK)
        block.put(Rectangle(side, 1, fill=RULE), 0, block.height - 1)
        blocks.append(block)
    return stack_horizontally(blocks, 2 * GAP)


def _score(score: LayerScore, against: str, width: int, reach: float) -> Block:
    """A layer's two plots under their words."""
    told = f"{percent(score.accuracy)} told from {against}"
    head = blank_block(width, line_height(SMALL) + 4)
    room = text_width(told, SMALL)
    put_text(head, 0, SMALL, elide(score.layer, SMALL, max(60, width - room - 16), middle=True), SMALL, INK)
    if width - room >= 76:
        put_text(head, width - room, SMALL, told, SMALL, MUTED if not score.note else ALERT)
    if score.share is None or score.mean is None:
        words = set_lines(muted_lines(score.note, SMALL, width), width)
        return stack_vertically([head, words], 0)
    side = (width - 2 * GAP) // 2
    share = _plot_share(score.share, side)
    mean = _plot_mean(score.mean, side, reach)
    return stack_vertically([head, stack_horizontally([share, mean], 2 * GAP)], 0)


def _color(one: Measured, *, against: bool) -> str:
    return QUIET if not one.counts else ALERT if against else BLUE


def _plot_share(one: Measured, width: int) -> Block:
    """The bar of a share, from 0 to 1."""
    block = _frame(width)
    length = width - 1
    _band(block, one.random[0] * length, one.random[1] * length)
    for share in (0, 0.5, 1):
        block.put(Rectangle(1, PLOT, fill=RULE if share != 0.5 else MUTED), round(share * length), 0)
    top = (PLOT - BAR) // 2
    if one.value > 0:
        fill = _color(one, against=one.value < 0.5)
        block.put(Rectangle(max(1, round(one.value * length)), BAR, fill=fill), 0, top)
    _whisker(block, one.interval[0] * length, one.interval[1] * length)
    _words(block, percent(one.value), _ends(one.interval), one, width)
    return block


def _plot_mean(one: Measured, width: int, reach: float) -> Block:
    """The dot of a mean derivative, on an axis whose unit is what 95 % of random directions stay under."""
    block = _frame(width)
    length = width - 1
    unit = unit_of(one)

    def place(value: float) -> float:
        return (value / unit / reach + 1) / 2 * length

    _band(block, place(one.random[0]), place(one.random[1]))
    block.put(Rectangle(1, PLOT, fill=MUTED), round(length / 2), 0)
    block.put(Rectangle(width, 1, fill=GRID), 0, PLOT // 2)
    _whisker(block, place(one.interval[0]), place(one.interval[1]))
    spot = (place(one.value), PLOT / 2)
    block.put(Dots((spot,), 6, _color(one, against=one.value < 0)), 0, 0)
    low, high = (format_number(end) for end in one.interval)
    _words(block, _signed(one.value), f"{low} to {high}", one, width)
    return block


def _frame(width: int) -> Block:
    return blank_block(width, PLOT + line_height(SMALL) + 2)


def _band(block: Block, left: float, right: float) -> None:
    block.put(Rectangle(max(2, round(right - left)), PLOT, fill=BAND), round(left), 0)


def _whisker(block: Block, left: float, right: float) -> None:
    middle = PLOT / 2
    block.put(Polyline(((left, middle), (right, middle)), INK, 1.5), 0, 0)
    for end in (left, right):
        block.put(Polyline(((end, middle - 4), (end, middle + 4)), INK, 1.5), 0, 0)


def _words(block: Block, value: str, interval: str, one: Measured, width: int) -> None:
    """The numbers below a plot, the p at the right; where there is little room without the interval."""
    base = block.height - 3
    chance = f"p {format_chance(one.chance)}"
    room = width - text_width(chance, SMALL) - 8
    color = INK if one.counts else MUTED
    put_text(block, 0, base, value, SMALL, color, strong=one.counts)
    left = text_width(value, SMALL) + 8
    if left + text_width(interval, SMALL) <= room:
        put_text(block, left, base, interval, SMALL, MUTED)
    put_text(block, width - text_width(chance, SMALL), base, chance, SMALL, color)


def format_chance(chance: float) -> str:
    """A p as it is written."""
    return f"{chance:.3f}" if chance < 0.1 else f"{chance:.2f}"


def _signed(value: float) -> str:
    text = format_number(value)
    return f"+{text}" if value > 0 else text


def _ends(interval: tuple[float, float]) -> str:
    low, high = (format_fixed(100 * end, 0) for end in interval)
    return f"{low} to {high} %"


def unit_of(one: Measured) -> float:
    """How large the mean derivatives of random directions are: the farther end of their middle 95 %."""
    return max(map(abs, one.random)) or max(map(abs, (*one.interval, one.value))) or 1.0


def _reach(figure: TcavFigure) -> float:
    """How many such units the axis of mean derivatives has to either side."""
    means = [score.mean for concept in figure.concepts for score in concept.scores if score.mean is not None]
    farthest = [max(map(abs, (*one.interval, one.value))) / unit_of(one) for one in means]
    return 1.08 * max([1.5, *farthest])


def _key(figure: TcavFigure, width: int) -> Block:
    scores = [score for concept in figure.concepts for score in concept.scores]
    drawn = [one for score in scores for one in (score.share, score.mean) if one is not None]
    if not drawn:
        return blank_block(width, 1)

    def bar(color: str) -> Callable[[Block, int], None]:
        def draw(block: Block, middle: int) -> None:
            block.put(Rectangle(22, 10, fill=color), 0, middle - 5)

        return draw

    def band(block: Block, middle: int) -> None:
        block.put(Rectangle(22, 18, fill=BAND), 0, middle - 9)

    def whisker(block: Block, middle: int) -> None:
        block.put(Polyline(((1, middle), (21, middle)), INK, 1.5), 0, 0)
        for end in (1, 21):
            block.put(Polyline(((end, middle - 4), (end, middle + 4)), INK, 1.5), 0, 0)

    entries: list[KeyEntry] = []
    against = [score for score in scores if score.share is not None and score.mean is not None]
    colors = {_color(score.share, against=score.share.value < 0.5) for score in against if score.share}
    colors |= {_color(score.mean, against=score.mean.value < 0) for score in against if score.mean}
    for color, words in ((BLUE, "for the class"), (ALERT, "against it"), (QUIET, "no more than random (p > 0.05)")):
        if color in colors:
            entries.append((bar(color), words))
    entries.append((band, "95 % of random directions"))
    entries.append((whisker, "interval of 95 %"))
    return key_line(entries, width)
