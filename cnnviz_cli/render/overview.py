"""Everything about one image on one sheet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import ADVICE, FeatureMapGrid, Filters, Panel, Projections, SingleMap
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.render.canvas import Canvas, apply_colors, checkerboard, draw_map, fit_canvas, mark_unseen
from cnnviz_cli.render.feature_map_grid import FLAT, compose_kernels, describe_map
from cnnviz_cli.render.figures import Scene, compose_figure
from cnnviz_cli.render.layout import (
    GAP,
    INK,
    MARGIN,
    MUTED,
    RULE,
    SECTION,
    SMALL,
    TYPE,
    Block,
    Line,
    Part,
    Rectangle,
    add_margin,
    add_title,
    blank_block,
    elide,
    layer_lines,
    line_height,
    muted_lines,
    note_lines,
    put_text,
    set_lines,
    stack_horizontally,
    stack_vertically,
    text_width,
)
from cnnviz_cli.render.legends import make_color_bar
from cnnviz_cli.render.projections import describe_extent, projection_pair
from cnnviz_cli.render.scaling import color_table, is_constant, state_of, stretch_range
from cnnviz_cli.render.style import Caption, Style

WIDTH = 1600  # of the sheet's content, in pixels; the margin comes on top
HEADING = 28
TALLEST = 400  # no image on the sheet is higher
MOST_COLUMNS = 6  # no row has more maps
BAR = 10  # height of a bar
EXPLAINED, OTHER, TRACK = "#1f4e79", "#8fa9c2", "#eceef1"


def add_heading(title: str, words: str, image: Part, width: int) -> Block:
    """An image under a title and a remark."""
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
        lines = muted_lines(words, SMALL, width)
    below: list[Part] = [bar] if bar else []
    if lines:
        below.append(set_lines(lines, width))
    return stack_vertically([head, picture, *below], GAP // 3)


ASIDE = 170  # width of the column that names layers
MOST_PAIRS, MOST_MAPS = 6, 8
MOST_LAYERS = 6  # rows of a section; more stand in two columns


def projection_rows(panel: Projections, named: Caption, scene: Scene) -> Block:
    """The strongest feature maps of each layer, projected, beside their patches."""
    seen, density = scene.crop, scene.style.size.density
    room, halved = _room(len(panel.rows))
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
    return _section(named.title, words, named.note or ADVICE[state_of(panel)], rows)


def feature_map_rows(entries: Sequence[tuple[FeatureMapGrid, Caption]], style: Style) -> list[Block]:
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
        room, halved = _room(len(members))
        most = (MOST_MAPS - 1) // 2 if halved else MOST_MAPS
        rows = [_feature_map_row(panel, named, style, room, most) for panel, named in members]
        blocks.append(_section(title, words, next(filter(None, notes), ""), rows))
    return blocks


def _room(layers: int) -> tuple[int, bool]:
    """The width of a layer's row, and whether it is half a sheet's, as where there are many layers."""
    return ((WIDTH - GAP) // 2, True) if layers > MOST_LAYERS else (WIDTH, False)


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
    lines = [Line(text, TYPE + 1) for text in layer_lines(name, TYPE + 1, ASIDE - GAP)]
    lines += muted_lines(words, SMALL, ASIDE - GAP)
    return stack_vertically([blank_block(ASIDE, SMALL + 3), set_lines(lines, ASIDE)], 0)


def _section(title: str, words: str, note: str, rows: list[Block]) -> Block:
    """The rows of layers under a heading; those of many in two columns, read from top to bottom."""
    head = [Line(elide(title, SECTION, WIDTH), SECTION)]
    head += [*muted_lines(words, TYPE, WIDTH), *note_lines(note, TYPE, WIDTH)]
    if len(rows) > MOST_LAYERS:
        half = -(-len(rows) // 2)
        left = blank_block((WIDTH - GAP) // 2, 1)
        columns = [stack_vertically([left, *part], 2 * GAP // 3) for part in (rows[:half], rows[half:])]
        rows = [stack_horizontally(columns, WIDTH - 2 * left.width)]
    return stack_vertically([set_lines(head, WIDTH), *rows], 2 * GAP // 3)


SECTIONS: Mapping[type[Panel], Callable[[Sequence[tuple[Any, Caption]], Scene], list[Block]]] = {
    Projections: lambda entries, scene: [projection_rows(panel, named, scene) for panel, named in entries],
    FeatureMapGrid: lambda entries, scene: feature_map_rows(entries, scene.style),
    Filters: lambda entries, scene: [compose_kernels(panel, named, scene.style) for panel, named in entries],
}  # kinds that have rows of their own, in the order of these

Maps = list[tuple[SingleMap, Caption]]


def compose_overview(predictions: Sequence[Prediction], panels: Sequence[tuple[Panel, Caption]], scene: Scene) -> Block:
    """Header; image and predictions; maps of the image; then layers, a row each.

    Where a panel stands follows from its kind: maps that differ only in their target stand next to each other.
    """
    image, view, style = scene.image, scene.view, scene.style
    singles = [(panel, named) for panel, named in panels if isinstance(panel, SingleMap)]
    columns, first, runs = arrange_groups(group_by_target(singles), image.width / image.height)

    @cache
    def canvas_in(count: int) -> Canvas:
        return fit_canvas(image, view, _column(count), TALLEST, TYPE, style.size.density)

    rows = [sheet_heading(scene, WIDTH)]
    width, canvas = _column(columns), canvas_in(columns)
    words = "the whole image is the network's input" if view.is_whole else "outlined: the network's input"
    blocks = [add_heading("image", words, canvas.as_raster(mark_unseen(canvas)), width)]
    # With nothing beside them the bars may be as long as two columns.
    room = width if first or not runs else _column(columns) * 2 + GAP
    targets = {named.target for _, named in panels if named.target}
    blocks.append(add_heading("predictions", _what(predictions), prediction_bars(predictions, targets, room), room))
    for run in (first, *runs):
        count = max(columns, len(run))
        blocks += [map_cell(panel, named, canvas_in(count), _column(count), style) for panel, named in run]
        rows.append(stack_horizontally(blocks, GAP))
        blocks = []
    others = [(panel, named) for panel, named in panels if not isinstance(panel, SingleMap)]
    for kind, section in SECTIONS.items():
        rows += section([(panel, named) for panel, named in others if type(panel) is kind], scene)
    rows += [
        compose_figure(panel, replace(scene, caption=named)) for panel, named in others if type(panel) not in SECTIONS
    ]
    return make_sheet([*rows, _footer(view, panels)], WIDTH)


def make_sheet(rows: Sequence[Block], width: int, margin: int = MARGIN) -> Block:
    """The rows under each other with a hairline above each but the first, and a margin round them."""
    lined = [rows[0]]
    for row in rows[1:]:
        block = blank_block(width, row.height + GAP // 2)
        block.put(Rectangle(width, 1, fill=RULE), 0, 0)
        block.put(row, 0, GAP // 2)
        lined.append(block)
    return add_margin(stack_vertically(lined, GAP), margin)


def sheet_heading(scene: Scene, width: int, *more: str) -> Block:
    """The image's name, what the sheet is, the network, both sizes, and a note where one is due."""
    caption, size = scene.caption, scene.view.size
    facts = [
        caption.title,
        caption.model,
        f"image of {scene.image.width} x {scene.image.height} pixels",
        f"network input {size[0]} x {size[1]}",
        *more,
    ]
    lines = [Line(elide(caption.source, HEADING, width, middle=True), HEADING)] if caption.source else []
    return set_lines([*lines, *muted_lines(facts, TYPE, width), *note_lines(caption.note, TYPE, width)], width)


