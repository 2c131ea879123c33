"""A figure as PDF, by reportlab: text in the figure's own font, rules and colour bars as vectors, images embedded."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.figure_settings import UNITS_PER_INCH
from cnnviz_cli.render.layout import (
    STROKE,
    Block,
    Dots,
    Drawing,
    Polyline,
    Ramp,
    Raster,
    Rectangle,
    Text,
    font,
    text_width,
)
from cnnviz_cli.render.svg import embed_image, gradient_stops

POINTS_PER_INCH = 72
_FONT = "figure"
_EXACT = 40  # the size at which the font's advances are measured to set a line as wide as it was laid out


def require_reportlab() -> Any:
    """The library. Raises UsageError if it is not installed."""
    try:
        from reportlab.pdfgen import canvas
    except ImportError as error:
        what = "a PDF is written by reportlab, which is not installed"
        raise UsageError(what, where="--format", fix="pip install 'cnnviz-cli[pdf]', or --format svg") from error
    return canvas


def encode_pdf(block: Block, scale: float = 1.0, facts: Mapping[str, str] | None = None, dpi: int = 0) -> bytes:
    """The file, one page as large as the figure, 144 units an inch unless `dpi`; UsageError without reportlab."""
    canvas = require_reportlab()
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    points = scale * POINTS_PER_INCH / dpi if dpi else POINTS_PER_INCH / UNITS_PER_INCH
    if _FONT not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont(_FONT, BytesIO(font(_EXACT).font_bytes)))
    buffer = BytesIO()
    page = canvas.Canvas(buffer, (block.width * points, block.height * points), invariant=1, pageCompression=1)
    told = dict(facts or {})
    page.setCreator(told.get("Software", "cnnviz"))
    page.setAuthor("")
    page.setTitle(", ".join(told[name] for name in ("Method", "Layer", "Target") if told.get(name)))
    page.setSubject("; ".join(f"{name}: {value}" for name, value in told.items()))
    page.scale(points, points)
    for left, top, item in block.leaves():
        upper = block.height - top  # a page counts up from the bottom
        if isinstance(item, Text):
            _line(page, item, left, upper)
        elif isinstance(item, Raster):
            page.drawImage(ImageReader(embed_image(item)), left, upper - item.height, item.width, item.height)
        elif isinstance(item, Ramp):
            _ramp(page, item, left, upper)
        elif isinstance(item, Drawing):
            _shape(page, item, left, upper)
        else:
            _rectangle(page, item, left, upper)
    page.showPage()
    page.save()
    return buffer.getvalue()


def _line(page: Any, item: Text, left: float, base: float) -> None:
    if not item.text.strip():
        return
    natural = text_width(item.text, _EXACT) * item.size / _EXACT
    for shift in (0, STROKE * item.size) if item.strong else (0,):
        text = page.beginText(left + shift, base)
        text.setFont(_FONT, item.size)
        text.setFillColor(item.color)
        text.setHorizScale(100 * item.width / natural if natural else 100)
        text.textOut(item.text)
        page.drawText(text)


def _ramp(page: Any, item: Ramp, left: float, top: float) -> None:
    for number, colours in enumerate(item.colors):
        upper = round(item.height * number / len(item.colors))
        lower = round(item.height * (number + 1) / len(item.colors))
        places = gradient_stops(colours)
        page.saveState()
        path = page.beginPath()
        path.rect(left, top - lower, item.width, lower - upper)
        page.clipPath(path, stroke=0, fill=0)
        shades = ([_color(colour) for _, colour in places], [place for place, _ in places])
        page.linearGradient(left, top, left + item.width, top, *shades, extend=False)
        page.restoreState()


def _shape(page: Any, item: Drawing, left: float, top: float) -> None:
    places = [(left + across, top - down) for across, down in item.points]
    if isinstance(item, Dots):
        inset = item.line / 2 if item.outline else 0.0
        if item.fill:
            page.setFillColor(_color(item.fill))
        if item.outline:
            page.setStrokeColor(_color(item.outline))
            page.setLineWidth(item.line)
        for place in places:
            page.circle(*place, item.radius - inset, stroke=bool(item.outline), fill=bool(item.fill))
        return
    path = page.beginPath()
    path.moveTo(*places[0])
    for place in places[1:]:
        path.lineTo(*place)
    if isinstance(item, Polyline):
        page.setStrokeColor(_color(item.color))
        page.setLineWidth(item.line)
        page.setLineCap(1)
        page.setLineJoin(1)
        page.drawPath(path, stroke=1, fill=0)
        page.setLineCap(0)
        page.setLineJoin(0)
    else:
        path.close()
        page.setFillColor(_color(item.fill))
        page.drawPath(path, stroke=0, fill=1)


def _rectangle(page: Any, item: Rectangle, left: float, top: float) -> None:
    inset = item.line / 2 if item.outline else 0.0
    if item.fill:
        page.setFillColor(_color(item.fill))
    if item.outline:
        page.setStrokeColor(_color(item.outline))
        page.setLineWidth(item.line)
    width, height = max(0.0, item.width - 2 * inset), max(0.0, item.height - 2 * inset)
    page.rect(left + inset, top - inset - height, width, height, stroke=bool(item.outline), fill=bool(item.fill))


def _color(text: str) -> Any:
    from reportlab.lib.colors import HexColor

    return HexColor(text)
