"""One map of one picture: caption, photograph, colour bar."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cnnviz_cli.core.figure_settings import Scale
from cnnviz_cli.core.geometry import Annotation, View
from cnnviz_cli.core.panels import ADVICE, Panel, SingleMap
from cnnviz_cli.render.block import Block, Part, add_margin, stack_horizontally, stack_vertically
from cnnviz_cli.render.canvas import (
    SUNK,
    Canvas,
    OverlaySpec,
    canvas_at,
    checkerboard,
    desaturate,
    draw_annotation,
    draw_opaque,
    gap_of,
    mark_unseen,
    opacity_table,
    overlay_map,
)
from cnnviz_cli.render.color_tables import GRAYS, ByteArray, color_table
from cnnviz_cli.render.drawings import draws
from cnnviz_cli.render.legends import bar_width, color_bar, format_number, format_ticks, legend, legend_entry, no_data
from cnnviz_cli.render.scaling import (
    color_limits,
    count_outside,
    is_blank,
    is_constant,
    normalize,
    overlay_of,
    peak_of,
    replace_nonfinite,
    state_of,
    to_rgb,
    top_of,
)
from cnnviz_cli.render.style import Caption, Style
from cnnviz_cli.render.typeset import INK, MUTED, Line, elide, note_lines, set_lines, text_width, wrap_pieces

INTERPOLATED = {
    "bicubic": "bicubic between its cells",
    "bilinear": "bilinear between its cells",
    "nearest": "cells not interpolated",
}
"""How a map came to the photograph's size, in words."""


def caption_lines(caption: Caption, panel: Panel, width: int, unit: int, style: Style | None = None) -> list[Line]:
    """The lines above a picture: the class (or the title), the facts, and a note where one is due."""
    large = round(1.3 * unit)
    lines: list[Line] = []
    heading = caption.heading + describe_signs(panel, caption, style)
    facts = [heading, caption.contrast_text, caption.model, caption.source]
    if caption.target:
        figure = caption.detail and "   " + caption.detail
        name = elide(caption.subject, large, width - text_width(figure, large))
        lines.append(Line(name + figure, large, INK))
    else:
        lines += [Line(text, large, INK) for text in wrap_pieces([heading], large, width)]
        facts = facts[1:]
    lines += [Line(text, unit, MUTED) for text in wrap_pieces(facts, unit, width)]
    return lines + note_lines(caption.note or ADVICE[state_of(panel)], unit, width)


def describe_signs(panel: Panel, caption: Caption, style: Style | None) -> str:
    """What the two hues of evidence for and against mean, in words that go on a title; empty for other kinds."""
    if style is None or not isinstance(panel, SingleMap):
        return ""
    below, above = style.signed_palette.split("-")
    return panel.sides[caption.counterfactual].format(below=below, above=above)


def compose_map(panel: SingleMap, image: Image.Image, view: View, caption: Caption, style: Style) -> Block:
    """Caption, picture and colour bar under each other."""
    style = style.for_caption(caption)
    beside_it = overlay_of(panel, style) == "none"
    flat = image.width > 1.9 * image.height
    canvas = canvas_at(image, view, style.size, 2 if beside_it and not flat else 1, 2 if beside_it and flat else 1)
    unit = canvas.type
    picture: Part = canvas.as_raster(draw_map(panel, canvas, style, caption.scale, caption.mark))
    if beside_it:
        original = canvas.as_raster(draw_annotation(mark_unseen(canvas), canvas, caption.mark))
        picture = (stack_vertically if flat else stack_horizontally)([original, picture], gap_of(unit))
    width = max(picture.width, 20 * unit) if style.size.pixels is None else style.size.layout_width - 2 * unit
    head = set_lines(caption_lines(caption, panel, width, unit, style), width)
    bar, words = make_color_bar(panel, style, bar_width(width, unit), unit, caption.scale)
    notes: list[Block | str] = [words]
    if style.size.pixels is None:
        notes += describe_enlargement(image, canvas.factor)
    if caption.values:
        notes.append(caption.values)
    beside_bar = width - (bar.width + 2 * unit if bar else 0)
    room = beside_bar if beside_bar >= 14 * unit else width
    if not canvas.view.is_whole:
        notes.append(legend_entry("not seen by the network", no_data((4 * unit, 2 * unit), unit), unit, room))
    if state_of(panel) == "nonfinite":
        notes.append(legend_entry("not finite", checkerboard((4 * unit, 2 * unit), unit), unit, room))
    return add_margin(stack_vertically([head, picture, legend(bar, notes, width, unit)], round(0.8 * unit)), unit)


