"""Everything about one image on one sheet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import ADVICE, FeatureMapGrid, Filters, Panel, Projections, SingleMap
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.render.block import (
    Block,
    Part,
    Rectangle,
    add_margin,
    blank_block,
    stack_horizontally,
    stack_vertically,
)
from cnnviz_cli.render.canvas import Canvas, apply_colors, checkerboard, fit_canvas, mark_unseen
from cnnviz_cli.render.color_tables import color_table
from cnnviz_cli.render.drawings import Scene, drawing_of, draws_section, sections
from cnnviz_cli.render.feature_map_grid import FLAT, describe_map, kernels_block
from cnnviz_cli.render.figures import draw_map, make_color_bar
from cnnviz_cli.render.projections import add_title, describe_extent, projection_pair
from cnnviz_cli.render.scaling import is_constant, state_of, stretch_range
from cnnviz_cli.render.style import Caption, Style
from cnnviz_cli.render.typeset import (
    INK,
    MUTED,
    RULE,
    Line,
    elide,
    layer_lines,
    line_height,
    note_lines,
    put_text,
    set_lines,
    text_width,
    wrap_pieces,
    wrap_words,
)

SECTION, TYPE, SMALL = 18, 14, 12
GAP = 24
BAR = 10
"""Height of a bar."""
EXPLAINED, OTHER, TRACK = "#1f4e79", "#8fa9c2", "#eceef1"


def add_heading(title: str, words: str, image: Part, width: int) -> Block:
    """A picture under a title and a remark."""
    head = set_lines([Line(elide(title, SECTION, width), SECTION), Line(elide(words, TYPE, width), TYPE, MUTED)], width)
    return stack_vertically([head, image], GAP // 3)


def prediction_bars(predictions: Sequence[Prediction], targets: Collection[str], width: int) -> Block:
    """A label, a figure and a bar for each thing predicted; those in `targets` are darker."""
    pitch = line_height(TYPE) + 30
    block = blank_block(width, pitch * len(predictions))
    for number, prediction in enumerate(predictions):
        top = number * pitch
        figure = prediction.figure
        label = elide(prediction.title, TYPE + 2, width - text_width(figure, TYPE + 2) - TYPE)
        put_text(block, 0, top + TYPE + 2, label, TYPE + 2, INK)
        put_text(block, width - text_width(figure, TYPE + 2), top + TYPE + 2, figure, TYPE + 2, INK)
        if prediction.value is not None:
            continue  # a value has no full bar that it could be a share of
        bar = top + line_height(TYPE) + 5
        block.put(Rectangle(width, BAR, fill=TRACK), 0, bar)
        reach = round(prediction.height * width)
        if reach:
            fill = EXPLAINED if prediction.title in targets else OTHER
            block.put(Rectangle(reach, BAR, fill=fill), 0, bar)
    return block


def map_cell(panel: SingleMap, named: Caption, canvas: Canvas, width: int, style: Style) -> Block:
    """One map in its place, with its class above and its scale below."""
    style = style.for_caption(named)
    figure = "   " + named.detail if named.detail and named.target else ""
    title = elide(named.subject or named.title, SECTION, width - text_width(figure, SECTION)) + figure
    facts = " · ".join(filter(None, [named.title if named.target else "", named.layer, named.contrast_text]))
    head = set_lines([Line(title, SECTION), Line(elide(facts, TYPE, width), TYPE, MUTED)], width)
    picture = canvas.as_raster(draw_map(panel, canvas, style, named.scale, named.mark))
    bar, words = make_color_bar(panel, style, min(width, max(160, min(picture.width, 300))), SMALL, named.scale)
    lines = note_lines(named.note or ADVICE[state_of(panel)], SMALL, width)
    if bar is None and not lines:
        lines = [Line(text, SMALL, MUTED) for text in wrap_words(words, SMALL, width)]
    below: list[Part] = [bar] if bar else []
    if lines:
        below.append(set_lines(lines, width))
    return stack_vertically([head, picture, *below], GAP // 3)


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
        pairs = stack_horizontally([projection_pair(row, number, seen, tile, density) for number in range(count)], GAP)
        more = f"; {count} of {total} maps" if count < total else ""
        rows.append(stack_horizontally([_aside(row.layer, describe_extent(row, seen) + more), pairs], 0))
    words = (
        "The strongest feature maps of each layer: the map projected back to pixels (mid-grey is zero, each on its own "
        "scale), and the patch that caused its peak; above them the channel and its peak activation."
    )
    return _section(named.title, words, named.note or ADVICE[state_of(panel)], _fold_rows(rows, width), width)


def feature_map_rows(entries: Sequence[tuple[FeatureMapGrid, Caption]], style: Style, width: int) -> list[Block]:
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
        rows = [_feature_map_row(panel, named, style, room, most) for panel, named in members]
        blocks.append(_section(title, words, next(filter(None, notes), ""), _fold_rows(rows, width), width))
    return blocks


def _room(layers: int, width: int) -> tuple[int, bool]:
    """The width of a layer's row, and whether it is half a sheet's, as where there are many layers."""
    return ((width - GAP) // 2, True) if layers > MOST_LAYERS else (width, False)


def _fold_rows(rows: list[Block], width: int) -> list[Block]:
    """The rows of many layers in two columns, read from top to bottom; those of few as they are."""
    if len(rows) <= MOST_LAYERS:
        return rows
    half = -(-len(rows) // 2)
    left = blank_block((width - GAP) // 2, 1)
    columns = [stack_vertically([left, *part], 2 * GAP // 3) for part in (rows[:half], rows[half:])]
    return [stack_horizontally(columns, width - 2 * left.width)]


def _feature_map_row(panel: FeatureMapGrid, named: Caption, style: Style, width: int, most: int) -> Block:
    style = style.for_caption(named)
    tile = (width - ASIDE - most * SMALL) // (most + 1)
    maps = np.asarray(panel.values)[:most]
    channels, strengths = np.asarray(panel.channels), np.asarray(panel.strengths)
    average = np.asarray(panel.average)[0]
    tiles = [add_title(_tile(average, tile, style), "channel mean")]
    tiles += [
        add_title(
            _tile(values, tile, style), f"#{int(channels[number])}", describe_map(values, float(strengths[number]))
        )
        for number, values in enumerate(maps)
    ]
    words = f"{len(maps)} of {panel.total} maps of {average.shape[1]} x {average.shape[0]}"
    return stack_horizontally([_aside(named.layer, words), stack_horizontally(tiles, SMALL)], 0)


def _tile(values: NDArray[Any], tile: int, style: Style) -> Image.Image:
    """One map at a given size: small ones in sharp cells, large ones resampled; flat ones grey."""
    height, width = values.shape
    longest = max(width, height)
    size = (max(1, round(tile * width / longest)), max(1, round(tile * height / longest)))
    if is_constant(values):
        return Image.new("RGB", size, FLAT)
    if not np.isfinite(values).all():
        return checkerboard(size, TYPE)
    level = Image.fromarray(np.rint(stretch_range(values) * 255).astype(np.uint8))
    how = Image.Resampling.NEAREST if longest * 2 < tile else Image.Resampling.BICUBIC
    return apply_colors(level, color_table(style.palette)).resize(size, how)


def _aside(name: str, words: str) -> Block:
    """A layer's name and a remark, level with the pictures of its row."""
    lines = [Line(text, TYPE + 1) for text in layer_lines(name, TYPE + 1, ASIDE - GAP)]
    lines += [Line(text, SMALL, MUTED) for text in wrap_words(words, SMALL, ASIDE - GAP)]
    return stack_vertically([blank_block(ASIDE, SMALL + 3), set_lines(lines, ASIDE)], 0)


