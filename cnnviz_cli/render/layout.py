"""What a figure is made of: images, text, rules, colour ramps, lines and dots, each in its place.

No pixel is drawn here. `raster` draws a block as pixels, `svg` and `pdf` write it with all but its images as vectors.
Lengths are in units: a pixel each, unless the figure is drawn larger or smaller.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import cast

from PIL import Image, ImageFont

from cnnviz_cli.core.text import escape_text
from cnnviz_cli.render.scaling import ByteArray


@dataclass(frozen=True, slots=True)
class Raster:
    """An image, stretched to width x height units; the pixels of a crisp one stay sharp squares."""

    image: Image.Image
    width: int
    height: int
    crisp: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A line of legible text from its place to the right, on the baseline; as wide as it was laid out.

    The font has one weight: a strong text is drawn twice, `STROKE` of its size apart.
    """

    text: str
    size: int
    color: str
    width: float
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A filled or an outlined rectangle; the outline, `line` units wide, lies within."""

    width: int
    height: int
    fill: str = ""
    outline: str = ""
    line: int = 1


@dataclass(frozen=True, slots=True)
class Ramp:
    """A palette from left to right: (rows, n, 3), the rows under each other."""

    colors: ByteArray
    width: int
    height: int


Points = tuple[tuple[float, float], ...]
"""Places to the right of and below the place of what has them, in units."""


@dataclass(frozen=True, slots=True)
class Polyline:
    """A line through two points or more, with round ends and corners; `line` units wide."""

    points: Points
    color: str
    line: float = 1.5


@dataclass(frozen=True, slots=True)
class Polygon:
    """A filled area within three points or more, without an outline."""

    points: Points
    fill: str


@dataclass(frozen=True, slots=True)
class Dots:
    """Circles of one radius, filled and outlined; the outline, `line` units wide, lies within."""

    points: Points
    radius: float
    fill: str
    outline: str = ""
    line: float = 1.5


Drawing = Polyline | Polygon | Dots
Leaf = Raster | Text | Rectangle | Ramp | Drawing


@dataclass(slots=True)
class Block:
    """A part of a figure: items with their left and upper edge (of a text its baseline), in the order of drawing."""

    width: int
    height: int
    items: list[tuple[float, int, Leaf | Block]] = field(default_factory=list)

    def put(self, item: Leaf | Block | Image.Image, left: float, top: int) -> None:
        """Place an item; an image at a unit for each of its pixels."""
        self.items.append((left, top, Raster(item, *item.size) if isinstance(item, Image.Image) else item))

    def leaves(self, left: float = 0, top: int = 0) -> Iterator[tuple[float, int, Leaf]]:
        """Everything that is drawn in it, with its place, in the order of drawing."""
        for across, down, item in self.items:
            if isinstance(item, Block):
                yield from item.leaves(left + across, top + down)
            else:
                yield left + across, top + down, item


Part = Block | Raster | Image.Image  # what blocks are put together from


def blank_block(width: int, height: int) -> Block:
    """Paper, at least one unit."""
    return Block(max(1, width), max(1, height))


def stack_vertically(blocks: Sequence[Part], gap: int) -> Block:
    """Blocks under each other, flush left."""
    sheet = blank_block(
        max(block.width for block in blocks), sum(block.height for block in blocks) + gap * (len(blocks) - 1)
    )
    top = 0
    for block in blocks:
        sheet.put(block, 0, top)
        top += block.height + gap
    return sheet


def stack_horizontally(blocks: Sequence[Part], gap: int) -> Block:
    """Blocks next to each other, tops aligned."""
    sheet = blank_block(sum(block.width for block in blocks) + gap * (len(blocks) - 1), max(b.height for b in blocks))
    left = 0
    for block in blocks:
        sheet.put(block, left, 0)
        left += block.width + gap
    return sheet


def add_margin(block: Part, margin: int) -> Block:
    """The block with paper round it."""
    sheet = blank_block(block.width + 2 * margin, block.height + 2 * margin)
    sheet.put(block, margin, margin)
    return sheet


STROKE = 0.04
"""How far apart a strong text is drawn twice, as a share of its size."""

PAPER = "#ffffff"
INK = "#1b1e23"
MUTED = "#5c626b"
ALERT = "#a33b00"
RULE = "#cfd4da"
SECTION, TYPE, SMALL = 18, 14, 12  # sizes of type on a sheet
GAP, MARGIN = 24, 40  # paper between the parts of a sheet, and around it

# The font that comes with Pillow (Aileron, cut down) has these beside ASCII, and no other.
_DRAWABLE = set(map(chr, range(0x20, 0x7F))) | set("©«°±´·»‘’“”…‹›⁄™")
_SPELLED = str.maketrans(
    {
        "–": "-",
        "—": "-",
        "−": "-",
        "×": "x",
        "÷": "/",
        "≤": "<=",
        "≥": ">=",
        "\u00a0": " ",
        "µ": "u",
        "æ": "ae",
        "Æ": "AE",
    }
    | {"œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ß": "ss", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i"}
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text."""

    text: str
    size: int
    color: str = INK
    strong: bool = False


