"""The concepts of one image: all of them over it in their colours, and the bar in which they add up to the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.render.axes import GRID, TICK, Axis, make_axis
from cnnviz_cli.render.canvas import Canvas
from cnnviz_cli.render.concept_maps import REST, Map, color_of, lay_concepts, put_chip, thumbnail
from cnnviz_cli.render.concepts import signed
from cnnviz_cli.render.layout import (
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
from cnnviz_cli.render.overview import HEADING, make_sheet

LARGE = 760  # the side of the image with its concepts, in units
SMALL_IMAGE = 168  # the side of the image beside it
NAMES = 230  # units of the bars' titles
MOST_BARS = 14  # concepts with a bar of their own
ROW, MOST_ROW = 26, 40  # units from bar to bar, at the least and at the most
BREADTH = 14  # of a bar
SEEN = 0.12  # how much of the most a concept has where its number is written
NARROW = 980  # units below which the bars stand under the image
BIAS_COLOR, SUM_COLOR = "#8d939b", "#1b1e23"


@dataclass(frozen=True, slots=True)
class ConceptPart:
    """One concept in an image: what it is called, where it is, and what it adds.

    Attributes:
        number: counted from 1.
        values: (h, w) from 0 to 1, the most that any image has of any concept; those of several compare.
        adds: to the score, or its share of what moves the score.
    """

    number: int
    title: str
    values: Map
    adds: float


@dataclass(frozen=True, slots=True)
class ImageConcepts:
    """What one image's sheet shows.

    Attributes:
        parts: every concept, in the order of their numbers.
        bias, rest: what the score is made of beside them; None where the numbers do not add up.
        without: the score with every concept taken away, where that is known.
        score_name: what the score is, in one word.
    """

    picture: Image.Image
    view: View
    source: str
    target: str
    facts: Sequence[str]
    parts: Sequence[ConceptPart]
    score: float
    bias: float | None
    rest: float | None
    without: float | None = None
    score_name: str = "logit"
    note: str = ""
    foot: Sequence[str] = ()

    @property
    def adds_up(self) -> bool:
        return self.bias is not None


def compose_image_concepts(shown: ImageConcepts, room: int, density: float = 2.0) -> Block:
    """The sheet, for so many units of room; images get `density` pixels a unit."""
    inner = room - 2 * MARGIN
    beside = inner >= NARROW
    side = min(LARGE, round(inner * 0.5)) if beside else min(LARGE, inner)
    canvas = thumbnail(shown.picture, shown.view, side, density)
    left = _picture(shown, canvas)
    right = inner - side - 2 * GAP if beside else inner
    original = thumbnail(shown.picture, shown.view, SMALL_IMAGE, density)
    head = _target(shown, original, right)
    bars = _bars(shown, right, left.height - head.height - GAP if beside else 0)
    column = stack_vertically([head, bars], GAP)
    body = stack_horizontally([left, column], 2 * GAP) if beside else stack_vertically([left, column], GAP)
    words = [Line(elide(shown.source, HEADING, inner, middle=True), HEADING)]
    top = set_lines([*words, *muted_lines(shown.facts, TYPE, inner), *note_lines(shown.note, TYPE, inner)], inner)
    parts = [top, body]
    foot = [line for text in shown.foot for line in muted_lines(text, SMALL, inner)]
    if foot:
        parts.append(set_lines(foot, inner))
    return make_sheet(parts, inner)


def _picture(shown: ImageConcepts, canvas: Canvas) -> Block:
    """The image with every concept in its colour, and the numbers where these are strongest."""
    picture = lay_concepts(canvas, [part.values for part in shown.parts], [color_of(p.number) for p in shown.parts])
    raster = canvas.as_raster(picture)
    block = blank_block(raster.width, raster.height)
    block.put(raster, 0, 0)
    taken: list[tuple[float, float]] = []
    for part in _by_strength(shown.parts):
        spot = _spot(part, shown.parts, canvas, raster.width, raster.height)
        if spot is None or any(abs(spot[0] - x) < 30 and abs(spot[1] - y) < 26 for x, y in taken):
            continue
        taken.append(spot)
        block.put(Rectangle(22, 22, fill=PAPER), spot[0] - 11, round(spot[1]) - 11)
        put_chip(block, spot[0] - 9, round(spot[1]) - 9, part.number, color_of(part.number))
    return block


def _by_strength(parts: Sequence[ConceptPart]) -> list[ConceptPart]:
    return sorted(parts, key=lambda part: -float(np.max(part.values, initial=0.0)))


def _spot(
    part: ConceptPart, parts: Sequence[ConceptPart], canvas: Canvas, width: int, height: int
) -> tuple[float, float] | None:
    """Where a concept's number stands, in units of the picture: at its strongest cell, where it is the first there."""
    values = np.stack([one.values for one in parts])
    own = np.where(values.argmax(0) == parts.index(part), part.values, 0)
    if own.max() < SEEN:
        return None
    rows, columns = own.shape
    row, column = divmod(int(own.argmax()), columns)
    left, top, right, bottom = canvas.view.box
    across = (left + (column + 0.5) * (right - left) / columns) / canvas.density
    down = (top + (row + 0.5) * (bottom - top) / rows) / canvas.density
    return min(max(across, 12.0), width - 12.0), min(max(down, 12.0), height - 12.0)


