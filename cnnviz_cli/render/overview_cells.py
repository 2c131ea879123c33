"""Cells of the overview: one map of one photograph each, and the predictions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cnnviz_cli.core.panels import ADVICE, SingleMap
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.render.block import Block, Part, Rectangle, blank, stack
from cnnviz_cli.render.figures import pictured, scale_of
from cnnviz_cli.render.photograph import Canvas
from cnnviz_cli.render.scaling import state_of
from cnnviz_cli.render.style import Caption, Style
from cnnviz_cli.render.typeset import (
    INK,
    QUIET,
    Line,
    elide,
    leading,
    length,
    noted,
    prose,
    put_text,
    set_lines,
)

SECTION, TYPE, SMALL = 18, 14, 12
GAP = 24
BAR = 10
"""Height of a bar."""
EXPLAINED, OTHER, TRACK = "#1f4e79", "#8fa9c2", "#eceef1"


def headed(title: str, words: str, picture: Part, width: int) -> Block:
    """A picture under a title and a remark."""
    head = set_lines([Line(elide(title, SECTION, width), SECTION), Line(elide(words, TYPE, width), TYPE, QUIET)], width)
    return stack([head, picture], GAP // 3)


def bars(predictions: Sequence[Prediction], targets: Collection[str], width: int) -> Block:
    """A label, a figure and a bar for each thing predicted; those in `targets` are darker."""
    pitch = leading(TYPE) + 30
    block = blank(width, pitch * len(predictions))
    for number, prediction in enumerate(predictions):
        top = number * pitch
        figure = prediction.figure
        label = elide(prediction.title, TYPE + 2, width - length(figure, TYPE + 2) - TYPE)
        put_text(block, 0, top + TYPE + 2, label, TYPE + 2, INK)
        put_text(block, width - length(figure, TYPE + 2), top + TYPE + 2, figure, TYPE + 2, INK)
        if prediction.value is not None:
            continue  # a value has no full bar that it could be a share of
        bar = top + leading(TYPE) + 5
        block.put(Rectangle(width, BAR, fill=TRACK), 0, bar)
        reach = round(prediction.height * width)
        if reach:
            fill = EXPLAINED if prediction.title in targets else OTHER
            block.put(Rectangle(reach, BAR, fill=fill), 0, bar)
    return block


def cell(panel: SingleMap, named: Caption, canvas: Canvas, width: int, style: Style) -> Block:
    """One map in its place, with its class above and its scale below."""
    style = style.under(named)
    figure = "   " + named.figure if named.figure and named.target else ""
    title = elide(named.subject or named.title, SECTION, width - length(figure, SECTION)) + figure
    facts = " · ".join(filter(None, [named.title if named.target else "", named.layer, named.apart]))
    head = set_lines([Line(title, SECTION), Line(elide(facts, TYPE, width), TYPE, QUIET)], width)
    picture = canvas.placed(pictured(panel, canvas, style, named.scale, named.mark))
    bar, words = scale_of(panel, style, min(width, max(160, min(picture.width, 300))), SMALL, named.scale)
    lines = noted(named.note or ADVICE[state_of(panel)], SMALL, width)
    if bar is None and not lines:
        lines = [Line(text, SMALL, QUIET) for text in prose(words, SMALL, width)]
    below: list[Part] = [bar] if bar else []
    if lines:
        below.append(set_lines(lines, width))
    return stack([head, picture, *below], GAP // 3)
