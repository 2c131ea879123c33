"""What was found out about a map, in words under it: in its own figure, and under its tile in a comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from render.drawn import centre_crop, plain

from cnnviz_cli.core.figure_settings import parse_figure_size
from cnnviz_cli.core.panels import Heatmap, Panel
from cnnviz_cli.render import Caption, Finding, Style
from cnnviz_cli.render.compare import compose_comparison
from cnnviz_cli.render.figures import Scene, compose_figure
from cnnviz_cli.render.layout import INK, MUTED, SMALL, Block, Text, finding_lines, text_width

FOUND = (Finding("removal gain 0.23 (random maps 0.01)"), Finding("alike under random weights 0.12"))


def heat(seed: int) -> Heatmap:
    values = np.random.default_rng(seed).random((1, 7, 7), np.float32)
    return Heatmap(values, values.max(), target=0)


def scene(caption: Caption, style: Style | None = None) -> Scene:
    image: Image.Image = plain(640, 480)
    return Scene(image, centre_crop(640, 480), image, caption, style or Style())


def words(block: Block) -> list[tuple[float, int, Text]]:
    return [(left, base, item) for left, base, item in block.leaves() if isinstance(item, Text)]


def test_a_figure_says_in_a_line_what_was_found_out() -> None:
    caption = Caption("a way", "layer", "cat", "39 %", findings=FOUND)
    plain_figure = compose_figure(heat(1), scene(replace(caption, findings=())))
    block = compose_figure(heat(1), scene(caption))
    said = [item for _, _, item in words(block)]
    text = "removal gain 0.23 (random maps 0.01) · alike under random weights 0.12"
    assert [(item.color, item.strong) for item in said if item.text == text] == [(MUTED, False)]
    assert text not in [item.text for _, _, item in words(plain_figure)]
    assert block.height > plain_figure.height


def test_in_a_narrow_figure_the_line_is_broken_between_findings() -> None:
    style = Style(size=parse_figure_size("480"))
    said = [item.text for _, _, item in words(compose_figure(heat(1), scene(Caption("a", findings=FOUND), style)))]
    assert {one.text for one in FOUND} <= set(said)


def sheet(gains: list[tuple[str, bool]], room: str = "auto") -> Block:
    entries: list[tuple[Panel, Caption]] = [
        (
            heat(number),
            Caption(f"way {number}", "layer", "cat", findings=(Finding(text, strong), Finding(f"other {number}"))),
        )
        for number, (text, strong) in enumerate(gains)
    ]
    (block,) = compose_comparison(entries, scene(Caption("compared"), Style(size=parse_figure_size(room))))
    return block


@pytest.mark.parametrize("room", ["auto", "8.5cm"])
def test_under_each_tile_stands_what_was_found_out_and_the_best_is_strong(room: str) -> None:
    block = sheet([("gain 0.23", False), ("gain 0.41", True), ("gain 0.05", False)], room)
    found = {item.text: (left, base, item) for left, base, item in words(block)}
    assert [found[text][2].strong for text in ("gain 0.23", "gain 0.41", "gain 0.05")] == [False, True, False]
    assert [found[text][2].color for text in ("gain 0.23", "gain 0.41", "gain 0.05")] == [MUTED, INK, MUTED]
    for number in range(3):
        left, base, _ = found[f"other {number}"]
        above = found[("gain 0.23", "gain 0.41", "gain 0.05")[number]]
        assert left == above[0]
        assert base > above[1]


def test_strong_findings_stand_in_lines_of_their_own() -> None:
    lines = finding_lines([("a", False), ("b", False), ("c", True), ("d", False)], SMALL, 300)
    assert [(line.text, line.strong) for line in lines] == [("a · b", False), ("c", True), ("d", False)]
    long = finding_lines([("a word " * 20, True)], SMALL, 90)
    assert len(long) > 5
    assert all(text_width(line.text, line.size) <= 90 for line in long)
    assert finding_lines([], SMALL, 100) == []
