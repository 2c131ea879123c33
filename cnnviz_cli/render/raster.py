"""A figure as pixels, and as the bytes of each raster format."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import pairwise
from math import ceil, floor
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cnnviz_cli.render.layout import (
    PAPER,
    STROKE,
    Block,
    Dots,
    Drawing,
    Points,
    Polygon,
    Polyline,
    Ramp,
    Raster,
    Rectangle,
    Text,
    font,
    to_legible,
    word_width,
)
from cnnviz_cli.render.style import SUFFIXES

Bounds = tuple[int, int, int, int]
Pair = tuple[tuple[float, float], tuple[float, float]]  # both ends of a line


def rasterize(block: Block, scale: float = 1.0) -> Image.Image:
    """The block, RGB, at `scale` pixels a unit."""
    sheet = Image.new("RGB", size_in_pixels(block, scale), PAPER)
    _draw(sheet, ImageDraw.Draw(sheet), block, 0, 0, scale)
    return sheet


def size_in_pixels(block: Block, scale: float) -> tuple[int, int]:
    """Width and height of a block in pixels."""
    return max(1, round(block.width * scale)), max(1, round(block.height * scale))


def _draw(sheet: Image.Image, pen: ImageDraw.ImageDraw, block: Block, across: float, down: int, scale: float) -> None:
    bounds = across, down, across + block.width, down + block.height
    within = (round(bounds[0] * scale), round(bounds[1] * scale), round(bounds[2] * scale), round(bounds[3] * scale))
    for left, top, item in block.items:
        place = (across + left, down + top)
        if isinstance(item, Block):
            _draw(sheet, pen, item, *place, scale)
        elif isinstance(item, Text):
            for shift in (0, STROKE * item.size) if item.strong else (0,):
                if scale == 1:
                    write(sheet, place[0] + shift, place[1], item.text, item.size, item.color, within)
                else:
                    write_fitted(sheet, place[0] + shift, place[1], item.text, item.size, item.color, scale, within)
        elif isinstance(item, Drawing):
            _shape(sheet, item, place, scale)
        else:
            # Edges are rounded, not sizes: what touches in units touches in pixels.
            edges = (*place, place[0] + item.width, place[1] + item.height)
            _fill(sheet, pen, item, [round(edge * scale) for edge in edges], scale)


def _fill(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, item: Raster | Rectangle | Ramp, edges: list[int], scale: float
) -> None:
    left, top, right, bottom = edges
    size = (max(1, right - left), max(1, bottom - top))
    if isinstance(item, Raster):
        sheet.paste(resize_raster(item, size), (left, top))
    elif isinstance(item, Ramp):
        index = np.rint(np.linspace(0, item.colors.shape[1] - 1, size[0])).astype(int)
        rows = np.arange(size[1]) * len(item.colors) // size[1]
        sheet.paste(Image.fromarray(item.colors[:, index][rows]), (left, top))
    else:
        box = (left, top, left + size[0] - 1, top + size[1] - 1)
        width = max(1, round(item.line * scale))
        pen.rectangle(box, fill=item.fill or None, outline=item.outline or None, width=width)


def _shape(sheet: Image.Image, item: Drawing, place: tuple[float, float], scale: float) -> None:
    """A line, an area or dots: each pixel as strongly as it is covered."""
    points = tuple(((place[0] + across) * scale, (place[1] + down) * scale) for across, down in item.points)
    if isinstance(item, Polygon):
        _cover(sheet, item.fill, *_area(points, sheet.size))
    elif isinstance(item, Polyline):
        pairs = list(pairwise(points)) or [(points[0], points[0])]
        _cover(sheet, item.color, *_strokes(pairs, max(0.5, item.line * scale) / 2, sheet.size))
    else:
        for point in points:
            _dot(sheet, item, point, scale)


def _dot(sheet: Image.Image, item: Dots, point: tuple[float, float], scale: float) -> None:
    left, top, away = _distances([(point, point)], item.radius * scale, sheet.size)
    edge = item.radius * scale + 0.5 - away  # how far within the circle's edge the middle of a pixel lies
    outer = edge.clip(0, 1)
    if item.outline:
        inner = (edge - item.line * scale).clip(0, 1)
        _cover(sheet, item.outline, left, top, outer if item.fill else outer - inner)
        outer = inner
    if item.fill:
        _cover(sheet, item.fill, left, top, outer)


def _cover(sheet: Image.Image, color: str, left: int, top: int, shares: NDArray[np.float64]) -> None:
    if shares.size:
        mask = Image.fromarray(np.rint(255 * shares).astype(np.uint8))
        sheet.paste(color, (left, top, left + mask.width, top + mask.height), mask)


def _bounds(points: Points, reach: float, size: tuple[int, int]) -> Bounds:
    """The pixels of a sheet within `reach` of the points."""
    across, down = zip(*points, strict=True)
    return (
        max(0, floor(min(across) - reach)),
        max(0, floor(min(down) - reach)),
        min(size[0], ceil(max(across) + reach)),
        min(size[1], ceil(max(down) + reach)),
    )


def _strokes(pairs: Sequence[Pair], half: float, size: tuple[int, int]) -> tuple[int, int, NDArray[np.float64]]:
    """How far pixels are covered by lines with round ends, `half` a width to either side."""
    left, top, away = _distances(pairs, half, size)
    return left, top, (half + 0.5 - away).clip(0, min(1, 2 * half))


def _distances(pairs: Sequence[Pair], reach: float, size: tuple[int, int]) -> tuple[int, int, NDArray[np.float64]]:
    """How far the middles of pixels are from the nearest line, at least as far as `reach`; and where they begin."""
    left, top, right, bottom = _bounds(tuple(end for pair in pairs for end in pair), reach + 1, size)
    away = np.full((max(0, bottom - top), max(0, right - left)), reach + 1.0)
    for pair in pairs:
        inner = _bounds(pair, reach + 1, size)
        if inner[0] >= inner[2] or inner[1] >= inner[3]:
            continue
        (x0, y0), (x1, y1) = pair
        across = np.arange(inner[0], inner[2]) + 0.5 - x0
        down = (np.arange(inner[1], inner[3]) + 0.5 - y0)[:, None]
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        along = ((across * (x1 - x0) + down * (y1 - y0)) / length).clip(0, 1) if length else 0.0
        part = away[inner[1] - top : inner[3] - top, inner[0] - left : inner[2] - left]
        # Not np.hypot, whose last bit is the processor's.
        np.minimum(part, np.sqrt((across - along * (x1 - x0)) ** 2 + (down - along * (y1 - y0)) ** 2), out=part)
    return left, top, away


FINEST = 8  # into how many parts a pixel's sides are divided under the edge of an area


def _area(points: Points, size: tuple[int, int]) -> tuple[int, int, NDArray[np.float64]]:
    """How far pixels are covered by the area within the points: of `FINEST` x `FINEST` parts of each, how many."""
    left, top, right, bottom = _bounds(points, 1, size)
    if left >= right or top >= bottom:
        return left, top, np.zeros((0, 0))
    fine = Image.new("L", ((right - left) * FINEST, (bottom - top) * FINEST))
    corners = [((across - left) * FINEST - 0.5, (down - top) * FINEST - 0.5) for across, down in points]
    ImageDraw.Draw(fine).polygon(corners, fill=255)
    return left, top, np.asarray(fine.reduce(FINEST), np.float64) / 255


def resize_raster(item: Raster, size: tuple[int, int]) -> Image.Image:
    """The image of an item, RGB, at another size."""
    image = item.image if item.image.mode == "RGB" else item.image.convert("RGB")
    if abs(image.width - size[0]) <= 1 and abs(image.height - size[1]) <= 1:
        return image  # rounding of edges: better a pixel more or less than a blur over all of them
    if item.crisp and size[0] >= image.width and size[1] >= image.height:
        return image.resize(size, Image.Resampling.NEAREST)
    larger = size[0] > image.width
    return image.resize(size, Image.Resampling.BICUBIC if larger else Image.Resampling.LANCZOS, reducing_gap=2.0)


def write(
    sheet: Image.Image, left: float, base: int, text: str, size: int, color: str, within: Bounds | None = None
) -> None:
    """A legible text onto an image, from `left` on, its baseline at `base`; what reaches out of `within` is cut off.

    Word by word: most words have been drawn before, and no glyph of the font moves for a space beside it.
    """
    for word in text.split(" "):
        whole = floor(left)
        if word:
            mask, across, up = _word_mask(word, size, left - whole)
            _ink(sheet, color, (whole + across, base + up), mask, within)
        left += word_width(word, size) + word_width(" ", size)


def _ink(sheet: Image.Image, color: str, place: tuple[int, int], mask: Image.Image, within: Bounds | None) -> None:
    left, top, right, bottom = *place, place[0] + mask.width, place[1] + mask.height
    if within:
        inner = max(left, within[0]), max(top, within[1]), min(right, within[2]), min(bottom, within[3])
        if inner[0] >= inner[2] or inner[1] >= inner[3]:
            return
        if inner != (left, top, right, bottom):
            mask = mask.crop((inner[0] - left, inner[1] - top, inner[2] - left, inner[3] - top))
        left, top, right, bottom = inner
    sheet.paste(color, (left, top, right, bottom), mask)


@lru_cache(maxsize=2048)
def _word_mask(word: str, size: int, shift: float) -> tuple[Image.Image, int, int]:
    """How strongly a word covers pixels (mode L), and where it lies from its start, `shift` pixels right of one."""
    # Some letters reach beyond their own width on either side.
    mask = Image.new("L", (ceil(word_width(word, size)) + 2 * size, 3 * size))
    ImageDraw.Draw(mask).text((size + shift, 2 * size), word, fill=255, font=font(size), anchor="ls")
    box = mask.getbbox() or (0, 0, 1, 1)
    return mask.crop(box), box[0] - size, box[1] - 2 * size


FINER = 4  # how many times as large a text is drawn that has to fit a width which is not the font's own


def write_fitted(
    sheet: Image.Image,
    left: float,
    base: float,
    text: str,
    size: int,
    color: str,
    scale: float,
    within: Bounds | None = None,
) -> None:
    """`write` at `scale` pixels a unit, every word as wide as it was measured at `size`.

    The font's advances are whole pixels at each size, so that a text of twice the size is not twice as wide.
    """
    for word in text.split(" "):
        if word:
            fraction = (left * scale) % 1
            mask, across, up = _fitted_word_mask(word, size, scale, round(fraction * FINER) / FINER)
            _ink(sheet, color, (floor(left * scale) + across, round(base * scale) + up), mask, within)
        left += word_width(word, size) + word_width(" ", size)


@lru_cache(maxsize=2048)
def _fitted_word_mask(word: str, size: int, scale: float, shift: float) -> tuple[Image.Image, int, int]:
    large = max(1, round(size * scale * FINER))
    mask, across, up = _word_mask(word, large, 0)
    share = word_width(word, size) * scale / max(1.0, word_width(word, large))
    left, right = across * share + shift, (across + mask.width) * share + shift
    top, bottom = up / FINER, (up + mask.height) / FINER
    place = floor(left), floor(top)
    shape = (ceil(right) - place[0], ceil(bottom) - place[1])
    whole = Image.new("L", (shape[0] * FINER, shape[1] * FINER))
    stretched = mask.resize((max(1, round((right - left) * FINER)), mask.height), Image.Resampling.BILINEAR)
    whole.paste(stretched, (round((left - place[0]) * FINER), up - place[1] * FINER))
    return whole.resize(shape, Image.Resampling.BOX), *place


MAX_SIDE = {"webp": 16_383, "jpeg": 65_500}  # pixels along a side that a format, or its library, can hold


@dataclass(frozen=True, slots=True)
class Encoded:
    """A figure's file; `note` says why it is not in the format that was asked for."""

    data: bytes
    suffix: str
    note: str = ""


