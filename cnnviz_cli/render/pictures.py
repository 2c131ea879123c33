"""One door for every kind of panel, and the figures as pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import Filters, Mosaic, Panel, Projections
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.render.block import Block
from cnnviz_cli.render.compare import compose_comparison
from cnnviz_cli.render.figures import Single, figure
from cnnviz_cli.render.look import Caption, Look
from cnnviz_cli.render.mosaic import filters, mosaic
from cnnviz_cli.render.overview_sheet import compose_overview
from cnnviz_cli.render.projections import projections
from cnnviz_cli.render.raster import rasterize


def compose(panel: Panel, photo: Image.Image, view: View, seen: Image.Image, caption: Caption, look: Look) -> Block:
    """The figure of a panel picked for one image.

    Args:
        photo: the upright photograph, RGB, at its own resolution; `view` says where the input lies in it.
        seen: what the network was shown, RGB, at the input's size.

    Raises:
        TypeError: no picture is known for this kind of panel.
    """
    if isinstance(panel, Single):
        return figure(panel, photo, view, caption, look)
    if isinstance(panel, Mosaic):
        return mosaic(panel, seen, caption, look)
    if isinstance(panel, Filters):
        return filters(panel, caption, look)
    if isinstance(panel, Projections):
        return projections(panel, seen, caption)
    raise TypeError(f"no picture is known for {type(panel).__name__}")


def draw(panel: Panel, photo: Image.Image, view: View, seen: Image.Image, caption: Caption, look: Look) -> Image.Image:
    """`compose` as pixels, RGB."""
    return rasterize(compose(panel, photo, view, seen, caption, look))


def overview(
    photo: Image.Image,
    view: View,
    seen: Image.Image,
    predictions: Sequence[Prediction],
    panels: Sequence[tuple[Panel, Caption]],
    caption: Caption,
    look: Look,
) -> Image.Image:
    """`compose_overview` as pixels, RGB."""
    return rasterize(compose_overview(photo, view, seen, predictions, panels, caption, look))


def comparison(
    photo: Image.Image, view: View, entries: Sequence[tuple[Panel, Caption]], caption: Caption, look: Look
) -> Iterator[Image.Image]:
    """`compose_comparison` as pixels, RGB."""
    return map(rasterize, compose_comparison(photo, view, entries, caption, look))
