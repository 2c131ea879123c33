"""Axes, curves and where words stand between them: what charts are drawn with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, isclose, log10

from cnnviz_cli.core.evaluation import ChartSpec, Curve
from cnnviz_cli.render.layout import (
    ALERT,
    GAP,
    INK,
    MUTED,
    PAPER,
    RULE,
    SMALL,
    TYPE,
    Block,
    Dots,
    Line,
    Polygon,
    Polyline,
    Rectangle,
    blank_block,
    elide,
    line_height,
    put_text,
    set_lines,
    stack_horizontally,
    stack_vertically,
    text_width,
)

BLUE = "#1f5fa8"
TINT = "#dbe6f3"  # of the area between two curves
AGAINST = "#eecdbe"  # of it where the first is below the second
BAND = "#e6e9ed"  # where controls lie
GRID = "#eceef1"
QUIET = "#aab0b8"  # curves and dots of controls
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
    """At most so many round numbers within a range, 1, 2 or 5 times a power of ten apart, and their decimals."""
    size = floor(log10(high - low)) - 2
    largest = max(abs(low), abs(high))
    for power in range(size, size + 5):
        for digit in (1, 2, 5):
            step = digit * 10.0**power
            first = -floor(-low / step + 1e-9)
            last = floor(high / step + 1e-9)
            if last - first + 1 <= most:
                decimals = max(0, -power) if -power <= 4 and largest < 1e5 else SCIENTIFIC
                return tuple(number * step for number in range(first, last + 1)), decimals
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


PLOT_RATIO = 0.62  # the height of a chart by its width
PLOT_LEAST = 180  # the least width of one


def curve_points(curve: Curve, across: Axis, up: Axis) -> tuple[tuple[float, float], ...]:
    """The places of a curve in a plot, down from its top."""
    return tuple(
        (across.place(share), up.length - up.place(mean)) for share, mean in zip(curve.shares, curve.means, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn into one frame of a chart.

    Attributes:
        curves: of the method, in the order of the chart's; the area between the first two is tinted.
        controls: their curves, in grey.
        marks: for each curve the share and the height of its dots; those of the first curve are open.
    """

    title: str
    aside: str
    curves: Sequence[Curve]
    controls: Sequence[Curve] = ()
    marks: Sequence[Sequence[tuple[float, float]]] = ()


def chart_axes(plots: Sequence[Plot], width: float, height: float) -> tuple[Axis, Axis]:
    """The axes that all frames of a chart share: shares from 0 to 1, and heights from zero or below."""
    means = [mean for plot in plots for curve in (*plot.curves, *plot.controls) for mean in curve.means]
    means += [height for plot in plots for marks in plot.marks for _, height in marks]
    limit = max(means)
    up = make_axis([0.0, *means], height, 5, pad=0.0)
    top = 1.0 if 0.8 <= limit <= 1 else up.high + 0.06 * (up.high - up.low)
    bottom = 0.0 if min(means) >= 0 else up.low - 0.06 * (up.high - up.low)
    ticks, decimals = round_ticks(bottom, top, 5)
    return Axis(0, 1, width, (0, 0.5, 1), 0), Axis(bottom, top, height, ticks, decimals)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def draw_plot(
    plot: Plot, across: Axis, up: Axis, words: Sequence[str] = (), controls_word: str = "", *, color: str = BLUE
) -> Block:
    """The frame of one method: grid, controls, area, curves, dots at marks, and words beside the curves."""
    block = blank_block(round(across.length) + 1, round(up.length) + 1)
    spots = [
        tuple((across.place(share), up.length - up.place(height)) for share, height in marks) for marks in plot.marks
    ]
    for tick in up.ticks:
        zero = abs(tick) < 1e-12
        block.put(Rectangle(block.width, 1, fill=RULE if zero else GRID), 0, round(up.length - up.place(tick)))
    lines = [curve_points(curve, across, up) for curve in plot.curves]
    others = [curve_points(curve, across, up) for curve in plot.controls]
    if len(lines) >= 2:
        for area, above in areas_between(lines[0], lines[1]):
            block.put(Polygon(area, TINT if above else AGAINST), 0, 0)
    for points in others:
        block.put(Polyline(points, QUIET, 1), 0, 0)
    for points in lines:
        block.put(Polyline(points, color, 2), 0, 0)
    for number, places in enumerate(spots):
        if places:
            block.put(Dots(places, DOT - 0.5, color if number else PAPER, color, 2), 0, 0)
    everything = [*lines, *others]
    taken = [dot_box(place) for places in spots for place in places]
    for number, text in enumerate(words):
        put_beside(block, text, lines[number], everything, taken, color)
    if controls_word and others:
        middle = sorted(others, key=lambda points: sum(down for _, down in points))
        put_beside(block, controls_word, middle[0], everything, taken, MUTED)
    return block


