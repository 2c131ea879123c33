"""The leaderboard of explanations: methods against measures, with errors and with what knows nothing of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import log2

from cnnviz_cli.core.evaluation import ChartSpec, ColumnSpec, Leaderboard, MethodRow, agreement_word, check_finite
from cnnviz_cli.core.figure_settings import LAYOUT_WIDTH
from cnnviz_cli.render.axes import (
    BAND,
    DOT,
    GRID,
    QUIET,
    TICK,
    Axis,
    KeyEntry,
    decimals_for,
    dot_color,
    draw_dot,
    format_fixed,
    key_line,
    make_axis,
    section_heading,
)
from cnnviz_cli.render.charts import UPSIDE_DOWN, Plot, chart_rows, turns_over
from cnnviz_cli.render.insight import compose_agreement, compose_scatter
from cnnviz_cli.render.layout import (
    ALERT,
    GAP,
    INK,
    MARGIN,
    MUTED,
    RULE,
    SMALL,
    TYPE,
    Block,
    Line,
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
    wrap_words,
)
from cnnviz_cli.render.overview import HEADING, make_sheet

NARROW = 760  # units below which the margin is half as wide, and what stood side by side stands below each other
ROOMY = 1040  # the least width of the charts of a full leaderboard, where nothing narrower was asked for
SHOWN = 4  # methods whose curves are drawn
LEAST_COLUMN, COLUMN, WIDEST_COLUMN = 80, 140, 200  # the width of a column, its number included
APART = 16  # units between columns
NUMBER = 38  # the room of a column's numbers
INSET = 8  # units left of an axis that its numbers and dots may reach into
LEAST_NAME, SHORT_NAME, WIDEST_NAME = 110, 154, 300  # the room of the methods' names
COST = 104
NOTES = "abcdefghijklmnopqrstuvwxyz"
LAYER_GAP = 8


def compose_leaderboard(board: Leaderboard, room: int = LAYOUT_WIDTH) -> Block:
    """The sheet, at most `room` units wide; exactly so wide where that is less than sheets usually have.

    Raises ValueError if a number is not finite.
    """
    check_finite(board)
    margin = MARGIN if room >= NARROW else MARGIN // 2
    width = sheet_width(board, room - 2 * margin) if room >= LAYOUT_WIDTH else room - 2 * margin
    rows = [_heading(board, width), compose_table(board, width)]
    for spec in board.charts:
        if plots := _plots(board, spec):
            words = _chart_words(board, spec, len(plots))
            chart = chart_rows(spec, plots, width)
            rows.append(stack_vertically([section_heading(spec.title, words, width), chart], GAP // 2))
    rows += _insight(board, width)
    if foot := _foot(board, width):
        rows.append(set_lines(foot, width))
    return make_sheet(rows, width, margin)


def sheet_width(board: Leaderboard, most: int) -> int:
    """As wide as the columns need at their ease, and as the charts below them need at the least."""
    columns = len(board.columns) * (COLUMN + APART) + (COST + APART) * _has_cost(board)
    least = ROOMY if len(board.rows) >= SHOWN else NARROW
    return min(most, max(least, name_width(board, most) + columns))


def _heading(board: Leaderboard, width: int) -> Block:
    lines = [Line(text, HEADING) for text in wrap_words(board.title, HEADING, width)]
    return set_lines([*lines, *muted_lines(board.subtitle, TYPE, width)], width)


def _has_cost(board: Leaderboard) -> bool:
    return any(row.passes is not None for row in board.rows)


def name_width(board: Leaderboard, most: int) -> int:
    """The room of the methods' names: as much as they need, at most a quarter of the sheet."""
    needed = max((_name_needs(row) for row in (*board.rows, *board.control_rows)), default=0)
    return round(min(max(needed, LEAST_NAME), WIDEST_NAME, max(SHORT_NAME, 0.26 * most)))


