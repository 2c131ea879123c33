"""A figure as SVG: text stays text, rules and colour bars are vectors, images are embedded as PNG.

The file refers to nothing outside itself and holds no script. The same figure gives the same bytes.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from itertools import count
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from PIL import Image

from cnnviz_cli.render.layout import PAPER, Block, Dots, Points, Polygon, Polyline, Ramp, Raster, Rectangle, Text
from cnnviz_cli.render.raster import encode_png, resize_raster
from cnnviz_cli.render.scaling import ByteArray

_ILLEGAL = re.compile("[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
FONTS = "Helvetica, Arial, 'Liberation Sans', 'Nimbus Sans', sans-serif"
"""What most machines have. Every line is told its width, so that a wider font does not run into its neighbour."""

DENSEST = 4  # pixels a unit of an image whose pixels are sharp squares: viewers may smooth what they enlarge


def encode_svg(block: Block, scale: float = 1.0, facts: Mapping[str, str] | None = None, dpi: int = 0) -> bytes:
    """The file, shown at `scale` pixels a unit, or with `dpi` in a size in print; `facts` say what it is."""
    width, height = block.width * scale, block.height * scale
    sides = [f"{side / dpi:.4g}in" if dpi else f"{side:.6g}" for side in (width, height)]
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1" '
        f'width="{sides[0]}" height="{sides[1]}" viewBox="0 0 {block.width} {block.height}" '
        f"font-family={quoteattr(FONTS)}>",
    ]
    if facts:
        told = "\n".join(f"{name}: {value}" for name, value in facts.items())
        lines.append(f"<desc>{_text(told)}</desc>")
    lines.append(f'<rect width="{block.width}" height="{block.height}" fill="{PAPER}"/>')
    body = _Body(block)
    if body.gradients:
        lines += ["<defs>", *body.gradients, "</defs>"]
    return "\n".join([*lines, *body.lines, "</svg>", ""]).encode()


class _Body:
    def __init__(self, block: Block) -> None:
        self.lines: list[str] = []
        self.gradients: list[str] = []
        self._numbers = count(1)
        self._known: dict[bytes, str] = {}
        for left, top, item in block.leaves():
            if isinstance(item, Text):
                self._line(item, left, top)
            elif isinstance(item, Raster):
                self._image(item, left, top)
            elif isinstance(item, Ramp):
                self._ramp(item, left, top)
            elif isinstance(item, Polyline):
                self.lines.append(
                    f'<polyline points="{_places(item.points, left, top)}" fill="none" stroke="{item.color}" '
                    f'stroke-width="{_number(item.line)}" stroke-linecap="round" stroke-linejoin="round"/>'
                )
            elif isinstance(item, Polygon):
                self.lines.append(f'<polygon points="{_places(item.points, left, top)}" fill="{item.fill}"/>')
            elif isinstance(item, Dots):
                self._dots(item, left, top)
            else:
                self._rectangle(item, left, top)

    def _line(self, item: Text, left: float, base: int) -> None:
        if item.text.strip():
            weight = ' font-weight="bold"' if item.strong else ""
            self.lines.append(
                f'<text x="{_number(left)}" y="{base}" font-size="{item.size}" fill="{item.color}" '
                f'textLength="{_number(item.width)}" lengthAdjust="spacingAndGlyphs" xml:space="preserve"{weight}>'
                f"{_text(item.text)}</text>"
            )

    def _image(self, item: Raster, left: float, top: int) -> None:
        self.lines.append(
            f'<image x="{_number(left)}" y="{top}" width="{item.width}" height="{item.height}" '
            f'preserveAspectRatio="none" xlink:href="data:image/png;base64,'
            f'{b64encode(encode_png(embed_image(item))).decode()}"/>'
        )

    def _ramp(self, item: Ramp, left: float, top: int) -> None:
        edges = [round(top + item.height * number / len(item.colors)) for number in range(len(item.colors) + 1)]
        for colours, upper, lower in zip(item.colors, edges, edges[1:], strict=False):
            self.lines.append(
                f'<rect x="{_number(left)}" y="{upper}" width="{item.width}" height="{lower - upper}" '
                f'fill="url(#{self._gradient(colours)})"/>'
            )

    def _gradient(self, colors: ByteArray) -> str:
        key = colors.tobytes()
        if key not in self._known:
            self._known[key] = name = f"ramp{next(self._numbers)}"
            self.gradients.append(f'<linearGradient id="{name}" x1="0" y1="0" x2="1" y2="0">')
            for share, colour in gradient_stops(colors):
                self.gradients.append(f'<stop offset="{_number(share)}" stop-color="{colour}"/>')
            self.gradients.append("</linearGradient>")
        return self._known[key]

    def _dots(self, item: Dots, left: float, top: float) -> None:
        inset = item.line / 2 if item.outline else 0.0
        outline = f' stroke="{item.outline}" stroke-width="{_number(item.line)}"' if item.outline else ""
        for across, down in item.points:
            self.lines.append(
                f'<circle cx="{_number(left + across)}" cy="{_number(top + down)}" '
                f'r="{_number(item.radius - inset)}" fill="{item.fill or "none"}"{outline}/>'
            )

    def _rectangle(self, item: Rectangle, left: float, top: int) -> None:
        inset, fill = (item.line / 2, item.fill or "none") if item.outline else (0.0, item.fill)
        outline = f' stroke="{item.outline}" stroke-width="{item.line}"' if item.outline else ""
        self.lines.append(
            f'<rect x="{_number(left + inset)}" y="{_number(top + inset)}" '
            f'width="{_number(max(0.0, item.width - 2 * inset))}" '
            f'height="{_number(max(0.0, item.height - 2 * inset))}" fill="{fill}"{outline}/>'
        )


def embed_image(item: Raster) -> Image.Image:
    """The pixels that stand for an image in a vector file."""
    image = item.image if item.image.mode == "RGB" else item.image.convert("RGB")
    if item.crisp and image.width < DENSEST * item.width:
        factor = max(1, DENSEST * item.width // image.width)
        return resize_raster(item, (image.width * factor, image.height * factor)) if factor > 1 else image
    return image


def gradient_stops(colors: ByteArray, tolerance: float = 1.0) -> list[tuple[float, str]]:
    """As few places of a palette as give every colour to within `tolerance` levels by straight lines between them."""
    exact = colors.astype(float)
    last = len(colors) - 1
    kept, start = [0], 0
    while start < last:
        stop = start + 1
        while stop < last:
            steps = np.linspace(0, 1, stop + 2 - start)[:, None]
            line = exact[start] * (1 - steps) + exact[stop + 1] * steps
            if np.abs(line - exact[start : stop + 2]).max() > tolerance:
                break
            stop += 1
        kept.append(stop)
        start = stop
    return [(place / max(1, last), "#" + bytes(colors[place]).hex()) for place in kept]


def _places(points: Points, left: float, top: float) -> str:
    return " ".join(f"{_number(left + across)},{_number(top + down)}" for across, down in points)


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _text(text: str) -> str:
    """Text that XML can hold: controls and halves of characters as question marks."""
    return escape(_ILLEGAL.sub("?", text))
