"""Curves on shared axes: the area between them, their marks, and where words stand beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli.core.evaluation import ChartSpec, Curve
from cnnviz_cli.render.axes import (
    BLUE,
    DOT,
    GRID,
    TICK,
    Axis,
    Box,
    dot_box,
    gutter_for,
    make_axis,
    percent,
    round_ticks,
)
from cnnviz_cli.render.layout import (
    GAP,
    INK,
    MUTED,
    PAPER,
    RULE,
    SMALL,
    TYPE,
    Block,
    Dots,
    Polygon,
    Polyline,
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
)

TINT = "#dbe6f3"  # of the area between two curves
AGAINST = "#eecdbe"  # of it where the first is below the second
FAINT = "#bcc2ca"  # curves of controls
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


CONTROLS = -1
"""The key of the word for the controls' curves, among those for a plot's own."""


def draw_plot(plot: Plot, across: Axis, up: Axis, words: dict[int, str] | None = None, *, color: str = BLUE) -> Block:
    """The frame of one method: grid, controls, area, curves, dots at marks, and words beside the curves.

    Args:
        words: for the curve of a number, or for the `CONTROLS`; those for which there was room are taken out.
    """
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
        block.put(Polyline(points, FAINT, 1), 0, 0)
    for points in lines:
        block.put(Polyline(points, color, 2), 0, 0)
    for number, places in enumerate(spots):
        if places:
            block.put(Dots(places, DOT - 0.5, color if number else PAPER, color, 2), 0, 0)
    taken = [dot_box(place) for places in spots for place in places]
    for number, text in sorted((words or {}).items(), reverse=True):
        if number >= len(lines):
            continue
        ink = MUTED if number == CONTROLS else color
        own = [lines[number]] if number != CONTROLS else others
        # A word has the colour of its curve, so that only a curve of the same colour may not be nearer.
        rivals, obstacles = ([*lines[:number], *lines[number + 1 :]], others) if number != CONTROLS else ([], lines)
        if put_beside(block, text, own, (rivals, obstacles), taken, ink) and words:
            del words[number]
    return block


def words_for(spec: ChartSpec, controls: Sequence[Curve]) -> dict[int, str]:
    """What stands beside the curves of a chart."""
    found = {number: text for number, (_, text) in enumerate(spec.curves)}
    return found | ({CONTROLS: "controls"} if controls else {})


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


STEP = 4  # units between the places that are tried for a word


def put_beside(
    block: Block,
    text: str,
    own: Sequence[Sequence[Place]],
    foreign: tuple[Sequence[Sequence[Place]], Sequence[Sequence[Place]]],
    taken: list[Box],
    color: str,
) -> bool:
    """A word in the free room nearest to its lines, if there is any.

    Args:
        foreign: lines that it has to be further from than from its own, and lines that it may not touch.
        taken: places that are not free; it gets the word's own.

    Returns:
        whether there was room.
    """
    width, high = text_width(text, SMALL), 0.72 * SMALL
    bases = np.arange(round(high) + 2, block.height - 4, STEP)
    tops, ends = bases - high, bases + 3.0
    best: tuple[float, float, float] | None = None

    def apart(points: Sequence[Place], left: int) -> NDArray[np.float64]:
        """How far each place of the word is above or below a line; nothing where they meet."""
        highest, lowest = _span(points, left - 3, left + width + 3)
        away: NDArray[np.float64] = np.maximum(0.0, np.maximum(tops - lowest, highest - ends))
        return away

    for left in range(4, int(block.width - width - 4) + 1, STEP):
        away = np.min([apart(points, left) for points in own], axis=0)
        free = (away >= 3) & (away < (best[0] if best else np.inf))
        if not free.any():
            continue  # seen to first: of most places it is all there is to see to
        for points in foreign[1]:
            free &= apart(points, left) >= 3
        for points in foreign[0]:
            free &= apart(points, left) >= away + 2
        for other in taken:
            if left < other[2] + 3 and other[0] < left + width + 3:
                free &= (tops >= other[3] + 3) | (other[1] >= ends + 3)
        if free.any():
            at = int(np.argmin(np.where(free, away, np.inf)))
            best = (float(away[at]), left, float(bases[at]))
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


def chart_rows(spec: ChartSpec, plots: Sequence[Plot], width: int) -> Block:
    """The frames of a chart, side by side as far as there is room, on axes that they share.

    Each word stands in the first frame that has room for it; a line below says what found none.
    """
    gutter = gutter_for(chart_axes(plots, 100, 100)[1])
    across = max(1, min(len(plots), (width - gutter + GAP) // (PLOT_LEAST + GAP)))
    across = -(-len(plots) // -(-len(plots) // across))
    side = min(420, (width - gutter + GAP) // across - GAP)
    axes = chart_axes(plots, side - 1, round(side * PLOT_RATIO))
    words = words_for(spec, plots[0].controls)
    rows: list[Block] = []
    for start in range(0, len(plots), across):
        frames = [
            _framed(draw_plot(plot, *axes, words), plot, axes[0], spec.across if not number else "")
            for number, plot in enumerate(plots[start : start + across])
        ]
        rows.append(stack_horizontally([_scale(axes[1], gutter), stack_horizontally(frames, GAP)], 0))
    if words:
        rows.append(set_lines(muted_lines(describe_curves(plots[0], words), SMALL, width), width))
    return stack_vertically(rows, GAP)


def describe_curves(plot: Plot, words: Mapping[int, str]) -> list[str]:
    """Which curve is meant by each word, by where it lies."""
    order = sorted(range(len(plot.curves)), key=lambda number: -sum(plot.curves[number].means))
    names = ["the curve"] if len(order) == 1 else ["upper curve", *["middle curve"] * (len(order) - 2), "lower curve"]
    where = {number: names[place] for place, number in enumerate(order)} | {CONTROLS: "grey"}
    return [f"{where[number]}: {words[number]}" for number in [*order, CONTROLS] if number in words]


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
