"""Pictures put together from blocks on white paper: stacks, rows, margins, colour bars, legends."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from cnnviz_cli.render.palettes import Bytes
from cnnviz_cli.render.typeset import INK, PAPER, QUIET, Line, Mode, elide, leading, length, prose, set_lines, write

HATCH_PAPER, HATCH_INK = 238, 205
"""Greys of the pattern that stands for no data."""

APART = 0.6
"""How far texts below a bar stand apart at the least, as a share of their size."""


def blank(width: int, height: int, mode: Mode = "RGB") -> Image.Image:
    """Paper, at least one pixel."""
    return Image.new(mode, (max(1, width), max(1, height)), PAPER)


def stack(blocks: Sequence[Image.Image], gap: int, mode: Mode = "RGB") -> Image.Image:
    """Blocks under each other, flush left."""
    width = max(block.width for block in blocks)
    sheet = blank(width, sum(block.height for block in blocks) + gap * (len(blocks) - 1), mode)
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height + gap
    return sheet


def beside(blocks: Sequence[Image.Image], gap: int, mode: Mode = "RGB") -> Image.Image:
    """Blocks next to each other, tops aligned."""
    sheet = blank(sum(block.width for block in blocks) + gap * (len(blocks) - 1), max(b.height for b in blocks), mode)
    left = 0
    for block in blocks:
        sheet.paste(block, (left, 0))
        left += block.width + gap
    return sheet


def framed(block: Image.Image, margin: int, mode: Mode = "RGB") -> Image.Image:
    """The block with paper round it."""
    sheet = blank(block.width + 2 * margin, block.height + 2 * margin, mode)
    sheet.paste(block, (margin, margin))
    return sheet


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


def no_data(size: tuple[int, int], unit: int, mode: Mode = "RGB") -> Image.Image:
    """Light grey with hatching: nothing is known here."""
    grey = Image.new("L", size, HATCH_PAPER)
    grey.paste(HATCH_INK, mask=hatching(size, unit))
    return grey if mode == "L" else grey.convert("RGB")


def colour_bar(colours: Bytes, labels: Sequence[str], width: int, unit: int) -> Image.Image:
    """A bar from low to high with texts below it, evenly spaced from end to end.

    Args:
        colours: (n, 3), or (2, n, 3) for an upper and a lower half.
        labels: at least two, see `bar_labels`.
    """
    placed = bar_labels(labels, width, unit)
    thick = max(6, round(0.85 * unit))
    rows_below = 1 + max(row for _, row, _ in placed)
    block = blank(width, thick + round(0.25 * unit) + rows_below * leading(unit))
    halves = colours[None] if colours.ndim == 2 else colours
    index = np.rint(np.linspace(0, halves.shape[1] - 1, width)).astype(int)
    rows = np.arange(thick) * len(halves) // thick
    block.paste(Image.fromarray(halves[:, index][rows]), (0, 0))
    pen = ImageDraw.Draw(block)
    line = max(1, unit // 18)
    pen.rectangle((0, 0, width - 1, thick - 1), outline="#8d939b", width=line)
    for left, row, label in placed:
        base = thick + round(0.25 * unit) + unit + row * leading(unit)
        write(block, left, base, label, unit, INK)
    return block


def bar_labels(labels: Sequence[str], width: int, unit: int) -> list[tuple[float, int, str]]:
    """Where the texts below a bar stand: left edge, row, text; never one over another, nor beyond the bar.

    Where there is no room for all, the inner ones are left out; where there is none for both ends, the upper end goes
    into a row of its own.
    """
    shown = [elide(label, unit, width) for label in labels]
    lefts = [number / (len(shown) - 1) * (width - length(label, unit)) for number, label in enumerate(shown)]
    ends = [left + length(label, unit) + APART * unit for left, label in zip(lefts, shown, strict=True)]
    if any(end > left for end, left in zip(ends, lefts[1:], strict=False)):
        if len(shown) > 2:
            return bar_labels([labels[0], labels[-1]], width, unit)
        return [(lefts[0], 0, shown[0]), (lefts[1], 1, shown[1])]
    return [(left, 0, label) for left, label in zip(lefts, shown, strict=True)]


def key(text: str, swatch: Image.Image, unit: int, width: int) -> Image.Image:
    """A small sample and what it stands for."""
    side = round(0.85 * unit)
    indent = round(2.4 * unit)
    words = set_lines([Line(line, unit, QUIET) for line in prose(text, unit, width - indent)], max(1, width - indent))
    block = blank(width, words.height)
    sample = swatch.crop((0, 0, 2 * side, side))
    block.paste(sample, (0, round(0.3 * unit)))
    ImageDraw.Draw(block).rectangle(
        (0, round(0.3 * unit), 2 * side - 1, round(0.3 * unit) + side - 1), outline="#8d939b", width=max(1, unit // 18)
    )
    block.paste(words, (indent, 0))
    return block


def legend(bar: Image.Image | None, notes: Sequence[Image.Image | str], width: int, unit: int) -> Image.Image:
    """The bar with its notes: to its right where there is room, else below."""
    gap = 2 * unit
    left = bar.width + gap if bar else 0
    room = width - left
    if bar and room < 14 * unit:
        left, room = 0, width
    written = [
        set_lines([Line(line, unit, QUIET) for line in prose(note, unit, room)], room)
        if isinstance(note, str)
        else note
        for note in notes
    ]
    if bar is None or not written:
        return stack(written, 0) if written else bar or blank(1, 1)
    words = stack(written, 0)
    return beside([bar, words], gap) if left else stack([bar, words], round(0.5 * unit))


def bar_width(width: int, unit: int) -> int:
    """How long a colour bar is under a picture of some width."""
    return min(width, 18 * unit)
