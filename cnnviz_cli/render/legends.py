"""Parts of figures: color bars with their numbers, legends, and the pattern that stands for no data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import floor, log10

import numpy as np
from PIL import Image

from cnnviz_cli.render.block import Block, Ramp, Raster, Rectangle, blank_block, stack_horizontally, stack_vertically
from cnnviz_cli.render.color_tables import ByteArray
from cnnviz_cli.render.typeset import INK, MUTED, Line, elide, line_height, put_text, set_lines, text_width, wrap_words


def format_ticks(values: Sequence[float]) -> list[str]:
    """The values as short texts to three significant digits of the largest: ``0``, ``0.412``, ``0.823``.

    All share their decimals, so that they compare at a glance; zero is written ``0``, and never with a minus.
    """
    largest = max((abs(value) for value in values), default=0.0)
    if largest == 0:
        return ["0"] * len(values)
    if not 1e-3 <= largest < 1e5:
        return [_scientific(value) for value in values]
    # log10 of 999.9 rounds to three digits as 1000, so the magnitude is taken after rounding.
    decimals = max(0, 2 - floor(log10(float(f"{largest:.2e}"))))
    return [f"{value:z.{decimals}f}" if value else "0" for value in values]


def format_number(value: float) -> str:
    """One value to three significant digits."""
    return format_ticks([value])[0]


def _scientific(value: float) -> str:
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


HATCH_PAPER, HATCH_INK = 238, 205
"""Greys of the pattern that stands for no data."""

EDGE = "#8d939b"
"""The line around a colour bar or a sample."""

APART = 1.0
"""How far texts below a bar stand apart at the least, as a share of their size."""


def hatching(size: tuple[int, int], unit: int) -> Image.Image:
    """A mask (mode 1) of thin diagonal lines; `unit` is the size of the type beside it."""
    mask, tile = Image.new("1", size), _hatched_tile(unit)
    for top in range(0, size[1], tile.height):
        for left in range(0, size[0], tile.width):
            mask.paste(tile, (left, top))
    return mask


@lru_cache(maxsize=16)
def _hatched_tile(unit: int) -> Image.Image:
    """A square of the pattern that goes on beside itself and below."""
    period, thickness = max(5, round(0.6 * unit)), max(1, round(unit / 15))
    steps = np.arange(period * -(-256 // period))
    return Image.fromarray((steps + steps[:, None]) % period < thickness)


def no_data(size: tuple[int, int], unit: int) -> Image.Image:
    """Light grey with hatching: nothing is known here."""
    grey = Image.new("L", size, HATCH_PAPER)
    grey.paste(HATCH_INK, mask=hatching(size, unit))
    return grey.convert("RGB")


def color_bar(colors: ByteArray, labels: Sequence[str], width: int, unit: int) -> Block:
    """A bar from low to high with texts below it, evenly spaced from end to end.

    Args:
        colours: (n, 3), or (2, n, 3) for an upper and a lower half.
        labels: at least two, see `bar_labels`.
    """
    placed = bar_labels(labels, width, unit)
    thick = max(6, round(0.85 * unit))
    rows_below = 1 + max(row for _, row, _ in placed)
    block = blank_block(width, thick + round(0.25 * unit) + rows_below * line_height(unit))
    block.put(Ramp(colors[None] if colors.ndim == 2 else colors, width, thick), 0, 0)
    block.put(Rectangle(width, thick, outline=EDGE, line=max(1, unit // 18)), 0, 0)
    for left, row, label in placed:
        put_text(block, left, thick + round(0.25 * unit) + unit + row * line_height(unit), label, unit, INK)
    return block


def bar_labels(labels: Sequence[str], width: int, unit: int) -> list[tuple[float, int, str]]:
    """Where the texts below a bar stand: left edge, row, text; never one over another, nor beyond the bar.

    Where there is no room for all, the inner ones are left out; where there is none for both ends, the upper end goes
    into a row of its own.
    """
    shown = [elide(label, unit, width) for label in labels]
    lefts = [number / (len(shown) - 1) * (width - text_width(label, unit)) for number, label in enumerate(shown)]
    ends = [left + text_width(label, unit) + APART * unit for left, label in zip(lefts, shown, strict=True)]
    if any(end > left for end, left in zip(ends, lefts[1:], strict=False)):
        if len(shown) > 2:
            return bar_labels([labels[0], labels[-1]], width, unit)
        return [(lefts[0], 0, shown[0]), (lefts[1], 1, shown[1])]
    return [(left, 0, label) for left, label in zip(lefts, shown, strict=True)]


def legend_entry(text: str, swatch: Image.Image, unit: int, width: int) -> Block:
    """A small sample and what it stands for."""
    side, top, indent = round(0.85 * unit), round(0.3 * unit), round(2.4 * unit)
    words = set_lines(
        [Line(line, unit, MUTED) for line in wrap_words(text, unit, width - indent)], max(1, width - indent)
    )
    block = blank_block(width, words.height)
    block.put(Raster(swatch.crop((0, 0, 2 * side, side)), 2 * side, side), 0, top)
    block.put(Rectangle(2 * side, side, outline=EDGE, line=max(1, unit // 18)), 0, top)
    block.put(words, indent, 0)
    return block


def legend(bar: Block | None, notes: Sequence[Block | str], width: int, unit: int) -> Block:
    """The bar with its notes: to its right where there is room, else below."""
    gap = 2 * unit
    left = bar.width + gap if bar else 0
    room = width - left
    if bar and room < 14 * unit:
        left, room = 0, width
    written = [
        set_lines([Line(line, unit, MUTED) for line in wrap_words(note, unit, room)], room)
        if isinstance(note, str)
        else note
        for note in notes
    ]
    if bar is None or not written:
        return stack_vertically(written, 0) if written else bar or blank_block(1, 1)
    words = stack_vertically(written, 0)
    return stack_horizontally([bar, words], gap) if left else stack_vertically([bar, words], round(0.5 * unit))


def bar_width(width: int, unit: int) -> int:
    """How long a colour bar is under a picture of some width."""
    return min(width, 18 * unit)
