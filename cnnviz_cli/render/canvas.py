"""Drawing on the image itself: what the network saw, maps laid over it, and a line around what was explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cnnviz_cli.core.figure_settings import FigureSize, Scale
from cnnviz_cli.core.geometry import Annotation, Box, BoxAnnotation, RegionAnnotation, View
from cnnviz_cli.core.panels import SingleMap
from cnnviz_cli.render.layout import Raster
from cnnviz_cli.render.scaling import (
    ByteArray,
    is_blank,
    normalize,
    overlay_of,
    palette_of,
    pixels_in_box,
    replace_nonfinite,
    resample,
    to_rgb,
)
from cnnviz_cli.render.style import Interpolation, Overlay, Style

SUNK = 0.6
"""How bright the image stays under strong evidence: colours glow on a dark ground and turn pale on a light one."""


def _grey_table(shade: Callable[[int], float]) -> ByteArray:
    """(256, 3) what becomes of each grey."""
    return np.repeat(np.array([[round(shade(value))] for value in range(256)], np.uint8), 3, axis=1)


_SUNKEN = _grey_table(lambda value: SUNK * value)
_FADED = _grey_table(lambda value: 172 + 0.28 * value)
READABLE = 288  # images whose longer side is below this many pixels are enlarged

SHORTEST, LONGEST = 480, 1556
"""The longer side of the images in a figure of automatic width: small ones are enlarged by a whole factor until they
have the first, large ones are drawn so small that they keep to the second."""

SLIVER = 2**17  # the longer side of an image that is drawn at its own size, in pixels
SHARP = 4  # images enlarged so many times show their pixels as squares; below, that looks like a fault


@dataclass(frozen=True, slots=True)
class Canvas:
    """An image at the size in which it is drawn."""

    image: Image.Image
    view: View  # where the network's input lies in it
    factor: float  # how many times as large as the file's it is drawn
    unit: int  # the size of the type beside it, in pixels
    density: float = 1.0  # pixels a unit of the figure

    @property
    def input_box(self) -> tuple[int, int, int, int]:
        """The pixels that the network saw: left, top, right, bottom."""
        return pixels_in_box(self.view.box, self.image.size)

    @property
    def type(self) -> int:
        """The size of the type beside it, in units of the figure."""
        return max(1, round(self.unit / self.density))

    def as_raster(self, image: Image.Image) -> Raster:
        """An image of the canvas's pixels as a part of a figure."""
        return Raster(image, max(1, round(image.width / self.density)), max(1, round(image.height / self.density)))