def encode(image: Image.Image, kind: str = "png", facts: Mapping[str, str] | None = None, dpi: int = 0) -> Encoded:
    """An image, RGB or indexed, as a file; the same pixels and facts give the same bytes.

    Facts are iTXt of a PNG, XMP of a WebP and the comment of a JPEG; nothing else of an image's metadata is kept.

    PNG is written at level 1, the fastest, and indexed where there are no more than 256 colours. WebP loses nothing of
    such an image, and is of quality 90 for any other. JPEG is of quality 92, its colours as fine as its light, which
    keeps type and thin lines sharp. What has more pixels along a side than a format holds becomes a PNG: a sheet of
    thousands of maps should neither be lost nor end a run. `dpi` goes into PNG and JPEG, unless it is 0.
    """
    longest, most = max(image.size), MAX_SIDE.get(kind)
    if most and longest > most:
        note = f"it is a PNG, since {longest:,} pixels are more than the {most:,} along a side that {kind} holds"
        return Encoded(_encode_image(image, "png", facts or {}, dpi), SUFFIXES["png"], note)
    return Encoded(_encode_image(image, kind, facts or {}, dpi), SUFFIXES[kind])


def _encode_image(image: Image.Image, kind: str, facts: Mapping[str, str], dpi: int) -> bytes:
    if kind != "jpeg" and image.mode == "RGB":
        image = _to_indexed(image)
    if kind == "png":
        return encode_png(image, facts, dpi)
    bare = image if image.mode == "RGB" else image.convert("RGB")
    if bare.info:
        bare = bare.copy()
        bare.info = {}
    how: dict[str, Any] = {"quality": 92, "subsampling": "4:4:4"}
    if kind == "jpeg" and facts:
        how["comment"] = "\n".join(f"{name}: {value}" for name, value in facts.items()).encode("utf-8", "replace")
    if kind == "jpeg" and dpi:
        how["dpi"] = (dpi, dpi)
    if kind == "webp":
        how = {"lossless": True, "quality": 20, "method": 1} if image.mode == "P" else {"quality": 90, "method": 2}
        how |= {"xmp": _xmp(facts)} if facts else {}
    buffer = BytesIO()
    bare.save(buffer, kind.upper(), **how)
    return buffer.getvalue()


