"""Sections of the overview that go through layers, a row each: projections, feature maps, kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.panels import ADVICE, FeatureMapGrid, Filters, Projections
from cnnviz_cli.render.block import Block, beside, blank, stack
from cnnviz_cli.render.drawings import draws_section
from cnnviz_cli.render.mosaic import FLAT, kernels_block, remark
from cnnviz_cli.render.overview_cells import GAP, SECTION, SMALL, TYPE
from cnnviz_cli.render.palettes import table
from cnnviz_cli.render.photograph import chequer, coloured
from cnnviz_cli.render.projections import extent, pair, titled
from cnnviz_cli.render.scaling import even, state_of, stretched
from cnnviz_cli.render.style import Caption, Style
from cnnviz_cli.render.typeset import QUIET, Line, elide, layer_lines, noted, prose, set_lines

ASIDE = 170
"""Width of the column that names layers."""

MOST_PAIRS, MOST_MAPS = 6, 8

MOST_LAYERS = 6
"""Rows of a section; more stand in two columns."""


def projection_rows(panel: Projections, seen: Image.Image, named: Caption, width: int, density: float = 1.0) -> Block:
    """The strongest feature maps of each layer, projected, beside their patches."""
    room, halved = _room(len(panel.rows), width)
    rows = []
    for row in panel.rows:
        total = len(np.asarray(row.channels))
        count = min(total, MOST_PAIRS // 2 if halved else MOST_PAIRS)
        tile = min(168, ((room - ASIDE + GAP) // max(3 if halved else 4, count) - GAP - 2) // 2)
        pairs = beside([pair(row, number, seen, tile, density) for number in range(count)], GAP)
        more = f"; {count} of {total} maps" if count < total else ""
        rows.append(beside([_aside(row.layer, extent(row, seen) + more), pairs], 0))
    words = (
        "The strongest feature maps of each layer: the map projected back to pixels (mid-grey is zero, each on its own "
        "scale), and the patch that caused its peak; above them the channel and its peak activation."
    )
    return _section(named.title, words, named.note or ADVICE[state_of(panel)], _folded(rows, width), width)


def mosaic_rows(entries: Sequence[tuple[FeatureMapGrid, Caption]], style: Style, width: int) -> list[Block]:
    """Feature maps: one section for each title, a row for each layer."""
    sections: dict[str, list[tuple[FeatureMapGrid, Caption]]] = {}
    for panel, named in entries:
        sections.setdefault(named.title, []).append((panel, named))
    blocks = []
    for title, members in sections.items():
        words = (
            f"Each map from its own minimum to its own maximum; above it the channel and its {members[0][0].ranked_by}."
        )
        notes = [named.note or ADVICE[state_of(panel)] for panel, named in members]
        room, halved = _room(len(members), width)
        most = (MOST_MAPS - 1) // 2 if halved else MOST_MAPS
        rows = [_mosaic_row(panel, named, style, room, most) for panel, named in members]
        blocks.append(_section(title, words, next(filter(None, notes), ""), _folded(rows, width), width))
    return blocks


def _room(layers: int, width: int) -> tuple[int, bool]:
    """The width of a layer's row, and whether it is half a sheet's, as where there are many layers."""
    return ((width - GAP) // 2, True) if layers > MOST_LAYERS else (width, False)


def _folded(rows: list[Block], width: int) -> list[Block]:
    """The rows of many layers in two columns, read from top to bottom; those of few as they are."""
    if len(rows) <= MOST_LAYERS:
        return rows
    half = -(-len(rows) // 2)
    left = blank((width - GAP) // 2, 1)
    columns = [stack([left, *part], 2 * GAP // 3) for part in (rows[:half], rows[half:])]
    return [beside(columns, width - 2 * left.width)]


def _mosaic_row(panel: FeatureMapGrid, named: Caption, style: Style, width: int, most: int) -> Block:
    style = style.under(named)
    tile = (width - ASIDE - most * SMALL) // (most + 1)
    maps = np.asarray(panel.values)[:most]
    channels, strengths = np.asarray(panel.channels), np.asarray(panel.strengths)
    average = np.asarray(panel.average)[0]
    tiles = [titled(_tile(average, tile, style), "channel mean")]
    tiles += [
        titled(_tile(values, tile, style), f"#{int(channels[number])}", remark(values, float(strengths[number])))
        for number, values in enumerate(maps)
    ]
    words = f"{len(maps)} of {panel.total} maps of {average.shape[1]} x {average.shape[0]}"
    return beside([_aside(named.layer, words), beside(tiles, SMALL)], 0)


def _tile(values: NDArray[Any], tile: int, style: Style) -> Image.Image:
    """One map at a given size: small ones in sharp cells, large ones resampled; flat ones grey."""
    height, width = values.shape
    longest = max(width, height)
    size = (max(1, round(tile * width / longest)), max(1, round(tile * height / longest)))
    if even(values):
        return Image.new("RGB", size, FLAT)
    if not np.isfinite(values).all():
        return chequer(size, TYPE)
    level = Image.fromarray(np.rint(stretched(values) * 255).astype(np.uint8))
    how = Image.Resampling.NEAREST if longest * 2 < tile else Image.Resampling.BICUBIC
    return coloured(level, table(style.palette)).resize(size, how)


def _aside(name: str, words: str) -> Block:
    """A layer's name and a remark, level with the pictures of its row."""
    lines = [Line(text, TYPE + 1) for text in layer_lines(name, TYPE + 1, ASIDE - GAP)]
    lines += [Line(text, SMALL, QUIET) for text in prose(words, SMALL, ASIDE - GAP)]
    return stack([blank(ASIDE, SMALL + 3), set_lines(lines, ASIDE)], 0)


def _section(title: str, words: str, note: str, rows: list[Block], width: int) -> Block:
    lines = [Line(elide(title, SECTION, width), SECTION)]
    lines += [Line(text, TYPE, QUIET) for text in prose(words, TYPE, width)]
    lines += noted(note, TYPE, width)
    return stack([set_lines(lines, width), *rows], 2 * GAP // 3)


draws_section(
    Projections,
    lambda entries, seen, style, width: [
        projection_rows(panel, seen, named, width, style.size.density) for panel, named in entries
    ],
)
draws_section(FeatureMapGrid, lambda entries, _seen, style, width: mosaic_rows(entries, style, width))
draws_section(
    Filters, lambda entries, _seen, style, _width: [kernels_block(panel, named, style) for panel, named in entries]
)
