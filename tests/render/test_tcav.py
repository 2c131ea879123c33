"""Sheets of named concepts: bars, what has none, and every width."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from render.drawn import CHELSEA
from render.laid import check_layout, texts

from cnnviz_cli.core.figure_settings import parse_figure_size
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.axes import BLUE, QUIET
from cnnviz_cli.render.figures import Scene
from cnnviz_cli.render.layout import ALERT, MARGIN, Block, Dots, Raster, Rectangle
from cnnviz_cli.render.tcav import (
    BAR,
    ConceptRow,
    LayerScore,
    Measured,
    TcavFigure,
    compose_tcav,
    format_chance,
)
from cnnviz_cli.render.tcav_image import ConceptMap, Likeness, compose_concept_maps

WIDTHS = (480, 700, 1000, 1100, 1600)
PICTURES = [Image.new("RGB", (132, 132), (20 * number, 90, 90)) for number in range(6)]
FOR = LayerScore(
    "stages.3",
    0.93,
    Measured(0.91, (0.78, 0.99), (0.31, 0.7), 0.012),
    Measured(0.0314, (0.02, 0.044), (-0.012, 0.011), 0.008),
)
AGAINST = LayerScore(
    "stages.5", 0.88, Measured(0.25, (0.0, 0.4), (0.3, 0.79), 0.04), Measured(-0.21, (-0.3, -0.12), (-0.12, 0.13), 0.02)
)  # fmt: skip
RANDOM = LayerScore(
    "stages.5", 0.74, Measured(0.55, (0.3, 0.8), (0.22, 0.79), 1.0), Measured(0.02, (-0.1, 0.13), (-0.12, 0.13), 1.0)
)  # fmt: skip
REFUSED = LayerScore("stages.3", 0.61, note="No bar: its images cannot be told from those of random.")


def figure(*rows: tuple[str, list[LayerScore]]) -> TcavFigure:
    concepts = [ConceptRow(name, "30 images", PICTURES, scores) for name, scores in rows]
    facts = [
        "5 images of the class",
        "60 images of random, cut into halves 1,000 times",
        "efficientnet_lite0 (DEFAULT)",
    ]
    return TcavFigure("Does zebra depend on these concepts?", facts, "random", concepts, ["A sentence for the foot."])


FULL = figure(
    ("striped", [FOR, RANDOM]), ("dotted", [AGAINST]), ("a name that is as long as names of folders are", [REFUSED])
)


def bars(block: Block) -> list[tuple[float, Rectangle]]:
    found = [(left, item) for left, _, item in block.leaves() if isinstance(item, Rectangle) and item.height == BAR]
    return [(left, item) for left, item in found if item.fill in (BLUE, ALERT, QUIET)]


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overlaps_in_any_width(width: int) -> None:
    block = compose_tcav(FULL, width)
    check_layout(block)
    assert block.width <= width


def test_bars_are_as_long_as_shares_and_have_the_colours_of_their_meaning() -> None:
    found = bars(compose_tcav(FULL, 1600))
    assert [item.fill for _, item in found] == [BLUE, QUIET, ALERT]
    assert len({left for left, _ in found}) == 1
    whole = found[0][1].width / 0.91
    for (_, item), share in zip(found, (0.91, 0.55, 0.25), strict=True):
        assert item.width == pytest.approx(share * whole, abs=1)


def test_dots_lie_on_one_axis_whose_unit_is_what_random_directions_come_to() -> None:
    block = compose_tcav(FULL, 1600)
    spots = [(left + item.points[0][0], item.fill) for left, _, item in block.leaves() if isinstance(item, Dots)]
    assert [fill for _, fill in spots] == [BLUE, QUIET, ALERT]
    ticks = {item.text: left + item.width / 2 for left, _, item in texts(block) if item.text in ("-1", "1")}
    unit, middle = (ticks["1"] - ticks["-1"]) / 2, (ticks["1"] + ticks["-1"]) / 2
    for (spot, _), (value, random) in zip(spots, ((0.0314, 0.012), (0.02, 0.13), (-0.21, 0.13)), strict=True):
        assert spot == pytest.approx(middle + value / random * unit, abs=2)


def test_what_cannot_be_told_apart_has_words_and_no_bar() -> None:
    block = compose_tcav(figure(("zigzagged", [REFUSED])), 1600)
    assert not bars(block)
    assert not any(isinstance(item, Dots) for _, _, item in block.leaves())
    words = " ".join(item.text for _, _, item in texts(block))
    assert "No bar: its images cannot be told from those of random." in words
    assert "61 % told from random" in words
    assert "half" not in words


def test_numbers_and_ps_are_written() -> None:
    words = [item.text for _, _, item in texts(compose_tcav(FULL, 1600))]
    assert {"91 %", "78 to 99 %", "p 0.012", "+0.0314", "0.0200 to 0.0440", "p 0.008", "-0.210"} <= set(words)
    assert [format_chance(one) for one in (0.0014, 0.05, 0.2, 1.0)] == ["0.001", "0.050", "0.20", "1.00"]


def test_a_share_of_nothing_has_no_bar_and_a_mean_without_random_ones_an_axis() -> None:
    nothing = replace(
        FOR, share=Measured(0.0, (0.0, 0.3), (0.0, 0.0), 1.0), mean=Measured(0.0, (0.0, 0.0), (0.0, 0.0), 1.0)
    )
    block = compose_tcav(figure(("striped", [nothing])), 1600)
    check_layout(block)
    assert not bars(block)


def likeness(value: float) -> Likeness:
    values = np.linspace(-1, value, 49, dtype=np.float32).reshape(1, 7, 7)
    return Likeness(np.maximum(values, 0), values.max(), values.min())


@pytest.mark.parametrize("width", WIDTHS)
def test_an_images_sheet_has_a_map_for_each_concept(width: int) -> None:
    photo = Image.new("RGB", (451, 300), (90, 120, 60))
    maps = [
        ConceptMap("striped", "stages.3", likeness(1.0), 0.03, 0.03),
        ConceptMap("striped", "stages.5", likeness(-0.5), 0.0, 0.4),
        ConceptMap("dotted", "stages.5", likeness(0.2), -0.2, 0.4),
        ConceptMap("zigzagged", "stages.3", None, note="its images cannot be told from those of random (61 %)"),
    ]
    size = parse_figure_size(str(width))
    scene = Scene(photo, CHELSEA, photo, Caption("x"), Style(size=size))
    block = compose_concept_maps("chelsea.png", ["zebra 93 %", "a network"], maps, scene)
    check_layout(block)
    assert block.width <= width
    assert sum(isinstance(item, Raster) and item.width > 100 for _, _, item in block.leaves()) == 4
    if width >= 1100:  # a row for each layer, which begins below the first concept of the first one
        heads = {item.text: left for left, _, item in texts(block) if item.text in ("striped", "zigzagged", "dotted")}
        assert heads["zigzagged"] == heads["dotted"] > heads["striped"] > MARGIN
    words = [item.text for _, _, item in texts(block)]
    assert sum(text.startswith("nowhere like it") for text in words) == 1
    assert {"the score rises along it", "the score falls along it", "no change", "+0.0300", "-0.200"} <= set(words)
