"""One map of one picture: caption, photograph, colour bar."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.marks import Mark
from cnnviz_cli.core.panels import ADVICE, Heatmap, Panel, PixelMap, SignedMap, SignedPicture
from cnnviz_cli.core.scales import Scale
from cnnviz_cli.render.blocks import bar_width, beside, colour_bar, framed, key, legend, no_data, stack
from cnnviz_cli.render.look import Caption, Look
from cnnviz_cli.render.marks import pointed
from cnnviz_cli.render.numerals import short, ticks
from cnnviz_cli.render.palettes import GREYS, Bytes, table
from cnnviz_cli.render.photograph import SUNK, Stage, alone, chequer, drained, marked, opacity, overlaid, staged
from cnnviz_cli.render.scaling import as_colours, beyond, ends_of, finite, peak_of, shares_of, state_of, takes, top_of
from cnnviz_cli.render.typeset import INK, QUIET, Line, elide, flow, length, noted, set_lines

Single = Heatmap | PixelMap | SignedMap | SignedPicture


def caption_lines(caption: Caption, panel: Panel, width: int, unit: int) -> list[Line]:
    """The lines above a picture: the class (or the title), the facts, and a note where one is due."""
    large = round(1.3 * unit)
    lines: list[Line] = []
    facts = [caption.title, caption.layer, caption.apart, caption.model, caption.source]
    if caption.target:
        figure = caption.figure and "   " + caption.figure
        name = elide(caption.target, large, width - length(figure, large))
        lines.append(Line(name + figure, large, INK))
    else:
        lines += [Line(text, large, INK) for text in flow([caption.title, caption.layer], large, width, joint="   ")]
        facts = facts[2:]
    lines += [Line(text, unit, QUIET) for text in flow(facts, unit, width)]
    return lines + noted(caption.note or ADVICE[state_of(panel)], unit, width)


def figure(panel: Single, photo: Image.Image, view: View, caption: Caption, look: Look) -> Image.Image:
    """Caption, picture and colour bar under each other."""
    stage = staged(photo, view)
    unit = stage.unit
    picture = pictured(panel, stage, look, caption.scale, caption.mark)
    if not isinstance(panel, Heatmap):
        gap = max(4, unit // 2)
        panes = [pointed(marked(stage), stage, caption.mark), picture]
        flat = stage.photo.width > 1.9 * stage.photo.height
        picture = stack(panes, gap) if flat else beside(panes, gap)
    width = max(picture.width, 20 * unit)
    head = set_lines(caption_lines(caption, panel, width, unit), width)
    bar, words = scale_of(panel, look, bar_width(width, unit), unit, caption.scale)
    notes: list[Image.Image | str] = [words]
    if stage.factor > 1:
        notes.append(f"photograph of {photo.width} x {photo.height} pixels, shown {stage.factor} times as large")
    beside_bar = width - (bar.width + 2 * unit if bar else 0)
    room = beside_bar if beside_bar >= 14 * unit else width
    if not stage.view.whole:
        notes.append(key("not seen by the network", no_data((4 * unit, 2 * unit), unit), unit, room))
    if state_of(panel) == "nonfinite":
        notes.append(key("not finite", chequer((4 * unit, 2 * unit), unit), unit, room))
    return framed(stack([head, picture, legend(bar, notes, width, unit)], round(0.8 * unit)), unit)


def pictured(
    panel: Single, stage: Stage, look: Look, scale: Scale | None = None, mark: Mark | None = None
) -> Image.Image:
    """The evidence in its place in the photograph's frame, on its own scale or on a given one, and around what."""
    return pointed(_evidence(panel, stage, look, scale), stage, mark)


def _evidence(panel: Single, stage: Stage, look: Look, scale: Scale | None) -> Image.Image:
    """The evidence in its place, on its own scale or on a given one."""
    raw = np.asarray(panel.values)
    if isinstance(panel, Heatmap) and state_of(panel) in ("flat", "negative"):
        return marked(stage)
    shares = shares_of(panel, scale)
    if isinstance(panel, Heatmap):
        return overlaid(stage, shares[0], raw[0], look)
    if isinstance(panel, PixelMap):
        return alone(stage, list(shares), table(look.palette), raw)
    if isinstance(panel, SignedMap):
        return alone(stage, list(shares), table(look.signed_palette), raw)
    return alone(stage, list(as_colours(shares)), None, raw)


