"""Text: what the font can show, how long it is, and blocks of lines that never leave their width."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor
from typing import cast

from PIL import Image, ImageDraw, ImageFont

from cnnviz_cli.core.text import visible
from cnnviz_cli.render.block import Block, Text

PAPER = "#ffffff"
INK = "#1b1e23"
MUTED = "#5c626b"
ALERT = "#a33b00"
RULE = "#cfd4da"

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


@lru_cache(maxsize=128)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The built-in font at `size` pixels an em."""
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))


@lru_cache(maxsize=4096)
def to_legible(text: str) -> str:
    """`text` in characters that the font has: accents dropped, other scripts and controls written as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spell(char) for char in unicodedata.normalize("NFC", visible(text)).translate(_SPELLED))


def _spell(char: str) -> str:
    if char in _DRAWABLE:
        return char
    parts = [part for part in unicodedata.normalize("NFKD", char) if not unicodedata.combining(part)]
    if parts and all(part in _DRAWABLE for part in parts):
        return "".join(parts)
    return char.encode("unicode_escape").decode("ascii")


def text_width(text: str, size: int) -> float:
    """Width in pixels of a legible text."""
    return sum(_advance(word, size) for word in text.split(" ")) + text.count(" ") * _advance(" ", size)


@lru_cache(maxsize=8192)
def _advance(word: str, size: int) -> float:
    return font(size).getlength(word)


Bounds = tuple[int, int, int, int]


def write(
    sheet: Image.Image, left: float, base: int, text: str, size: int, color: str, within: Bounds | None = None
) -> None:
    """A legible text onto a picture, from `left` on, its baseline at `base`.

    Word by word: most words have been drawn before, and no glyph of the font moves for a space beside it.

    Args:
        within: left, top, right, bottom; what of a letter reaches beyond is cut off.
    """
    for word in text.split(" "):
        whole = floor(left)
        if word:
            mask, across, up = _word_mask(word, size, left - whole)
            _ink(sheet, color, (whole + across, base + up), mask, within)
        left += _advance(word, size) + _advance(" ", size)


def _ink(sheet: Image.Image, color: str, place: tuple[int, int], mask: Image.Image, within: Bounds | None) -> None:
    left, top, right, bottom = *place, place[0] + mask.width, place[1] + mask.height
    if within:
        inner = max(left, within[0]), max(top, within[1]), min(right, within[2]), min(bottom, within[3])
        if inner[0] >= inner[2] or inner[1] >= inner[3]:
            return
        if inner != (left, top, right, bottom):
            mask = mask.crop((inner[0] - left, inner[1] - top, inner[2] - left, inner[3] - top))
        left, top, right, bottom = inner
    sheet.paste(color, (left, top, right, bottom), mask)


@lru_cache(maxsize=2048)
def _word_mask(word: str, size: int, shift: float) -> tuple[Image.Image, int, int]:
    """How strongly a word covers pixels (mode L), and where it lies from its start on the baseline.

    Args:
        shift: by how much of a pixel it starts to the right of one.
    """
    # Some letters reach beyond their own width on either side.
    mask = Image.new("L", (ceil(_advance(word, size)) + 2 * size, 3 * size))
    ImageDraw.Draw(mask).text((size + shift, 2 * size), word, fill=255, font=font(size), anchor="ls")
    box = mask.getbbox() or (0, 0, 1, 1)
    return mask.crop(box), box[0] - size, box[1] - 2 * size


FINER = 4
"""How many times as large a text is drawn that has to fit a width which is not the font's own."""


def write_fitted(
    sheet: Image.Image,
    left: float,
    base: float,
    text: str,
    size: int,
    color: str,
    scale: float,
    within: Bounds | None = None,
) -> None:
    """`write` at `scale` pixels a unit, every word as wide as it was measured at `size`.

    The font's advances are whole pixels at each size, so that a text of twice the size is not twice as wide.
    """
    for word in text.split(" "):
        if word:
            fraction = (left * scale) % 1
            mask, across, up = _fitted_word_mask(word, size, scale, round(fraction * FINER) / FINER)
            _ink(sheet, color, (floor(left * scale) + across, round(base * scale) + up), mask, within)
        left += _advance(word, size) + _advance(" ", size)


@lru_cache(maxsize=2048)
def _fitted_word_mask(word: str, size: int, scale: float, shift: float) -> tuple[Image.Image, int, int]:
    """`_word_mask` for `write_fitted`."""
    large = max(1, round(size * scale * FINER))
    mask, across, up = _word_mask(word, large, 0)
    share = _advance(word, size) * scale / max(1.0, _advance(word, large))
    left, right = across * share + shift, (across + mask.width) * share + shift
    top, bottom = up / FINER, (up + mask.height) / FINER
    place = floor(left), floor(top)
    shape = (ceil(right) - place[0], ceil(bottom) - place[1])
    whole = Image.new("L", (shape[0] * FINER, shape[1] * FINER))
    stretched = mask.resize((max(1, round((right - left) * FINER)), mask.height), Image.Resampling.BILINEAR)
    whole.paste(stretched, (round((left - place[0]) * FINER), up - place[1] * FINER))
    return whole.resize(shape, Image.Resampling.BOX), *place


def elide(text: str, size: int, width: float, *, middle: bool = False) -> str:
    """`text`, legible, at most `width` pixels wide: the end (or the middle) gives way to an ellipsis."""
    text = to_legible(text)
    if text_width(text, size) <= width:
        return text
    shortest, longest = 0, len(text)
    while shortest < longest:
        kept = (shortest + longest + 1) // 2
        if text_width(_cut(text, kept, middle), size) <= width:
            shortest = kept
        else:
            longest = kept - 1
    return _cut(text, shortest, middle) if shortest or text_width("…", size) <= width else ""


def _cut(text: str, kept: int, middle: bool) -> str:
    head = (kept + 1) // 2 if middle else kept
    return text[:head].rstrip() + "…" + text[len(text) - (kept - head) :].lstrip()


def wrap_pieces(pieces: Sequence[str], size: int, width: float, joint: str = " · ") -> list[str]:
    """The pieces joined, broken into lines between pieces where they do not fit.

    A piece longer than a line is broken at its spaces, and a word longer than a line loses its middle.
    """
    lines: list[str] = []
    for piece in filter(None, map(to_legible, pieces)):
        if lines and text_width(lines[-1] + joint + piece, size) <= width:
            lines[-1] += joint + piece
        elif text_width(piece, size) <= width or " " not in piece:
            lines.append(elide(piece, size, width, middle=True))
        else:
            lines += wrap_pieces(piece.split(), size, width, joint=" ")
    return lines


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
    return wrap_pieces(to_legible(text).split(), size, width, joint=" ")


def note_lines(text: str, size: int, width: float) -> list[Line]:
    """A note in the colour of warnings, its first letter a capital; no line for an empty text."""
    return [Line(line, size, ALERT) for line in wrap_words(text[:1].upper() + text[1:], size, width)]


def line_height(size: int) -> int:
    """Height of a line of text."""
    return round(size * 1.36)


def put_text(block: Block, left: float, base: int, text: str, size: int, color: str) -> None:
    """A legible text into a block, from `left` on, its baseline at `base`."""
    block.put(Text(text, size, color, text_width(text, size)), left, base)


def set_lines(lines: Sequence[Line], width: int) -> Block:
    """The lines under each other, flush left, on paper."""
    block = Block(width, sum(line_height(line.size) for line in lines))
    top = 0
    for line in lines:
        put_text(block, 0, top + line.size, line.text, line.size, line.color)
        top += line_height(line.size)
    return block