@lru_cache(maxsize=128)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The built-in font at `size` pixels an em."""
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))


@lru_cache(maxsize=4096)
def to_legible(text: str) -> str:
    """`text` in characters that the font has: accents dropped, other scripts and controls written as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spell(char) for char in unicodedata.normalize("NFC", escape_text(text)).translate(_SPELLED))


def _spell(char: str) -> str:
    if char in _DRAWABLE:
        return char
    parts = [part for part in unicodedata.normalize("NFKD", char) if not unicodedata.combining(part)]
    if parts and all(part in _DRAWABLE for part in parts):
        return "".join(parts)
    return char.encode("unicode_escape").decode("ascii")


def text_width(text: str, size: int) -> float:
    """Width in pixels of a legible text."""
    return sum(word_width(word, size) for word in text.split(" ")) + text.count(" ") * word_width(" ", size)


@lru_cache(maxsize=8192)
def word_width(word: str, size: int) -> float:
    return font(size).getlength(word)


def elide(text: str, size: int, width: float, *, middle: bool = False) -> str:
    """`text`, legible, at most `width` pixels wide: the end (or the middle) gives way to an ellipsis.

    Escapes stay whole. Of a text that loses its middle three quarters of what is kept are its end, which tells
    ``IMG_0041.jpg`` from ``IMG_0042.jpg``.
    """
    text = to_legible(text)
    if text_width(text, size) <= width:
        return text
    pieces = _PIECE.findall(text)
    shortest, longest = 0, len(pieces)
    while shortest < longest:
        kept = (shortest + longest + 1) // 2
        if text_width(_cut(pieces, kept, middle), size) <= width:
            shortest = kept
        else:
            longest = kept - 1
    return _cut(pieces, shortest, middle) if shortest or text_width("…", size) <= width else ""


_PIECE = re.compile(r"\\[nrt]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|.", re.DOTALL)
"""A character, or the escape of one that the font lacks."""