def group_by_target(entries: Maps) -> list[Maps]:
    """Maps that differ only in their target, together, in the order in which the first of each came."""
    groups: dict[tuple[type[Panel], str, str], Maps] = {}
    for panel, named in entries:
        groups.setdefault((type(panel), named.title, named.layer), []).append((panel, named))
    return list(groups.values())


def arrange_groups(groups: list[Maps], aspect: float) -> tuple[int, Maps, list[Maps]]:
    """The number of columns, the maps beside the image and its predictions, and the rows below.

    A group is broken over rows only if it has more maps than a row has places; `aspect` is the image's width by height.
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


def _footer(view: View, panels: Sequence[tuple[Panel, Caption]]) -> Block:
    given = {named.scale.label for panel, named in panels if named.scale and panel.takes_scale}
    words = [
        f"colour bars: raw values, {' and '.join(sorted(given))} scale; “or more” and “or less” mark values beyond it"
        if given
        else "colour bars: raw values, each map on its own scale; “or more” marks the 99.5th percentile",
        "bars of two rows: the colour as over a light and as over a dark ground",
    ]
    if not view.is_whole:
        words.append("hatched: outside the network's crop")
    return set_lines(muted_lines(words, SMALL, WIDTH), WIDTH)


def _what(predictions: Sequence[Prediction]) -> str:
    first = next(iter(predictions), None)
    if first is None:
        return "most probable classes"
    if first.box is not None:
        return "detections, the most confident first"
    if first.share is not None:
        return "the share of the image that each class covers"
    if first.similarity is not None:
        return "cosine similarity of the two images' feature vectors"
    if first.value is not None:
        return "the network's output" if len(predictions) == 1 else "the network's largest outputs"
    return "most probable classes"