def translucent(colours: Bytes, alpha: float) -> Bytes:
    """(2, 256, 3) a palette as an overlay shows it: over a light ground, and over a dark one."""
    share, drain = opacity(alpha)[:, None], drained()[:, None]
    grounds = [ground * (1 - drain + SUNK * drain) for ground in (255, 40)]
    return np.rint([ground * (1 - share) + colours * share for ground in grounds]).astype(np.uint8)


def scale_of(
    panel: Single, look: Look, width: int, unit: int, scale: Scale | None = None
) -> tuple[Image.Image | None, str]:
    """The colour bar of a panel, if it has a scale, and what its numbers are."""
    raw = np.asarray(panel.values)
    kind = "picture" if isinstance(panel, SignedPicture) else "map"
    size = f"{kind} of {raw.shape[-1]} x {raw.shape[-2]}"
    if not np.isfinite(raw).any():
        return None, f"{size}, without one finite value"
    if isinstance(panel, Heatmap) and state_of(panel) in ("flat", "negative"):
        return None, f"{size}, {short(float(raw.max()))} everywhere; no colour is laid over the photograph"
    if ends_of(panel, scale) is None:
        return None, f"{size}, 0 everywhere"
    colours, labels, words = _given(panel, scale, look) if scale and takes(panel) else _own(panel, look)
    return colour_bar(colours, labels, width, unit), f"{size}, {words}"


def colours_of(panel: Single, look: Look, scale: Scale | None = None) -> Bytes:
    """(n, 3) the colours from the lowest value drawn to the highest; (2, n, 3) where a ground shows through."""
    if isinstance(panel, Heatmap):
        return translucent(table(look.palette), look.alpha)
    if isinstance(panel, PixelMap):
        return table(look.palette)
    if isinstance(panel, SignedPicture):
        return GREYS
    colours = table(look.signed_palette)
    if scale is None:
        return colours
    # Zero stays in the middle of the palette; a lopsided range uses a part of it.
    limit = max(abs(scale.low), abs(scale.high))
    first, last = (round((len(colours) - 1) * (0.5 + 0.5 * end / limit)) for end in (scale.low, scale.high))
    return colours[first : last + 1]


def _given(panel: Single, scale: Scale, look: Look) -> tuple[Bytes, list[str], str]:
    """Colours of a given range, the texts below them, and how many values lie outside."""
    below, above = beyond(panel, scale)
    low, middle, high = ticks([scale.low, (scale.low + scale.high) / 2, scale.high])
    labels = [low + " or less" * bool(below), middle, high + " or more" * bool(above)]
    return colours_of(panel, look, scale), labels, f"raw values, {scale.whose} scale; {outside(below + above)}"


def outside(count: int) -> str:
    """How many values a given range does not hold, in words."""
    verb = "value lies" if count == 1 else "values lie"
    return f"{count:,} {verb} beyond it" if count else "no value lies beyond it"


def _own(panel: Single, look: Look) -> tuple[Bytes, list[str], str]:
    """Colours of a panel's own range, the texts below them, and what they are."""
    raw, colours = np.asarray(panel.values), colours_of(panel, look)
    if isinstance(panel, Heatmap):
        top = peak_of(raw)
        return colours, ticks([0, top / 2, top]), "raw values, coloured as over light and over dark"
    top, clipped = top_of(raw)
    largest = short(float(np.abs(finite(raw)).max()))
    tail = f"; the bar ends at the 99.5th percentile, the largest is {largest}" if clipped else ""
    if isinstance(panel, PixelMap):
        labels = ticks([0, top / 2, top])
        return colours, [*labels[:2], labels[2] + " or more" * clipped], "raw values" + tail
    low, zero, high = ticks([-top, 0, top])
    labels = [low + " or less" * clipped, zero, high + " or more" * clipped]
    tail = tail.replace("percentile, the largest", "percentile of the magnitudes, the largest")
    if isinstance(panel, SignedMap):
        return colours, labels, "raw values around zero" + tail
    remark = f"; {panel.remark}" if panel.remark else ""
    what = "grey" if len(raw) == 1 else "red, green and blue each"
    return colours, labels, f"{what} around zero; mid-grey is zero{tail}{remark}"
