"""The legend under a comparison sheet: one for each kind of map on it."""

from __future__ import annotations

from collections.abc import Sequence

from cnnviz_cli.core.panels import ScaleKind, SingleMap
from cnnviz_cli.core.scales import Scale
from cnnviz_cli.render.block import Block, beside, stack
from cnnviz_cli.render.blocks import colour_bar, legend_entry
from cnnviz_cli.render.compare_layout import Entry
from cnnviz_cli.render.figures import colours_of, laid_over, outside
from cnnviz_cli.render.numerals import ticks
from cnnviz_cli.render.overview_cells import GAP, SMALL, TYPE
from cnnviz_cli.render.photograph import chequer
from cnnviz_cli.render.scaling import beyond, overlay_of, state_of
from cnnviz_cli.render.style import Style
from cnnviz_cli.render.typeset import INK, QUIET, Line, prose, set_lines

WIDEST = 340

_ORDER: tuple[ScaleKind, ...] = ("peak", "percentile", "centred")
"""Of the legends on a sheet."""


def shared_scale(entries: Sequence[Entry], kind: type[SingleMap]) -> Scale | None:
    """The given range that all maps of a kind share, if they do."""
    scales = {named.scale for panel, named in entries if type(panel) is kind and panel.takes_scale}
    return scales.pop() if len(scales) == 1 else None


def shared_legend(entries: Sequence[Entry], style: Style, width: int) -> Block:
    """For each kind of map what its colours mean; next to each other while there is room."""
    kinds = sorted(
        dict.fromkeys(type(panel) for panel, _ in entries),
        key=lambda kind: (_ORDER.index(kind.scale_kind), kind.in_colour),
    )
    across = max(1, min(len(kinds), (width + GAP) // (WIDEST * 2 // 3 + GAP)))
    cell = min(WIDEST, (width - (across - 1) * GAP) // across)
    cells = [_one([entry for entry in entries if type(entry[0]) is kind], kind, style, cell) for kind in kinds]
    rows = [beside(cells[start : start + across], GAP) for start in range(0, len(cells), across)]
    if any(state_of(panel) == "nonfinite" for panel, _ in entries):
        rows.append(legend_entry("not finite", chequer((4 * SMALL, 2 * SMALL), SMALL), SMALL, width))
    return stack(rows, GAP // 2)


def _one(entries: Sequence[Entry], kind: type[SingleMap], style: Style, width: int) -> Block:
    title = kind.legend_title
    style = style.under(entries[0][1])
    if kind.scale_kind == "peak" and overlay_of(entries[0][0], style) != "none":
        title += " over the photograph"
    scale = shared_scale(entries, kind)
    labels, remarks = list(kind.bar_words), [_own_scale(kind)]
    counter = entries[0][1].counter
    signed = kind.scale_kind == "centred" and not kind.in_colour
    if counter and signed:
        labels.reverse()
    elif counter and kind.scale_kind == "peak":
        labels[1] += " against"
    given = [(panel, named.scale) for panel, named in entries if named.scale and panel.takes_scale]
    if given:
        counts = [beyond(panel, one) for panel, one in given]
        below, above = sum(low for low, _ in counts), sum(high for _, high in counts)
        whose = " and ".join(sorted({one.whose for _, one in given}))
        remarks = [
            f"raw values, {whose} scale for each method and layer" if scale is None else f"raw values, {whose} scale"
        ]
        remarks.append(outside(below + above))
        if scale:
            numbers = ticks([scale.low, (scale.low + scale.high) / 2, scale.high])
            labels = [numbers[0] + " or less" * bool(below), numbers[1], numbers[2] + " or more" * bool(above)]
    if signed and scale:
        remarks.append("below 0 for, above 0 against" if counter else "below 0 against, above 0 for")
    remarks[-1] += laid_over(entries[0][0], style)
    remarks += sorted({panel.made_how() for panel, _ in entries} - {""})
    bar = colour_bar(colours_of(entries[0][0], style, scale), labels, width, SMALL)
    head = set_lines([Line(text, TYPE, INK) for text in prose(title, TYPE, width)], width)
    foot = set_lines([Line(text, SMALL, QUIET) for text in prose("; ".join(remarks), SMALL, width)], width)
    return stack([head, bar, foot], SMALL // 3)


def _own_scale(kind: type[SingleMap]) -> str:
    """What each map of a kind is scaled by, in words."""
    if kind.scale_kind == "peak":
        return "each map from 0 to its own highest value"
    if kind.scale_kind == "percentile":
        return "each map from 0 to the 99.5th percentile of its values"
    return f"each {'picture' if kind.in_colour else 'map'} to the 99.5th percentile of its magnitudes"
