"""The figures of network dissection: everything in its place, bars as long as their values, lines where regions end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from render.laid import check_layout, texts

from cnnviz_cli.render.axes import BLUE
from cnnviz_cli.render.dissected import (
    EXCITED,
    ChannelBar,
    DissectedTile,
    LabelRow,
    LayerBars,
    compose_detectors,
    compose_image,
    compose_labels,
    cut_input,
    draw_tile,
)
from cnnviz_cli.render.layout import ALERT, Block, Raster, Rectangle

PICTURE = Image.new("RGB", (200, 100), "#80a0c0")


def region(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((50, 100), np.bool_)
    mask[top:bottom, left:right] = True
    return mask


TILE = DissectedTile(PICTURE, region(10, 20, 30, 60), region(5, 40, 45, 80), "a long name of/some image.png", 0.25)


def row(label: str = "cat", iou: float = 0.3, **more: object) -> LabelRow:
    bars = [ChannelBar(f"channel {number}", iou / number) for number in (1, 2, 3)]
    return replace(LabelRow(label, 3, bars, (0.05, 0.12), 2, [TILE] * 4), **more)  # type: ignore[arg-type]


def written(block: Block) -> list[str]:
    return [item.text for _, _, item in texts(block)]


def bars(block: Block, colour: str) -> list[Rectangle]:
    return [
        item
        for _, _, item in block.leaves()
        if isinstance(item, Rectangle) and item.height >= 12 and colour in (item.fill, item.outline)
    ]


@pytest.mark.parametrize("room", [480, 700, 1000, 1600])
def test_nothing_is_cut_off_and_no_text_lies_over_another(room: int) -> None:
    odd = [
        row(),
        row("a very long label of many words that needs a second line, or even a third one, to be written out"),
        row("dog", chance=None, note="In one image only: a channel may know the image, and not the thing."),
        row("nothing", channels=[], tiles=[], detectors=0),
        row("one tile", tiles=[replace(TILE, labelled=False)]),
    ]
    labels = compose_labels(odd, "Which channel finds what is marked?", ["a network", "3 images"], 0.04, room)
    check_layout(labels)
    assert labels.width <= room
    key = " ".join(text for text in written(labels) if not text.startswith("a long"))
    assert "images have each other's annotations" in key  # in as many lines as it takes
    assert written(labels).count("not marked here") == 1
    assert sum(text.endswith(".png") for text in written(labels)) == 13  # every tile has its name
    layers = [
        LayerBars("stages.4.with.a.long.name", 1280, [("cat", 12, 3.5), ("a very long label " * 5, 0, 0.0)], 12, 3.5),
        LayerBars("head", 16, [("cat", 1, None)], 1, None),
    ]
    for some in (layers, layers[:1], layers * 3):
        check_layout(compose_detectors(some, "How many channels find each label?", ["a network"], room))
    for tiles in ([], [("cat", "channel 3 of stages.4", TILE)], [("cat", "channel 3 of stages.4", TILE)] * 7):
        check_layout(compose_image(tiles, "some/image.png", ["a network"], PICTURE, room))


def test_bars_are_in_proportion_and_red_where_chance_reaches_as_far() -> None:
    """0.3 is beyond chance, which ends at 0.12; half and a third of it are, too, but not a tenth."""
    sheet = compose_labels([row(channels=[ChannelBar("a", 0.3), ChannelBar("b", 0.03)])], "", [], 0.04, 1600)
    (blue,) = [bar for bar in bars(sheet, BLUE) if bar.width > 30]
    (red,) = [bar for bar in bars(sheet, ALERT) if bar.width > 24]
    assert abs(red.width - blue.width / 10) < 1
    assert "no more than by chance" in written(sheet)
    safe = compose_labels([row(chance=None)], "", [], 0.04, 1600)
    assert not bars(safe, ALERT)
    assert not any("chance" in text for text in written(safe))
    assert {"0.300", "0.150", "0.100"} <= set(written(safe))


def test_detectors_are_counted_in_proportion() -> None:
    layer = LayerBars("head", 40, [("cat", 20, 2.0), ("dog", 5, 7.0), ("cup", 0, 0.0)], 25, 9.0)
    sheet = compose_detectors([layer], "", [], 1600)
    longest = max(bars(sheet, BLUE), key=lambda bar: bar.width)
    (red,) = [bar for bar in bars(sheet, ALERT) if bar.width > 10]
    assert abs(red.width - longest.width / 4) <= 1
    assert {"20", "5", "0"} <= set(written(sheet))
    assert "25 of 40 channels find something marked · 2 of 3 labels found · by chance 9.0 channels" in written(sheet)


def test_many_labels_end_in_a_sentence() -> None:
    many = [(f"label {number}", 1, None) for number in range(60)]
    assert "and 12 labels more, none with more channels: they are in the table" in written(
        compose_detectors([LayerBars("head", 60, many, 60, None)], "", [], 1600)
    )


def colours(picture: Image.Image, colour: str) -> np.ndarray:
    ink = Image.new("RGB", (1, 1), colour).getpixel((0, 0))
    return np.asarray((np.asarray(picture) == np.array(ink)).all(2))


def test_a_tile_is_bright_where_the_channel_is_excited_and_lines_lie_around_both() -> None:
    drawn = draw_tile(TILE, (200, 100))
    pixels = np.asarray(drawn).astype(int)
    assert pixels[40, 60].tolist() == [0x80, 0xA0, 0xC0]  # excited, and not marked
    assert pixels[80, 120].sum() < 0.7 * (0x80 + 0xA0 + 0xC0)  # marked, and not excited
    assert pixels[95, 10].sum() < 0.7 * (0x80 + 0xA0 + 0xC0)
    for colour, (top, left, bottom, right) in ((EXCITED, (20, 40, 60, 120)), ("#ffffff", (10, 80, 90, 160))):
        rows, columns = np.nonzero(colours(drawn, colour))
        # The line lies within the region, at its border.
        assert (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) == (top, left, bottom, right)


def test_a_region_that_is_all_of_the_image_has_a_line_within_its_edges() -> None:
    everything = np.ones((50, 100), np.bool_)
    drawn = draw_tile(replace(TILE, excited=everything & False, marked=everything), (200, 100))
    white = colours(drawn, "#ffffff")
    assert not white[0].any()  # paper is white, too
    assert white[2].sum() > 150
    assert not colours(drawn, EXCITED).any()


def test_what_lies_beyond_the_image_is_hatched() -> None:
    image = Image.new("RGB", (40, 20), "#ff0000")
    cut = cut_input(image, (0.0, -10.0, 40.0, 30.0), (80, 80))
    red = colours(cut, "#ff0000")
    assert red[20:60].all()
    assert not red[:20].any()
    assert not red[60:].any()
    inner = np.asarray(cut_input(image, (10.0, 0.0, 30.0, 20.0), (20, 20)))
    assert inner.shape == (20, 20, 3)


def test_an_image_without_a_tile_is_shown_by_itself() -> None:
    block = compose_image([], "image.png", ["a network"], PICTURE, 1600)
    (shown,) = [item for _, _, item in block.leaves() if isinstance(item, Raster)]
    assert shown.image is PICTURE
    assert shown.width == 2 * shown.height
    assert any("no detector is above its threshold" in text for text in written(block))


def test_bars_have_a_key_whether_they_are_beyond_chance_or_not() -> None:
    plain = "intersection over union of a channel, detector or not"
    both = written(compose_labels([row(channels=[ChannelBar("a", 0.3), ChannelBar("b", 0.03)])], "", [], 0.04, 1600))
    assert f"{plain}, more than by chance" in both
    assert plain in written(compose_labels([row(chance=None)], "", [], 0.04, 1600))
    lucky = written(compose_labels([row(channels=[ChannelBar("b", 0.03)])], "", [], 0.04, 1600))
    assert not any(plain in text for text in lucky)


@pytest.mark.parametrize("size", [(300, 150), (40, 20)])
def test_a_few_pixels_have_a_ring_around_them(size: tuple[int, int]) -> None:
    """One pixel of 100 x 50 is a third of a line in a small tile."""
    tile = replace(TILE, excited=region(25, 50, 26, 51), marked=region(0, 0, 0, 0))
    ring = colours(draw_tile(tile, size), EXCITED)
    rows, columns = np.nonzero(ring)
    assert min(np.ptp(rows), np.ptp(columns)) >= 8
    middle = (rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2
    assert not ring[middle]
    assert abs(middle[1] / size[0] - 0.505) < 0.04
    empty = replace(tile, excited=region(0, 0, 0, 0))
    assert not colours(draw_tile(empty, size), EXCITED).any()
