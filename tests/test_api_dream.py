"""cnnviz_cli.dream: the pictures of the command, from Python, and nothing of the caller's changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch import nn

import cnnviz_cli
from cnnviz_cli.cli.main import main
from cnnviz_cli.core.dream_facts import to_bytes

HOW: dict[str, Any] = {"input_size": (32, 32), "steps": 3, "device": "cpu"}
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def test_the_command_paints_the_same_picture(tmp_path: Path) -> None:
    asked = ("--target", "2", "--steps", "3", "--seed", "5", "--number", "2", "-o", str(tmp_path / "o"))
    how = ("--model", "nets:classifier", "--allow-code", "--input-size", "32", "--device", "cpu", "-q")
    assert main(["dream", *asked, *how]) == 0
    found = cnnviz_cli.dream(nets.classifier(), target=2, seed=5, number=2, **HOW)
    assert [one.number for one in found] == [1, 2]
    for one, folder in zip(found, ("class-2-2", "class-2-2-number-2"), strict=True):
        with Image.open(tmp_path / "o" / folder / "dream.png") as written:
            assert np.array_equal(np.array(written.convert("RGB")), np.array(one.picture))
    assert not np.array_equal(np.array(found[0].picture), np.array(found[1].picture))


def test_a_picture_has_its_numbers() -> None:
    (one,) = cnnviz_cli.dream(nets.classifier(), target=1, **HOW)
    assert one.values.shape == (32, 32, 3)
    assert one.scores.shape == (15,)  # three steps at each of five sizes
    assert np.array_equal(to_bytes(one.values.transpose(2, 0, 1)), np.array(one.picture))
    assert (one.subject, one.method, one.source) == ("1", "pyramid", "")
    assert one.rank == 1 + [prediction.index for prediction in one.predictions].index(1)
    assert set(one.statistics) == {"opened", "slope", "saturated"}
    assert one._repr_png_().startswith(b"\x89PNG")


def test_images_are_painted_into_and_saved(tmp_path: Path) -> None:
    (one,) = cnnviz_cli.dream(nets.classifier(), PHOTO, layer="trunk.6", **HOW)
    assert one.picture.size == (56, 40)
    assert one.score > one.start_score
    assert one.statistics["changed"] > 0
    assert one.save(tmp_path / "a.png").exists()
    (same,) = cnnviz_cli.dream(nets.classifier(), PHOTO, layer="trunk.6", **HOW | {"strength": 0.0})
    assert same.state == "flat"
    assert np.array_equal(np.array(same.picture), PHOTO)


def test_a_direction_along_one_channel_is_that_channel() -> None:
    along = np.zeros(16)
    along[5] = 3.0
    channel, direction = (
        cnnviz_cli.dream(nets.classifier(), layer="trunk.6", **what, **HOW)[0]
        for what in ({"unit": 5}, {"direction": along})
    )
    assert direction.score == pytest.approx(channel.score, rel=0.05, abs=0.02)
    opposite = cnnviz_cli.dream(nets.classifier(), layer="trunk.6", direction=-along, **HOW)[0]
    lowest = cnnviz_cli.dream(nets.classifier(), layer="trunk.6", unit=5, minimize=True, **HOW)[0]
    assert opposite.score > 0 > -opposite.score
    assert lowest.score < lowest.start_score < channel.score


class Other(nn.Module):
    """Scores by the means of three colours."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        red, green, blue = x.mean((2, 3)).unbind(1)
        return torch.stack([red, 2 * green, blue, red - blue], 1)


def test_judges_may_be_networks_in_memory() -> None:
    net = nets.classifier()
    before = tiny.state_of(net)
    (one,) = cnnviz_cli.dream(net, target=1, judge=[("colours", Other()), Other(), net], **HOW)
    assert [judged.model for judged in one.judged] == ["colours", "Other", "Classifier"]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    # 32 x 32 pixels are enlarged to 256 and cut to the middle 224.
    seen = np.asarray(one.picture.resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))) / 255
    red, green, blue = ((seen - mean) / std).mean((0, 1))
    scores = np.array([red, 2 * green, blue, red - blue])
    shares = np.exp(scores) / np.exp(scores).sum()
    for judged in one.judged[:2]:
        assert judged.probability == pytest.approx(shares[1], rel=1e-3)
        assert judged.rank == 1 + (shares > shares[1]).sum()
    assert tiny.state_of(net) == before
    (alone,) = cnnviz_cli.dream(net, target=1, judge=("colours", Other()), **HOW)
    assert [judged.model for judged in alone.judged] == ["colours"]
    assert np.array_equal(np.array(alone.picture), np.array(one.picture))
    (none,) = cnnviz_cli.dream(net, layer="trunk.6", unit=3, judge=Other(), **HOW)
    assert none.judged[0].probability is None
    assert none.judged[0].prediction is not None


def test_nothing_of_the_callers_changes() -> None:
    net = nets.classifier().train()
    before, drawn = tiny.state_of(net), torch.get_rng_state()
    cnnviz_cli.dream(net, target=0, **HOW)
    assert tiny.state_of(net) == before
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "nothing is named to paint"),
        ({"target": 9}, "there is no class 9"),
        ({"layer": "trunk.6", "unit": 16}, "there is no channel 16"),
        ({"layer": "trunk.6", "direction": np.ones(3)}, "16 channels"),
        ({"target": 1, "stepz": 1}, "no option 'stepz'"),
        ({"images": torch.zeros(1, 3, 32, 32)}, "a tensor is a network's input"),
        ({"images": PHOTO, "method": "pyramid"}, "pyramid paints from noise"),
        ({"target": 1, "judge": 3}, "a judge is a name"),
        ({"target": 1, "judge": "efficientnet_lite9"}, "efficientnet_lite9"),
        ({"target": 1, "judge": nn.Conv2d(3, 4, 1)}, "cannot be a judge"),
    ],
)
def test_mistakes(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(cnnviz_cli.UsageError, match=words):
        cnnviz_cli.dream(nets.classifier(), **arguments, **HOW)


@pytest.mark.parametrize(
    ("name", "words"), [("term", "of=channel"), ("frames", "command line"), ("animate", "command line")]
)
def test_options_of_the_command_line_say_what_they_are_here(name: str, words: str) -> None:
    with pytest.raises(cnnviz_cli.UsageError, match=f"no option '{name}'") as caught:
        cnnviz_cli.dream(nets.classifier(), target=0, **{name: 2})
    assert words in (caught.value.fix or "")
