"""Sheets of painted pictures: what they hold whatever the pictures' proportions and however long the words."""

from __future__ import annotations

import pytest
from PIL import Image

from cnnviz_cli.render import dreamed
from cnnviz_cli.render.dreamed import HEADING, TALLEST, DreamRow, DreamTile, compose_change, compose_dreams
from cnnviz_cli.render.layout import Block, Line, Raster, text_width

ROOM = 1472


@pytest.mark.parametrize(("width", "height"), [(1, 160), (3, 2000), (150, 900)])
def test_a_tall_picture_is_drawn_narrower_and_keeps_its_proportions(
    width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, int]] = []

    def record(image: Image.Image, across: int, down: int) -> Raster:
        drawn.append((across, down))
        return Raster(image, across, down)

    monkeypatch.setattr(dreamed, "Raster", record)
    image = Image.new("RGB", (width, height), "red")
    change = compose_change(image, [DreamTile(image, "layer", ("answer 2, before 1",))], "a.png", ["facts"], ROOM)
    (sheet,) = compose_dreams([DreamRow("subject", [DreamTile(image, "")])], "what it has learnt", ["facts"], ROOM)
    assert drawn == [(max(1, round(TALLEST * width / height)), TALLEST)] * 4
    assert change.height < TALLEST + 400
    assert sheet.height < TALLEST + 400


def test_a_picture_of_usual_proportions_fills_its_column(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, int]] = []
    monkeypatch.setattr(dreamed, "Raster", lambda image, *size: (drawn.append(size), Raster(image, *size))[1])
    image = Image.new("RGB", (90, 160))
    compose_change(image, [DreamTile(image, "layer")], "a.png", [], ROOM)
    assert drawn == [(448, 796)] * 3


def test_the_heading_of_a_narrow_sheet_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[Line] = []
    inner = dreamed.set_lines

    def record(given: list[Line], width: int) -> Block:
        lines.extend(given)
        return inner(given, width)

    monkeypatch.setattr(dreamed, "set_lines", record)
    heading = "what efficientnet_lite0 has learnt"
    row = DreamRow("espresso", [DreamTile(Image.new("RGB", (8, 8)), "")])
    compose_dreams([row], heading, ["seed 0"], ROOM)
    words = [line.text for line in lines if line.size == HEADING]
    assert " ".join(words) == heading
    assert len(words) == 2
    assert all(text_width(word, HEADING) <= 320 for word in words)
