"""Maps as a network's weights become random, layer by layer from the top: which method notices (Adebayo 2018)?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cnnviz_cli.core.panels import SingleMap
from cnnviz_cli.render.axes import BLUE, DOT, GRID, QUIET, Axis, draw_dot, format_fixed
from cnnviz_cli.render.canvas import Canvas, draw_map
from cnnviz_cli.render.compare import fit_input
from cnnviz_cli.render.figures import Scene
from cnnviz_cli.render.layout import (
    ALERT,
    GAP,
    INK,
    MARGIN,
    MUTED,
    RULE,
    SECTION,
    SMALL,
    TYPE,
    Block,
    Dots,
    Line,
    Polyline,
    Rectangle,
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
    wrap_words,
)
from cnnviz_cli.render.leaderboard import NARROW
from cnnviz_cli.render.legends import shared_legend
from cnnviz_cli.render.overview import HEADING, make_sheet
from cnnviz_cli.render.style import Caption

ALIKE = 0.5
"""More alike than this a map shows the image and not the network, once the layers are random."""

TILE, LEAST_TILE = 150, 84  # the side of a map, in units
WRAPPED_TILE = 96  # its least side where a method's maps take several rows
CLOSE = 14  # units between maps
NAMES = 132  # the room of the methods' names
THICK, THIN = 4, 2  # the frame of a map that stays when all is random, and when a part is
FIRST = "as trained"


@dataclass(frozen=True, slots=True)
class RandomisedMap:
    """A method's maps as more and more of the network is random.

    Attributes:
        panels: the untouched map, then one for each stage; None where there is none.
        named: what is said of the untouched one.
        alike: for each stage the rank correlation of magnitudes with the untouched map; None where undefined.
        signed: the same of signed values, where the maps have signs; empty where not.
    """

    panels: tuple[SingleMap | None, ...]
    named: Caption
    alike: tuple[float | None, ...]
    signed: tuple[float | None, ...] = ()


def compose_randomised(
    maps: Sequence[RandomisedMap], stages: Sequence[str], title: str, facts: Sequence[str], scene: Scene
) -> Block:
    """The sheet: a row for each method, a column for each stage, the last of which is a wholly random network.

    Args:
        stages: what is random in each column but the first: "classifier", "+ head", "everything".
        facts: pieces below the title; what the numbers are averaged over, if they are.
    """
    room = scene.style.size.layout_width
    margin = MARGIN if room >= NARROW else MARGIN // 2
    count = len(stages) + 2
    side = min(TILE, (room - 2 * margin - NAMES - CLOSE) // count - CLOSE)
    if side >= LEAST_TILE:
        width = NAMES + CLOSE + count * (side + CLOSE) - CLOSE
        width = max(width, room - 2 * margin) if room < 1600 else width
        body = _table(maps, stages, scene, side)
    else:
        width = room - 2 * margin
        across = max(2, (width + CLOSE) // (WRAPPED_TILE + CLOSE))
        side = (width + CLOSE) // across - CLOSE
        body = _wrapped(maps, stages, scene, side, across)
    shown = [(panel, one.named) for one in maps for panel in one.panels[:1] if panel is not None]
    signed = any(one.signed for one in maps)
    rows = [
        _heading(title, facts, scene, width, signed=signed),
        body,
        shared_legend(shown, scene.style, width),
        _foot(maps, width),
    ]
    return make_sheet(rows, width, margin)


def _heading(title: str, facts: Sequence[str], scene: Scene, width: int, *, signed: bool) -> Block:
    """The title, and to its right what the network saw."""
    picture = _canvas(scene, 92)
    room = width - 92 - GAP
    lines = [Line(text, HEADING) for text in wrap_words(title, HEADING, room)]
    words = [*([scene.caption.source] if scene.caption.source else []), *facts]
    below = "below a map: rank correlation of magnitudes with the untouched map"
    below += ", of signed values in brackets" * signed
    lines += muted_lines(words, TYPE, room) + muted_lines(below, SMALL, room)
    lines += note_lines(scene.caption.note, TYPE, room)
    return stack_horizontally([set_lines(lines, room), picture.as_raster(picture.image)], GAP)


def _canvas(scene: Scene, side: int) -> Canvas:
    return fit_input(scene.image, scene.view, side, scene.style.size.density)


def _names(one: RandomisedMap, width: int) -> Block:
    titles = [Line(text, TYPE + 1) for text in wrap_words(one.named.title, TYPE + 1, width)]
    layers = [Line(text, SMALL, MUTED) for text in layer_lines(one.named.layer, SMALL, width)]
    return set_lines([*titles, *layers], width)


def _table(maps: Sequence[RandomisedMap], stages: Sequence[str], scene: Scene, side: int) -> Block:
    heads = [FIRST, *stages, "likeness"]
    cells = [set_lines([Line(text, TYPE) for text in wrap_words(head, TYPE, side)], side) for head in heads]
    tall = max(cell.height for cell in cells)
    head = blank_block(NAMES + CLOSE + len(heads) * (side + CLOSE) - CLOSE, tall)
    for number, cell in enumerate(cells):
        head.put(cell, NAMES + CLOSE + number * (side + CLOSE), tall - cell.height)
    rows = [head]
    for number, one in enumerate(maps):
        tiles = [_tile(one, stage, scene, side) for stage in range(len(stages) + 1)]
        named = _named_curves(maps, number)
        curve = _likeness(one, side, tiles[0].height - line_height(SMALL) - 4, named)
        rows.append(stack_horizontally([_names(one, NAMES), *tiles, curve], CLOSE))
    return stack_vertically(rows, CLOSE)


def _wrapped(maps: Sequence[RandomisedMap], stages: Sequence[str], scene: Scene, side: int, across: int) -> Block:
    """Each method's maps in rows of so many, the name above them and each stage above its map."""
    parts: list[Block] = []
    width = across * (side + CLOSE) - CLOSE
    for number, one in enumerate(maps):
        cells = []
        for stage, stage_name in enumerate([FIRST, *stages]):
            named = set_lines([Line(elide(stage_name, SMALL, side), SMALL, MUTED)], side)
            cells.append(stack_vertically([named, _tile(one, stage, scene, side)], 2))
        label = set_lines([Line("likeness", SMALL, MUTED)], side)
        picture = cells[0].height - label.height - 2 - line_height(SMALL) - 4
        cells.append(stack_vertically([label, _likeness(one, side, picture, _named_curves(maps, number))], 2))
        rows = [stack_horizontally(cells[start : start + across], CLOSE) for start in range(0, len(cells), across)]
        head = set_lines([Line(elide(one.named.title, SECTION, width), SECTION)], width)
        parts.append(stack_vertically([head, *rows], CLOSE // 2))
    return stack_vertically(parts, GAP)


def frame_of(one: RandomisedMap, stage: int) -> int:
    """How thick the red frame of a map is, 0 where it has none; stage 0 is the untouched map."""
    alike = one.alike[stage - 1] if stage else None
    if alike is None or alike <= ALIKE:
        return 0
    return THICK if stage == len(one.alike) else THIN


def _tile(one: RandomisedMap, stage: int, scene: Scene, side: int) -> Block:
    """A map, and below it how alike it is to the untouched one."""
    canvas = _canvas(scene, side)
    raster = canvas.as_raster(canvas.image)
    block = blank_block(side, raster.height + 4 + line_height(SMALL))
    panel, style = one.panels[stage], scene.style.for_caption(one.named)
    if panel is None:
        block.put(Rectangle(raster.width, raster.height, outline=RULE), 0, 0)
    else:
        block.put(canvas.as_raster(draw_map(panel, canvas, style, one.named.scale)), 0, 0)
    if not stage:
        return block
    frame = frame_of(one, stage)
    if frame:
        block.put(Rectangle(raster.width, raster.height, outline=ALERT, line=frame), 0, 0)
    base = raster.height + 4 + SMALL
    alike = one.alike[stage - 1]
    text = "-" if alike is None else format_fixed(alike, 2)
    put_text(block, 0, base, text, SMALL, ALERT if frame else INK, strong=frame == THICK)
    signed = one.signed[stage - 1] if one.signed else None
    if signed is not None:
        put_text(block, text_width(text, SMALL) + 6, base, f"({format_fixed(signed, 2)})", SMALL, MUTED)
    return block


def _named_curves(maps: Sequence[RandomisedMap], number: int) -> tuple[bool, bool]:
    """Whether the curves of a row are named, of magnitudes and of signed values: where each is drawn first."""
    first = next((at for at, one in enumerate(maps) if one.signed), None)
    return number in (0, first), number == first


def _likeness(one: RandomisedMap, side: int, height: int, named: tuple[bool, bool]) -> Block:
    """How alike maps are along the stages: magnitudes in blue, signed values in grey, a line where red begins."""
    height = max(height, round(0.6 * side))  # however flat the maps are
    known = [value for value in (*one.alike, *one.signed) if value is not None]
    low = min([-0.5, *known])
    ticks = tuple(tick for tick in (-1.0, -0.5, 0.0, ALIKE, 1.0) if tick >= low - 0.05)
    room = SMALL * (1.05 - low) / (height - SMALL)  # for the number at the top
    up = Axis(low - 0.05, 1 + room, height, ticks, 1)
    gutter = 26
    across = Axis(0, len(one.alike), side - gutter - DOT, (), 0)
    block = blank_block(side, height + 4 + line_height(SMALL))
    for tick in up.ticks:
        down = round(height - up.place(tick))
        block.put(Rectangle(side - gutter, 1, fill=RULE if tick in (0, ALIKE) else GRID), gutter, down)
        text = format_fixed(tick, 1)
        put_text(block, gutter - 6 - text_width(text, SMALL), down + round(0.36 * SMALL), text, SMALL, MUTED)
    for values, color in ((one.signed, QUIET), (one.alike, BLUE)):
        places = [(0.0, 1.0), *((float(number), value) for number, value in enumerate(values, 1) if value is not None)]
        points = tuple((gutter + across.place(stage), height - up.place(value)) for stage, value in places)
        if not values:
            continue
        for pair in pairwise(points):
            block.put(Polyline(pair, color, 2), 0, 0)
        if color == QUIET:
            block.put(Dots(points, 2.5, QUIET), 0, 0)
            continue
        for (stage, value), point in zip(places, points, strict=True):
            draw_dot(block, point[0], round(point[1]), beats=not (stage and value > ALIKE), radius=4)
    if named[0]:
        base = height + 4 + SMALL
        start = min(gutter, side - text_width("magnitudes", SMALL))
        put_text(block, start, base, "magnitudes", SMALL, BLUE)
        left = start + text_width("magnitudes", SMALL) + 8
        if named[1] and left + text_width("signed", SMALL) <= side:
            put_text(block, left, base, "signed", SMALL, MUTED)
    return block


def _foot(maps: Sequence[RandomisedMap], width: int) -> Block:
    frames = {frame_of(one, stage) for one in maps for stage in range(1, len(one.alike) + 1)}
    sentences = []
    if THIN in frames:
        sentences.append(f"Thin red frame: more than {ALIKE} alike although the layers named above are random.")
    if THICK in frames:
        sentences.append(f"Thick red frame: more than {ALIKE} alike although everything is random.")
    sentences.append("A map that stays as it was shows the image, not the network.")
    return set_lines([line for text in sentences for line in muted_lines(text, SMALL, width)], width)
