"""Colour bars with their numbers, and legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log10

import numpy as np
from PIL import Image

from cnnviz_cli.core.figure_settings import Scale
from cnnviz_cli.core.panels import Panel, ScaleKind, SingleMap
from cnnviz_cli.render.canvas import SUNK, checkerboard, desaturate, opacity_table
from cnnviz_cli.render.layout import (
    GAP,
    INK,
    SMALL,
    TYPE,
    Block,
    Line,
    Ramp,
    Raster,
    Rectangle,
    blank_block,
    elide,
    line_height,
    muted_lines,
    put_text,
    set_lines,
    stack_horizontally,
    stack_vertically,
    text_width,
    wrap_words,
)
from cnnviz_cli.render.scaling import (
    GRAYS,
    ByteArray,
    color_limits,
    count_outside,
    is_constant,
    overlay_of,
    palette_of,
    peak_of,
    replace_nonfinite,
    state_of,
    top_of,
)
from cnnviz_cli.render.style import Caption, Style


def format_ticks(values: Sequence[float]) -> list[str]:
    """The values as short texts to three significant digits of the largest: ``0``, ``0.412``, ``0.823``.

    All share their decimals, so that they compare at a glance; zero is written ``0``, and never with a minus.
    """
    largest = max((abs(value) for value in values), default=0.0)
    if largest == 0:
        return ["0"] * len(values)
    if not 1e-3 <= largest < 1e5:
        return [_scientific(value) for value in values]
    # log10 of 999.9 rounds to three digits as 1000, so the magnitude is taken after rounding.
    decimals = max(0, 2 - floor(log10(float(f"{largest:.2e}"))))
    return [f"{value:z.{decimals}f}" if value else "0" for value in values]


def format_number(value: float) -> str:
    """One value to three significant digits."""
    return format_ticks([value])[0]


def _scientific(value: float) -> str:
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


EDGE = "#8d939b"  # the line around a colour bar or a sample
APART = 1.0  # how far texts below a bar stand apart at the least, as a share of their size


def color_bar(colors: ByteArray, labels: Sequence[str], width: int, unit: int) -> Block:
    """A bar from low to high with at least two texts below it, see `bar_labels`.

    The colours are (n, 3), or (2, n, 3) for an upper and a lower half.
    """
    placed = bar_labels(labels, width, unit)
    thick = max(6, round(0.85 * unit))
    rows_below = 1 + max(row for _, row, _ in placed)
    block = blank_block(width, thick + round(0.25 * unit) + rows_below * line_height(unit))
    block.put(Ramp(colors[None] if colors.ndim == 2 else colors, width, thick), 0, 0)
    block.put(Rectangle(width, thick, outline=EDGE, line=max(1, unit // 18)), 0, 0)
    for left, row, label in placed:
        put_text(block, left, thick + round(0.25 * unit) + unit + row * line_height(unit), label, unit, INK)
    return block


def bar_labels(labels: Sequence[str], width: int, unit: int) -> list[tuple[float, int, str]]:
    """Where the texts below a bar stand: left edge, row, text; never one over another, nor beyond the bar.

    Where there is no room for all, the inner ones are left out; where there is none for both ends, the upper end goes
    into a row of its own.
    """
    shown = [elide(label, unit, width) for label in labels]
    lefts = [number / (len(shown) - 1) * (width - text_width(label, unit)) for number, label in enumerate(shown)]
    ends = [left + text_width(label, unit) + APART * unit for left, label in zip(lefts, shown, strict=True)]
    if any(end > left for end, left in zip(ends, lefts[1:], strict=False)):
        if len(shown) > 2:
            return bar_labels([labels[0], labels[-1]], width, unit)
        return [(lefts[0], 0, shown[0]), (lefts[1], 1, shown[1])]
    return [(left, 0, label) for left, label in zip(lefts, shown, strict=True)]


def legend_entry(text: str, swatch: Image.Image, unit: int, width: int) -> Block:
    """A small sample and what it stands for."""
    side, top, indent = round(0.85 * unit), round(0.3 * unit), round(2.4 * unit)
    words = set_lines(muted_lines(text, unit, width - indent), max(1, width - indent))
    block = blank_block(width, words.height)
    block.put(Raster(swatch.crop((0, 0, 2 * side, side)), 2 * side, side), 0, top)
    block.put(Rectangle(2 * side, side, outline=EDGE, line=max(1, unit // 18)), 0, top)
    block.put(words, indent, 0)
    return block


def legend(bar: Block | None, notes: Sequence[Block | str], width: int, unit: int) -> Block:
    """The bar with its notes: to its right where there is room, else below."""
    gap = 2 * unit
    left = bar.width + gap if bar else 0
    room = width - left
    if bar and room < 14 * unit:
        left, room = 0, width
    written = [set_lines(muted_lines(note, unit, room), room) if isinstance(note, str) else note for note in notes]
    if bar is None or not written:
        return stack_vertically(written, 0) if written else bar or blank_block(1, 1)
    words = stack_vertically(written, 0)
    return stack_horizontally([bar, words], gap) if left else stack_vertically([bar, words], round(0.5 * unit))


def bar_width(width: int, unit: int) -> int:
    """How long a colour bar is under an image of some width."""
    return min(width, 18 * unit)


INTERPOLATED = {
    "bicubic": "bicubic between its cells",
    "bilinear": "bilinear between its cells",
    "nearest": "cells not interpolated",
}  # how a map came to the image's size, in words


def blend_over_grounds(colors: ByteArray, alpha: float, *, signed: bool = False, constant: bool = False) -> ByteArray:
    """(2, n, 3) a palette as an overlay shows it: over a light ground, and over a dark one."""
    if constant:
        return np.rint([ground * (1 - alpha) + colors * alpha for ground in (255, 40)]).astype(np.uint8)
    places = np.linspace(-1 if signed else 0, 1, len(colors))
    levels = np.rint(255 * np.abs(places)).astype(int)
    share, drain = opacity_table(alpha)[levels, None], desaturate()[levels, None]
    grounds = [ground * (1 - drain + SUNK * drain) for ground in (255, 40)]
    return np.rint([ground * (1 - share) + colors * share for ground in grounds]).astype(np.uint8)


def make_color_bar(
    panel: SingleMap, style: Style, width: int, unit: int, scale: Scale | None = None
) -> tuple[Block | None, str]:
    """The colour bar of a panel, if it has a scale, and what its numbers are."""
    raw = np.asarray(panel.values)
    kind = "projection" if panel.in_colour else "map"
    between = INTERPOLATED[style.interpolation_for(overlay_of(panel, style))]
    size = f"{kind} of {raw.shape[-1]} x {raw.shape[-2]}, {between}"
    if not np.isfinite(raw).any():
        return None, f"{size}, without one finite value"
    if color_limits(panel, scale) is None:
        values = format_ticks([float(raw.min()), float(raw.max())])
        what = f"{values[0]} everywhere" if is_constant(raw) else f"{values[0]} to {values[1]}, which is rounding"
        laid = "; no colour is laid over the image" if panel.scale_kind == "peak" else ""
        return None, f"{size}, {what}{laid}"
    colours, labels, words = (
        _given_scale_legend(panel, scale, style) if scale and panel.takes_scale else _own(panel, style)
    )
    return color_bar(colours, labels, width, unit), f"{size}, {words}"


def map_colors(panel: SingleMap, style: Style, scale: Scale | None = None) -> ByteArray:
    """(n, 3) the colours from the lowest value drawn to the highest; (2, n, 3) where a ground shows through."""
    if panel.in_colour:
        return GRAYS
    colours, overlay = palette_of(panel, style), overlay_of(panel, style)
    shown: ByteArray = colours
    if overlay != "none":
        signed, constant = panel.scale_kind == "centred", overlay == "constant"
        shown = blend_over_grounds(colours, style.opacity(overlay), signed=signed, constant=constant)
    if scale is None or panel.scale_kind != "centred":
        return shown
    # Zero stays in the middle of the palette; a lopsided range uses a part of it.
    limit = max(abs(scale.low), abs(scale.high))
    first, last = (round((len(colours) - 1) * (0.5 + 0.5 * end / limit)) for end in (scale.low, scale.high))
    return shown[..., first : last + 1, :]


def _given_scale_legend(panel: SingleMap, scale: Scale, style: Style) -> tuple[ByteArray, list[str], str]:
    below, above = count_outside(panel, scale)
    words = f"raw values, {scale.label} scale; {describe_outside(below + above)}"
    return map_colors(panel, style, scale), _scale_labels(scale, below, above), words + describe_overlay(panel, style)


def _scale_labels(scale: Scale, below: int, above: int) -> list[str]:
    low, middle, high = format_ticks([scale.low, (scale.low + scale.high) / 2, scale.high])
    return [low + " or less" * bool(below), middle, high + " or more" * bool(above)]


def describe_overlay(panel: Panel, style: Style) -> str:
    """What an overlay does with the image, in words that go on a sentence; empty where there is none."""
    overlay = overlay_of(panel, style)
    if overlay == "none":
        return ""
    share = f"{style.opacity(overlay):.0%}".replace("%", " %")
    if overlay == "constant":
        what = f"{share} colour over the whole image"
    else:
        nothing = "zero" if panel.scale_kind == "centred" else "no evidence"
        what = f"transparent at {nothing}, {share} colour at the strongest"
    return f"; {what}; bar: above as over light, below as over dark"


def describe_outside(count: int) -> str:
    """How many values a given range does not hold, in words."""
    verb = "value lies" if count == 1 else "values lie"
    return f"{count:,} {verb} beyond it" if count else "no value lies beyond it"


def _own(panel: SingleMap, style: Style) -> tuple[ByteArray, list[str], str]:
    raw, colours, over = np.asarray(panel.values), map_colors(panel, style), describe_overlay(panel, style)
    if panel.scale_kind == "peak":
        low, middle, high = format_ticks([0, peak_of(raw) / 2, peak_of(raw)])
        return colours, [f"{low} no evidence", middle, f"{high} strongest"], "raw values" + over
    top, clipped = top_of(raw)
    largest = format_number(float(np.abs(replace_nonfinite(raw)).max()))
    tail = f"; the bar ends at the 99.5th percentile, the largest is {largest}" if clipped else ""
    if panel.scale_kind == "percentile":
        labels = format_ticks([0, top / 2, top])
        return colours, [*labels[:2], labels[2] + " or more" * clipped], "raw values" + tail + over
    low, zero, high = format_ticks([-top, 0, top])
    labels = [low + " or less" * clipped, zero, high + " or more" * clipped]
    tail = tail.replace("percentile, the largest", "percentile of the magnitudes, the largest")
    if not panel.in_colour:
        return colours, labels, "raw values around zero" + tail + over
    remark = f"; {panel.made_how()}" if panel.made_how() else ""
    what = "grey" if len(raw) == 1 else "red, green and blue each"
    return colours, labels, f"{what} around zero; mid-grey is zero{tail}{remark}"


CaptionedMap = tuple[SingleMap, Caption]
WIDEST = 340
_ORDER: tuple[ScaleKind, ...] = ("peak", "percentile", "centred")  # of the legends on a sheet

_OWN_SCALE: Mapping[ScaleKind, str] = {
    "peak": "each map from 0 to its own highest value",
    "percentile": "each map from 0 to the 99.5th percentile of its values",
    "centred": "each map to the 99.5th percentile of its magnitudes",
}


def shared_scale(entries: Sequence[CaptionedMap], kind: type[SingleMap]) -> Scale | None:
    """The given range that all maps of a kind share, if they do."""
    scales = {named.scale for panel, named in entries if type(panel) is kind and panel.takes_scale}
    return scales.pop() if len(scales) == 1 else None


def shared_legend(entries: Sequence[CaptionedMap], style: Style, width: int) -> Block:
    """For each kind of map what its colours mean; next to each other while there is room."""
    kinds = sorted(
        dict.fromkeys(type(panel) for panel, _ in entries),
        key=lambda kind: (_ORDER.index(kind.scale_kind), kind.in_colour),
    )
    across = max(1, min(len(kinds), (width + GAP) // (WIDEST * 2 // 3 + GAP)))
    cell = min(WIDEST, (width - (across - 1) * GAP) // across)
    cells = [_kind_legend([entry for entry in entries if type(entry[0]) is kind], style, cell) for kind in kinds]
    rows = [stack_horizontally(cells[start : start + across], GAP) for start in range(0, len(cells), across)]
    if any(state_of(panel) == "nonfinite" for panel, _ in entries):
        rows.append(legend_entry("not finite", checkerboard((4 * SMALL, 2 * SMALL), SMALL), SMALL, width))
    outlined = dict.fromkeys(named.outlined for _, named in entries if named.outlined)
    if outlined:
        rows.append(set_lines(muted_lines([f"outlined: {words}" for words in outlined], SMALL, width), width))
    return stack_vertically(rows, GAP // 2)


def _kind_legend(entries: Sequence[CaptionedMap], style: Style, width: int) -> Block:
    panel, named = entries[0]
    style, scale = style.for_caption(named), shared_scale(entries, type(panel))
    signed = panel.scale_kind == "centred" and not panel.in_colour
    labels = list(panel.bar_words)
    if named.counterfactual and signed:
        labels.reverse()
    elif named.counterfactual and panel.scale_kind == "peak":
        labels[1] += " against"
    remarks = [_OWN_SCALE[panel.scale_kind].replace("map", "projection" if panel.in_colour else "map")]
    given = [(one, caption.scale) for one, caption in entries if caption.scale and one.takes_scale]
    if given:
        counts = [count_outside(one, limits) for one, limits in given]
        below, above = sum(low for low, _ in counts), sum(high for _, high in counts)
        whose = " and ".join(sorted({limits.label for _, limits in given}))
        each = "" if scale else " for each method and layer"
        remarks = [f"raw values, {whose} scale{each}", describe_outside(below + above)]
        if scale:
            labels = _scale_labels(scale, below, above)
    if signed and scale:
        remarks.append("below 0 for, above 0 against" if named.counterfactual else "below 0 against, above 0 for")
    remarks[-1] += describe_overlay(panel, style)
    remarks += sorted({one.made_how() for one, _ in entries} - {""})
    over = " over the image" * (panel.scale_kind == "peak" and overlay_of(panel, style) != "none")
    head = set_lines([Line(text, TYPE) for text in wrap_words(panel.legend_title + over, TYPE, width)], width)
    bar = color_bar(map_colors(panel, style, scale), labels, width, SMALL)
    foot = set_lines(muted_lines("; ".join(remarks), SMALL, width), width)
    return stack_vertically([head, bar, foot], SMALL // 3)