def describe_enlargement(image: Image.Image, factor: float) -> list[str]:
    """How large the photograph is beside its file, in words; nothing where it is as large."""
    if abs(factor - 1) < 0.005:
        return []
    size = f"photograph of {image.width} x {image.height} pixels"
    if factor == round(factor):
        return [f"{size}, shown {factor:.0f} times as large"]
    return [f"{size}, shown at {100 * factor:.{0 if factor >= 0.1 else 1}f} % of its size"]


def draw_map(
    panel: SingleMap, canvas: Canvas, style: Style, scale: Scale | None = None, mark: Annotation | None = None
) -> Image.Image:
    """The evidence in its place in the photograph's frame, on its own scale or on a given one, and around what."""
    return draw_annotation(_evidence(panel, canvas, style, scale), canvas, mark)


def _evidence(panel: SingleMap, canvas: Canvas, style: Style, scale: Scale | None) -> Image.Image:
    """The evidence in its place, on its own scale or on a given one."""
    raw = np.asarray(panel.values)
    if panel.scale_kind == "peak" and is_blank(panel):
        return mark_unseen(canvas)
    shares = normalize(panel, scale)
    overlay = overlay_of(panel, style)
    enlarging = style.interpolation_for(overlay)
    if panel.in_colour:
        return draw_opaque(canvas, list(to_rgb(shares)), None, raw, enlarging)
    signed = panel.scale_kind == "centred"
    colours = palette_of(panel, style)
    if overlay == "none":
        return draw_opaque(canvas, list(shares), colours, raw, enlarging)
    laying = OverlaySpec(colours, overlay, style.opacity(overlay), enlarging, signed)
    return overlay_map(canvas, shares[0], raw[0], laying)


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
    kind = "picture" if panel.in_colour else "map"
    between = INTERPOLATED[style.interpolation_for(overlay_of(panel, style))]
    size = f"{kind} of {raw.shape[-1]} x {raw.shape[-2]}, {between}"
    if not np.isfinite(raw).any():
        return None, f"{size}, without one finite value"
    if color_limits(panel, scale) is None:
        values = format_ticks([float(raw.min()), float(raw.max())])
        what = f"{values[0]} everywhere" if is_constant(raw) else f"{values[0]} to {values[1]}, which is rounding"
        laid = "; no colour is laid over the photograph" if panel.scale_kind == "peak" else ""
        return None, f"{size}, {what}{laid}"
    colours, labels, words = _given(panel, scale, style) if scale and panel.takes_scale else _own(panel, style)
    return color_bar(colours, labels, width, unit), f"{size}, {words}"


def palette_of(panel: SingleMap, style: Style) -> ByteArray:
    """(n, 3) the colours of a map's values."""
    return color_table(style.signed_palette if panel.scale_kind == "centred" else style.palette)


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


def _given(panel: SingleMap, scale: Scale, style: Style) -> tuple[ByteArray, list[str], str]:
    """Colours of a given range, the texts below them, and how many values lie outside."""
    below, above = count_outside(panel, scale)
    low, middle, high = format_ticks([scale.low, (scale.low + scale.high) / 2, scale.high])
    labels = [low + " or less" * bool(below), middle, high + " or more" * bool(above)]
    words = f"raw values, {scale.label} scale; {describe_outside(below + above)}"
    return map_colors(panel, style, scale), labels, words + describe_overlay(panel, style)


def describe_overlay(panel: Panel, style: Style) -> str:
    """What an overlay does with the photograph, in words that go on a sentence; empty where there is none."""
    overlay = overlay_of(panel, style)
    if overlay == "none":
        return ""
    share = f"{style.opacity(overlay):.0%}".replace("%", " %")
    if overlay == "constant":
        what = f"{share} colour over the whole photograph"
    else:
        nothing = "zero" if panel.scale_kind == "centred" else "no evidence"
        what = f"transparent at {nothing}, {share} colour at the strongest"
    return f"; {what}; bar: above as over light, below as over dark"


def describe_outside(count: int) -> str:
    """How many values a given range does not hold, in words."""
    verb = "value lies" if count == 1 else "values lie"
    return f"{count:,} {verb} beyond it" if count else "no value lies beyond it"


def _own(panel: SingleMap, style: Style) -> tuple[ByteArray, list[str], str]:
    """Colours of a panel's own range, the texts below them, and what they are."""
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
    note = f"; {panel.made_how()}" if panel.made_how() else ""
    what = "grey" if len(raw) == 1 else "red, green and blue each"
    return colours, labels, f"{what} around zero; mid-grey is zero{tail}{note}"


draws(SingleMap, lambda panel, scene: compose_map(panel, scene.photo, scene.view, scene.caption, scene.style))