def make_canvas(image: Image.Image, view: View) -> Canvas:
    """The image at its own size; a tiny one enlarged by a whole factor until type can stand beside it.

    One that is longer than `SLIVER` is reduced to that: a sheet is as wide as type needs, and all of it lies in memory.
    """
    width, height = image.size
    factor: float = max(1, -(-READABLE // max(width, height)))
    if max(width, height) > SLIVER:
        factor = SLIVER / max(width, height)
        image = resize_image(image, (max(1, round(width * factor)), max(1, round(height * factor))))
        view = view.for_image_size(image.size)
    elif factor > 1:
        image = image.resize((round(width * factor), round(height * factor)), Image.Resampling.NEAREST)
        view = view.for_image_size(image.size)
    # Type grows with the image, which is looked at as a whole; a sliver is no reason for huge type.
    measure = min(max(image.size), 3 * min(image.size))
    return Canvas(image, view, factor, max(14, round(measure / 64)))


def canvas_at(image: Image.Image, view: View, size: FigureSize, across: int, down: int) -> Canvas:
    """The image for a figure of `across` x `down` images of its size.

    Its proportions are kept to the pixel nearest to them, and whatever is laid over it is placed by each side's own
    ratio, so that it stays exact.
    """
    if size.source:
        return make_canvas(image, view)
    width, height = image.size
    if size.pixels is None:
        longest = max(across * width, down * height)
        factor: float = min(max(1, -(-SHORTEST // longest)), max(1, LONGEST // longest))
        if longest > LONGEST:
            factor = (LONGEST - GAP_ROOM * (max(across, down) - 1)) / longest
        measure = factor * min(longest, 3 * min(across * width, down * height))
        unit = max(14, round(measure / 72))
    else:
        unit = max(14, round(size.layout_width / 72))
        room = size.layout_width - 2 * unit
        factor = (room - gap_of(unit) * (across - 1)) / across / width
        factor = min(factor, 2 * room / (down * height))
    units = (max(1, int(width * factor + 0.01)), max(1, round(height * factor)))
    density = size.density
    if size.pixels is None:  # a vector file, which gains nothing by more pixels than the image has
        density = max(1.0, min(density, width / units[0]))
    pixels = (max(1, round(units[0] * density)), max(1, round(units[1] * density)))
    return Canvas(
        resize_image(image, pixels), view.for_image_size(pixels), factor, max(1, round(unit * density)), density
    )


GAP_ROOM = 12


def gap_of(unit: int) -> int:
    """Units between two images next to each other."""
    return max(4, unit // 2)


def resize_image(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image with other sides: sharp squares for its pixels where they become large."""
    if size == image.size:
        return image
    if size[0] >= SHARP * image.width:
        return image.resize(size, Image.Resampling.NEAREST)
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def fit_canvas(image: Image.Image, view: View, width: int, height: int, unit: int, density: float = 1.0) -> Canvas:
    """The image made to fit into width x height units, for a sheet."""
    ratio = min(width / image.width, height / image.height)
    size = (
        max(1, round(max(1, round(image.width * ratio)) * density)),
        max(1, round(max(1, round(image.height * ratio)) * density)),
    )
    how = Image.Resampling.LANCZOS if ratio * density < 1 else Image.Resampling.BICUBIC
    shown = image.resize(size, how, reducing_gap=2.0)
    return Canvas(shown, view.for_image_size(size), 1, max(1, round(unit * density)), density)


def mark_unseen(canvas: Canvas) -> Image.Image:
    """The image with what the network never saw drained of colour, faded and hatched."""
    if canvas.view.is_whole:
        return canvas.image.copy()
    sheet = apply_colors(canvas.image.convert("L"), _FADED)
    sheet.paste((196, 196, 196), mask=hatching(sheet.size, canvas.unit))
    sheet.paste(canvas.image.crop(canvas.input_box), canvas.input_box[:2])
    return draw_input_outline(sheet, canvas)


def draw_input_outline(sheet: Image.Image, canvas: Canvas) -> Image.Image:
    """The edge of the network's input drawn in place: a light line within a dark one, to show on any ground."""
    if not canvas.view.is_whole:
        left, top, right, bottom = canvas.input_box
        line = max(1, round(canvas.unit / 15))
        pen = ImageDraw.Draw(sheet)
        pen.rectangle((left - line, top - line, right - 1 + line, bottom - 1 + line), outline="#ffffff", width=line)
        pen.rectangle(
            (left - 2 * line, top - 2 * line, right - 1 + 2 * line, bottom - 1 + 2 * line),
            outline="#3a3f47",
            width=line,
        )
    return sheet


def opacity_table(alpha: float) -> NDArray[np.float64]:
    """(256,) opacity by level: a smooth step from nothing at zero to `alpha` at nine tenths.

    A straight line would veil the whole image with the palette's dark end, and leave strong evidence pale.
    """
    step = np.minimum(1, np.arange(256) / 255 / 0.9)
    shares: NDArray[np.float64] = alpha * step * step * (3 - 2 * step)
    return shares


def desaturate() -> NDArray[np.float64]:
    """(256,) by level, how far the image under the evidence is drained of colour and light."""
    shares: NDArray[np.float64] = np.minimum(1, 2 * np.arange(256) / 255)
    return shares


@dataclass(frozen=True, slots=True)
class OverlaySpec:
    """How evidence is laid over the image; `colors` are (n, 3), of signed evidence with zero in the middle."""

    colors: ByteArray
    overlay: Overlay
    alpha: float
    interpolation: Interpolation
    signed: bool = False


def overlay_map(canvas: Canvas, shares: NDArray[Any], raw: NDArray[Any], laying: OverlaySpec) -> Image.Image:
    """Evidence over the image.

    Under a ramp the image loses its own colours where evidence is, so that every hue is the palette's, and some light;
    a constant overlay is the plain mixture of the two, as pytorch-grad-cam draws it. The (h, w) shares go from 0,
    nothing, to 1, drawn strongest, with nothing at 0.5 if signed; `raw` has the values, for what of them is not finite.
    """
    sheet = mark_unseen(canvas)
    seen = canvas.image.crop(canvas.input_box)
    placed = resample(replace_nonfinite(shares), canvas.view.box, canvas.image.size, laying.interpolation).clip(0, 1)
    colours = apply_colors(_levels(placed, len(laying.colors) - 1), laying.colors)
    if laying.overlay == "constant":
        seen = Image.blend(seen, colours, laying.alpha)
    else:
        level = _levels(np.abs(2 * placed - 1) if laying.signed else placed, 255)
        grey = apply_colors(seen.convert("L"), _SUNKEN)
        seen.paste(grey, mask=level.point(np.rint(255 * desaturate()).astype(int).tolist()))
        seen.paste(colours, mask=level.point(np.rint(255 * opacity_table(laying.alpha)).astype(int).tolist()))
    sheet.paste(seen, canvas.input_box[:2])
    return draw_nonfinite(sheet, canvas, raw)


def _levels(shares: NDArray[np.float32], steps: int) -> Image.Image:
    """Shares from 0 to 1 as whole numbers from 0 to `steps` (mode L)."""
    return Image.fromarray(np.rint(shares * steps).astype(np.uint8))


def draw_opaque(
    canvas: Canvas,
    shares: Sequence[NDArray[Any]],
    colors: ByteArray | None,
    raw: NDArray[Any],
    enlarging: Interpolation = "bilinear",
) -> Image.Image:
    """A map, or three as colours, opaque in its place, the rest of the image's frame marked as no data.

    The shares, 0 to 1 and clipped, are one (h, w) map to be looked up in `colors`, or three colour channels; `raw` has
    the (c, h, w) values, for what of them is not finite.
    """
    size = canvas.image.size
    sheet = Image.new("RGB", size) if canvas.view.is_whole else no_data(size, canvas.unit)
    steps = 255 if colors is None else len(colors) - 1
    planes = [
        _levels(resample(replace_nonfinite(plane), canvas.view.box, size, enlarging).clip(0, 1), steps)
        for plane in shares
    ]
    picture = Image.merge("RGB", planes) if colors is None else apply_colors(planes[0], colors)
    sheet.paste(picture, canvas.input_box[:2])
    return draw_input_outline(draw_nonfinite(sheet, canvas, raw.max(0)), canvas)


def draw_nonfinite(sheet: Image.Image, canvas: Canvas, values: NDArray[Any]) -> Image.Image:
    """A glaring chequer over the cells whose values are not finite."""
    bad = ~np.isfinite(values)
    if bad.any():
        mask = resample(bad.astype(np.float32), canvas.view.box, canvas.image.size, "nearest") > 0.5
        sheet.paste(
            checkerboard((mask.shape[1], mask.shape[0]), canvas.unit), canvas.input_box[:2], Image.fromarray(mask)
        )
    return sheet


def checkerboard(size: tuple[int, int], unit: int) -> Image.Image:
    """Magenta and white squares."""
    side = max(3, unit // 2)
    odd = (np.arange(size[1])[:, None] // side + np.arange(size[0]) // side) % 2
    return Image.fromarray(np.array([[255, 255, 255], [200, 0, 130]], np.uint8)[odd])


def apply_colors(level: Image.Image, colors: ByteArray) -> Image.Image:
    """Level numbers (mode L) looked up in a table."""
    indexed = level.copy()
    indexed.putpalette(np.ascontiguousarray(colors).tobytes())
    return indexed.convert("RGB")


LIGHT, DARK = "#ffffff", "#16191d"  # a light line within a dark one shows on any ground


def draw_annotation(sheet: Image.Image, canvas: Canvas, mark: Annotation | None) -> Image.Image:
    """The sheet, which is as large as the image, with a line around what the mark says; it is drawn on."""
    if isinstance(mark, BoxAnnotation):
        _rectangle(sheet, canvas, mark)
    elif isinstance(mark, RegionAnnotation):
        _outline(sheet, canvas, mark)
    return sheet


def box_in_image(mark: BoxAnnotation, canvas: Canvas) -> Box:
    """The box in pixels of the image as it is drawn."""
    return canvas.view.fractions_to_image(mark.box)


def _rectangle(sheet: Image.Image, canvas: Canvas, mark: BoxAnnotation) -> None:
    line, pen = max(1, round(canvas.unit / 12)), ImageDraw.Draw(sheet)
    left, top, right, bottom = box_in_image(mark, canvas)
    if not (left < sheet.width and top < sheet.height and right > 0 and bottom > 0):
        return  # in what the network was shown beside the image
    # A box that ends at the image's edge keeps its line within it.
    left = min(max(round(left), 2 * line), sheet.width - 2 * line - 1)
    top = min(max(round(top), 2 * line), sheet.height - 2 * line - 1)
    right = max(min(round(right), sheet.width - 2 * line), left + 1)
    bottom = max(min(round(bottom), sheet.height - 2 * line), top + 1)
    outer = (left - 2 * line, top - 2 * line, right - 1 + 2 * line, bottom - 1 + 2 * line)
    pen.rectangle(outer, outline=DARK, width=3 * line)
    pen.rectangle((left - line, top - line, right - 1 + line, bottom - 1 + line), outline=LIGHT, width=line)


def _outline(sheet: Image.Image, canvas: Canvas, mark: RegionAnnotation) -> None:
    line = max(1, round(canvas.unit / 12))
    inside = resample(np.asarray(mark.mask, np.float32), canvas.view.box, canvas.image.size, "nearest") > 0.5
    region = Image.fromarray(inside).convert("L")
    light = widened(region, line)
    dark = widened(light, line)
    edge = np.asarray(dark) > np.asarray(widened(region, -line))
    sheet.paste(DARK, canvas.input_box[:2], Image.fromarray(edge))
    sheet.paste(LIGHT, canvas.input_box[:2], Image.fromarray(np.asarray(light) > np.asarray(region)))


def widened(mask: Image.Image, by: int) -> Image.Image:
    """A mask of levels ("L") whose light parts reach `by` pixels further, along rows, columns and diagonals; that much
    less far where it is below 0. As Pillow's MaxFilter and MinFilter give it, whose time grows with the square."""
    levels = np.asarray(mask) if by >= 0 else ~np.asarray(mask)
    for _ in ("down", "across"):
        wide = levels.copy()
        for step in range(1, abs(by) + 1):
            np.maximum(wide[step:], levels[:-step], out=wide[step:])
            np.maximum(wide[:-step], levels[step:], out=wide[:-step])
        levels = wide.T
    return Image.fromarray(np.ascontiguousarray(levels if by >= 0 else ~levels))


HATCH_PAPER, HATCH_INK = 238, 205  # greys of the pattern that stands for no data


def hatching(size: tuple[int, int], unit: int) -> Image.Image:
    """A mask (mode 1) of thin diagonal lines; `unit` is the size of the type beside it."""
    mask, tile = Image.new("1", size), _hatched_tile(unit)
    for top in range(0, size[1], tile.height):
        for left in range(0, size[0], tile.width):
            mask.paste(tile, (left, top))
    return mask


@lru_cache(maxsize=16)
def _hatched_tile(unit: int) -> Image.Image:
    period, thickness = max(5, round(0.6 * unit)), max(1, round(unit / 15))
    steps = np.arange(period * -(-256 // period))
    return Image.fromarray((steps + steps[:, None]) % period < thickness)


def no_data(size: tuple[int, int], unit: int) -> Image.Image:
    """Light grey with hatching: nothing is known here."""
    grey = Image.new("L", size, HATCH_PAPER)
    grey.paste(HATCH_INK, mask=hatching(size, unit))
    return grey.convert("RGB")


def draw_map(
    panel: SingleMap, canvas: Canvas, style: Style, scale: Scale | None = None, mark: Annotation | None = None
) -> Image.Image:
    """The evidence in its place in the image's frame, on its own scale or on a given one, and around what."""
    return draw_annotation(_evidence(panel, canvas, style, scale), canvas, mark)


def _evidence(panel: SingleMap, canvas: Canvas, style: Style, scale: Scale | None) -> Image.Image:
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