Place = tuple[float, float]


def areas_between(one: Sequence[Place], other: Sequence[Place]) -> list[tuple[tuple[Place, ...], bool]]:
    """The areas that two lines enclose, and of each whether the first line lies above the second there."""
    ends = max(one[0][0], other[0][0]), min(one[-1][0], other[-1][0])
    steps = sorted({across for across, _ in (*one, *other) if ends[0] <= across <= ends[1]} | set(ends))
    gaps = [(across, _height(one, across), _height(other, across)) for across in steps]
    found: list[tuple[tuple[Place, ...], bool]] = []
    run = [gaps[0]]
    for before, after in pairwise(gaps):
        old, new = before[2] - before[1], after[2] - after[1]
        if old * new < 0:
            share = old / (old - new)
            across = before[0] + share * (after[0] - before[0])
            down = before[1] + share * (after[1] - before[1])
            run.append((across, down, down))
            found += _area_of(run)
            run = [(across, down, down)]
        run.append(after)
        if new == 0:
            found += _area_of(run)
            run = [after]
    return found + _area_of(run)


def turns_over(plot: Plot) -> bool:
    """Whether the first curve lies below the second one somewhere."""
    if len(plot.curves) < 2:
        return False
    lines = [[(share, -mean) for share, mean in zip(one.shares, one.means, strict=True)] for one in plot.curves[:2]]
    return any(not above and _size_of(area) > HARDLY for area, above in areas_between(*lines))


HARDLY = 5e-3  # an area, of 1 x 1, that one does not see


def _size_of(area: Sequence[Place]) -> float:
    """The size of an area within its corners."""
    turns = zip(area, (*area[1:], area[0]), strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in turns)) / 2


UPSIDE_DOWN = "Red area: there removing what the map calls important costs less than removing the rest."


def _area_of(run: Sequence[tuple[float, float, float]]) -> list[tuple[tuple[Place, ...], bool]]:
    """The area along places with both lines' heights, none where there is no room between them."""
    gap = sum(lower - upper for _, upper, lower in run)
    if gap == 0:
        return []
    upper = tuple((across, down) for across, down, _ in run)
    lower = tuple((across, down) for across, _, down in reversed(run))
    return [((*upper, *lower), gap > 0)]


def _height(points: Sequence[tuple[float, float]], across: float) -> float:
    if across <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if across <= x1:
            return y0 + (y1 - y0) * (across - x0) / (x1 - x0) if across < x1 else y1
    return points[-1][1]


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


STEP = 4  # units between the places that are tried for a word


def put_beside(
    block: Block,
    text: str,
    own: Sequence[tuple[float, float]],
    lines: Sequence[Sequence[tuple[float, float]]],
    taken: list[Box],
    color: str,
) -> bool:
    """A word in the free room nearest to its line, if there is any; `taken` gets its place. Whether there was."""
    width, high = text_width(text, SMALL), 0.72 * SMALL
    best: tuple[float, float, float] | None = None
    for left in range(4, int(block.width - width - 4) + 1, STEP):
        spans = [_span(points, left - 3, left + width + 3) for points in lines]
        low, top = _span(own, left, left + width)
        for base in range(round(high) + 2, block.height - 4, STEP):
            box = (left, base - high, left + width, base + 3)
            if any(box[1] - 3 < down and up < box[3] + 3 for up, down in spans):
                continue
            if any(overlaps(box, other, 3) for other in taken):
                continue
            away = min(abs(box[1] - top), abs(low - box[3]))
            nearest = min(min(abs(box[1] - down), abs(up - box[3])) for up, down in spans)
            cost = away + (60 if nearest < away - 1 else 0)
            if best is None or cost < best[0]:
                best = (cost, left, base)
    if best is None:
        return False
    _, start, level = best
    taken.append((start, level - high, start + width, level + 3))
    put_text(block, start, round(level), text, SMALL, color)
    return True


def _span(points: Sequence[tuple[float, float]], left: float, right: float) -> tuple[float, float]:
    """The highest and the lowest place of a line between two places across."""
    inner = [down for across, down in points if left <= across <= right]
    inner += [_height(points, left), _height(points, right)]
    return min(inner), max(inner)


