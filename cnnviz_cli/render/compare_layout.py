"""Which maps of a family stand where on its comparison sheet. No pixel is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cnnviz_cli.core.panels import Panel, SingleMap
from cnnviz_cli.render.overview_cells import GAP
from cnnviz_cli.render.overview_sheet import MARGIN
from cnnviz_cli.render.style import Caption

MOST_COLUMNS = 6
"""Maps in a row."""

LEAST_TILE = 150
"""Units of a column's width at the least; a narrower sheet has fewer columns."""

MOST_ROWS = 40
"""Rows of maps on a sheet; what comes after them goes to a further one."""

Entry = tuple[SingleMap, Caption]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Way:
    """All maps that came about the same way: one method, one layer, one kind.

    Attributes:
        cells: by the number of the target; None for a map that is the same whatever the class.
    """

    title: str
    layer: str
    cells: dict[int | None, Entry] = field(default_factory=dict)

    @property
    def follows_target(self) -> bool:
        """Whether there is a map for each class."""
        return None not in self.cells


@dataclass(frozen=True, slots=True)
class Table:
    """A row for each way, a column for each class.

    Attributes:
        columns: what stands above each column: a map's caption, for its class and probability.
        rows: the maps of each way, None where one has none for a class.
    """

    columns: tuple[Caption, ...]
    rows: tuple[tuple[Way, tuple[Entry | None, ...]], ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """Maps for one class, or for any, one after the other, each under its method's name.

    Attributes:
        named: for the class; None where the maps are the same whatever the class.
        rows: at most MOST_COLUMNS maps each.
    """

    named: Caption | None
    rows: tuple[tuple[Entry, ...], ...]


Section = Table | Flow
Page = list[Section]


def columns_in(room: int) -> int:
    """How many maps stand in a row of a sheet that is so many units wide, beside the column that names rows."""
    return min(MOST_COLUMNS, max(1, (room - 2 * MARGIN + GAP) // (LEAST_TILE + GAP) - 1))


def pages(entries: Sequence[tuple[Panel, Caption]], most: int = MOST_COLUMNS) -> list[Page]:
    """The sheets on which these maps are compared; none if fewer than two can be laid side by side.

    Args:
        most: maps in a row.
    """
    singles = [(panel, named) for panel, named in entries if isinstance(panel, SingleMap)]
    if len(singles) < 2:
        return []
    found: list[Page] = []
    rows = MOST_ROWS
    for block in _blocks(ways(singles), most):
        if rows + len(block.rows) > MOST_ROWS:
            found.append([])
            rows = 0
        found[-1].append(block)
        rows += len(block.rows)
    return found


def ways(entries: Sequence[Entry]) -> list[Way]:
    """The maps by the way they came about, in the order in which the first of each came."""
    found: dict[tuple[str, str, type[Panel], bool, int], Way] = {}
    for panel, named in entries:
        turn = 0
        while True:
            key = (named.title, named.layer, type(panel), panel.target is None, turn)
            way = found.setdefault(key, Way(named.title, named.layer))
            if panel.target not in way.cells:
                break
            turn += 1
        way.cells[panel.target] = (panel, named)
    return list(found.values())


def portions(items: Sequence[_T], most: int) -> Iterator[tuple[_T, ...]]:
    """The items in as few portions of at most `most` as there can be, as even as they can be, the longer first."""
    count = -(-len(items) // most)
    for number in range(count):
        yield tuple(items[-(-len(items) * number // count) : -(-len(items) * (number + 1) // count)])


def _blocks(found: Sequence[Way], most: int) -> Iterator[Section]:
    following = [way for way in found if way.follows_target]
    targets = list(dict.fromkeys(target for way in following for target in way.cells))
    if len(targets) > 1:
        for columns in portions(targets, most):
            for part in portions(following, MOST_ROWS):
                yield _table(columns, part)
    elif 0 < len(following) < len(found) and sum(len(way.cells) for way in found) <= most:
        # One row holds them all; those that are the same whatever the class say so themselves.
        entries = [entry for way in found for entry in way.cells.values()]
        named = next(iter(following[0].cells.values()))[1]
        yield Flow(named, (tuple(sorted(entries, key=lambda entry: entry[0].target is None)),))
        return
    elif following:
        yield from _flows(following, next(iter(following[0].cells.values()))[1], most)
    yield from _flows([way for way in found if not way.follows_target], None, most)


def _table(columns: Sequence[int | None], part: Sequence[Way]) -> Table:
    captions = tuple(next(way.cells[target][1] for way in part if target in way.cells) for target in columns)
    return Table(captions, tuple((way, tuple(way.cells.get(target) for target in columns)) for way in part))


def _flows(found: Sequence[Way], named: Caption | None, most: int) -> Iterator[Flow]:
    """One flow, or several where one would not fit on a sheet."""
    sizes: dict[str, int] = {}
    for way in found:
        sizes[way.title] = sizes.get(way.title, 0) + 1
    each = next(iter(sizes.values()), 0)
    entries = [entry for way in found for entry in way.cells.values()]
    if len(sizes) > 1 and 1 < each <= most and set(sizes.values()) == {each}:
        # Every method read as many layers: a row for each method, a column for each layer.
        rows = [tuple(entries[start : start + each]) for start in range(0, len(entries), each)]
    else:
        rows = list(portions(entries, most))
    for part in portions(rows, MOST_ROWS):
        yield Flow(named, part)