def _cut(pieces: Sequence[str], kept: int, middle: bool) -> str:
    head = -(-kept // 4) if middle else kept
    return "".join(pieces[:head]).rstrip() + "…" + "".join(pieces[len(pieces) - (kept - head) :]).lstrip()


def name_lines(name: str, size: int, width: float) -> list[str]:
    """A file's name in two lines at the most, broken behind a word or before its ending where there is one; where two
    lines are too little, the middle gives way."""
    pieces = _PIECE.findall(to_legible(name))
    kept = len(pieces)
    while kept > 1 and text_width("".join(pieces[:kept]), size) > width:
        kept -= 1
    breaks = [at for at in range(kept // 3 + 1, kept + 1) if pieces[at - 1] in "_- " or pieces[at : at + 1] == ["."]]
    if kept < len(pieces) and breaks:
        kept = breaks[-1]
    lines = ["".join(pieces[:kept]), "".join(pieces[kept:])]
    return [elide(line, size, width, middle=True) for line in lines if line]


def wrap_pieces(pieces: Sequence[str], size: int, width: float, joint: str = " · ") -> list[str]:
    """The pieces joined, broken into lines between pieces where they do not fit.

    A piece longer than a line is broken at its spaces, and a word longer than a line loses its middle.
    """
    lines: list[str] = []
    for piece in filter(None, map(to_legible, pieces)):
        if lines and text_width(lines[-1] + joint + piece, size) <= width:
            lines[-1] += joint + piece
        elif text_width(piece, size) <= width or len(_words(piece)) <= 1:
            lines.append(elide(piece, size, width, middle=True))
        else:
            lines += wrap_pieces(_words(piece), size, width, joint=" ")
    return lines


def _words(text: str) -> list[str]:
    """The words of a text; a percent sign stays with its number."""
    return re.findall(r"\S+(?:\s%\S*)?", text)


def layer_lines(name: str, size: int, width: float) -> list[str]:
    """A layer's name broken into lines: at its spaces, and behind its dots where a word is longer than a line."""
    lines: list[str] = []
    for word in to_legible(name).split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines += wrap_pieces(re.findall(r"[^.]*\.|[^.]+", word), size, width, joint="")
    return lines


def wrap_words(text: str, size: int, width: float) -> list[str]:
    """A sentence broken into lines at its spaces."""
    return wrap_pieces(_words(to_legible(text)), size, width, joint=" ")


def note_lines(text: str, size: int, width: float) -> list[Line]:
    """A note in the colour of warnings, its first letter a capital; no line for an empty text."""
    return [Line(line, size, ALERT) for line in wrap_words(text[:1].upper() + text[1:], size, width)]


def muted_lines(words: str | Sequence[str], size: int, width: float) -> list[Line]:
    """A sentence, or pieces that are joined by dots, in as many muted lines as it takes."""
    wrap = wrap_words(words, size, width) if isinstance(words, str) else wrap_pieces(words, size, width)
    return [Line(text, size, MUTED) for text in wrap]


def finding_lines(findings: Sequence[tuple[str, bool]], size: int, width: float) -> list[Line]:
    """Texts joined by dots, muted; a strong one stands in a line of its own, in ink."""
    lines: list[Line] = []
    for strong, group in groupby(findings, key=itemgetter(1)):
        texts = [text for text, _ in group]
        if strong:
            lines += [Line(part, size, INK, strong=True) for text in texts for part in wrap_words(text, size, width)]
        else:
            lines += muted_lines(texts, size, width)
    return lines


def line_height(size: int) -> int:
    """Height of a line of text."""
    return round(size * 1.36)


def put_text(block: Block, left: float, base: int, text: str, size: int, color: str, *, strong: bool = False) -> None:
    """A legible text into a block, from `left` on, its baseline at `base`."""
    block.put(Text(text, size, color, text_width(text, size), strong), left, base)


def set_lines(lines: Sequence[Line], width: int) -> Block:
    """The lines under each other, flush left, on paper."""
    block = Block(width, sum(line_height(line.size) for line in lines))
    top = 0
    for line in lines:
        put_text(block, 0, top + line.size, line.text, line.size, line.color, strong=line.strong)
        top += line_height(line.size)
    return block


def put_title(block: Block, left: float, base: int, width: int, name: str, aside: str) -> None:
    """The texts at both ends of a line above a tile; the right one gives way where both do not fit."""
    name = elide(name, SMALL, width)
    put_text(block, left, base, name, SMALL, INK)
    if text_width(name, SMALL) + 6 + text_width(aside, SMALL) <= width:
        put_text(block, left + width - text_width(aside, SMALL), base, aside, SMALL, MUTED)


def add_title(image: Part, name: str, aside: str = "") -> Block:
    """A tile under its title."""
    block = blank_block(image.width, image.height + SMALL + 6)
    block.put(image, 0, SMALL + 6)
    put_title(block, 0, SMALL, image.width, name, aside)
    return block
