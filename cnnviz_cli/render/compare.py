"""Maps of one family side by side on one sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import ADVICE, Panel
from cnnviz_cli.render.block import Block, Part, beside, blank, framed, stack
from cnnviz_cli.render.compare_layout import Entry, Flow, Page, Section, Table, pages
from cnnviz_cli.render.compare_legend import shared_legend, shared_scale
from cnnviz_cli.render.figures import pictured
from cnnviz_cli.render.look import Caption, Look
from cnnviz_cli.render.numerals import ticks
from cnnviz_cli.render.overview_cells import GAP, SECTION, SMALL, TYPE
from cnnviz_cli.render.overview_sheet import HEADING, MARGIN, ruled
from cnnviz_cli.render.photograph import Stage
from cnnviz_cli.render.scaling import ends_of, state_of
from cnnviz_cli.render.typeset import INK, QUIET, Line, elide, flow, noted, set_lines

TILE = 224
"""The longer side of a map, in pixels, and the width of a column."""

LEAST_COLUMNS = 3
"""The sheet is at least so many columns wide, the one that names rows among them: its heading needs room."""


def compose_comparison(
    photo: Image.Image, view: View, entries: Sequence[tuple[Panel, Caption]], caption: Caption, look: Look
) -> Iterator[Block]:
    """The sheets that `pages` lays out, each by itself: what the network saw, the maps over it, a legend.

    Args:
        photo: the upright photograph, RGB; `view` says where the input lies in it.
        entries: the picked panels of one image, with their captions; only single maps are shown.
        caption: the sheet's title, and the facts for its head.
    """
    stage = seen(photo, view, TILE)
    below = set_lines([Line("the photograph" if view.whole else "what the network saw", SMALL, QUIET)], TILE)
    original = stack([stage.photo, below], SMALL // 3)
    facts = [
        caption.title,
        caption.model,
        f"photograph of {photo.width} x {photo.height} pixels",
        f"network input {view.size[0]} x {view.size[1]}",
    ]
    laid = pages(entries)
    for number, page in enumerate(laid, 1):
        part = [f"sheet {number} of {len(laid)}"] if len(laid) > 1 else []
        yield _sheet(page, stage, original, [*facts, *part], caption, look)


def seen(photo: Image.Image, view: View, side: int) -> Stage:
    """The part of the photograph that the network was shown, made to fit into a square of `side` pixels."""
    left, top, right, bottom = view.box
    # An input with a border of its own reaches beyond the photograph.
    inner = (max(0.0, left), max(0.0, top), min(float(photo.width), right), min(float(photo.height), bottom))
    across, down = inner[2] - inner[0], inner[3] - inner[1]
    ratio = side / max(across, down)
    size = max(1, round(across * ratio)), max(1, round(down * ratio))
    how = Image.Resampling.LANCZOS if ratio < 1 else Image.Resampling.BICUBIC
    box = (
        (left - inner[0]) / across * size[0],
        (top - inner[1]) / down * size[1],
        (right - inner[0]) / across * size[0],
        (bottom - inner[1]) / down * size[1],
    )
    return Stage(photo.resize(size, how, box=inner, reducing_gap=2.0), View(size, view.size, box), 1, TYPE)


def tile(entry: Entry, stage: Stage, look: Look, *, scaled: bool) -> Part:
    """One map, and below it the range of its colours (left out if `scaled`), or why it cannot be read."""
    panel, named = entry
    look = look.under(named)
    lines = noted(named.note or ADVICE[state_of(panel)], SMALL, TILE)
    ends = ends_of(panel, named.scale)
    if ends is not None and not scaled:
        lines.insert(0, Line(elide(" to ".join(ticks(ends)), SMALL, TILE), SMALL, QUIET))
    picture = pictured(panel, stage, look, named.scale, named.mark)
    return stack([picture, set_lines(lines, TILE)], SMALL // 3) if lines else picture


def _sheet(page: Page, stage: Stage, original: Block, facts: Sequence[str], caption: Caption, look: Look) -> Block:
    shown = [entry for block in page for entry in _entries(block)]
    columns = max(LEAST_COLUMNS, 1 + max(_columns(block) for block in page))
    width = columns * (TILE + GAP) - GAP
    rows: list[Block] = []
    for number, block in enumerate(page):
        first = original if number == 0 else None
        if isinstance(block, Flow):
            if first:
                rows.append(_heading(facts, caption, width))
            rows.append(_flow(block, stage, first, look, shown))
            continue
        captions = beside([set_lines(_class_lines(named), TILE) for named in block.columns], GAP)
        head = _masthead(first, _heading(facts, caption, width - TILE - GAP), captions) if first else captions
        rows.append(
            stack([head if first else beside([blank(TILE, 1), head], GAP), _table(block, stage, look, shown)], GAP // 3)
        )
    rows.append(shared_legend(shown, look, width))
    return framed(stack([rows[0], *(ruled(row, width) for row in rows[1:])], GAP), MARGIN)


def _heading(facts: Sequence[str], caption: Caption, width: int) -> Block:
    lines = [Line(elide(caption.source, HEADING, width, middle=True), HEADING)] if caption.source else []
    lines += [Line(text, TYPE, QUIET) for text in flow(facts, TYPE, width)]
    return set_lines([*lines, *noted(caption.note, TYPE, width)], width)


def _masthead(original: Block, heading: Block, captions: Block) -> Block:
    """What the network saw; to its right the heading, and at the bottom what stands above the columns."""
    # The name of the first row comes right below the original; a long heading pushes both down.
    height = max(original.height + GAP // 2, heading.height + GAP + captions.height)
    right = blank(heading.width, height)
    right.put(heading, 0, 0)
    right.put(captions, 0, height - captions.height)
    return beside([original, right], GAP)


def _class_lines(named: Caption) -> list[Line]:
    """What is explained and its figure, and what it is told apart from."""
    facts = f"{named.figure}  {named.apart}".strip()
    return [
        Line(elide(named.subject or named.title, SECTION, TILE), SECTION, INK),
        Line(elide(facts, TYPE, TILE), TYPE, QUIET),
    ]


def _way_lines(title: str, layer: str) -> list[Line]:
    """A method and the layer that it read."""
    return [
        Line(elide(title, SECTION, TILE), SECTION, INK),
        Line(elide(layer, TYPE, TILE, middle=True), TYPE, QUIET),
    ]


def _table(block: Table, stage: Stage, look: Look, shown: Sequence[Entry]) -> Block:
    rows = []
    for way, cells in block.rows:
        maps = [_tile_or_paper(entry, stage, look, shown) for entry in cells]
        rows.append(beside([set_lines(_way_lines(way.title, way.layer), TILE), *maps], GAP))
    return stack(rows, GAP)


def _flow(block: Flow, stage: Stage, original: Block | None, look: Look, shown: Sequence[Entry]) -> Block:
    """Rows of maps, each under its method's name; what they are for stands to their left, `original` below that."""
    if block.named is None:
        lines = [Line("any class", SECTION, INK), Line("the same map whatever the class", TYPE, QUIET)]
    else:
        lines = _class_lines(block.named)
    aside = set_lines(lines, TILE)
    if original:
        aside = stack([aside, original], GAP // 3)
    rows: list[Block] = []
    for row in block.rows:
        cells = []
        for entry in row:
            head = set_lines(_way_lines(entry[1].title, entry[1].layer), TILE)
            cells.append(stack([head, _tile_or_paper(entry, stage, look, shown)], GAP // 3))
        rows.append(beside([blank(TILE, 1) if rows else aside, *cells], GAP))
    return stack(rows, GAP)


def _tile_or_paper(entry: Entry | None, stage: Stage, look: Look, shown: Sequence[Entry]) -> Part:
    if entry is None:
        return blank(TILE, 1)
    return tile(entry, stage, look, scaled=shared_scale(shown, type(entry[0])) is not None)


def _entries(block: Section) -> Iterator[Entry]:
    if isinstance(block, Flow):
        yield from (entry for row in block.rows for entry in row)
    else:
        yield from (entry for _, cells in block.rows for entry in cells if entry is not None)


def _columns(block: Section) -> int:
    return len(block.columns) if isinstance(block, Table) else max(map(len, block.rows))
