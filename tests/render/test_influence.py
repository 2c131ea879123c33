"""Figures of influence: what is longer is larger, colours say the sign, and nothing leaves the sheet at any width."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from cnnviz_cli.render.axes import BLUE, GRID
from cnnviz_cli.render.influence import (
    InfluenceFigure,
    NeighbourRow,
    NeighbourTile,
    SuspectTile,
    compose_influence,
    compose_suspects,
)
from cnnviz_cli.render.layout import ALERT, Block, Raster, Rectangle, Text
from cnnviz_cli.render.raster import rasterize

IMAGE = Image.new("RGB", (90, 60), (90, 120, 30))


def tile(value: float, **more: object) -> NeighbourTile:
    tile = NeighbourTile(IMAGE, "a/b.png", "tiger cat", value, 0.25, 0.5, -0.25, "alike, and of another class")
    return replace(tile, **more)  # type: ignore[arg-type]


def figure(helpful: list[NeighbourTile], harmful: list[NeighbourTile], **more: object) -> InfluenceFigure:
    made = InfluenceFigure(
        picture=IMAGE,
        source="image.png",
        asked="tiger cat 39.3 %",
        facts=["what moved the loss of the likeliest class"],
        predictions=[("tiger cat", 0.393)],
        helpful=NeighbourRow("Helped most", ["2 help"], helpful, "No training image helps."),
        harmful=NeighbourRow("Harmed most", ["2 harm"], harmful, "No training image harms."),
        balance=(3.0, 1.0),
        foot=["What it is."],
    )
    return replace(made, **more)  # type: ignore[arg-type]


def texts(block: Block) -> list[Text]:
    return [leaf for _, _, leaf in block.leaves() if isinstance(leaf, Text)]


def bars(block: Block, color: str, height: int = 8) -> list[Rectangle]:
    found = [leaf for _, _, leaf in block.leaves() if isinstance(leaf, Rectangle)]
    return [one for one in found if one.fill == color and one.height == height]


def test_bars_are_as_long_as_influences_and_as_the_balance() -> None:
    block = compose_influence(figure([tile(0.8), tile(0.2)], [tile(-0.4)]), 1600)
    balance, first, second, _key = bars(block, BLUE)
    assert second.width == pytest.approx(first.width / 4, abs=1)
    harm, third, _key = bars(block, ALERT)
    assert third.width == pytest.approx(first.width / 2, abs=1)
    assert balance.width == pytest.approx(3 * harm.width, abs=3)


def test_a_cosine_goes_to_the_side_of_its_sign() -> None:
    block = compose_influence(figure([tile(0.8, likeness=0.5, pull=-0.25)], []), 1600)
    leaves = [(across, leaf) for across, _, leaf in block.leaves() if isinstance(leaf, Rectangle)]
    middles = [across for across, leaf in leaves if leaf.width == 1 and leaf.height == 9]
    alike, pull = [(across, leaf.width) for across, leaf in leaves if leaf.height == 5 and leaf.width not in (24,)][
        1::2
    ]
    assert alike[0] == middles[0]
    assert pull[0] + pull[1] == middles[1]
    assert alike[1] == pytest.approx(2 * pull[1], abs=1)


@pytest.mark.parametrize("room", [480, 700, 1000, 1300, 1600])
@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_nothing_leaves_the_sheet(room: int, count: int) -> None:
    long = "a_very_long_name_of_a_class_" * 4
    tiles = [
        tile(0.1 * (at + 1), label=long, source=f"{long}/{at}.png", note="labelled otherwise as well, 12 copies")
        for at in range(count)
    ]
    made = figure(tiles, [], note="This image is one of the training images.", source=long, predictions=[(long, 0.5)])
    block = compose_influence(made, room)
    assert block.width <= room
    for across, down, leaf in block.leaves():
        width = leaf.width if isinstance(leaf, Text | Rectangle | Raster) else 0
        assert across >= 0
        assert across + width <= block.width + 0.5
        assert 0 <= down <= block.height
    assert rasterize(block, 1.0).size == (block.width, block.height)


def test_where_nothing_helps_it_says_so() -> None:
    block = compose_influence(figure([], [], balance=(0.0, 0.0)), 1600)
    said = " ".join(text.text for text in texts(block))
    assert "No training image helps." in said
    assert "No training image harms." in said


def test_signs_shares_and_notes_are_written() -> None:
    block = compose_influence(figure([tile(0.8, note="3 copies")], [tile(-0.4)]), 1600)
    by_text = {text.text: text.color for text in texts(block)}
    assert by_text["+0.800"] == BLUE
    assert by_text["-0.400"] == ALERT
    assert by_text["3 copies"] == ALERT
    assert {"25.0 % of all help", "25.0 % of all harm"} <= set(by_text)
    narrow = [text.text for text in texts(compose_influence(figure([tile(0.8)] * 4, [tile(-0.4)]), 480))]
    assert "25.0 %" in narrow or "25.0 % of all help" in narrow


def test_the_key_has_every_colour_of_a_factor() -> None:
    block = compose_influence(figure([tile(0.8, likeness=0.5, pull=-0.25)], []), 1600)
    drawn = [leaf for _, _, leaf in block.leaves() if isinstance(leaf, Rectangle) and leaf.height == 5]
    keys = [one.fill for one in drawn if one.width == 24]
    assert len(keys) == len(set(keys)) == 2
    assert {one.fill for one in drawn} <= {*keys, GRID}


@pytest.mark.parametrize("room", [480, 1600])
def test_suspects_are_in_order_and_told_from_those_that_are_right(room: int) -> None:
    tiles = [
        SuspectTile(IMAGE, "a.png", 4.0, "espresso 0.1 %", "tripod 93.9 %"),
        SuspectTile(IMAGE, "b.png", 1.0, "espresso 95.0 %", ""),
    ]
    block = compose_suspects(tiles, "Training images", ["6 images"], ["What it is."], room)
    by_text = {text.text: text.color for text in texts(block)}
    assert by_text["looks like tripod 93.9 %"] == ALERT
    assert sum("looks like" in text.text for text in texts(block)) == 1
    first, second = [leaf for _, _, leaf in block.leaves() if isinstance(leaf, Rectangle) and leaf.fill == "#5c626b"]
    assert second.width == pytest.approx(first.width / 4, abs=1)
    assert block.width <= room
