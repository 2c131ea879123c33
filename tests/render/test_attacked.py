"""The sheet of an attack: what it says, where it stands, and that a change can be seen."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image
from render.drawn import draw, plain, whole
from render.laid import clipped, texts

from cnnviz_cli.core.attacks import format_size
from cnnviz_cli.core.figure_settings import parse_figure_size
from cnnviz_cli.core.panels import Attacked, Heatmap, PixelMap, SingleMap
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.attacked import SEEN, compose_attacked, draw_change
from cnnviz_cli.render.figures import Scene
from cnnviz_cli.render.layout import Block, Raster

SIDE = 32
CLASSES = {7: "tiger cat, tabby", 9: "espresso", 3: "macaw"}
BLANK = np.zeros((1, 8, 8), np.float32)
NUMBERS = {
    "flipped": 1.0, "eps": 2 / 255, "linf": 2 / 255, "l2": 0.4321, "changed": 0.75, "in_8_bits": 1.0,
    "probability": 0.81, "probability_after": 0.52, "score_before": 0.81, "score_after": 0.2,
    "map_similarity": 0.334, "map_similarity_same_class": 0.915,
}  # fmt: skip


def panel(kind: type[SingleMap] = Heatmap, channels: int = 3, **changed: Any) -> Attacked:
    random = np.random.default_rng(0)
    original = random.random((channels, SIDE, SIDE), np.float32)
    maps = [kind(random.random((1, 8, 8), np.float32)) for _ in range(2)]
    usual: dict[str, Any] = {
        "values": original + np.float32(2 / 255) * np.sign(random.normal(size=original.shape)).astype(np.float32),
        "original": original, "black": (0.0,) * channels, "white": (1.0,) * channels, "norm": "linf", "budget": 4 / 255,
        "before": maps[0], "after": maps[1], "explained_by": "Grad-CAM", "classes": np.array([7, 9, 7]),
        "statistics": {**NUMBERS, **changed.pop("numbers", {})},
    }  # fmt: skip
    return Attacked(**{**usual, **changed})


def scene(width: str = "auto", image: Image.Image | None = None) -> Scene:
    image = image or plain(SIDE, SIDE)
    caption = Caption(title="PGD", target="tiger cat", model="net (random:0)", source="cat.jpg", classes=CLASSES)
    return Scene(image, whole(*image.size), image, caption, Style(size=parse_figure_size(width)))


def words(made: Block) -> list[str]:
    return [item.text for _, _, item in texts(made)]


def test_the_sheet_says_both_labels_the_size_and_the_numbers() -> None:
    said = words(compose_attacked(panel(), scene()))
    assert said[0] == "tiger cat becomes espresso by a change of 2/255"
    assert said[1] == "PGD · at most 4/255 in any pixel · net (random:0) · cat.jpg"
    assert [said[2], said[4], said[6]] == ["tiger cat   81.0 %", "the change", "espresso   52.0 %"]
    assert said[5] == "20 times; grey is none"
    facts = dict(pairwise(said))
    assert facts["smallest size found that flips it"] == "2/255"
    assert facts["probability of tiger cat"] == "81.0 % to 20.0 %"
    assert facts["length of the change"] == "0.432"
    assert facts["pixels that changed"] == "75.0 %"
    assert facts["flipped when rounded to 8 bits"] == "yes"
    assert facts["rank correlation of the maps"] == "0.33"
    assert facts["of those for tiger cat"] == "0.92"
    assert [text for text in said if text.startswith("for ")] == ["for tiger cat", "for espresso"]


@pytest.mark.parametrize(
    ("changed", "heading"),
    [
        ({"numbers": {"flipped": 0.0}, "classes": np.array([7, 7, 7])}, "tiger cat is not flipped within 4/255"),
        ({"numbers": {"flipped": 0.0}, "wanted": np.array(3)}, "tiger cat is not flipped to macaw within 4/255"),
        (
            {"numbers": {"flipped": 0.0, "score_after": 0.81}, "classes": np.array([7, 7, 7])},
            "tiger cat is not flipped within 4/255, and no change that was tried moves its probability",
        ),
        ({"norm": "l2", "numbers": {"eps": 0.4321}}, "tiger cat becomes espresso by a change of length 0.432"),
        (
            {"numbers": {"eps": 0.0}, "classes": np.array([9, 9, 7])},
            "tiger cat is not what the network says, so there is nothing to flip",
        ),
        (
            {"numbers": {"eps": 0.0}, "classes": np.array([3, 3, 7]), "wanted": np.array(3)},
            "macaw is what the network says already",
        ),
    ],
)
def test_what_did_not_flip_or_had_not_to_is_said(changed: dict[str, Any], heading: str) -> None:
    said = words(compose_attacked(panel(**changed), scene()))
    assert heading in (said[0], " ".join(said[:2]))  # a long one takes two lines
    if "is not flipped" in heading:
        assert dict(pairwise(said))["flipped within the budget"] == "no"
    if "becomes" not in heading:  # with nothing flipped there is no size that flips it, in 8 bits neither
        assert "flipped when rounded to 8 bits" not in said
        assert "smallest size found that flips it" not in said


@pytest.mark.parametrize("state", ["negative", "silent"])
def test_a_map_that_says_nothing_has_no_advice_that_an_attack_does_not_take(state: Any) -> None:
    """No --counterfactual, no other target, no --layer."""
    said = " ".join(words(compose_attacked(panel(before=Heatmap(BLANK, warnings={state: np.array(True)})), scene())))
    wrong = {"negative": "nothing here speaks for it", "silent": "the layer answers nothing here"}[state]
    assert wrong in said.casefold()
    assert "counterfactual" not in said
    assert "target" not in said
    assert "read the layer" not in said


def test_probabilities_that_are_nearly_one_and_the_same_are_told_apart() -> None:
    numbers = {"flipped": 0.0, "score_before": 6.3e-6, "score_after": 2.41e-4}
    said = words(compose_attacked(panel(wanted=np.array(3), numbers=numbers), scene()))
    assert "0.00063 % to 0.0241 %" in said


def test_maps_that_say_nothing_have_no_likeness() -> None:
    said = words(compose_attacked(panel(numbers={"map_similarity": float("nan")}), scene()))
    assert dict(pairwise(said))["rank correlation of the maps"] == "not known"


@pytest.mark.parametrize("kind", [Heatmap, PixelMap])
@pytest.mark.parametrize("width", ["auto", "480", "700", "17cm", "2400"])
@pytest.mark.parametrize("size", [(SIDE, SIDE), (96, 32), (32, 96)])
def test_nothing_is_clipped_and_all_tiles_of_a_row_stand_at_one_height(
    kind: type[SingleMap], width: str, size: tuple[int, int]
) -> None:
    long = {7: "a class with a name that is longer than any column is wide, and longer", 9: "x"}
    drawn = scene(width, plain(*size))
    drawn = replace(drawn, caption=replace(drawn.caption, classes=long))
    one = panel(kind)
    shape = (3, size[1], size[0])
    one = replace(one, original=np.zeros(shape, np.float32), values=np.full(shape, 2 / 255, np.float32))
    made = compose_attacked(one, drawn)
    assert not list(clipped(made))
    tiles = [(left, top, item) for left, top, item in made.leaves() if isinstance(item, Raster) and item.height > 20]
    assert len(tiles) >= 5
    tops = sorted({top for _, top, _ in tiles[:5]})
    assert len(tops) == (2 if made.width > 500 else 3)


def test_a_change_is_drawn_around_grey_as_strong_as_can_be_seen() -> None:
    change = np.zeros((3, 4, 4))
    change[0, 0, 0], change[1, 1, 1] = 3 / 255, -1.5 / 255
    drawn, factor = draw_change(change)
    pixels = np.asarray(drawn).astype(int)
    assert factor == 20
    assert pixels[0, 0].tolist() == [128 + 60, 128, 128]
    assert pixels[1, 1].tolist() == [128, 128 - 30, 128]
    for levels, times in ((0.0, 10), (100.0, 10), (8.1, 10), (8.0, 10), (4.0, 20), (0.3, 200), (0.0001, 10_000)):
        assert draw_change(np.full((1, 2, 2), levels / 255))[1] == times
        assert times == 10 or times * levels <= SEEN


def test_the_attacked_image_is_the_image_and_the_change() -> None:
    one = panel(values=np.ones((3, SIDE, SIDE), np.float32), original=np.zeros((3, SIDE, SIDE), np.float32))
    made = compose_attacked(one, scene(image=plain(SIDE, SIDE, (0, 0, 0))))
    rasters = [item.image for _, _, item in made.leaves() if isinstance(item, Raster) and item.height > 20]
    means = [np.asarray(image.convert("RGB")).mean() for image in rasters[:3]]
    assert means == [0, 255, 255]


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_grey_alpha_and_bands_are_drawn(channels: int) -> None:
    one = panel(channels=channels)
    drawn = draw(one, plain(SIDE, SIDE), whole(SIDE, SIDE), plain(SIDE, SIDE), scene().caption, Style())
    assert drawn.width > 3 * 150
    change, _ = draw_change(one.change())
    pixels = np.asarray(change).astype(int)
    grey = (pixels == pixels[..., :1]).all()
    assert grey == (channels != 4)


def test_sizes_in_pixels_are_in_levels_and_lengths_are_numbers() -> None:
    assert format_size(4 / 255, "linf") == "4/255"
    assert format_size(0.00031, "linf") == "0.079/255"
    assert format_size(1.23456, "l2") == "1.23"


def test_the_first_map_is_of_the_class_that_was_attacked_and_bands_are_shown_by_their_mean() -> None:
    said = words(compose_attacked(panel(classes=np.array([9, 3, 7])), scene()))
    assert [text for text in said if text.startswith("for ")] == ["for tiger cat", "for macaw"]
    change = np.zeros((6, 1, 1))
    change[5] = 6 / 255
    assert np.asarray(draw_change(change)[0])[0, 0].tolist() == [128 + 10] * 3


def test_on_a_narrow_sheet_each_number_stands_below_its_whole_name() -> None:
    made = compose_attacked(panel(), scene("8.5cm"))
    named = [(item.text, left, top) for left, top, item in texts(made)]
    said = [text for text, _, _ in named]
    assert "…" not in "".join(said)
    for name, number in (("largest change of a pixel", "2/255"), ("length of the change", "0.432")):
        line = next(at for at, text in enumerate(said) if name.endswith(text) and text not in ("", "the change"))
        assert said[line + 1] == number
        assert named[line + 1][1] == named[line][1]  # both at the left
        assert named[line + 1][2] > named[line][2]
