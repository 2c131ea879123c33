"""A new panel is its class and one drawing; nothing else has to learn of it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from render.drawn import draw, overview, whole

from cnnviz_cli.core.figure_settings import Scale
from cnnviz_cli.core.panels import Heatmap, Panel, ScaleKind, SingleMap
from cnnviz_cli.core.value import value
from cnnviz_cli.render.compare import pages
from cnnviz_cli.render.figures import Scene, draws
from cnnviz_cli.render.layout import Block, blank_block, stack_vertically
from cnnviz_cli.render.legends import color_bar, shared_legend
from cnnviz_cli.render.raster import rasterize
from cnnviz_cli.render.scaling import color_limits, color_table, normalize, state_of
from cnnviz_cli.render.style import Caption, Style


@value
class Uncertainty(SingleMap):
    """How far a map varies; drawn and explained by what the class says of itself."""

    scale_kind: ClassVar[ScaleKind] = "percentile"
    legend_title: ClassVar[str] = "uncertainty"
    bar_words: ClassVar[tuple[str, ...]] = ("sure", "unsure")


@value
class Curve(Panel):
    """(B, N) a number at each of N steps, drawn as bars of colour."""

    values: Any

    def parts(self) -> list[Any]:
        return [self.values]


def draw_curve(panel: Curve, scene: Scene) -> Block:
    shares = np.asarray(panel.values) / np.asarray(panel.values).max()
    colours = color_table(scene.style.palette)[np.rint(shares * 255).astype(int)]
    bar = color_bar(colours, ["first", "last"], 200, 12)
    return stack_vertically([blank_block(200, 5), bar], 0)


PHOTO = Image.new("RGB", (64, 64), "#808080")
VIEW = whole(64, 64)
VALUES = np.linspace(0, 2, 64 * 64, dtype=np.float32).reshape(1, 64, 64)


def pixels(image: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()}


def test_a_new_map_is_scaled_drawn_and_explained_by_its_class() -> None:
    panel = Uncertainty(VALUES)
    top = float(np.sort(VALUES.ravel())[int(np.ceil(0.995 * VALUES.size)) - 1])
    assert color_limits(panel) == (0.0, top)
    np.testing.assert_allclose(normalize(panel, Scale(0, 4, "fixed")), VALUES / 4, atol=1e-6)
    style = Style()
    figure = draw(panel, PHOTO, VIEW, PHOTO, Caption("unsure?"), style)
    first, last = (tuple(colour) for colour in color_table(style.palette)[[0, -1]].tolist())
    assert {first, last} <= pixels(figure)


def test_a_new_map_has_a_legend_beside_others() -> None:
    entries: list[tuple[Panel, Caption]] = [
        (Uncertainty(VALUES), Caption("unsure")),
        (Heatmap(VALUES), Caption("heat")),
    ]
    assert len(pages(entries)) == 1
    maps = [(panel, named) for panel, named in entries if isinstance(panel, SingleMap)]
    both = rasterize(shared_legend(maps, Style(), 700))
    alone = rasterize(shared_legend(maps[1:], Style(), 700))
    assert both.width > alone.width
    assert len(pixels(both) & {tuple(colour) for colour in color_table(Style().palette).tolist()}) > 200


def test_a_new_kind_of_figure_is_drawn_and_stands_on_the_overview() -> None:
    with pytest.raises(TypeError, match="no figure is known for Curve"):
        draw(Curve(np.ones(3, np.float32)), PHOTO, VIEW, PHOTO, Caption("c"), Style())
    draws(Curve, draw_curve)
    panel = Curve(np.array([0, 1, 2], np.float32))
    assert state_of(panel) == "ok"
    figure = draw(panel, PHOTO, VIEW, PHOTO, Caption("c"), Style())
    wanted = {tuple(colour) for colour in color_table(Style().palette)[[0, 128, 255]].tolist()}
    assert wanted <= pixels(figure)
    sheet = overview(PHOTO, VIEW, PHOTO, [], [(panel, Caption("c"))], Caption("all"), Style())
    assert wanted <= pixels(sheet)
