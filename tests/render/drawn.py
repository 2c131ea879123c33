"""Images and panels made from nothing, and figures as pixels."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import Panel, ProjectionRow
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.compare import compose_comparison
from cnnviz_cli.render.figures import Scene, compose_figure
from cnnviz_cli.render.overview import compose_overview
from cnnviz_cli.render.raster import rasterize

# chelsea.png: 451 x 300, the shorter side resized to 256 (451 * 256 / 300 = 384.85, cut to 384), the middle 224 taken.
CHELSEA = View((451, 300), (224, 224), (80 * 451 / 384, 16 * 300 / 256, 304 * 451 / 384, 240 * 300 / 256))


def centre_crop(width: int, height: int) -> View:
    """The middle square of seven eighths of the shorter side."""
    half = min(width, height) * 7 / 16
    return View((width, height), (224, 224), (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half))


def whole(width: int, height: int) -> View:
    return View((width, height), (width, height), (0.0, 0.0, float(width), float(height)))


def plain(width: int, height: int, colour: tuple[int, int, int] = (120, 90, 60)) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def row(
    boxes: list[tuple[float, float, float, float]],
    size: int = 32,
    layer: str = "conv",
    field: tuple[float, float] | None = None,
) -> ProjectionRow:
    values = np.random.default_rng(3).normal(size=(len(boxes), 3, size, size)).astype(np.float32)
    return ProjectionRow(
        layer, values, np.arange(len(boxes)), np.ones(len(boxes), np.float32), np.array(boxes, np.float32), field
    )


def draw(
    panel: Panel, image: Image.Image, view: View, seen: Image.Image, caption: Caption, style: Style
) -> Image.Image:
    return rasterize(compose_figure(panel, Scene(image, view, seen, caption, style)))


def overview(
    image: Image.Image,
    view: View,
    seen: Image.Image,
    predictions: Sequence[Prediction],
    panels: Sequence[tuple[Panel, Caption]],
    caption: Caption,
    style: Style,
) -> Image.Image:
    return rasterize(compose_overview(predictions, panels, Scene(image, view, seen, caption, style)))


def comparison(
    image: Image.Image, view: View, entries: Sequence[tuple[Panel, Caption]], caption: Caption, style: Style
) -> Iterator[Image.Image]:
    return map(rasterize, compose_comparison(entries, Scene(image, view, image, caption, style)))
