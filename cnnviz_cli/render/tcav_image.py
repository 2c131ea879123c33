"""One image with the concepts that were named: where it shows each, and which way its score moves along it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from cnnviz_cli.core.panels import Heatmap
from cnnviz_cli.core.value import value
from cnnviz_cli.render.axes import BLUE, GRID
from cnnviz_cli.render.canvas import draw_map
from cnnviz_cli.render.compare import fit_input
from cnnviz_cli.render.figures import Scene
from cnnviz_cli.render.layout import (
    ALERT,
    GAP,
    INK,
    MARGIN,
    MUTED,
    SMALL,
    TYPE,
    Block,
    Line,
    Part,
    Rectangle,
    blank_block,
    elide,
    line_height,
    muted_lines,
    note_lines,
    put_text,
    set_lines,
    stack_horizontally,
    stack_vertically,
    text_width,
)
from cnnviz_cli.render.legends import format_number, shared_legend
from cnnviz_cli.render.overview import HEADING, make_sheet
from cnnviz_cli.render.style import Caption

TILE, LEAST = 300, 200  # the widest and the narrowest tile
BAR = 8


@value
class Likeness(Heatmap):
    """How far each position goes towards a concept: (B, 1, h, w) what its direction says of it, >= 0."""

    legend_title: ClassVar[str] = "likeness to the concept"
    bar_words: ClassVar[tuple[str, ...]] = ("not like it", "most like it")


@dataclass(frozen=True, slots=True)
class ConceptMap:
    """Where an image shows a concept.

    Attributes:
        name: of the concept.
        panel: None with a note that says why there is no map.
        derivative: how the score moves along the concept.
        largest: the largest size of a derivative of the layer among all concepts of the image, for bars.
    """

    name: str
    layer: str
    panel: Likeness | None
    derivative: float | None = None
    largest: float = 0.0
    note: str = ""


def compose_concept_maps(title: str, facts: Sequence[str], maps: Sequence[ConceptMap], scene: Scene) -> Block:
    """The sheet of one image: itself, then a map for each concept and layer."""
    room = scene.style.size.layout_width
    margin = MARGIN if room >= 800 else MARGIN // 2
    most = room - 2 * margin
    layers = [[one for one in maps if one.layer == layer] for layer in dict.fromkeys(one.layer for one in maps)] or [[]]
    across = max(1, min(max(map(len, layers)) + 1, (most + GAP) // (TILE + GAP) or 1, 5))
    if across < 2 and most >= 2 * LEAST + GAP:
        across = 2
    side = min(TILE, (most + GAP) // across - GAP)
    width = max(across * (side + GAP) - GAP, min(most, 2 * TILE + GAP))
    canvas = fit_input(scene.image, scene.view, side, scene.style.size.density)
    original = canvas.as_raster(canvas.image)
    head = _head("the image", "what the network saw of it", side)
    aligned = max(map(len, layers)) < across  # a row for each layer, the same concept below the same
    rows: list[Block] = []
    for number, some in enumerate(layers):
        tiles = [_tile(one, scene, side) for one in some]
        if not number or aligned:
            tiles.insert(0, blank_block(side, 1) if number else stack_vertically([head, original], 4))
        rows += [stack_horizontally(tiles[at : at + across], GAP) for at in range(0, len(tiles), across)]
    lines = [Line(elide(title, HEADING, width, middle=True), HEADING)]
    heading = set_lines([*lines, *muted_lines(facts, TYPE, width), *note_lines(scene.caption.note, TYPE, width)], width)
    shown = [(one.panel, Caption(one.name, one.layer)) for one in maps if one.panel is not None]
    body = stack_vertically(rows, GAP)
    return make_sheet([heading, body, *([shared_legend(shown, scene.style, width)] if shown else [])], width, margin)


def _head(title: str, words: str, width: int) -> Block:
    return set_lines([Line(elide(title, TYPE, width), TYPE), Line(elide(words, SMALL, width), SMALL, MUTED)], width)


def _tile(one: ConceptMap, scene: Scene, side: int) -> Block:
    head = _head(one.name, one.layer, side)
    if one.panel is None:
        return stack_vertically([head, set_lines(note_lines(one.note, SMALL, side), side)], 4)
    canvas = fit_input(scene.image, scene.view, side, scene.style.size.density)
    picture = canvas.as_raster(draw_map(one.panel, canvas, scene.style))
    parts: list[Part] = [head, picture]
    if one.derivative is not None:
        parts.append(_derivative(one.derivative, one.largest, side))
    if not one.panel.values.any():
        parts.append(set_lines(muted_lines("nowhere like it", SMALL, side), side))
    if one.note:
        parts.append(set_lines(muted_lines(one.note, SMALL, side), side))
    return stack_vertically(parts, 4)


def _derivative(value: float, largest: float, width: int) -> Block:
    """The number, and a bar to either side of zero."""
    block = blank_block(width, BAR + 4 + line_height(SMALL))
    middle = width // 2
    block.put(Rectangle(width, BAR, fill=GRID), 0, 2)
    reach = round(abs(value) / largest * middle) if largest > 0 else 0
    if reach:
        left = middle if value > 0 else middle - reach
        block.put(Rectangle(reach, BAR, fill=BLUE if value > 0 else ALERT), left, 2)
    block.put(Rectangle(1, BAR + 4, fill=MUTED), middle, 0)
    words = "the score rises along it" if value > 0 else "the score falls along it" if value < 0 else "no change"
    number = f"+{format_number(value)}" if value > 0 else format_number(value)
    base = BAR + 4 + SMALL
    put_text(block, 0, base, elide(words, SMALL, width - text_width(number, SMALL) - 8), SMALL, MUTED)
    put_text(block, width - text_width(number, SMALL), base, number, SMALL, INK)
    return block
