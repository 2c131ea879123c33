"""What charts are drawn with: colours, axes with round numbers, dots, and samples with their meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isclose, log10

from cnnviz_cli.render.layout import (
    ALERT,
    MUTED,
    PAPER,
    SMALL,
    TYPE,
    Block,
    Dots,
    Line,
    blank_block,
    line_height,
    muted_lines,
    put_text,
    set_lines,
    text_width,
    to_legible,
    wrap_words,
)

BLUE = "#1f5fa8"
BAND = "#e6e9ed"  # where controls lie
GRID = "#eceef1"
QUIET = "#aab0b8"  # bars of errors of controls, and of cost
DOT = 5.0  # the radius of a dot
TICK = 4


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values along so many units, and the values that are written beside it."""

    low: float
    high: float
    length: float
    ticks: tuple[float, ...]
    decimals: int

    def place(self, value: float) -> float:
        """Units from the axis's start."""
        return (value - self.low) / (self.high - self.low) * self.length

    def label(self, value: float) -> str:
        return format_fixed(value, self.decimals)


GUTTER = 34
"""Units left of a plot for the numbers of its axis, at the least."""


def gutter_for(up: Axis) -> int:
    """The room that an axis's numbers need left of a plot."""
    return max(GUTTER, *(ceil(text_width(up.label(tick), SMALL)) + 10 for tick in up.ticks), 0)


SCIENTIFIC = -1
"""In the place of a number of decimals: two digits and a power of ten."""


def format_fixed(value: float, decimals: int) -> str:
    """A number with so many decimals, or as `SCIENTIFIC`; never a minus before a zero."""
    if decimals == SCIENTIFIC:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}" if value else "0"
    return f"{value:z,.{decimals}f}"


def make_axis(values: Iterable[float], length: float, most: int, *, pad: float = 0.06) -> Axis:
    """An axis that holds all values with some room on both sides, and at most so many ticks at round numbers."""
    found = list(values)
    low, high = min(found), max(found)
    if isclose(low, high, rel_tol=1e-9):
        spread = abs(low) / 2 or 0.5
        low, high = low - spread, high + spread
    room = pad * (high - low)
    low, high = low - room, high + room
    ticks, decimals = round_ticks(low, high, most)
    return Axis(low, high, length, ticks, decimals)


def round_ticks(low: float, high: float, most: int) -> tuple[tuple[float, ...], int]:
    """At most so many round numbers within a range, 1, 2 or 5 times a power of ten apart, and their decimals.

    Where only one would be left, the outer two of the next finer ones: one number gives no scale.
    """
    size = floor(log10(high - low)) - 2
    largest = max(abs(low), abs(high))
    finer: tuple[float, ...] = ()
    places = 0
    for power in range(size, size + 5):
        for digit in (1, 2, 5):
            step = digit * 10.0**power
            first = -floor(-low / step + 1e-9)
            last = floor(high / step + 1e-9)
            decimals = max(0, -power) if -power <= 4 and largest < 1e5 else SCIENTIFIC
            ticks = tuple(number * step for number in range(first, last + 1))
            if len(ticks) <= most:
                if len(ticks) < 2 <= most and finer:
                    return (finer[0], finer[-1]), places
                return ticks, decimals
            finer, places = ticks, decimals
    return (), 0


def decimals_for(values: Sequence[float]) -> int:
    """How many decimals tell the values of a column apart: two, three where they lie close, fewer for large ones."""
    largest = max((abs(value) for value in values), default=0.0)
    if largest >= 1e5 or 0 < largest < 5e-3:
        return SCIENTIFIC
    if largest >= 100:
        return 0
    if largest >= 10:
        return 1
    return 3 if largest < 0.1 and largest > 0 else 2


def draw_dot(block: Block, left: float, top: int, *, beats: bool | None, radius: float = DOT) -> None:
    """A method's dot: blue and full; an open red one where it does not beat the controls, grey where nothing ranks."""
    if beats is False:
        block.put(Dots(((0, 0),), radius, PAPER, ALERT, 2), left, top)
    else:
        block.put(Dots(((0, 0),), radius - (beats is None), BLUE if beats else MUTED), left, top)


def dot_color(beats: bool | None) -> str:
    """The colour of the bar through a dot."""
    return ALERT if beats is False else BLUE if beats else MUTED


Box = tuple[float, float, float, float]  # left, top, right, bottom


def overlaps(one: Box, other: Box, apart: float = 0.0) -> bool:
    """Whether two boxes have something in common, or are nearer than `apart`."""
    return (
        one[0] < other[2] + apart
        and other[0] < one[2] + apart
        and one[1] < other[3] + apart
        and other[1] < one[3] + apart
    )


def dot_box(spot: tuple[float, float]) -> Box:
    """The square around a dot."""
    return spot[0] - DOT, spot[1] - DOT, spot[0] + DOT, spot[1] + DOT


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


KeyEntry = tuple[Callable[[Block, int], None], str]
"""What draws a sample around a height, and what it means."""


def key_line(entries: Sequence[KeyEntry], width: int) -> Block:
    """Samples with their meaning, one after the other, in as many lines as they take.

    Each sample is drawn into a block of 26 units, around a height.
    """
    room, gap, tall = 26, 20, line_height(SMALL) + 4
    places: list[tuple[float, int, Callable[[Block, int], None], list[str]]] = []
    left, top, below = 0.0, 0, 0
    for draw, meaning in entries:
        text = to_legible(meaning)
        wide = room + 6 + text_width(text, SMALL)
        if left and left + wide > width:
            left, top = 0.0, below
        words = wrap_words(text, SMALL, width - room - 6) if left + wide > width else [text]
        places.append((left, top, draw, words))
        below = max(below, top + tall + (len(words) - 1) * line_height(SMALL))
        left += wide + gap
    block = blank_block(width, max(below, tall))
    for across, down, draw, words in places:
        sample = blank_block(room, tall)
        draw(sample, tall // 2)
        block.put(sample, across, down)
        for line, text in enumerate(words):
            base = down + tall // 2 + round(0.36 * SMALL) + line * line_height(SMALL)
            put_text(block, across + room + 6, base, text, SMALL, MUTED)
    return block


def section_heading(title: str, words: str | Sequence[str], width: int) -> Block:
    """The title of a part of a sheet, and below it what it shows: a sentence, or pieces that are joined by dots."""
    lines = [Line(text, TYPE + 1, strong=True) for text in wrap_words(title, TYPE + 1, width)]
    return set_lines([*lines, *muted_lines(words, SMALL, width)], width)
