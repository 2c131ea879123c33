"""Everything about one picture on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import Panel, SingleMap
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.render.block import Block, Rectangle, beside, blank, framed, stack
from cnnviz_cli.render.drawings import Scene, drawing_of, sections
from cnnviz_cli.render.overview_cells import GAP, SMALL, TYPE, bars, cell, headed
from cnnviz_cli.render.photograph import Canvas, fitted, marked
from cnnviz_cli.render.style import Caption, Style
from cnnviz_cli.render.typeset import QUIET, RULE, Line, elide, flow, noted, set_lines

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
    photo: Image.Image,
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
    columns, first, runs = arranged(grouped(singles), photo.width / photo.height)
    targets = {named.target for _, named in panels if named.target}
    canvases = {
        count: _canvas(photo, view, count, style.size.density)
        for count in {columns, *(max(columns, len(run)) for run in runs)}
    }
    rows = [_header(photo, seen, caption)]
    width, canvas = _column(columns), canvases[columns]
    words = "the whole photograph was seen" if view.whole else "outlined: what the network saw"
    blocks = [headed("photograph", words, canvas.placed(marked(canvas)), width)]
    # With nothing beside them the bars may be as long as two columns.
    room = width if first or not runs else _column(columns) * 2 + GAP
    blocks.append(headed("predictions", _what(predictions), bars(predictions, targets, room), room))
    rows.append(beside(blocks + [cell(panel, named, canvas, width, style) for panel, named in first], GAP))
    for run in runs:
        count = max(columns, len(run))
        rows.append(beside([cell(panel, named, canvases[count], _column(count), style) for panel, named in run], GAP))
    others = [(panel, named) for panel, named in panels if not isinstance(panel, SingleMap)]
    for kind, section in sections().items():
        rows += section([(panel, named) for panel, named in others if type(panel) is kind], seen, style, WIDTH)
    for panel, named in others:
        if type(panel) not in sections():
            rows.append(drawing_of(panel)(panel, Scene(photo, view, seen, named, style)))
    rows.append(_footer(view, panels))
    return framed(stack([rows[0], *(ruled(row, WIDTH) for row in rows[1:])], GAP), MARGIN)


def grouped(entries: Maps) -> list[Maps]:
    """Maps that differ only in their target, together, in the order in which the first of each came."""
    groups: dict[tuple[type[Panel], str, str], Maps] = {}
    for panel, named in entries:
        groups.setdefault((type(panel), named.title, named.layer), []).append((panel, named))
    return list(groups.values())


def arranged(groups: list[Maps], aspect: float) -> tuple[int, Maps, list[Maps]]:
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
    return fitted(photo, view, _column(columns), TALLEST, TYPE, density)


def ruled(block: Block, width: int) -> Block:
    """A hairline above a row."""
    sheet = blank(width, block.height + GAP // 2)
    sheet.put(Rectangle(width, 1, fill=RULE), 0, 0)
    sheet.put(block, 0, GAP // 2)
    return sheet


def _header(photo: Image.Image, seen: Image.Image, caption: Caption) -> Block:
    facts = [
        caption.title,
        caption.model,
        f"photograph of {photo.width} x {photo.height} pixels",
        f"network input {seen.width} x {seen.height}",
    ]
    lines = [Line(elide(caption.source, HEADING, WIDTH, middle=True), HEADING)] if caption.source else []
    lines += [Line(text, TYPE, QUIET) for text in flow(facts, TYPE, WIDTH)]
    lines += noted(caption.note, TYPE, WIDTH)
    return set_lines(lines, WIDTH)


def _footer(view: View, panels: Sequence[tuple[Panel, Caption]]) -> Block:
    given = {named.scale.whose for panel, named in panels if named.scale and panel.takes_scale}
    words = [
        f"colour bars: raw values, {' and '.join(sorted(given))} scale; “or more” and “or less” mark values beyond it"
        if given
        else "colour bars: raw values, each picture on its own scale; “or more” marks the 99.5th percentile",
        "bars of two rows: the colour as over a light and as over a dark ground",
    ]
    if not view.whole:
        words.append("hatched: not seen by the network")
    return set_lines([Line(text, SMALL, QUIET) for text in flow(words, SMALL, WIDTH)], WIDTH)


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