def _name_needs(row: MethodRow) -> float:
    layer = LAYER_GAP + text_width(row.aside, SMALL) if row.aside else 0
    return text_width(row.title, TYPE) + layer + 8 * len(row.marks) + 10


def compose_table(board: Leaderboard, width: int) -> Block:
    """Methods against columns, folded into several tables below each other where there are too many columns."""
    cost = _has_cost(board)
    items: list[ColumnSpec | None] = [*board.columns, *([None] if cost else [])]
    name = name_width(board, width)
    if len(items) * (LEAST_COLUMN + APART) > width - name:
        name = min(name, max(180, width - len(items) * (LEAST_COLUMN + APART)))
    across = max(1, (width - name) // (LEAST_COLUMN + APART))
    folds = -(-len(items) // across)
    notes = _notes(board)
    parts: list[Block] = []
    for number in range(folds):
        part = items[-(-len(items) * number // folds) : -(-len(items) * (number + 1) // folds)]
        # The columns of every fold are as wide as those of the one that has most.
        column = min(WIDEST_COLUMN, (width - name) // -(-len(items) // folds) - APART)
        parts.append(_Table(board, notes, name, column, part).compose(width))
    parts.append(_key(board, width))
    return stack_vertically(parts, GAP)


def _notes(board: Leaderboard) -> Mapping[str, str]:
    """The letter of each sentence that a method is marked with."""
    sentences = dict.fromkeys(mark for row in (*board.rows, *board.control_rows) for mark in row.marks)
    return {sentence: NOTES[number % len(NOTES)] for number, sentence in enumerate(sentences)}


@dataclass(frozen=True, slots=True)
class _Table:
    board: Leaderboard
    notes: Mapping[str, str]
    name: int  # the room of names
    column: int  # the width of a column
    items: Sequence[ColumnSpec | None]  # None is the cost

    @property
    def pitch(self) -> int:
        count = len(self.board.rows)
        return 32 if count <= 12 else 27 if count <= 24 else 23

    @property
    def row_count(self) -> int:
        return len(self.board.rows) + len(self.board.control_rows)

    def middle(self, number: int) -> int:
        """How far below the table's first line the middle of a row lies; controls stand a little apart."""
        below = 10 if number >= len(self.board.rows) else 0
        return number * self.pitch + self.pitch // 2 + below

    @property
    def body_height(self) -> int:
        return self.row_count * self.pitch + (10 if self.board.control_rows else 0)

    def compose(self, width: int) -> Block:
        heads = [self._head(item) for item in self.items]
        head = max(block.height for block in heads) + 8
        block = blank_block(width, head + self.body_height + TICK + line_height(SMALL))
        used = self.name + len(self.items) * (self.column + APART) - APART
        if self.items[-1] is None:
            used -= max(0, self.column - COST)
        rows = (*self.board.rows, *self.board.control_rows)
        for number in range(1, len(rows)):
            if number != len(self.board.rows):
                top = (self.middle(number) + self.middle(number - 1)) // 2
                block.put(Rectangle(min(width, used), 1, fill=GRID), 0, head + top)
        for number, row in enumerate(rows):
            self._row_name(block, row, head + self.middle(number), number >= len(self.board.rows))
        for number, (item, title) in enumerate(zip(self.items, heads, strict=True)):
            left = self.name + number * (self.column + APART)
            block.put(title, left, head - 8 - title.height)
            block.put(self._column(item) if item else self._cost(), left - INSET * bool(item), head)
        return block

    def _head(self, item: ColumnSpec | None) -> Block:
        title = item.title if item else "cost"
        ranks = item is not None and item.name == self.board.order_by
        lines = [Line(text, TYPE, strong=ranks) for text in wrap_words(title, TYPE, self.column)]
        words = "passes an image" if item is None else _direction(item)
        lines += muted_lines(words, SMALL, self.column)
        return set_lines(lines, self.column)

    def _row_name(self, block: Block, row: MethodRow, middle: int, control: bool) -> None:
        letters = " ".join(self.notes[mark] for mark in row.marks)
        aside = text_width(letters, SMALL) + 3 if letters else 0
        layer = text_width(row.aside, SMALL) + LAYER_GAP if row.aside else 0
        room = self.name - 10 - aside
        size = TYPE if not control else SMALL + 1
        title = elide(row.title, size, max(room - layer, 0.55 * room) if layer else room, middle=True)
        base = middle + round(0.36 * size)
        put_text(block, 0, base, title, size, MUTED if control else INK)
        left = text_width(title, size)
        if row.aside:
            text = elide(row.aside, SMALL, room - left - LAYER_GAP, middle=True)
            put_text(block, left + LAYER_GAP, base, text, SMALL, MUTED)
            left += LAYER_GAP + text_width(text, SMALL)
        if letters:
            put_text(block, left + 3, base - 4, letters, SMALL, MUTED)

    def _column(self, item: ColumnSpec) -> Block:
        """Dots with their errors on an axis of their own, and the numbers to the right."""
        rows = (*self.board.rows, *self.board.control_rows)
        cells = [row.cells.get(item.name) for row in rows]
        known = [cell for cell in cells if cell is not None]
        edge = self.column + INSET
        block = blank_block(edge, self.body_height + TICK + line_height(SMALL))
        decimals = decimals_for([cell.mean for cell in known])
        number_room = max([NUMBER, *(text_width(format_fixed(cell.mean, decimals), TYPE) + 6 for cell in known)])
        axis = column_axis(item, rows, max(self.column - number_room, 3 * DOT))
        if axis is not None:
            self._ground(block, item, axis)
        for number, cell in enumerate(cells):
            middle = self.middle(number)
            base = middle + round(0.36 * TYPE)
            control = number >= len(self.board.rows)
            if cell is None or axis is None:
                put_text(block, edge - text_width("-", TYPE), base, "-", TYPE, MUTED)
                continue
            beats = cell.beats_controls if item.ranked and not control else None
            color = QUIET if control else dot_color(beats)
            place = INSET + axis.place(cell.mean)
            if cell.error:
                ends = [INSET + axis.place(cell.mean + sign * cell.error) for sign in (-1, 1)]
                block.put(Polyline(((ends[0], 0), (ends[1], 0)), color, 2), 0, middle)
            draw_dot(block, place, middle, beats=beats, radius=DOT - control)
            text = format_fixed(cell.mean, decimals)
            ink = ALERT if beats is False else MUTED if control else INK
            put_text(block, edge - text_width(text, TYPE), base, text, TYPE, ink)
        return block

    def _ground(self, block: Block, item: ColumnSpec, axis: Axis) -> None:
        """The band of the controls, the line of chance, and the axis below."""
        if item.controls is not None:
            low, high = (round(INSET + axis.place(value)) for value in item.controls)
            block.put(Rectangle(max(2, high - low), self.body_height, fill=BAND), low, 0)
        if item.chance is not None:
            block.put(Rectangle(1, self.body_height, fill=QUIET), round(INSET + axis.place(item.chance)), 0)
        block.put(Rectangle(round(axis.length), 1, fill=RULE), INSET, self.body_height)
        for left, tick, text in tick_labels(axis):
            block.put(Rectangle(1, TICK, fill=RULE), round(INSET + axis.place(tick)), self.body_height)
            put_text(block, INSET + left, self.body_height + TICK + SMALL, text, SMALL, MUTED)

    def _cost(self) -> Block:
        """Bars as long as the logarithm of the passes, with the numbers behind them."""
        block = blank_block(self.column, self.body_height)
        known = [row.passes for row in self.board.rows if row.passes is not None]
        texts = [f"{passes:,}" for passes in known]
        longest = min(self.column, COST) - 6 - max(text_width(text, SMALL) for text in texts)
        largest = log2(1 + max(known)) or 1.0
        for number, row in enumerate(self.board.rows):
            if row.passes is None:
                continue
            wide = max(2, round(longest * log2(1 + row.passes) / largest))
            middle = self.middle(number)
            block.put(Rectangle(wide, 10, fill=QUIET), 0, middle - 5)
            put_text(block, wide + 6, middle + round(0.36 * SMALL), f"{row.passes:,}", SMALL, MUTED)
        return block


def tick_labels(axis: Axis) -> list[tuple[float, float, str]]:
    """Left edge, value and text of the ticks that have room beside each other; the outer ones first."""
    found: list[tuple[float, float, str]] = []
    order = [*axis.ticks[:1], *axis.ticks[-1:], *axis.ticks[1:-1]] if len(axis.ticks) > 1 else list(axis.ticks)
    for tick in order:
        text = axis.label(tick)
        wide = text_width(text, SMALL)
        if wide > axis.length + 2 * INSET:
            continue
        left = min(max(float(-INSET), axis.place(tick) - wide / 2), axis.length + INSET - wide)
        if all(left > end + 6 or left + wide + 6 < start for start, end in _reach(found)):
            found.append((left, tick, text))
    return found


def _reach(labels: Sequence[tuple[float, float, str]]) -> list[tuple[float, float]]:
    return [(left, left + text_width(text, SMALL)) for left, _, text in labels]


def column_axis(item: ColumnSpec, rows: Sequence[MethodRow], length: float) -> Axis | None:
    """The axis of a column: it holds all means with their errors, the controls and chance; None without a number."""
    cells = [row.cells[item.name] for row in rows if item.name in row.cells]
    if not cells:
        return None
    values = [end for cell in cells for end in (cell.mean - (cell.error or 0), cell.mean + (cell.error or 0))]
    values += [*(item.controls or ()), *([] if item.chance is None else [item.chance])]
    # Dots reach beyond their middle.
    return make_axis(values, length, max(2, int(length // 34)), pad=max(0.06, DOT / max(DOT, length - 2 * DOT)))


def _direction(item: ColumnSpec) -> str:
    return {"high": "more is better", "low": "less is better"}.get(item.better, "not ranked")


def _key(board: Leaderboard, width: int) -> Block:
    """What dots, bars and the band mean."""
    cells = [
        (cell, column)
        for row in board.rows
        for column in board.columns
        if (cell := row.cells.get(column.name)) is not None
    ]
    ranked = [cell.beats_controls for cell, column in cells if column.ranked and cell.beats_controls is not None]
    entries: list[KeyEntry] = []
    if True in ranked:
        entries.append((partial(_sample_dot, True), "beats every control"))
    if False in ranked:
        entries.append((partial(_sample_dot, False), "no better than a control"))
    if any(column.controls for column in board.columns):
        entries.append((_sample_band, "where controls lie"))
    if any(column.chance is not None for column in board.columns):
        entries.append((_sample_chance, "chance"))
    if any(cell.error for cell, _ in cells):
        entries.append((_sample_error, "one standard error of the mean"))
    if any(column.name not in row.cells for row in board.rows for column in board.columns):
        entries.append((_sample_dash, "could not be judged"))
    return key_line(entries, width) if entries else blank_block(width, 1)


def _sample_dot(beats: bool, block: Block, middle: int) -> None:
    draw_dot(block, 13, middle, beats=beats)


def _sample_band(block: Block, middle: int) -> None:
    block.put(Rectangle(20, 14, fill=BAND), 3, middle - 7)


def _sample_chance(block: Block, middle: int) -> None:
    block.put(Rectangle(1, 14, fill=QUIET), 13, middle - 7)


def _sample_error(block: Block, middle: int) -> None:
    block.put(Polyline(((3, 0), (23, 0)), MUTED, 2), 0, middle)


def _sample_dash(block: Block, middle: int) -> None:
    put_text(block, 10, middle + round(0.36 * TYPE), "-", TYPE, MUTED)


def _plots(board: Leaderboard, spec: ChartSpec) -> list[Plot]:
    """The frames of the first methods that have all curves of a chart."""
    names = [name for name, _ in spec.curves]
    found: list[Plot] = []
    for row in board.rows:
        rivals = [one for one in board.control_rows if one.run in ("", row.rivals)]
        controls = [one.curves[name] for one in rivals for name in names if name in one.curves]
        if len(found) < SHOWN and all(name in row.curves for name in names):
            cell = row.cells.get(spec.column)
            aside = format_fixed(cell.mean, 2) if cell else ""
            found.append(Plot(row.full_title, aside, [row.curves[name] for name in names], controls))
    return found


def _chart_words(board: Leaderboard, spec: ChartSpec, count: int) -> list[str]:
    tinted = next((column.title for column in board.columns if column.name == spec.column), "")
    found = [f"the {count} best of {len(board.rows)} methods"] if len(board.rows) > count else []
    found += [f"height: {spec.up}"] if spec.up else []
    return found + ([f"tinted: {tinted}"] if tinted and len(spec.curves) > 1 else [])


def _insight(board: Leaderboard, width: int) -> list[Block]:
    """Cost against insight and how alike maps are, beside each other where there is room."""
    column = next((one for one in board.columns if one.name == board.order_by), None)
    half = (width - 2 * GAP) // 2
    wide = width >= NARROW - MARGIN
    scatter = matrix = None
    costs = {row.passes for row in board.rows if column and column.name in row.cells} - {None}
    if column is not None and len(costs) > 1:
        scatter = partial(compose_scatter, board.rows, column)
    if board.agreement is not None and len(board.agreement.names) > 1:
        matrix = partial(compose_agreement, board.agreement)
    if scatter and matrix and wide and board.agreement and len(board.agreement.names) <= 24:
        return [stack_horizontally([scatter(half), matrix(half)], 2 * GAP)]
    return [part(min(width, 900)) for part in (scatter, matrix) if part is not None]


def _foot(board: Leaderboard, width: int) -> list[Line]:
    plots = [plot for spec in board.charts for plot in _plots(board, spec)]
    sentences = [*reliability(board), *_red(board), *[UPSIDE_DOWN] * any(map(turns_over, plots))]
    sentences += [f"{letter}: {sentence}" for sentence, letter in _notes(board).items()]
    return [line for text in (*sentences, *board.foot) for line in muted_lines(text, SMALL, width)]


def _red(board: Leaderboard) -> list[str]:
    ranked = {column.name for column in board.columns if column.ranked}
    for row in board.rows:
        if any(cell.beats_controls is False and name in ranked for name, cell in row.cells.items()):
            hardly = ", or by less than a standard error" if board.images > 1 else ""
            return [f"Red and open: no better than maps that have never seen the network{hardly}."]
    return []


def reliability(board: Leaderboard) -> list[str]:
    """How far the order can be trusted, in sentences."""
    if board.images == 1:
        return ["One image: there are no errors, and nothing tells whether other images would say the same."]
    words: dict[str, list[str]] = {}
    for column in sorted((one for one in board.columns if one.alpha is not None), key=lambda one: -(one.alpha or 0)):
        alpha = column.alpha or 0.0
        words.setdefault(agreement_word(alpha), []).append(f"{column.title} ({format_fixed(alpha, 2)})")
    found = []
    if words:
        parts = [f"{word} on {_listed(titles)}" for word, titles in words.items()]
        found.append(f"Images agree {'; '.join(parts)}: Krippendorff's alpha of the methods' order.")
    if board.tell_apart is not None and len(board.rows) > 1:
        first, second = board.rows[0].full_title, board.rows[1].full_title
        if board.tell_apart <= board.images:
            found.append(f"{board.images:,} images tell {first} and {second} apart: {board.tell_apart:,} would do.")
        else:
            enough = f"about {board.tell_apart:,} would, at two standard errors of the difference in the same image"
            found.append(f"{board.images:,} images do not tell {first} and {second} apart: {enough}.")
    return found


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