def chart_rows(spec: ChartSpec, plots: Sequence[Plot], width: int, controls_word: str = "") -> Block:
    """The frames of a chart, side by side as far as there is room, on axes that they share."""
    gutter = gutter_for(chart_axes(plots, 100, 100)[1])
    across = max(1, min(len(plots), (width - gutter + GAP) // (PLOT_LEAST + GAP)))
    across = -(-len(plots) // -(-len(plots) // across))
    side = min(420, (width - gutter + GAP) // across - GAP)
    axes = chart_axes(plots, side - 1, round(side * PLOT_RATIO))
    words = [text for _, text in spec.curves]
    rows = []
    for start in range(0, len(plots), across):
        frames: list[Block] = [_scale(axes[1], gutter)]
        for number, plot in enumerate(plots[start : start + across]):
            first = not start and not number
            inner = draw_plot(plot, *axes, words if first else (), controls_word if first else "")
            frames.append(_framed(inner, plot, axes[0], spec.across if not number else ""))
        row = frames[0]
        row = stack_horizontally([row, stack_horizontally(frames[1:], GAP)], 0)
        rows.append(row)
    return stack_vertically(rows, GAP)


def _scale(up: Axis, width: int) -> Block:
    """The numbers to the left of a frame."""
    head = TYPE + 10
    block = blank_block(width, head + round(up.length) + SMALL)
    for tick in up.ticks:
        text = up.label(tick)
        base = head + round(up.length - up.place(tick)) + round(0.36 * SMALL)
        put_text(block, width - 8 - text_width(text, SMALL), base, text, SMALL, MUTED)
    return block


def _framed(inner: Block, plot: Plot, across: Axis, words: str) -> Block:
    """A frame under its title, and over the numbers of its axis."""
    head = TYPE + 10
    block = blank_block(inner.width, head + inner.height + TICK + line_height(SMALL))
    aside = text_width(plot.aside, TYPE)
    name = elide(plot.title, TYPE, inner.width - aside - 8, middle=True)
    put_text(block, 0, TYPE, name, TYPE, INK)
    put_text(block, inner.width - aside, TYPE, plot.aside, TYPE, MUTED)
    block.put(inner, 0, head)
    put_shares(block, across, 0, head + inner.height, words)
    return block


def frame_plot(inner: Block, across: Axis, up: Axis, below: str, above: str, gutter: int) -> Block:
    """A plot between the numbers of its axes, with the words of both."""
    head = line_height(SMALL)
    block = blank_block(gutter + inner.width, head + inner.height + TICK + line_height(SMALL))
    put_text(block, gutter, SMALL - 1, elide(above, SMALL, inner.width), SMALL, MUTED)
    for tick in up.ticks:
        text = up.label(tick)
        base = head + round(up.length - up.place(tick)) + round(0.36 * SMALL)
        put_text(block, gutter - 8 - text_width(text, SMALL), base, text, SMALL, MUTED)
    block.put(inner, gutter, head)
    put_shares(block, across, gutter, head + inner.height, below)
    return block


def put_shares(block: Block, across: Axis, left: float, top: int, words: str) -> None:
    """The ticks of shares below a plot with their numbers; words stand in the place of the middle one."""
    ends = [percent(tick) for tick in across.ticks]
    if words:
        ends[len(ends) // 2] = words
    for tick, text in zip(across.ticks, ends, strict=True):
        room = text_width(text, SMALL)
        place = min(max(0.0, across.place(tick) - room / 2), across.length + 1 - room)
        block.put(Rectangle(1, TICK, fill=RULE), left + round(across.place(tick)), top)
        put_text(block, left + place, top + TICK + SMALL, text, SMALL, MUTED)


KeyEntry = tuple[Callable[[Block, int], None], str]
"""What draws a sample around a height, and what it means."""


def key_line(entries: Sequence[KeyEntry], width: int) -> Block:
    """Samples with their meaning, one after the other, in as many lines as they take.

    Each sample is drawn into a block of 26 units, around a height.
    """
    room, gap, tall = 26, 20, line_height(SMALL) + 4
    places: list[tuple[float, int, int]] = []
    left, row = 0.0, 0
    for number, (_, text) in enumerate(entries):
        wide = room + 6 + text_width(text, SMALL)
        if left and left + wide > width:
            left, row = 0.0, row + 1
        places.append((left, row, number))
        left += wide + gap
    block = blank_block(width, (row + 1) * tall)
    for across, line, number in places:
        draw, text = entries[number]
        sample = blank_block(room, tall)
        draw(sample, tall // 2)
        block.put(sample, across, line * tall)
        words = elide(text, SMALL, width - across - room - 6)
        put_text(block, across + room + 6, line * tall + tall // 2 + round(0.36 * SMALL), words, SMALL, MUTED)
    return block


def section_heading(title: str, words: str, width: int) -> Block:
    """The title of a part of a sheet, and beside or below it what it shows."""
    lines = [Line(elide(title, TYPE + 1, width), TYPE + 1, strong=True)]
    if words:
        lines.append(Line(elide(words, SMALL, width), SMALL, MUTED))
    return set_lines(lines, width)
