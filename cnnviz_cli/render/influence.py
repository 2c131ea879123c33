"""Which training images helped and harmed with an image; and those that a network had to learn against all others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from cnnviz_cli.core.text import format_percent
from cnnviz_cli.render.axes import BLUE, GRID, QUIET, KeyEntry, key_line
from cnnviz_cli.render.layout import (
    ALERT,
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
from cnnviz_cli.render.legends import format_number
from cnnviz_cli.render.overview import HEADING, make_sheet

NATURAL = 1480  # units of a sheet where nothing narrower was asked for
ABREAST = 1000  # units from which on the image stands beside its neighbours
SIDE = 196  # the most units of a neighbour's side
SMALLEST = 130
MOST_ABREAST = 4  # neighbours in a row
NEAR = 16  # units between neighbours
GROUND = "#f2f4f6"  # beside an image that is no square
BAR, TRACK = 8, 5  # the height of the bar of an influence, and of a factor
SUSPECTS_ACROSS = 6
"""Images in a row of the sheet of suspects."""


@dataclass(frozen=True, slots=True)
class NeighbourTile:
    """A training image and what it does.

    Attributes:
        label: the class that is true of it.
        value: its influence; positive, it helped.
        share: of all help, or of all harm, from 0 to 1.
        likeness: cosine of the two images' features.
        pull: cosine of the two images' errors.
        why: in a few words.
        note: what a reader has to know of it, for instance that it is the explained image.
    """

    picture: Image.Image
    source: str
    label: str
    value: float
    share: float
    likeness: float
    pull: float
    why: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class NeighbourRow:
    """The neighbours that helped, or those that harmed.

    Attributes:
        title: what they are.
        facts: how many there are of them, and what they sum up to.
        empty: what is said where there are none.
    """

    title: str
    facts: Sequence[str]
    tiles: Sequence[NeighbourTile]
    empty: str


@dataclass(frozen=True, slots=True)
class InfluenceFigure:
    """One explained image.

    Attributes:
        asked: whose loss it is about: a class with its probability.
        facts: about it and the network, a few words each.
        predictions: what the network says: a name and a probability each.
        balance: the sums of all help and of all harm, both positive.
    """

    picture: Image.Image
    source: str
    asked: str
    facts: Sequence[str]
    predictions: Sequence[tuple[str, float]]
    helpful: NeighbourRow
    harmful: NeighbourRow
    balance: tuple[float, float]
    foot: Sequence[str]
    note: str = ""


@dataclass(frozen=True, slots=True)
class SuspectTile:
    """A training image with its influence on itself.

    Attributes:
        label: the class that is said to be true of it, and how probable the network finds it.
        likeliest: the class that the network finds likeliest, in the same way; empty where it is the same.
    """

    picture: Image.Image
    source: str
    value: float
    label: str
    likeliest: str
    note: str = ""


def compose_influence(figure: InfluenceFigure, room: int) -> Block:
    """The figure of one image; `room`: the widest that it is laid out, in units."""
    inner = min(NATURAL, room) - 2 * MARGIN
    head = [
        *(Line(text, HEADING) for text in wrap_words(figure.source, HEADING, inner)[:2]),
        *muted_lines(figure.facts, TYPE, inner),
        *note_lines(figure.note, TYPE, inner),
    ]
    strongest = max((abs(tile.value) for row in (figure.helpful, figure.harmful) for tile in row.tiles), default=0.0)
    wide = inner >= ABREAST
    left = round(0.27 * inner) if wide else inner
    right = inner - left - 2 * GAP if wide else inner
    count = max(len(figure.helpful.tiles), len(figure.harmful.tiles), 1)
    across = _columns(count, right)
    side = min(SIDE * 2, (right + NEAR) // max(across, MOST_ABREAST if wide else 2) - NEAR)
    rows = [
        _neighbours(row, color, strongest, right, across, side)
        for row, color in ((figure.helpful, BLUE), (figure.harmful, ALERT))
    ]
    image = _explained(figure, left if wide else min(left, 2 * SIDE), left)
    line = blank_block(right, 1)
    line.put(Rectangle(right, 1, fill=RULE), 0, 0)
    neighbours = stack_vertically([rows[0], line, rows[1]], round(0.75 * GAP))
    body = stack_horizontally([image, neighbours], 2 * GAP) if wide else stack_vertically([image, neighbours], GAP)
    foot = [line for text in figure.foot for line in muted_lines(text, SMALL, inner)]
    legend = stack_vertically([key_line(_KEY, inner), set_lines(foot, inner)], 4)
    return make_sheet([set_lines(head, inner), body, legend], inner)


def _columns(count: int, width: int) -> int:
    """How many neighbours stand in a row: all where there is room, else rows as even as they can be."""
    most = max(2, min(MOST_ABREAST, (width + NEAR) // (SMALLEST + NEAR)))
    return max(1, -(-count // -(-count // most)))


def _explained(figure: InfluenceFigure, side: int, width: int) -> Block:
    """The explained image, what is asked of it, and the balance of help and harm."""
    beside = width - side - GAP >= 18 * TYPE
    image = _upright(figure.picture, side, side)
    if beside:
        width -= side + GAP
    asked = [Line(text, SECTION) for text in wrap_words(figure.asked, SECTION, width)]
    parts: list[Block] = [set_lines(asked, width), _balance(figure.balance, width)]
    rows = blank_block(width, max(1, len(figure.predictions) * line_height(TYPE)))
    for number, (label, probability) in enumerate(figure.predictions):
        base = number * line_height(TYPE) + TYPE
        text = format_percent(probability)
        put_text(rows, 0, base, elide(label, TYPE, width - text_width(text, TYPE) - TYPE), TYPE, MUTED)
        put_text(rows, width - text_width(text, TYPE), base, text, TYPE, MUTED)
    if figure.predictions:
        parts.append(stack_vertically([set_lines([Line("the network says", SMALL, MUTED)], width), rows], 2))
    words = stack_vertically(parts, GAP // 2)
    return stack_horizontally([image, words], GAP) if beside else stack_vertically([image, words], GAP // 2)


def _upright(picture: Image.Image, side: int, width: int) -> Block:
    """An image made to fit into a square, without paper round it."""
    scale = side / max(picture.size)
    block = blank_block(width, max(1, round(picture.height * scale)))
    block.put(Raster(picture, max(1, round(picture.width * scale)), block.height), 0, 0)
    return block


def _balance(balance: tuple[float, float], width: int) -> Block:
    """All help and all harm as the parts of one bar."""
    gain, loss = balance
    total = gain + loss
    block = blank_block(width, line_height(SMALL) + 6 + BAR + 4)
    texts = f"all help {format_number(gain)}", f"all harm {format_number(-loss)}"
    put_text(block, 0, SMALL, texts[0], SMALL, BLUE)
    put_text(block, width - text_width(texts[1], SMALL), SMALL, texts[1], SMALL, ALERT)
    top = line_height(SMALL) + 4
    block.put(Rectangle(width, BAR, fill=GRID), 0, top)
    if total > 0:
        split = round(width * gain / total)
        if split:
            block.put(Rectangle(split, BAR, fill=BLUE), 0, top)
        if width - split > 0:
            block.put(Rectangle(width - split, BAR, fill=ALERT), split, top)
        if 0 < split < width:
            block.put(Rectangle(2, BAR, fill=PAPER), split - 1, top)
    return block


def _neighbours(row: NeighbourRow, color: str, strongest: float, width: int, across: int, side: int) -> Block:
    head = set_lines([Line(row.title, SECTION, color), *muted_lines(row.facts, SMALL, width)], width)
    if not row.tiles:
        return stack_vertically([head, set_lines(muted_lines(row.empty, TYPE, width), width)], GAP // 3)
    tiles = [_tile(tile, color, strongest, side) for tile in row.tiles]
    lines = [stack_horizontally(tiles[start : start + across], NEAR) for start in range(0, len(tiles), across)]
    return stack_vertically([head, stack_vertically(lines, GAP // 2)], GAP // 3)


def _square(picture: Image.Image, side: int) -> Block:
    """An image in the middle of a square."""
    block = blank_block(side, side)
    scale = side / max(picture.size)
    width, height = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    if min(width, height) < side:
        block.put(Rectangle(side, side, fill=GROUND), 0, 0)
    block.put(Raster(picture, width, height), (side - width) // 2, (side - height) // 2)
    return block


def _tile(tile: NeighbourTile, color: str, strongest: float, side: int) -> Block:
    value = blank_block(side, BAR + 4)
    value.put(Rectangle(side, BAR, fill=GRID), 0, 2)
    reach = max(2, round(side * abs(tile.value) / strongest)) if strongest else 0
    if reach:
        value.put(Rectangle(min(side, reach), BAR, fill=color), 0, 2)
    number = f"{'+' if tile.value > 0 else ''}{format_number(tile.value)}"
    shown = blank_block(side, line_height(TYPE))
    put_text(shown, 0, TYPE, number, TYPE, color, strong=True)
    share = format_percent(tile.share)
    whole = f"{share} of all {'help' if tile.value > 0 else 'harm'}"
    room = side - text_width(number, TYPE) - 8
    # The bar is of the figure's largest influence, the percentage of its own sign: words keep the two apart.
    share = whole if text_width(whole, SMALL) <= room else share
    if text_width(share, SMALL) <= room:
        put_text(shown, side - text_width(share, SMALL), TYPE, share, SMALL, MUTED)
    label = set_lines([Line(elide(tile.label, TYPE + 1, side), TYPE + 1, INK)], side)
    factors = stack_vertically([_factor("alike", tile.likeness, side), _factor("pull", tile.pull, side)], 0)
    words = [*muted_lines(tile.why, SMALL, side), Line(elide(tile.source, SMALL, side, middle=True), SMALL, MUTED)]
    words += note_lines(tile.note, SMALL, side)
    return stack_vertically([_square(tile.picture, side), value, shown, label, factors, set_lines(words, side)], 3)


def _factor(name: str, cosine: float, side: int) -> Block:
    """A cosine as a bar from the middle of its track: to the right where it is positive."""
    block = blank_block(side, line_height(SMALL))
    number = f"{cosine:z.2f}"
    start = round(text_width("alike", SMALL)) + 8
    track = side - start - round(text_width("-0.00", SMALL)) - 8
    put_text(block, 0, SMALL, name, SMALL, MUTED)
    put_text(block, side - text_width(number, SMALL), SMALL, number, SMALL, MUTED)
    if track < 16:
        return block
    top, middle = SMALL - TRACK - 2, start + track // 2
    block.put(Rectangle(track, TRACK, fill=GRID), start, top)
    reach = round(abs(cosine) * track / 2)
    if reach:
        block.put(Rectangle(reach, TRACK, fill=MUTED if cosine > 0 else QUIET), middle - (cosine < 0) * reach, top)
    block.put(Rectangle(1, TRACK + 4, fill=INK), middle, top - 2)
    return block


def _sample(color: str, height: int = BAR) -> Callable[[Block, int], None]:
    def draw(block: Block, middle: int) -> None:
        block.put(Rectangle(24, height, fill=color), 0, middle - height // 2)

    return draw


_KEY: Sequence[KeyEntry] = (
    (_sample(BLUE), "helped: a step on it lowers the image's loss"),
    (_sample(ALERT), "harmed: a step on it raises the loss"),
    (_sample(MUTED, TRACK), "alike, pull: cosines of both images' features and of their errors p - y"),
    (_sample(QUIET, TRACK), "the same below 0"),
)


def compose_suspects(
    tiles: Sequence[SuspectTile], title: str, facts: Sequence[str], foot: Sequence[str], room: int
) -> Block:
    """The sheet of the training images with the highest influence on themselves, the highest first."""
    inner = min(NATURAL, room) - 2 * MARGIN
    across = max(1, min(SUSPECTS_ACROSS, len(tiles), (inner + GAP) // (SMALLEST + GAP)))
    side = min(SIDE, (inner + GAP) // across - GAP)
    width = max(across * (side + GAP) - GAP, min(inner, 40 * TYPE))
    head = [Line(text, HEADING) for text in wrap_words(title, HEADING, width)]
    strongest = max((tile.value for tile in tiles), default=0.0)
    cells = [_suspect(tile, strongest, side) for tile in tiles]
    lines = [stack_horizontally(cells[start : start + across], GAP) for start in range(0, len(cells), across)]
    rows = [set_lines([*head, *muted_lines(facts, TYPE, width)], width), stack_vertically(lines, GAP)]
    words = [line for text in foot for line in muted_lines(text, SMALL, width)]
    return make_sheet([*rows, set_lines(words, width)] if words else rows, width)


def _suspect(tile: SuspectTile, strongest: float, side: int) -> Block:
    value = blank_block(side, BAR + 4)
    value.put(Rectangle(side, BAR, fill=GRID), 0, 2)
    if strongest:
        value.put(Rectangle(max(2, round(side * tile.value / strongest)), BAR, fill=MUTED), 0, 2)
    lines = [Line(text, TYPE, INK) for text in wrap_words(f"labelled {tile.label}", TYPE, side)]
    if tile.likeliest:
        lines += [Line(text, TYPE, ALERT) for text in wrap_words(f"looks like {tile.likeliest}", TYPE, side)]
    number = f"on itself {format_number(tile.value)}"
    lines += [*muted_lines(number, SMALL, side), Line(elide(tile.source, SMALL, side, middle=True), SMALL, MUTED)]
    lines += note_lines(tile.note, SMALL, side)
    return stack_vertically([_square(tile.picture, side), value, set_lines(lines, side)], 3)