def _section(title: str, words: str, note: str, rows: list[Block], width: int) -> Block:
    lines = [Line(elide(title, SECTION, width), SECTION)]
    lines += [Line(text, TYPE, MUTED) for text in wrap_words(words, TYPE, width)]
    lines += note_lines(note, TYPE, width)
    return stack_vertically([set_lines(lines, width), *rows], 2 * GAP // 3)


draws_section(
    Projections,
    lambda entries, seen, style, width: [
        projection_rows(panel, seen, named, width, style.size.density) for panel, named in entries
    ],
)
draws_section(FeatureMapGrid, lambda entries, _seen, style, width: feature_map_rows(entries, style, width))
draws_section(
    Filters, lambda entries, _seen, style, _width: [kernels_block(panel, named, style) for panel, named in entries]
)


WIDTH = 1600
"""Of the sheet's content, in pixels; the margin comes on top."""

MARGIN = 40
HEADING = 28
TALLEST = 400
"""No photograph on the sheet is higher."""

MOST_COLUMNS = 6
"""No row has more maps."""

Maps = list[tuple[SingleMap, Caption]]


def compose_overview(
    image: Image.Image,
    view: View,
    seen: Image.Image,
    predictions: Sequence[Prediction],
    panels: Sequence[tuple[Panel, Caption]],
    caption: Caption,
    style: Style,
) -> Block:
    """Header; photograph and predictions; maps of the photograph; then layers, a row each.

    Where a panel stands follows from its kind: maps that differ only in their target stand next to each other.
    """
    singles = [(panel, named) for panel, named in panels if isinstance(panel, SingleMap)]
    columns, first, runs = arrange_groups(group_by_target(singles), image.width / image.height)
    targets = {named.target for _, named in panels if named.target}
    canvases = {
        count: _canvas(image, view, count, style.size.density)
        for count in {columns, *(max(columns, len(run)) for run in runs)}
    }
    rows = [_header(image, seen, caption)]
    width, canvas = _column(columns), canvases[columns]
    words = "the whole photograph was seen" if view.is_whole else "outlined: what the network saw"
    blocks = [add_heading("photograph", words, canvas.as_raster(mark_unseen(canvas)), width)]
    # With nothing beside them the bars may be as long as two columns.
    room = width if first or not runs else _column(columns) * 2 + GAP
    blocks.append(add_heading("predictions", _what(predictions), prediction_bars(predictions, targets, room), room))
    rows.append(
        stack_horizontally(blocks + [map_cell(panel, named, canvas, width, style) for panel, named in first], GAP)
    )
    for run in runs:
        count = max(columns, len(run))
        rows.append(
            stack_horizontally(
                [map_cell(panel, named, canvases[count], _column(count), style) for panel, named in run], GAP
            )
        )
    others = [(panel, named) for panel, named in panels if not isinstance(panel, SingleMap)]
    for kind, section in sections().items():
        rows += section([(panel, named) for panel, named in others if type(panel) is kind], seen, style, WIDTH)
    for panel, named in others:
        if type(panel) not in sections():
            rows.append(drawing_of(panel)(panel, Scene(image, view, seen, named, style)))
    rows.append(_footer(view, panels))
    return add_margin(stack_vertically([rows[0], *(add_rule(row, WIDTH) for row in rows[1:])], GAP), MARGIN)


def group_by_target(entries: Maps) -> list[Maps]:
    """Maps that differ only in their target, together, in the order in which the first of each came."""
    groups: dict[tuple[type[Panel], str, str], Maps] = {}
    for panel, named in entries:
        groups.setdefault((type(panel), named.title, named.layer), []).append((panel, named))
    return list(groups.values())


def arrange_groups(groups: list[Maps], aspect: float) -> tuple[int, Maps, list[Maps]]:
    """Where the maps stand.

    Args:
        aspect: width by height of the photograph.

    Returns:
        The number of columns, the maps beside the photograph and its predictions, and the rows below. A group is
        broken over rows only where it has more maps than a row has places.
    """
    columns = 3 if aspect > 1.25 else 4 if aspect > 0.8 else 5
    across = 4 if aspect > 0.8 else MOST_COLUMNS
    total = sum(map(len, groups))
    if 2 + total <= across:  # one row holds it all
        return max(columns, 2 + total), [entry for group in groups for entry in group], []
    if total <= across:
        return columns, [], [[entry for group in groups for entry in group]]
    sizes = {len(group) for group in groups}
    if len(groups) > 2 and len(sizes) == 1 and aspect <= 2:
        # Groups of two in three columns would leave a third of the sheet empty.
        each = sizes.pop()
        columns = next((count for count in range(columns, MOST_COLUMNS + 1) if count % each == 0), columns)
    # Narrower columns would leave a panorama a strip in which nothing can be seen.
    most = columns if aspect > 2 else MOST_COLUMNS
    runs: list[Maps] = []
    for group in groups:
        if runs and len(runs[-1]) + len(group) <= columns:
            runs[-1] = runs[-1] + group
        else:
            runs += [group[start : start + most] for start in range(0, len(group), most)]
    return columns, [], runs


def _column(count: int) -> int:
    return (WIDTH - (count - 1) * GAP) // count


def _canvas(photo: Image.Image, view: View, columns: int, density: float) -> Canvas:
    return fit_canvas(photo, view, _column(columns), TALLEST, TYPE, density)


def add_rule(block: Block, width: int) -> Block:
    """A hairline above a row."""
    sheet = blank_block(width, block.height + GAP // 2)
    sheet.put(Rectangle(width, 1, fill=RULE), 0, 0)
    sheet.put(block, 0, GAP // 2)
    return sheet


def _header(image: Image.Image, seen: Image.Image, caption: Caption) -> Block:
    facts = [
        caption.title,
        caption.model,
        f"photograph of {image.width} x {image.height} pixels",
        f"network input {seen.width} x {seen.height}",
    ]
    lines = [Line(elide(caption.source, HEADING, WIDTH, middle=True), HEADING)] if caption.source else []
    lines += [Line(text, TYPE, MUTED) for text in wrap_pieces(facts, TYPE, WIDTH)]
    lines += note_lines(caption.note, TYPE, WIDTH)
    return set_lines(lines, WIDTH)


def _footer(view: View, panels: Sequence[tuple[Panel, Caption]]) -> Block:
    given = {named.scale.label for panel, named in panels if named.scale and panel.takes_scale}
    words = [
        f"colour bars: raw values, {' and '.join(sorted(given))} scale; “or more” and “or less” mark values beyond it"
        if given
        else "colour bars: raw values, each picture on its own scale; “or more” marks the 99.5th percentile",
        "bars of two rows: the colour as over a light and as over a dark ground",
    ]
    if not view.is_whole:
        words.append("hatched: not seen by the network")
    return set_lines([Line(text, SMALL, MUTED) for text in wrap_pieces(words, SMALL, WIDTH)], WIDTH)


def _what(predictions: Sequence[Prediction]) -> str:
    """What the bars show."""
    first = next(iter(predictions), None)
    if first is not None and first.box is not None:
        return "what was found, the likeliest first"
    if first is not None and first.share is not None:
        return "how much of the picture each class covers"
    if first is not None and first.similarity is not None:
        return "the cosine of the angle between the two pictures' vectors"
    if first is not None and first.value is not None:
        return "what the network returns" if len(predictions) == 1 else "the largest values that the network returns"
    return "most probable classes"
