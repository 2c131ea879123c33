"""The input as somebody wants it, and whether a network takes it."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.models.input.input_overrides import InputOverrides, apply_overrides
from cnnviz_cli.models.input.preprocessing import Preprocessing

PRESET = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")
SMALL = Preprocessing(14, 12, (0.5, 0.4, 0.3), (0.5, 0.5, 0.25))


class Reads(nn.Module):
    """One convolution of some number of channels, its maps averaged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


class OneSize(nn.Module):
    """A linear layer that sees each position of the maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 12 * 12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().flatten(1))


class Growing(Reads):
    """Scores for each position in one row: of a larger input, more."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(self.conv(x), 12).flatten(1)


def net(kind: Any, *args: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(*args).eval().requires_grad_(False)


def test_nothing_wanted_is_the_preset() -> None:
    preprocessing, layers = apply_overrides(net(tiny.Plain), SMALL, InputOverrides(), "tiny")
    assert preprocessing == SMALL
    assert layers["conv2"].shape == (6, 6, 6)


def test_what_is_wanted_takes_the_presets_place() -> None:
    wanted = InputOverrides("squash", (20, 28), (0.1,), (0.2, 0.3, 0.4), "lanczos")
    preprocessing, layers = apply_overrides(net(tiny.Plain), SMALL, wanted, "tiny")
    # 14 / 12 of the input stays what the photograph is resized to.
    assert preprocessing == Preprocessing((23, 33), (20, 28), (0.1, 0.1, 0.1), (0.2, 0.3, 0.4), "lanczos", "squash")
    assert layers["conv2"].shape == (6, 10, 14)


@pytest.mark.parametrize(
    ("channels", "mean", "std"),
    [
        (1, (0.299 * 0.5 + 0.587 * 0.4 + 0.114 * 0.3,), (0.886 * 0.5 + 0.114 * 0.25,)),
        (3, (0.5, 0.4, 0.3), (0.5, 0.5, 0.25)),
        (4, (0.5, 0.4, 0.3, 0.0), (0.5, 0.5, 0.25, 1.0)),
    ],
)
def test_the_number_of_channels_is_the_networks(channels: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    found, _ = apply_overrides(net(Reads, channels), SMALL, InputOverrides(), "tiny")
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(std)
    every, _ = apply_overrides(net(Reads, channels), SMALL, InputOverrides(mean=(0.25,)), "tiny")
    assert every.mean == (0.25,) * channels
    given, _ = apply_overrides(net(Reads, channels), SMALL, InputOverrides(std=(0.5, 0.6, 0.7, 0.8)[:channels]), "tiny")
    assert given.std == (0.5, 0.6, 0.7, 0.8)[:channels]


@pytest.mark.parametrize("channels", [2, 5, 6, 13])
def test_another_number_of_channels_is_that_of_bands(channels: int) -> None:
    preprocessing, _ = apply_overrides(net(Reads, channels), SMALL, InputOverrides(), "tiny")
    assert (preprocessing.mean, preprocessing.std) == ((0.0,) * channels, (1.0,) * channels)
    assert preprocessing.reads_bands
    assert preprocessing.input_spec.black == (0.0,) * channels
    assert preprocessing.input_spec.white == (1.0,) * channels
    bands = tuple(range(channels, 0, -1))
    given, _ = apply_overrides(
        net(Reads, channels), SMALL, InputOverrides(mean=(0.5,), std=(0.1,) * channels, bands=bands), "tiny"
    )
    assert (given.mean, given.std, given.bands) == ((0.5,) * channels, (0.1,) * channels, bands)
    assert given.as_json()["bands"] == list(bands)


def test_what_a_network_asks_for_in_its_error_is_tried() -> None:
    class Norms(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(7)
            self.fc = nn.Linear(7, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.norm(x).relu().mean((2, 3)))

    assert apply_overrides(net(Norms), SMALL, InputOverrides(), "tiny")[0].channels == 7


def test_a_number_of_values_that_is_none_of_channels_is_refused() -> None:
    with pytest.raises(UsageError, match="2 bands are named, the network reads 3 channels") as caught:
        apply_overrides(net(Reads, 3), SMALL, InputOverrides(bands=(2, 1)), "tiny")
    assert caught.value.where == "--bands"
    with pytest.raises(UsageError, match="2 values are given, the network reads 1 channel") as caught:
        apply_overrides(net(Reads, 1), SMALL, InputOverrides(mean=(0.1, 0.2)), "tiny")
    assert caught.value.where == "--mean"
    with pytest.raises(UsageError, match="3 values are given, the network reads 4 channels") as caught:
        apply_overrides(net(Reads, 4), SMALL, InputOverrides(std=(0.1, 0.2, 0.3)), "tiny")
    assert caught.value.where == "--std"


def test_a_size_that_the_network_does_not_take_is_refused_with_its_reason() -> None:
    with pytest.raises(UsageError, match=r"tiny takes no input of 16 x 20: mat1 and mat2 shapes") as caught:
        apply_overrides(net(OneSize), SMALL, InputOverrides(size=(16, 20)), "tiny")
    assert caught.value.where == "--input-size"
    assert caught.value.fix == "Its weights were trained with 12 x 12."


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (OneSize, "mat1 and mat2 shapes"),
        (lambda: Growing(3), r"it returns a tensor of shape \(1, 40\) at 32 x 64"),
    ],
)
def test_full_needs_a_network_for_all_sizes(kind: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=f"tiny takes inputs of one size only: {reason}") as caught:
        apply_overrides(net(kind), SMALL, InputOverrides("full"), "tiny")
    assert caught.value.where == "--resize full"
    assert "--resize pad" in caught.value.fix


def test_full_is_up_to_a_longest_side() -> None:
    assert apply_overrides(net(tiny.Plain), SMALL, InputOverrides("full"), "tiny")[0].most == 1024
    assert apply_overrides(net(tiny.Plain), SMALL, InputOverrides("full", most=12), "tiny")[0].most == 12
    assert InputOverrides("full", size=(2000, 500)).apply_to(PRESET).most == 2000
    with pytest.raises(UsageError, match="223 pixels are less than the smallest input, 224 x 224") as caught:
        InputOverrides("full", most=223).apply_to(PRESET)
    assert caught.value.where == "--max-side"
    with pytest.raises(UsageError, match="--resize pad has no longest side"):
        InputOverrides("pad", most=500).apply_to(PRESET)
    with pytest.raises(UsageError, match="--resize crop has no longest side"):
        InputOverrides(most=500).apply_to(PRESET)


@pytest.mark.parametrize("kind", tiny.NETS)
def test_trying_leaves_the_network_as_it_was(kind: type[nn.Module]) -> None:
    tried = net(kind)
    before = tiny.state_of(tried)
    apply_overrides(tried, SMALL, InputOverrides("full"), "tiny")
    assert tiny.state_of(tried) == before
    wrong = net(OneSize)
    before = tiny.state_of(wrong)
    with pytest.raises(UsageError):
        apply_overrides(wrong, SMALL, InputOverrides(size=(16, 20)), "tiny")
    assert tiny.state_of(wrong) == before
