"""A line around what was explained: a box that was found, or a region."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cnnviz_cli.core.geometry import Box
from cnnviz_cli.core.marks import Area, Mark, Rectangle
from cnnviz_cli.render.photograph import Canvas
from cnnviz_cli.render.scaling import place

LIGHT, DARK = "#ffffff", "#16191d"
"""A light line within a dark one shows on any ground."""


def draw_annotation(sheet: Image.Image, canvas: Canvas, mark: Mark | None) -> Image.Image:
    """The sheet, which is as large as the photograph, with a line around what the mark says; it is drawn on."""
    if isinstance(mark, Rectangle):
        _rectangle(sheet, canvas, mark)
    elif isinstance(mark, Area):
        _outline(sheet, canvas, mark)
    return sheet


def in_photo(mark: Rectangle, canvas: Canvas) -> Box:
    """The box in pixels of the photograph as it is drawn."""
    return canvas.view.shares_to_photo(mark.box)


def _rectangle(sheet: Image.Image, canvas: Canvas, mark: Rectangle) -> None:
    line, pen = _line(canvas), ImageDraw.Draw(sheet)
    left, top, right, bottom = in_photo(mark, canvas)
    if not (left < sheet.width and top < sheet.height and right > 0 and bottom > 0):
        return  # in what the network was shown beside the photograph
    # A box that ends at the photograph's edge keeps its line within it.
    left = min(max(round(left), 2 * line), sheet.width - 2 * line - 1)
    top = min(max(round(top), 2 * line), sheet.height - 2 * line - 1)
    right = max(min(round(right), sheet.width - 2 * line), left + 1)
    bottom = max(min(round(bottom), sheet.height - 2 * line), top + 1)
    outer = (left - 2 * line, top - 2 * line, right - 1 + 2 * line, bottom - 1 + 2 * line)
    pen.rectangle(outer, outline=DARK, width=3 * line)
    pen.rectangle((left - line, top - line, right - 1 + line, bottom - 1 + line), outline=LIGHT, width=line)


def _outline(sheet: Image.Image, canvas: Canvas, mark: Area) -> None:
    line = _line(canvas)
    inside = place(np.asarray(mark.inside, np.float32), canvas.view.box, canvas.photo.size, "nearest") > 0.5
    region = Image.fromarray(inside).convert("L")
    light = _grown(region, line)
    dark = _grown(light, line)
    edge = np.asarray(dark) > np.asarray(_shrunk(region, line))
    sheet.paste(DARK, canvas.seen[:2], Image.fromarray(edge))
    sheet.paste(LIGHT, canvas.seen[:2], Image.fromarray(np.asarray(light) > np.asarray(region)))


def _line(canvas: Canvas) -> int:
    """The width of a line, in pixels."""
    return max(1, round(canvas.unit / 12))


def _grown(region: Image.Image, by: int) -> Image.Image:
    return region.filter(ImageFilter.MaxFilter(2 * by + 1))


def _shrunk(region: Image.Image, by: int) -> Image.Image:
    return region.filter(ImageFilter.MinFilter(2 * by + 1))
