"""One door for every kind of panel."""

from __future__ import annotations

from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import Filters, Mosaic, Panel, Projections
from cnnviz_cli.render.figures import Single, figure
from cnnviz_cli.render.look import Caption, Look
from cnnviz_cli.render.mosaic import filters, mosaic
from cnnviz_cli.render.projections import projections


def draw(panel: Panel, photo: Image.Image, view: View, seen: Image.Image, caption: Caption, look: Look) -> Image.Image:
    """The picture of a panel picked for one image.

    Args:
        photo: the upright photograph, RGB, at its own resolution; `view` says where the input lies in it.
        seen: what the network was shown, RGB, at the input's size.

    Returns:
        RGB for maps and projections, P (indexed) for sheets of feature maps and kernels.

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