def _target(shown: ImageConcepts, original: Canvas, width: int) -> Block:
    """The image as it is, beside what was explained in it."""
    raster = original.as_raster(original.image)
    room = width - raster.width - GAP
    lines = [Line(text, SECTION) for text in wrap_words(shown.target, SECTION, room)]
    left = "" if shown.without is None else f"; {shown.without:.2f} with every concept taken away"
    lines.append(Line(f"{shown.score_name} {shown.score:.2f}{left}", TYPE))
    if shown.adds_up:
        what = f"what each concept adds to the {shown.score_name}, the largest first; together with the bias and what "
        what += "no concept explains it is all of it"
    else:
        what = "the share of what moves the score that each concept has a part in (Sobol's total index), the largest "
        what += "first; where concepts act together these add up to more than 1"
    lines += muted_lines(what, SMALL, room)
    return stack_horizontally([raster_block(raster.image, raster.width, raster.height), set_lines(lines, room)], GAP)


def raster_block(image: Image.Image, width: int, height: int) -> Block:
    """An image by itself, as large as that."""
    block = blank_block(width, height)
    block.put(Raster(image, width, height), 0, 0)
    return block


@dataclass(frozen=True, slots=True)
class _Bar:
    """A bar from where the one before has ended."""

    number: int
    title: str
    start: float
    value: float
    color: str
    whole: bool = False


def _bars_of(shown: ImageConcepts) -> list[_Bar]:
    order = sorted(shown.parts, key=lambda part: (-abs(part.adds), part.number))
    own, others = order[:MOST_BARS], order[MOST_BARS:]
    if len(others) == 1:
        own, others = order, []
    found: list[_Bar] = []
    at = 0.0

    def add(number: int, title: str, value: float, color: str) -> None:
        nonlocal at
        found.append(_Bar(number, title, at if shown.adds_up else 0.0, value, color))
        at += value

    for part in own:
        add(part.number, part.title, part.adds, color_of(part.number))
    if others and shown.adds_up:
        add(0, f"{len(others)} further concepts", sum(part.adds for part in others), BIAS_COLOR)
    if shown.adds_up:
        add(0, "bias of the class", shown.bias or 0.0, BIAS_COLOR)
        add(0, "not explained by concepts", shown.rest or 0.0, REST)
        found.append(_Bar(0, f"the {shown.score_name}", 0.0, shown.score, SUM_COLOR, whole=True))
    return found


def _bars(shown: ImageConcepts, width: int, height: int) -> Block:
    """The bars below each other, on an axis; further apart where there is room for it."""
    bars = _bars_of(shown)
    pitch = max(ROW, min(MOST_ROW, (height - line_height(SMALL) - 12) // len(bars)))
    edges = [0.0, *(edge for bar in bars for edge in (bar.start, bar.start + bar.value))]
    figures = 62
    length = width - NAMES - figures
    axis = make_axis(edges, length, 6, pad=0.03)
    block = blank_block(width, len(bars) * pitch + TICK + line_height(SMALL) + 8)
    high = len(bars) * pitch
    for tick in axis.ticks:
        left = NAMES + round(axis.place(tick))
        block.put(Rectangle(1, high, fill=RULE if abs(tick) < 1e-12 else GRID), left, 0)
        text = axis.label(tick)
        put_text(block, left - text_width(text, SMALL) / 2, high + TICK + SMALL, text, SMALL, MUTED)
    for line, bar in enumerate(bars):
        _draw_bar(block, axis, bar, (line * pitch, pitch), last=line == len(bars) - 1, adds_up=shown.adds_up)
    return block


def _draw_bar(block: Block, axis: Axis, bar: _Bar, place: tuple[int, int], *, last: bool, adds_up: bool) -> None:
    """One bar into the row whose upper edge and height `place` has."""
    pitch = place[1]
    middle = place[0] + pitch // 2
    left = 0
    if bar.number:
        left = put_chip(block, 0, middle - 9, bar.number, bar.color) + 8
    elif not bar.whole:
        block.put(Rectangle(18, 18, fill=bar.color), 0, middle - 9)
        left = 26
    name = elide(bar.title, TYPE - 1, NAMES - left - 12)
    put_text(block, left, middle + 5, name, TYPE - 1, INK, strong=bar.whole)
    ends = sorted((bar.start, bar.start + bar.value))
    start, end = (NAMES + round(axis.place(value)) for value in ends)
    block.put(Rectangle(max(1, end - start), BREADTH, fill=bar.color), start, middle - BREADTH // 2)
    if adds_up and not last:
        # A hairline to where the next one starts.
        after = NAMES + round(axis.place(bar.start + bar.value))
        block.put(Rectangle(1, pitch - BREADTH, fill=MUTED), after, middle + BREADTH // 2)
    text = f"{bar.value:.2f}" if bar.whole or not adds_up else signed(bar.value)
    put_text(block, block.width - text_width(text, TYPE - 1), middle + 5, text, TYPE - 1, INK, strong=bar.whole)
