"""Layers that run several times in one forward: a map for each run, over the part of the input that it was given."""

from __future__ import annotations

import json
from pathlib import Path

import nets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import cnnviz_cli
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.layers import pad_to_input
from cnnviz_cli.core.needs import Activation, Gradient, Scores
from cnnviz_cli.core.objectives import TargetLogit
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.methods.common.masking import WithoutChannel
from cnnviz_cli.models.inspect.layers import ModelLayers
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load.built_model import set_eval_mode

from .conftest import Command

SIZE = 32
LAYER = "trunk.7"


def layers_of(net: nn.Module) -> ModelLayers:
    set_eval_mode(net)
    return probe_layers(net, (3, SIZE, SIZE), "net")


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        ("stacked", [(0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)]),
        ("chunked", [(0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0)]),
    ],
)
def test_each_run_has_a_place_of_its_own(name: str, windows: list[tuple[float, ...]]) -> None:
    layers = layers_of(getattr(nets, name)())
    assert layers.resolve([LAYER]) == (f"{LAYER}@1", f"{LAYER}@2")
    assert layers.resolve([f"{LAYER}@2"]) == (f"{LAYER}@2",)
    assert [layers[f"{LAYER}@{run}"].window for run in (1, 2)] == windows
    assert layers.notes([f"{LAYER}@1", f"{LAYER}@2"])[1] == []
    with pytest.raises(UsageError, match="no layer"):
        layers.resolve([f"{LAYER}@3"])


def test_a_shared_activation_has_a_map_for_each_run() -> None:
    class Block(nets.Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def features(self, x: Tensor) -> Tensor:
            return self.relu(self.trunk[3](self.relu(self.trunk[0](x))))

    layers = layers_of(Block())
    assert layers.resolve(["relu"]) == ("relu@1", "relu@2")
    assert [layers[f"relu@{run}"].shape for run in (1, 2)] == [(8, 16, 16), (16, 8, 8)]
    assert layers["relu@1"].window is None
    assert layers.resolve(["trunk.3"]) == ("trunk.3",)
    assert layers.resolve(["trunk.3@1"]) == ("trunk.3",)


@pytest.mark.parametrize(("name", "layer", "runs"), [("mirrored", LAYER, 2), ("recurrent", "again", 10)])
def test_runs_that_cannot_be_told_apart_are_said(name: str, layer: str, runs: int) -> None:
    layers = layers_of(getattr(nets, name)())
    assert layers.resolve([layer]) == (f"{layer}@{runs}",)
    assert layers.resolve([f"{layer}@1"]) == (f"{layer}@1",)
    lines, (warning,) = layers.notes([f"{layer}@{runs}"])
    assert not lines
    assert f"runs {runs} times" in warning
    assert f"{layer}@{runs}" in warning


def test_the_engine_reads_and_changes_the_run_that_is_named() -> None:
    """Maps, gradients and scores without a map, by hand in float64."""
    net = nets.stacked().double()
    set_eval_mode(net)
    image = torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    halves = [image[..., : SIZE // 2], image[..., SIZE // 2 :]]
    for run in (1, 2):
        name, of = f"{LAYER}@{run}", TargetLogit(0)
        maps = [net.trunk(half) for half in halves]
        maps[run - 1] = maps[run - 1].detach().requires_grad_()

        def score(parts: list[Tensor]) -> Tensor:
            return net.fc(torch.cat([part.mean((2, 3)) for part in parts], 1))[:, 1]

        (slope,) = torch.autograd.grad(score(maps).sum(), maps[run - 1])
        without = WithoutChannel(name, 16, 16)
        plan = Plan.of([Activation(name), Gradient(name, of), Scores(without, of)])
        seen = observe(net, image, plan, lambda logits: torch.ones(len(logits), 1, dtype=torch.int64)).evidence
        torch.testing.assert_close(seen[Activation(name)], maps[run - 1].detach())
        torch.testing.assert_close(seen[Gradient(name, of)], slope)
        expected = []
        for channel in range(16):
            changed = list(maps)
            changed[run - 1] = maps[run - 1].detach().clone()
            changed[run - 1][:, channel] = 0
            expected.append(score(changed))
        expected.append(score(maps))
        torch.testing.assert_close(seen[Scores(without, of)].flatten(), torch.cat(expected).detach())


def test_maps_of_a_part_are_zero_elsewhere() -> None:
    maps = torch.arange(1.0, 5.0).view(1, 1, 2, 2)
    assert pad_to_input(maps, None) is maps
    right = pad_to_input(maps, (0.5, 0.0, 1.0, 1.0))
    assert right.tolist() == [[[[0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 3.0, 4.0]]]]
    middle = pad_to_input(maps, (0.25, 0.5, 0.75, 1.0))
    assert middle.tolist() == [[[[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 2, 0], [0, 3, 4, 0]]]]


def test_pictures_files_and_manifest_name_the_run(cnnviz: Command, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    how = ("--model", "nets:stacked", "--allow-code", "--input-size", "32", "--layer", LAYER, "--save-arrays")
    done = cnnviz("gradcam", tmp_path / "a.png", *how, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    assert f"layer '{LAYER}' of nets:stacked runs 2 times for each image" in done.err
    manifest = json.loads((tmp_path / "o" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["model"]["network"]["runs"][LAYER] == 2
    layers = [output["layer"] for output in manifest["images"][0]["outputs"] if output["method"]]
    assert layers == [f"{LAYER}@1", f"{LAYER}@2"]
    names = [output["path"] for output in manifest["images"][0]["outputs"] if output["method"]]
    assert [name.rpartition(LAYER)[2] for name in names] == ["-run1.png", "-run2.png"]
    arrays = np.load(tmp_path / "o" / "a.png" / "arrays.npz")
    left, right = (arrays[name][0] for name in sorted(arrays.files))
    assert left.shape == right.shape == (4, 4)
    assert not left[:, 2:].any()
    assert not right[:, :2].any()


def test_masks_made_of_a_parts_maps_hide_the_rest() -> None:
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    found = cnnviz_cli.explain(nets.stacked(), image, methods=["scorecam", "guided-gradcam"], layers=[f"{LAYER}@1"])
    for one in found[0].explanations:
        assert one.layer == f"{LAYER}@1"
        assert not one.map[..., 20:].any()
