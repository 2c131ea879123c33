"""--top-channels: the channels of largest variance are scored, the others get no weight, and it is said."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from running import Runner, recipe_of, seeds_of
from torch import Tensor, nn
from torch.nn import functional

import cnnviz_cli
from cnnviz_cli.core.draws import normal
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.panels import Heatmap
from cnnviz_cli.engine import Plan
from cnnviz_cli.methods.common.masking import top_channels

SLOW = {"rtol": 1e-9, "atol": 1e-14}
OPTIONS: dict[str, dict[str, Any]] = {
    "scorecam": {},
    "sscam": {"noisy_masks": 3, "mask_noise": 0.7},
    "iscam": {"mask_steps": 4},
    "ablationcam": {},
}
EACH = {"scorecam": 1, "sscam": 3, "iscam": 4, "ablationcam": 1}


@pytest.fixture(name="net")
def sharp_net() -> nn.Module:
    """A plain network of six maps whose scores differ enough for a softmax to tell."""
    net = tiny.build(tiny.Plain)
    net.fc.weight.mul_(60)
    net.conv2.bias[1] = -100  # a flat map
    return net


def maps_of(net: nn.Module, batch: Tensor) -> Tensor:
    return net.relu2(net.conv2(net.pool(net.relu1(net.conv1(batch)))))


def chosen_slowly(grids: Tensor, count: int) -> list[int]:
    """By a loop over positions; of equal channels the first."""
    spreads = []
    for grid in grids:
        values = [float(number) for number in grid.flatten()]
        mean = sum(values) / len(values)
        spreads.append(sum((number - mean) ** 2 for number in values) / len(values))
    return sorted(sorted(range(len(grids)), key=lambda channel: (-spreads[channel], channel))[:count])


def score_slowly(name: str, net: nn.Module, picture: Tensor, grids: Tensor, channel: int, seed: int) -> float:
    """The score of one channel, of class 2: the mean over its masks, or without it."""
    if name == "ablationcam":
        kept = grids.clone()
        kept[channel] = 0
        return float(net.fc(kept.mean((1, 2)))[2])
    mask = functional.interpolate(grids[None, channel : channel + 1], (tiny.SIZE,) * 2, mode="bilinear")[0, 0]
    mask = (mask - mask.min()) / (mask.max() - mask.min()) if mask.max() > mask.min() else torch.zeros_like(mask)
    if name == "scorecam":
        masks = [mask]
    elif name == "iscam":
        masks = [mask * step / 4 for step in (1, 2, 3, 4)]
    else:  # the noise is the channel's own: that of the whole method
        masks = [mask + 0.7 * normal(seed, 3 * channel + i, (1, tiny.SIZE, tiny.SIZE))[0].double() for i in range(3)]
    return sum(float(net((one * picture)[None])[0, 2]) for one in masks) / len(masks)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("count", [1, 3])
def test_only_the_most_varied_channels_have_a_weight(name: str, count: int, net: nn.Module, run: Runner) -> None:
    batch = tiny.pictures(3)
    (panel,) = run(
        name, net, batch, choose=lambda y: torch.full((len(y), 1), 2), layer=("relu2",), top_channels=count,
        **OPTIONS[name],
    )  # fmt: skip
    every = maps_of(net, batch)
    chosen = [chosen_slowly(grids, count) for grids in every]
    for image, (grids, seed) in enumerate(zip(every, seeds_of(batch), strict=True)):
        scores = [score_slowly(name, net, batch[image], grids, channel, seed) for channel in chosen[image]]
        if name == "ablationcam":
            y = float(net(batch)[image, 2])
            weights = [(y - score) / abs(y) for score in scores]
        else:
            weights = torch.tensor(scores, dtype=torch.float64).softmax(0).tolist()
        expected = sum(weight * grids[channel] for weight, channel in zip(weights, chosen[image], strict=True))
        torch.testing.assert_close(panel.values[image, 0], expected.clamp(min=0), **SLOW)
        torch.testing.assert_close(panel.raw_max[image], expected.max(), **SLOW)
    assert panel.approximation == f"{count} of 6 channels"
    assert panel.statistics["scored_channels"].tolist() == [count] * 3


def test_images_choose_for_themselves() -> None:
    grids = torch.zeros(2, 5, 1, 2, dtype=torch.float64)
    grids[0, :, 0, 1] = torch.tensor([1.0, 3, 3, 0, 2])
    grids[1, :, 0, 1] = torch.tensor([0.0, 0, 0, 4, 0])
    grids[1] += 100  # height is no variance
    assert top_channels(grids, 2).tolist() == [[1, 2], [0, 3]]
    assert top_channels(grids, 1).tolist() == [[1], [3]]
    assert top_channels(grids[0], 3).tolist() == [1, 2, 4]
    assert top_channels(grids, 9).tolist() == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize("name", OPTIONS)
def test_as_many_as_there_are_is_the_whole_method(name: str, net: nn.Module, run: Runner) -> None:
    batch = tiny.pictures(2)
    (whole,) = run(name, net, batch, layer=("relu2",), **OPTIONS[name])
    for count in (6, 64):
        (panel,) = run(name, net, batch, layer=("relu2",), top_channels=count, **OPTIONS[name])
        assert torch.equal(panel.values, whole.values)
        assert panel.approximation == ""
    assert "scored_channels" not in whole.statistics


@pytest.mark.parametrize("name", OPTIONS)
def test_the_plan_counts_what_is_scored(name: str, net: nn.Module) -> None:
    whole = 1 if name == "ablationcam" else 0
    for top, count in (("all", 6), (4, 4), (64, 6)):
        plan = Plan.of(recipe_of(name, net, layer=("relu2",), top_channels=top, **OPTIONS[name]).needs)
        assert plan.cost().variants == count * EACH[name] + whole
        assert ("4 most varied" in plan.lines()[-1]) == (count == 4)


def test_fused_layers_say_what_each_leaves_out(net: nn.Module, run: Runner) -> None:
    how: dict[str, Any] = {"layer": ("relu1", "relu2"), "fuse": "mean"}
    channels = [int(net.conv1.out_channels), 6]
    (panel,) = run("scorecam", net, tiny.pictures(2), top_channels=2, **how)
    words = dict.fromkeys(f"2 of {count} channels" for count in channels if count > 2)
    assert panel.approximation == "; ".join(words)


def test_figures_and_results_say_it() -> None:
    net, batch = tiny.build(tiny.Plain).float(), tiny.pictures(1).float()
    found = cnnviz_cli.explain(net, batch, ["scorecam", "gradcam"], layers="relu2", top_channels=2)
    one, other = found[0]["scorecam"], found[0]["gradcam"]
    assert one._drawn.caption.title == "Score-CAM, 2 of 6 channels"
    assert one.statistics["scored_channels"] == 2
    assert other._drawn.caption.title == "Grad-CAM"
    assert isinstance(one._drawn.panel, Heatmap)


@pytest.mark.parametrize("value", [0, -1, "few", 2.5, True])
def test_anything_but_a_count_or_all_is_refused(value: object) -> None:
    net, batch = tiny.build(tiny.Plain).float(), tiny.pictures(1).float()
    with pytest.raises(UsageError, match="must be all or a whole number of at least 1"):
        cnnviz_cli.explain(net, batch, "scorecam", top_channels=value)
