"""Maps of rounding noise are flat by every way to make one, and small true maps are not."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch import nn

from cnnviz_cli import explain
from cnnviz_cli.run.explain import _merge_flat

METHODS = ("gradcam", "scorecam", "ablationcam", "gradient", "vargrad", "integrated-gradients", "occlusion", "rise")
OPTIONS: dict[str, dict[str, Any]] = {
    "vargrad": {"samples": 4},
    "integrated-gradients": {"steps": 8},
    "rise": {"masks": 64},
}


class Same(tiny.Plain):
    """Two classes whose scores differ by a constant: their probabilities do not depend on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 2)


def even() -> nn.Module:
    net = tiny.build(Same)
    with torch.no_grad():
        net.fc.weight[1] = net.fc.weight[0]
        net.fc.bias.copy_(torch.tensor([0.3, -0.2]))
    return net


def scaled(by: float, bias: float = 0.0) -> nn.Module:
    net = tiny.build(tiny.Plain)
    with torch.no_grad():
        net.fc.weight *= by
        net.fc.bias.zero_()[0] = bias
    return net


def state(net: nn.Module, method: str, picture: Image.Image | None = None, **how: Any) -> str:
    picture = picture or Image.fromarray(np.random.default_rng(1).integers(0, 255, (16, 16, 3), dtype=np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = explain(net, picture, methods=[method], targets=0, input_size=16, **OPTIONS.get(method, {}), **how)
    return found[0, method].state


@pytest.mark.parametrize("method", METHODS)
def test_of_a_constant_probability_every_map_is_flat(method: str) -> None:
    assert state(even(), method, score="probability") == "flat"


@pytest.mark.parametrize("size", [1e4, 1e6])
@pytest.mark.parametrize("method", METHODS)
def test_a_constant_probability_of_large_logits_is_rounded_as_these_are(method: str, size: float) -> None:
    net = even()
    with torch.no_grad():
        net.fc.weight *= size  # type: ignore[union-attr, operator]
    assert state(net, method, score="probability") == "flat"


@pytest.mark.parametrize("method", METHODS)
def test_in_a_short_format_noise_is_larger(method: str) -> None:
    assert state(even(), method, score="probability", precision="bf16") == "flat"
    if method != "rise":  # its probabilities are too much alike
        assert state(scaled(30.0), method, precision="bf16") == "ok"


@pytest.mark.parametrize("method", ["gradcam", "gradient", "smoothgrad", "guided-backprop", "ablationcam"])
def test_an_input_of_zeros_is_a_picture_with_slopes(method: str) -> None:
    black = Image.new("RGB", (16, 16))
    assert state(tiny.build(tiny.Plain), method, black, mean=[0, 0, 0], std=[1, 1, 1]) == "ok"


@pytest.mark.parametrize("method", METHODS)
def test_a_small_score_has_a_map_of_its_own(method: str) -> None:
    if method == "rise":  # it masks probabilities: one of 1e-9, by a bias
        assert state(scaled(1.0, -20.0), method) == "ok"
    else:
        assert state(scaled(1e-9), method) == "ok"


def test_the_spread_of_a_gradient_that_is_the_same_everywhere_is_nothing() -> None:
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval().requires_grad_(False)
    assert state(linear, "vargrad") == "flat"


def test_scores_of_a_layer_below_zero_are_no_evidence_against() -> None:
    net = tiny.build(tiny.Plain)
    with torch.no_grad():
        net.conv2.weight.zero_()
        net.conv2.bias.fill_(-1.0)
    assert state(net, "scorecam", layers="conv2") in ("silent", "flat")
    net = tiny.build(tiny.Plain)
    with torch.no_grad():
        net.conv1.bias.fill_(-100.0)  # the rectifier behind it answers nothing, and yet its own maps differ
    assert state(net, "gradcam", layers="relu1") == "flat"


def test_what_a_method_calls_flat_stays_so_though_the_score_moved() -> None:
    own: Any = SimpleNamespace(warnings={"flat": torch.tensor([True, False, False])})
    assert _merge_flat(own, torch.tensor([False, False, True])).tolist() == [True, False, True]
