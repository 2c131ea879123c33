"""One door for every kind of panel, and the figures as pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.render.block import Block
from cnnviz_cli.render.compare import compose_comparison
from cnnviz_cli.render.drawings import Scene, drawing_of
from cnnviz_cli.render.overview import compose_overview
from cnnviz_cli.render.pdf import encode_pdf
from cnnviz_cli.render.raster import Encoded, encode, rasterize, size_in_pixels
from cnnviz_cli.render.style import SUFFIXES, Caption, Style
from cnnviz_cli.render.svg import encode_svg


def compose_figure(
    panel: Panel, image: Image.Image, view: View, seen: Image.Image, caption: Caption, style: Style
) -> Block:
    """The figure of a panel picked for one image.

    Args:
        photo: the upright photograph, RGB, at its own resolution; `view` says where the input lies in it.
        seen: what the network was shown, RGB, at the input's size.

    Raises:
        TypeError: no picture is known for this kind of panel.
    """
    return drawing_of(panel)(panel, Scene(image, view, seen, caption, style))


def draw(
    panel: Panel, image: Image.Image, view: View, seen: Image.Image, caption: Caption, style: Style
) -> Image.Image:
    """`compose_figure` as pixels, RGB."""
    return rasterize(compose_figure(panel, image, view, seen, caption, style))


def overview(
    image: Image.Image,
    view: View,
    seen: Image.Image,
    predictions: Sequence[Prediction],
    panels: Sequence[tuple[Panel, Caption]],
    caption: Caption,
    style: Style,
) -> Image.Image:
    """`compose_overview` as pixels, RGB."""
    return rasterize(compose_overview(image, view, seen, predictions, panels, caption, style))


def comparison(
    image: Image.Image, view: View, entries: Sequence[tuple[Panel, Caption]], caption: Caption, style: Style
) -> Iterator[Image.Image]:
    """`compose_comparison` as pixels, RGB."""
    return map(rasterize, compose_comparison(image, view, entries, caption, style))


Figure = tuple[Block, float]
"""A figure, and how many pixels a unit of it has."""


def fit_width(layout: Callable[[Style], Block], style: Style) -> Figure:
    """A figure in the width that is wanted, and how many pixels a unit has then."""
    return next(fit_widths(lambda chosen: [layout(chosen)], style))


def fit_widths(layout: Callable[[Style], Iterable[Block]], style: Style) -> Iterator[Figure]:
    """`fit_width` for several figures that are laid out together."""
    if style.size.pixels is None:
        yield from ((block, 1.0) for block in layout(style))
        return
    first = list(layout(style))
    scales = [style.size.pixels / block.width for block in first]
    density = max(scales, default=1.0) * style.size.density
    # Mostly the first layout has the width already, and its images need not be made again.
    laid = first if density == style.size.density else layout(with_density(style, density))
    yield from zip(laid, scales, strict=True)


def with_density(style: Style, density: float) -> Style:
    """The look with so many pixels a unit of the images in a figure."""
    return replace(style, size=replace(style.size, density=density))


def encode_figure(
    block: Block, kind: str, scale: float = 1.0, facts: Mapping[str, str] | None = None, dpi: int = 0
) -> tuple[Encoded, tuple[int, int]]:
    """A figure's file and its width and height in pixels.

    Raises:
        UsageError: the library that writes PDF is not installed.
    """
    size = size_in_pixels(block, scale)
    if kind == "svg":
        return Encoded(encode_svg(block, scale, facts, dpi), SUFFIXES[kind]), size
    if kind == "pdf":
        return Encoded(encode_pdf(block, scale, facts, dpi), SUFFIXES[kind]), size
    return encode(rasterize(block, scale), kind, facts, dpi), size
