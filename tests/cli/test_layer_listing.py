"""layers: the tree of a network, for eyes and for programs, and what runs say of layers that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torchvision import models

from .conftest import Command

ROOT = Path(__file__).parents[2]


def test_a_tree_without_weights(cnnviz: Command) -> None:
    # By hand: 3x3 stride 2 without padding takes 224 to 111; the pooling that follows, 3x3 stride 2, to 55. One
    # position of the first sees 3 pixels, of the second 3 + 2 * 2 = 7, every 2 and every 4.
    found = json.loads(cnnviz("layers", "squeezenet1_1", "--json").out)["layers"]
    by_name = {module["name"]: module for module in found}
    assert by_name["features.0"] == {
        "name": "features.0",
        "kind": "Conv2d",
        "shape": [64, 111, 111],
        "receptive_field": [3, 3],
        "stride": [2, 2],
        "runs": 1,
        "words": [],
        "no_maps": None,
        "default": None,
    }
    why = "the deepest layer with maps on whose positions the scores depend; after it positions are pooled or flattened"
    assert {module["name"]: module["default"] for module in found if module["default"]} == {"classifier.2": why}
    pooled = by_name["features.2"]
    assert (pooled["shape"], pooled["receptive_field"], pooled["stride"]) == ([64, 55, 55], [7, 7], [4, 4])
    assert {module["name"]: module["words"] for module in found if module["words"]} == {
        "features": ["stages", "high"],
        "features.1": ["stages", "low"],
        "features.4": ["stages"],
        "features.7": ["stages", "mid"],
        "classifier.2": ["last-conv"],
    }
    assert [module["name"] for module in found] == [name for name, _ in models.squeezenet1_1().named_modules() if name]


def test_the_tree_for_eyes(cnnviz: Command) -> None:
    done = cnnviz("layers", "squeezenet1_1", "--depth", "2")
    assert done.err == "squeezenet1_1: loading\n"
    tree, notes = done.out.split("\n\n")
    head, *lines = tree.splitlines()
    assert head.split("  ")[0] == "layer"
    assert [line.split()[0] for line in lines[:3]] == ["features", "features.0", "features.1"]
    assert lines[0].split("  ")[0] == "features"  # flush left
    assert lines[1].startswith("  features.0 ")
    assert lines[1].split() == ["features.0", "Conv2d", "64", "x", "111", "x", "111", "3", "2"]
    assert not any("squeeze" in line.split()[0] for line in lines)  # the third level
    (pooled,) = (line for line in lines if "AdaptiveAvgPool2d" in line)
    assert pooled.split()[2:] == ["1000", "x", "1", "x", "1", "all"]
    assert "--layer" in notes
    assert notes.startswith("default: classifier.2, the deepest layer with maps on whose positions the scores depend;")
    assert [line.split()[0] for line in cnnviz("layers", "squeezenet1_1", "--depth", "1").out.splitlines()[1:3]] == [
        "features",
        "classifier",
    ]


def test_modules_without_maps_say_why(cnnviz: Command) -> None:
    found = {module["name"]: module for module in json.loads(cnnviz("layers", "resnet18", "--json").out)["layers"]}
    assert found["fc"]["shape"] is None
    assert found["fc"]["no_maps"] == "it returns a tensor of shape (1, 1000)"
    (fc,) = (line for line in cnnviz("layers", "resnet18").out.splitlines() if line.startswith("fc "))
    assert fc.split() == ["fc", "Linear", "-"]


def test_with_weights_of_ones_own_and_another_input(cnnviz: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    torch.save(models.squeezenet1_1().state_dict(), file)
    for more in (("--weights", file), ("--weights", "random:1"), ()):
        done = cnnviz("layers", "squeezenet1_1", *more, "--input-size", "96", "--json")
        assert done.code == 0, done.err
        found = {module["name"]: module for module in json.loads(done.out)["layers"]}
        assert found["features.0"]["shape"] == [64, 47, 47]
    missing = cnnviz("layers", "squeezenet1_1", "--weights", tmp_path / "none.pth")
    assert (missing.code, "none.pth" in missing.err) == (4, True)


def test_without_a_name_it_is_the_network_that_a_run_would_take(
    cnnviz: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cnnviz("layers", "--depth", "1").err.startswith("efficientnet_lite0: ")
    monkeypatch.setenv("CNNVIZ_MODEL", "squeezenet1_1")
    assert cnnviz("layers", "--depth", "1").err.startswith("squeezenet1_1: ")


@pytest.mark.parametrize(
    ("layer", "said", "mends"),
    [
        ("stages.9", "efficientnet_lite0 has no layer 'stages.9'", "Did you mean 'stages."),
        ("high-end", "efficientnet_lite0 has no layer 'high-end'", "cnnviz layers efficientnet_lite0"),
        ("pool", "maps of a single position (1x1)", "The last larger maps before it are those of 'head"),
    ],
)
def test_a_run_refuses_what_is_no_layer(cnnviz: Command, tmp_path: Path, layer: str, said: str, mends: str) -> None:
    photo = ROOT / "sample_images" / "coffee.png"
    done = cnnviz("gradcam", photo, "--layer", layer, "-o", tmp_path / "out")
    assert done.code == 2
    assert said in done.err
    assert mends in done.err
    assert not list((tmp_path / "out").rglob("*.png"))


def test_high_is_a_word_for_a_run(cnnviz: Command, tmp_path: Path) -> None:
    photo = ROOT / "sample_images" / "coffee.png"
    done = cnnviz("gradcam", photo, "--layer", "mid,high", "-o", tmp_path / "out", "-q")
    assert done.code == 0, done.err
    (image,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["images"]
    assert {output["layer"] for output in image["outputs"]} - {None} == {"head", "stages.2"}


def test_a_doctor_for_a_network_with_auxiliary_heads(cnnviz: Command, tmp_path: Path) -> None:
    options = ("--weights", "random:0", "--device", "cpu", "--output", tmp_path / "out", "--json")
    done = cnnviz("doctor", "--model", "googlenet", *options)
    found = json.loads(done.out)
    assert done.code == 0
    assert found["model"]["value"].startswith("googlenet (random:0), loaded in ")
    assert " ms for one image of 224 x 224" in found["forward"]["value"]