def _to_indexed(image: Image.Image) -> Image.Image:
    """The same pixels in mode P if they have no more than 256 colours, else `image` itself, found out early."""
    found = image.getcolors(256)
    if found is None:
        return image
    colours = np.array(sorted(colour for _, colour in found), np.uint8)
    place = np.zeros(1 << 24, np.uint8)  # of which only a few pages are ever touched
    place[_numbers(colours)] = np.arange(len(colours))
    sheet = Image.fromarray(place[_numbers(np.asarray(image))])
    sheet.putpalette(colours.tobytes())
    return sheet


def _numbers(colors: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Each colour (..., 3) as one number of 24 bits."""
    red, green, blue = (colors[..., channel].astype(np.int32) for channel in range(3))
    return (red << 16) | (green << 8) | blue


def _xmp(facts: Mapping[str, str]) -> bytes:
    lines = "".join(f"<f:{name}>{escape(to_legible(value))}</f:{name}>" for name, value in facts.items())
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:f="urn:cnnviz:facts">{lines}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


def encode_animation(frames: Sequence[Image.Image], kind: str, milliseconds: int, facts: Mapping[str, str]) -> bytes:
    """RGB images of one size after each other, for ever, as a WebP or a GIF; the same frames give the same bytes."""
    shown, how = list(frames), {"quality": 85, "method": 2, "xmp": _xmp(facts)}
    if kind == "gif":
        shown = [frame.quantize(256, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
        comment = "\n".join(f"{name}: {value}" for name, value in facts.items()).encode("utf-8", "replace")
        how = {"optimize": False, "comment": comment}
    buffer = BytesIO()
    shown[0].save(buffer, kind.upper(), save_all=True, append_images=shown[1:], duration=milliseconds, loop=0, **how)
    return buffer.getvalue()


def encode_png(image: Image.Image, facts: Mapping[str, str] | None = None, dpi: int = 0) -> bytes:
    """The bytes of a PNG, RGB or indexed, compressed by ISA-L.

    Of a heat map over a photograph of 500 x 375 that takes 2.8 ms, and with zlib's level 1 8.1 ms for 1.3 % fewer
    bytes; Pillow tries five filters a row, for 15 ms and 3 % fewer.
    """
    width, height = image.size
    rows = np.asarray(image).reshape(height, -1)
    lines = np.empty((height, 1 + rows.shape[1]), np.uint8)
    if image.mode == "P":
        lines[:, 0] = 0
        lines[:, 1:] = rows
        palette = [(b"PLTE", bytes(image.getpalette() or ()))]
    else:
        lines[:, 0] = 2  # every row as its difference to the one above
        lines[0, 1:] = rows[0]
        np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
        palette = []
    header = struct.pack(">IIBBBBB", width, height, 8, 3 if palette else 2, 0, 0, 0)
    before = [(b"pHYs", struct.pack(">IIB", *[round(dpi / 0.0254)] * 2, 1))] if dpi else []
    before += [(b"iTXt", _itxt(name, value)) for name, value in (facts or {}).items()]
    chunks = [(b"IHDR", header), *before, *palette, (b"IDAT", isal_zlib.compress(lines.data, 1)), (b"IEND", b"")]
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, data in chunks:
        parts += [
            struct.pack(">I", len(data)),
            name,
            data,
            struct.pack(">I", isal_zlib.crc32(data, isal_zlib.crc32(name))),
        ]
    return b"".join(parts)


def _itxt(name: str, value: str) -> bytes:
    """A text in UTF-8: keyword, not compressed, no language, no translated keyword."""
    return name.encode("latin-1") + b"\0\0\0\0\0" + value.replace("\0", " ").encode("utf-8", "replace")
