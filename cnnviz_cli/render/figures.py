"""One map of one picture: caption, photograph, colour bar."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cnnviz_cli.core.annotations import Annotation
from cnnviz_cli.core.figure_settings import Scale
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import ADVICE, Panel, SingleMap
from cnnviz_cli.render.block import Block, Part, beside, framed, stack
from cnnviz_cli.render.canvas import (
    SUNK,
    Canvas,
    Laying,
    alone,
    canvas_at,
    chequer,
    desaturate,
    draw_annotation,
    gap_of,
    marked,
    opacity,
    overlaid,
)
from cnnviz_cli.render.color_tables import GREYS, Bytes, table
from cnnviz_cli.render.drawings import draws
from cnnviz_cli.render.legends import bar_width, colour_bar, legend, legend_entry, no_data, short, ticks
from cnnviz_cli.render.scaling import (
    as_colours,
    beyond,
    blank,
    color_limits,
    even,
    finite,
    normalize,
    overlay_of,
    peak_of,
    state_of,
    top_of,
)
from cnnviz_cli.render.style import Caption, Style
from cnnviz_cli.render.typeset import INK, QUIET, Line, elide, flow, length, noted, set_lines

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
    heading = caption.heading + sides_of(panel, caption, style)
    facts = [heading, caption.apart, caption.model, caption.source]
    if caption.target:
        figure = caption.figure and "   " + caption.figure
        name = elide(caption.subject, large, width - length(figure, large))
        lines.append(Line(name + figure, large, INK))
    else:
        lines += [Line(text, large, INK) for text in flow([heading], large, width)]
        facts = facts[1:]
    lines += [Line(text, unit, QUIET) for text in flow(facts, unit, width)]
    return lines + noted(caption.note or ADVICE[state_of(panel)], unit, width)


def sides_of(panel: Panel, caption: Caption, style: Style | None) -> str:
    """What the two hues of evidence for and against mean, in words that go on a title; empty for other kinds."""
    if style is None or not isinstance(panel, SingleMap):
        return ""
    below, above = style.signed_palette.split("-")
    return panel.sides[caption.counter].format(below=below, above=above)


def figure(panel: SingleMap, photo: Image.Image, view: View, caption: Caption, style: Style) -> Block:
    """Caption, picture and colour bar under each other."""
    style = style.under(caption)
    beside_it = overlay_of(panel, style) == "none"
    flat = photo.width > 1.9 * photo.height
    canvas = canvas_at(photo, view, style.size, 2 if beside_it and not flat else 1, 2 if beside_it and flat else 1)
    unit = canvas.type
    picture: Part = canvas.placed(pictured(panel, canvas, style, caption.scale, caption.mark))
    if beside_it:
        original = canvas.placed(draw_annotation(marked(canvas), canvas, caption.mark))
        picture = (stack if flat else beside)([original, picture], gap_of(unit))
    width = max(picture.width, 20 * unit) if style.size.pixels is None else style.size.layout_width - 2 * unit
    head = set_lines(caption_lines(caption, panel, width, unit, style), width)
    bar, words = scale_of(panel, style, bar_width(width, unit), unit, caption.scale)
    notes: list[Block | str] = [words]
    if style.size.pixels is None:
        notes += shown_at(photo, canvas.factor)
    if caption.values:
        notes.append(caption.values)
    beside_bar = width - (bar.width + 2 * unit if bar else 0)
    room = beside_bar if beside_bar >= 14 * unit else width
    if not canvas.view.whole:
        notes.append(legend_entry("not seen by the network", no_data((4 * unit, 2 * unit), unit), unit, room))
    if state_of(panel) == "nonfinite":
        notes.append(legend_entry("not finite", chequer((4 * unit, 2 * unit), unit), unit, room))
    return framed(stack([head, picture, legend(bar, notes, width, unit)], round(0.8 * unit)), unit)


def shown_at(photo: Image.Image, factor: float) -> list[str]:
    """How large the photograph is beside its file, in words; nothing where it is as large."""
    if abs(factor - 1) < 0.005:
        return []
    size = f"photograph of {photo.width} x {photo.height} pixels"
    if factor == round(factor):
        return [f"{size}, shown {factor:.0f} times as large"]
    return [f"{size}, shown at {100 * factor:.{0 if factor >= 0.1 else 1}f} % of its size"]


def pictured(
    panel: SingleMap, canvas: Canvas, style: Style, scale: Scale | None = None, mark: Annotation | None = None
) -> Image.Image:
    """The evidence in its place in the photograph's frame, on its own scale or on a given one, and around what."""
    return draw_annotation(_evidence(panel, canvas, style, scale), canvas, mark)


def _evidence(panel: SingleMap, canvas: Canvas, style: Style, scale: Scale | None) -> Image.Image:
    """The evidence in its place, on its own scale or on a given one."""
    raw = np.asarray(panel.values)
    if panel.scale_kind == "peak" and blank(panel):
        return marked(canvas)
    shares = normalize(panel, scale)
    overlay = overlay_of(panel, style)
    enlarging = style.enlarging(overlay)
    if panel.in_colour:
        return alone(canvas, list(as_colours(shares)), None, raw, enlarging)
    signed = panel.scale_kind == "centred"
    colours = palette_of(panel, style)
    if overlay == "none":
        return alone(canvas, list(shares), colours, raw, enlarging)
    laying = Laying(colours, overlay, style.opacity(overlay), enlarging, signed)
    return overlaid(canvas, shares[0], raw[0], laying)


