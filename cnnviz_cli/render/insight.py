"""What an explanation costs against what it shows, and which explanations tell the same story."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import floor, log10

import numpy as np

from cnnviz_cli.core.evaluation import Agreement, ColumnSpec, MethodRow
from cnnviz_cli.render.axes import (
    BAND,
    DOT,
    GRID,
    QUIET,
    TICK,
    Axis,
    Box,
    dot_box,
    draw_dot,
    format_fixed,
    gutter_for,
    make_axis,
    overlaps,
    section_heading,
)
from cnnviz_cli.render.layout import (
    ALERT,
    GAP,
    INK,
    MUTED,
    PAPER,
    RULE,
    SMALL,
    Block,
    Polyline,
    Ramp,
    Rectangle,
    blank_block,
    elide,
    line_height,
    put_text,
    stack_vertically,
    text_width,
)
from cnnviz_cli.render.scaling import ByteArray

FRONT = "#8fb0d6"  # the line of what nothing else beats at its cost


def compose_scatter(rows: Sequence[MethodRow], column: ColumnSpec, width: int) -> Block:
    """Passes, on a scale of powers, against a column; the line joins what no cheaper method beats."""
    points = [(row, row.cells[column.name]) for row in rows if column.name in row.cells and row.passes is not None]
    if not points:
        return blank_block(width, 1)
    height = round(min(320, 0.62 * width))
    values = [cell.mean for _, cell in points] + [*(column.controls or ())]
    up = make_axis(values, height, 5, pad=0.09)
    gutter = gutter_for(up)
    inner = width - gutter
    cost = [log10(max(1, row.passes or 0)) for row, _ in points]
    low, high = min(cost), max(cost)
    high = max(high, low + 0.5)
    pad = 0.08 * (high - low)
    across = Axis(low - pad, high + 1.5 * pad, inner, _powers(low, high), 0)
    plot = blank_block(inner, height + 1)
    if column.controls is not None:
        top, bottom = (height - up.place(value) for value in (column.controls[1], column.controls[0]))
        plot.put(Rectangle(inner, max(2, round(bottom) - round(top)), fill=BAND), 0, round(top))
    for tick in up.ticks:
        plot.put(Rectangle(inner, 1, fill=GRID), 0, round(height - up.place(tick)))
    spots = [(across.place(log10(max(1, row.passes or 0))), height - up.place(cell.mean)) for row, cell in points]
    front = pareto([row.passes or 0 for row, _ in points], [cell.mean for _, cell in points], column.better)
    spots = [(left, float(round(down))) for left, down in spots]
    taken: list[Box] = []
    # Level pieces alone: an upright one would lead through what costs as much and is worse.
    levels = [(spots[one], (spots[other][0], spots[one][1])) for one, other in pairwise(front)]
    for level in levels:
        plot.put(Polyline(level, FRONT, 1.5), 0, 0)
    walls = [_segment_box(*level) for level in levels]
    for (_, cell), (left, down) in zip(points, spots, strict=True):
        dot = blank_block(1, 1)
        draw_dot(dot, 0, 0, beats=cell.beats_controls if column.ranked else None)
        (item,) = [one for _, _, one in dot.items]
        plot.put(item, left, round(down))
    if column.controls is not None:
        _band_word(plot, column.controls, up, spots, taken)
    rings = FAR if len(points) <= FEW else NEAR
    order = [*front, *(number for number in range(len(points)) if number not in front)][:MOST_NAMED]
    for number in order:
        row, cell = points[number]
        red = column.ranked and cell.beats_controls is False
        place_label(plot, row.full_title, spots[number], (spots, walls), taken, ALERT if red else INK, rings)
    words = f"{column.title} against passes an image; the line: what nothing as cheap beats"
    frame = blank_block(width, height + 1 + TICK + line_height(SMALL) + 4)
    frame.put(plot, gutter, 4)
    for tick in up.ticks:
        text = up.label(tick)
        base = 4 + round(height - up.place(tick)) + round(0.36 * SMALL)
        put_text(frame, gutter - 8 - text_width(text, SMALL), base, text, SMALL, MUTED)
    frame.put(Rectangle(inner, 1, fill=RULE), gutter, 4 + height)
    for power in across.ticks:
        text = f"{10**power:,.0f}"
        place = gutter + across.place(power)
        frame.put(Rectangle(1, TICK, fill=RULE), round(place), 4 + height)
        left = min(max(float(gutter), place - text_width(text, SMALL) / 2), width - text_width(text, SMALL))
        put_text(frame, left, 4 + height + TICK + SMALL + 2, text, SMALL, MUTED)
    return stack_vertically([section_heading("Cost against insight", words, width), frame], GAP // 3)


def _powers(low: float, high: float) -> tuple[float, ...]:
    """The logarithms of round numbers of passes: powers of ten, and with few of them multiples."""
    found: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        found = [
            power + log10(digit)
            for power in range(floor(low), floor(high) + 1)
            for digit in digits
            if low - 1e-9 <= power + log10(digit) <= high + 1e-9
        ]
        if len(found) >= 3:
            break
    return tuple(found)


def pareto(costs: Sequence[float], values: Sequence[float], better: str) -> list[int]:
    """The numbers of those that nothing as cheap or cheaper beats, the cheapest first."""
    sign = -1 if better == "low" else 1
    found: list[int] = []
    for number in sorted(range(len(costs)), key=lambda one: (costs[one], -sign * values[one])):
        if not found or sign * values[number] > sign * values[found[-1]]:
            found.append(number)
    return found


def _band_word(
    plot: Block, band: tuple[float, float], up: Axis, spots: Sequence[tuple[float, float]], taken: list[Box]
) -> None:
    """ "controls" in the band, where no dot is."""
    text = "controls"
    wide = text_width(text, SMALL)
    base = up.length - up.place((band[0] + band[1]) / 2) + 0.36 * SMALL
    for left in (plot.width - wide - 6, 6.0, plot.width / 2 - wide / 2):
        box = (left, base - SMALL, left + wide, base + 3)
        if not any(overlaps(box, dot_box(spot)) for spot in spots):
            taken.append(box)
            put_text(plot, left, round(base), text, SMALL, MUTED)
            return


def _segment_box(start: tuple[float, float], end: tuple[float, float]) -> Box:
    """What a line that is level or upright covers."""
    return min(start[0], end[0]), min(start[1], end[1]) - 1, max(start[0], end[0]), max(start[1], end[1]) + 1


FAR, NEAR = 7, 2  # rings around a dot in which its name may stand; of many dots only the nearest
FEW = 16
MOST_NAMED = 60  # dots with a name; the others are in the table


def place_label(
    plot: Block,
    text: str,
    spot: tuple[float, float],
    obstacles: tuple[Sequence[tuple[float, float]], Sequence[Box]],
    taken: list[Box],
    color: str,
    rings: int = FAR,
) -> bool:
    """A dot's name beside it; further away it gets a line.

    Args:
        obstacles: all dots, and boxes of lines; no name stands over one, nor over one of `taken`, which gets its place.

    Returns:
        whether there was room.
    """
    text = elide(text, SMALL, 0.4 * plot.width, middle=True)
    wide = text_width(text, SMALL)
    spots, walls = obstacles
    for ring in range(rings):
        reach = DOT + 4 + ring * 8
        right, left = spot[0] + reach, spot[0] - reach - wide
        level, above, below = spot[1] + 0.36 * SMALL, spot[1] - reach + 1, spot[1] + reach + 0.72 * SMALL - 1
        places = [(right, level), (left, level), (spot[0] - wide / 2, above), (spot[0] - wide / 2, below)]
        places += [(spot[0] - DOT, above), (spot[0] - DOT, below), (right, above), (right, below)]
        places += [(spot[0] + DOT - wide, above), (spot[0] + DOT - wide, below), (left, above), (left, below)]
        for start, base in places:
            box = (start, base - 0.8 * SMALL, start + wide, base + 0.25 * SMALL)
            if start < 0 or start + wide > plot.width or box[1] < 0 or box[3] > plot.height:
                continue
            if any(overlaps(box, dot_box(one), 1) for one in spots) or any(overlaps(box, one, 3) for one in taken):
                continue
            if any(overlaps(box, one, 1) for one in walls):
                continue
            if ring > 0:
                end = (min(max(spot[0], start), start + wide), box[3] if base < spot[1] else box[1])
                plot.items.insert(0, (0, 0, Polyline((spot, end), QUIET, 1)))
            taken.append(box)
            put_text(plot, start, round(base), text, SMALL, color)
            return True
    return False


SAME, NONE, OPPOSITE = (31, 95, 168), (255, 255, 255), (150, 156, 165)  # the colours of 1, of 0 and of -1
SQUARE = 44  # the widest cell
NUMBERED, BRIEF = 30, 24  # units that a cell needs for its number, and for ".87"


def compose_agreement(agreement: Agreement, width: int) -> Block:
    """The matrix, ordered so that what is alike stands together; blue is alike, white unrelated, grey opposite."""
    order = similarity_order([[value or 0.0 for value in row] for row in agreement.matrix])
    names = [agreement.names[number] for number in order]
    count = len(names)
    needed = max(text_width(name, SMALL) for name in names) + 32
    label = round(min(needed, max(0.4 * width, width - count * SQUARE)))
    side = max(1, min(SQUARE, (width - label) // count))
    tall = max(min(side, 30), SMALL + 3)
    numbered = side >= BRIEF
    top = SMALL + 6
    block = blank_block(width, top + count * tall + 1)
    for down, row in enumerate(order):
        base = top + down * tall + tall // 2 + round(0.36 * SMALL)
        key = str(down + 1)
        put_text(block, 16 - text_width(key, SMALL), base, key, SMALL, MUTED)
        put_text(block, 24, base, elide(names[down], SMALL, label - 32, middle=True), SMALL, INK)
        if text_width(key, SMALL) + 3 <= side or down % 5 == 4 or down == 0:
            place = label + down * side + side / 2 - text_width(key, SMALL) / 2
            put_text(block, place, SMALL, key, SMALL, MUTED)
        for across, column in enumerate(order):
            value = agreement.matrix[row][column]
            fill = PAPER if value is None else agreement_color(value)
            block.put(Rectangle(side, tall, fill=fill), label + across * side, top + down * tall)
            if (numbered and across != down) or value is None:
                text = "-" if value is None else format_fixed(value, 2)
                # Where there is little room, the nought before the point goes.
                text = text if side >= NUMBERED else text.replace("0.", ".", 1)
                left = label + across * side + (side - text_width(text, SMALL)) / 2
                put_text(block, left, base, text, SMALL, PAPER if value is not None and value > 0.8 else INK)
    lowest = min(value for row in agreement.matrix for value in row if value is not None)
    foot = _agreement_key(min(0.0, floor(10 * lowest) / 10), width)
    words = "rank correlation of each two methods' maps, the alike side by side"
    return stack_vertically([section_heading("Which methods agree", words, width), block, foot], GAP // 3)


def agreement_color(value: float) -> str:
    """The colour of a correlation."""
    end, share = (SAME, value) if value >= 0 else (OPPOSITE, -value)
    share = min(1.0, share)
    return "#" + "".join(f"{round(low + (high - low) * share):02x}" for low, high in zip(NONE, end, strict=True))


def _agreement_key(lowest: float, width: int) -> Block:
    long, tall = min(180, width - 80), 10
    steps = np.linspace(lowest, 1, 101)
    colors: ByteArray = np.array([list(bytes.fromhex(agreement_color(float(step))[1:])) for step in steps], np.uint8)
    block = blank_block(width, tall + 4 + line_height(SMALL))
    block.put(Ramp(colors[None], long, tall), 0, 2)
    block.put(Rectangle(long, tall, outline=RULE), 0, 2)
    ends = [(lowest, format_fixed(lowest, 1))] if lowest < 0 else []
    for value, text in [*ends, (0.0, "0 unrelated"), (1.0, "1 alike")]:
        place = (value - lowest) / (1 - lowest) * long
        left = min(max(0.0, place - text_width(text.split(" ")[0], SMALL) / 2), long - text_width("1", SMALL))
        if not (lowest < 0 and value == 0 and place < text_width(ends[0][1], SMALL) + 12):
            put_text(block, left, tall + 4 + SMALL, text, SMALL, MUTED)
    return block


def similarity_order(matrix: Sequence[Sequence[float]]) -> list[int]:
    """The rows in an order that puts the alike side by side.

    Groups are joined by their mean likeness, the most alike first, each turned so that its most alike ends meet.
    """
    count = len(matrix)
    groups = [[number] for number in range(count)]
    likeness = np.array(matrix, np.float64).reshape(count, count)
    np.fill_diagonal(likeness, -np.inf)
    for _ in range(count - 1):
        first, second = sorted(divmod(int(likeness.argmax()), count))
        left, right = groups[first], groups[second]
        turned = [(a, b) for a in (left, left[::-1]) for b in (right, right[::-1])]
        joined = max(turned, key=lambda pair: matrix[pair[0][-1]][pair[1][0]])
        mean = (len(left) * likeness[first] + len(right) * likeness[second]) / (len(left) + len(right))
        groups[first] = [*joined[0], *joined[1]]
        likeness[first], likeness[:, first] = mean, mean
        likeness[second], likeness[:, second] = -np.inf, -np.inf
        likeness[first, first] = -np.inf
    return groups[0]
