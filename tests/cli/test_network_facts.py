"""What a network is, found in trial forwards: its layout in memory, its modes, its draws, its batches."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import torch
from cli.conftest import Command
from PIL import Image
from torch import Tensor, nn

import cnnviz_cli
from cnnviz_cli.core.network import NetworkError, convert_weights, memory_format_of, network_errors, to_memory_format
from cnnviz_cli.models.inspect.facts import NetworkFacts, run_trials
from cnnviz_cli.models.load.built_model import set_eval_mode

SIZE = 32


@pytest.fixture
def image(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(values).resize((96, 96), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def facts_of(net: nn.Module) -> NetworkFacts:
    kept = set_eval_mode(net)
    return run_trials(net, (3, SIZE, SIZE), kept_training=kept)


def network_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["model"]["network"]
    return found


@pytest.mark.parametrize(
    ("name", "layout", "why"),
    [
        ("classifier", "channels_last", ""),
        ("slices", "channels_last", ""),
        ("lenet", "contiguous", "view size is not compatible"),
        ("backward_view", "contiguous", "view size is not compatible"),
        ("reads_memory", "contiguous", "differs"),
    ],
)
def test_a_network_runs_in_the_layout_that_its_code_needs(name: str, layout: str, why: str) -> None:
    net = getattr(nets, name)()
    found = facts_of(net)
    assert found.memory_format == layout
    assert why in found.why_contiguous
    assert bool(why) == bool(found.why_contiguous)
    weight = next(module.weight for module in net.modules() if isinstance(module, nn.Conv2d) and module.in_channels > 1)
    assert memory_format_of(weight) == layout


@pytest.mark.parametrize(
    ("name", "randomness", "batching"),
    [
        ("classifier", "none", "independent"),
        ("dropped", "seeded", "independent"),
        ("counts", "free", "independent"),
        ("batch_statistics", "none", "coupled"),
        ("one_at_a_time", "none", "single"),
    ],
)
def test_draws_and_batches_are_noticed(name: str, randomness: str, batching: str) -> None:
    found = facts_of(getattr(nets, name)())
    assert (found.randomness, found.batching) == (randomness, batching)
    assert found.one_at_a_time == ((randomness, batching) != ("none", "independent"))


def test_the_trial_leaves_the_random_generators_as_they_were() -> None:
    net = nets.dropped()
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(3)
    np.random.seed(3)
    facts_of(net)
    assert (torch.rand(1), np.random.rand()) == expected


def test_modules_that_stay_in_training_mode_are_switched_one_by_one() -> None:
    assert set_eval_mode(nets.classifier()) == ()
    net = nets.stays_training()
    assert set_eval_mode(net)[0] == "StaysTraining"
    assert not any(module.training for module in net.modules())
    assert set_eval_mode(nets.forgets_itself()) == ()


METHODS = ["gradcam", "ablationcam", "scorecam", "gradient", "smoothgrad", "lrp", "deeplift", "occlusion", "guided-ig"]


def test_every_kind_of_pass_keeps_the_networks_own_layout() -> None:
    """Variants, tails, folding, relevance, multipliers, walks: the same maps as of a network that says `flatten`."""

    class Flattens(nets.LeNet):
        def forward(self, x: Tensor) -> Tensor:
            x = self.pool(torch.relu(self.conv1(x)))
            x = self.pool(torch.relu(self.conv2(x)))
            return self.fc2(torch.relu(self.fc1(x.flatten(1))))

    one = nets.lenet()
    other = Flattens()
    other.load_state_dict(one.state_dict())
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"methods": METHODS, "targets": [1], "seed": 0}
    first, second = (cnnviz_cli.explain(net, images, **options) for net in (one, other))
    for here, there in zip(first, second, strict=True):
        assert len(here.explanations) == len(METHODS)
        for mine, theirs in zip(here.explanations, there.explanations, strict=True):
            np.testing.assert_allclose(mine.map, theirs.map, rtol=1e-3, atol=1e-4 * float(np.abs(theirs.map).max()))


def test_a_run_says_and_records_the_layout(cnnviz: Command, image: Path, tmp_path: Path) -> None:
    done = cnnviz("gradcam", image, "--model", "nets:lenet", "--allow-code", "--input-size", "32", "-o", tmp_path / "o")
    assert done.code == 0
    assert done.err.count("its own memory layout, not in channels_last") == 1
    assert network_in(tmp_path / "o")["memory_format"] == "contiguous"


def test_a_network_that_draws_is_seeded_for_each_image(cnnviz: Command, image: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / "in" / name).write_bytes(image.read_bytes() + name.encode())
    common = ("--model", "nets:dropped", "--allow-code", "--input-size", "32", "--method", "gradcam,ablationcam")
    for name, *how in (("one", "-b", "1"), ("two", "-b", "3"), ("three", "--seed", "1")):
        done = cnnviz("gradcam", tmp_path / "in", *common, "-o", tmp_path / name, *how)
        assert done.code == 0
        assert done.err.count("draws random numbers in eval mode") == 1
    one, two, three = (
        {file.relative_to(tmp_path / name): file.read_bytes() for file in (tmp_path / name).rglob("*/*.png")}
        for name in ("one", "two", "three")
    )
    assert len(one) >= 6
    assert one == two
    assert not any(one[file] == three[file] for file in one)
    assert network_in(tmp_path / "one")["randomness"] == "seeded"


def test_the_promise_of_equal_bytes_is_withdrawn(cnnviz: Command, image: Path, tmp_path: Path) -> None:
    done = cnnviz("gradcam", image, "--model", "nets:counts", "--allow-code", "-o", tmp_path / "o")
    assert done.code == 0
    assert "may give other figures" in done.err
    assert network_in(tmp_path / "o")["randomness"] == "free"


@pytest.mark.parametrize("name", ["batch_statistics", "one_at_a_time"])
def test_images_that_change_each_other_pass_alone(
    name: str,
    cnnviz: Command,
    image: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(image.read_bytes())
    Image.open(image).rotate(90).save(tmp_path / "in" / "b.png")
    common = (
        "--model",
        f"nets:{name}",
        "--allow-code",
        "--input-size",
        "32",
        "--method",
        "gradcam,ablationcam,scorecam",
    )
    assert cnnviz("gradcam", image, *common, "-o", tmp_path / "alone").code == 0
    assert cnnviz("gradcam", tmp_path / "in", *common, "-o", tmp_path / "both").code == 0
    files = list((tmp_path / "alone" / "a.png").glob("*.png"))
    assert len(files) >= 3
    for file in files:
        assert file.read_bytes() == (tmp_path / "both" / "a.png" / file.name).read_bytes()


@pytest.mark.parametrize("name", ["stays_training", "forgets_itself", "restless", "slices"])
def test_networks_with_modes_of_their_own_are_explained(
    name: str,
    cnnviz: Command,
    image: Path,
    tmp_path: Path,
) -> None:
    done = cnnviz(
        "saliency", image, "--model", f"nets:{name}", "--allow-code", "--input-size", "32", "-o", tmp_path / "o"
    )
    assert done.code == 0, done.err
    assert ("in training mode" in done.err) == (name == "stays_training")
    assert bool(network_in(tmp_path / "o")["kept_training"]) == (name == "stays_training")


def test_a_network_kept_in_training_mode_is_the_network_in_eval_mode() -> None:
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="in training mode"):
        cnnviz_cli.explain(nets.stays_training(), images, methods=["gradcam"])
    with warnings.catch_warnings(action="ignore"):
        maps = [
            [one.explanations[0].map for one in cnnviz_cli.explain(net, images, methods=["gradcam"], targets=[1])]
            for net in (nets.stays_training(), nets.classifier())
        ]
    np.testing.assert_array_equal(maps[0], maps[1])


def test_an_error_of_the_networks_own_is_not_called_a_bug(cnnviz: Command, image: Path, tmp_path: Path) -> None:
    done = cnnviz("gradcam", image, "--model", "nets:raises_in_eval", "--allow-code", "-o", tmp_path / "o")
    assert done.code == 4
    assert "KeyError: 'no such mode'" in done.err
    assert "nets.py:" in done.err
    assert "bug" not in done.err
    with pytest.raises(NetworkError, match="no such mode"):
        cnnviz_cli.explain(nets.raises_in_eval(), torch.rand(1, 3, SIZE, SIZE), methods=["gradcam"])


def test_errors_of_ours_stay_ours() -> None:

    with pytest.raises(TypeError), network_errors():
        torch.zeros(1) + None  # type: ignore[operator]
    with pytest.raises(MemoryError), network_errors():
        raise MemoryError


def test_layouts_are_kept_and_copied() -> None:
    image = torch.rand(2, 3, 4, 5)
    last = to_memory_format(image, "channels_last")
    assert memory_format_of(image) == "contiguous"
    assert memory_format_of(last) == "channels_last"
    assert to_memory_format(last, "channels_last") is last
    assert torch.equal(to_memory_format(last, "contiguous"), image)
    pile = nn.Conv3d(1, 4, 3)
    convert_weights(pile, "channels_last")
    assert pile.weight.is_contiguous()