def translucent(colours: Bytes, alpha: float, *, signed: bool = False, constant: bool = False) -> Bytes:
    """(2, n, 3) a palette as an overlay shows it: over a light ground, and over a dark one."""
    if constant:
        return np.rint([ground * (1 - alpha) + colours * alpha for ground in (255, 40)]).astype(np.uint8)
    places = np.linspace(-1 if signed else 0, 1, len(colours))
    levels = np.rint(255 * np.abs(places)).astype(int)
    share, drain = opacity(alpha)[levels, None], desaturate()[levels, None]
    grounds = [ground * (1 - drain + SUNK * drain) for ground in (255, 40)]
    return np.rint([ground * (1 - share) + colours * share for ground in grounds]).astype(np.uint8)


def scale_of(
    panel: SingleMap, style: Style, width: int, unit: int, scale: Scale | None = None
) -> tuple[Block | None, str]:
    """The colour bar of a panel, if it has a scale, and what its numbers are."""
    raw = np.asarray(panel.values)
    kind = "picture" if panel.in_colour else "map"
    size = f"{kind} of {raw.shape[-1]} x {raw.shape[-2]}, {INTERPOLATED[style.enlarging(overlay_of(panel, style))]}"
    if not np.isfinite(raw).any():
        return None, f"{size}, without one finite value"
    if color_limits(panel, scale) is None:
        values = ticks([float(raw.min()), float(raw.max())])
        what = f"{values[0]} everywhere" if even(raw) else f"{values[0]} to {values[1]}, which is rounding"
        laid = "; no colour is laid over the photograph" if panel.scale_kind == "peak" else ""
        return None, f"{size}, {what}{laid}"
    colours, labels, words = _given(panel, scale, style) if scale and panel.takes_scale else _own(panel, style)
    return colour_bar(colours, labels, width, unit), f"{size}, {words}"


def palette_of(panel: SingleMap, style: Style) -> Bytes:
    """(n, 3) the colours of a map's values."""
    return table(style.signed_palette if panel.scale_kind == "centred" else style.palette)


def colours_of(panel: SingleMap, style: Style, scale: Scale | None = None) -> Bytes:
    """(n, 3) the colours from the lowest value drawn to the highest; (2, n, 3) where a ground shows through."""
    if panel.in_colour:
        return GREYS
    colours, overlay = palette_of(panel, style), overlay_of(panel, style)
    shown: Bytes = colours
    if overlay != "none":
        signed, constant = panel.scale_kind == "centred", overlay == "constant"
        shown = translucent(colours, style.opacity(overlay), signed=signed, constant=constant)
    if scale is None or panel.scale_kind != "centred":
        return shown
    # Zero stays in the middle of the palette; a lopsided range uses a part of it.
    limit = max(abs(scale.low), abs(scale.high))
    first, last = (round((len(colours) - 1) * (0.5 + 0.5 * end / limit)) for end in (scale.low, scale.high))
    return shown[..., first : last + 1, :]


def _given(panel: SingleMap, scale: Scale, style: Style) -> tuple[Bytes, list[str], str]:
    """Colours of a given range, the texts below them, and how many values lie outside."""
    below, above = beyond(panel, scale)
    low, middle, high = ticks([scale.low, (scale.low + scale.high) / 2, scale.high])
    labels = [low + " or less" * bool(below), middle, high + " or more" * bool(above)]
    words = f"raw values, {scale.label} scale; {outside(below + above)}"
    return colours_of(panel, style, scale), labels, words + laid_over(panel, style)


def laid_over(panel: Panel, style: Style) -> str:
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


def outside(count: int) -> str:
    """How many values a given range does not hold, in words."""
    verb = "value lies" if count == 1 else "values lie"
    return f"{count:,} {verb} beyond it" if count else "no value lies beyond it"


def _own(panel: SingleMap, style: Style) -> tuple[Bytes, list[str], str]:
    """Colours of a panel's own range, the texts below them, and what they are."""
    raw, colours, over = np.asarray(panel.values), colours_of(panel, style), laid_over(panel, style)
    if panel.scale_kind == "peak":
        low, middle, high = ticks([0, peak_of(raw) / 2, peak_of(raw)])
        return colours, [f"{low} no evidence", middle, f"{high} strongest"], "raw values" + over
    top, clipped = top_of(raw)
    largest = short(float(np.abs(finite(raw)).max()))
    tail = f"; the bar ends at the 99.5th percentile, the largest is {largest}" if clipped else ""
    if panel.scale_kind == "percentile":
        labels = ticks([0, top / 2, top])
        return colours, [*labels[:2], labels[2] + " or more" * clipped], "raw values" + tail + over
    low, zero, high = ticks([-top, 0, top])
    labels = [low + " or less" * clipped, zero, high + " or more" * clipped]
    tail = tail.replace("percentile, the largest", "percentile of the magnitudes, the largest")
    if not panel.in_colour:
        return colours, labels, "raw values around zero" + tail + over
    remark = f"; {panel.made_how()}" if panel.made_how() else ""
    what = "grey" if len(raw) == 1 else "red, green and blue each"
    return colours, labels, f"{what} around zero; mid-grey is zero{tail}{remark}"


draws(SingleMap, lambda panel, scene: figure(panel, scene.photo, scene.view, scene.caption, scene.style))
