"""The networks of the catalogue, small and quick: random weights without drawing them all, and a small input."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import models

from cnnviz_cli.models.inspect.layers import ModelLayers
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load.efficientnet_lite import EfficientNetLite
from cnnviz_cli.models.spec.catalog import PACKAGED, model_facts

SIDES = (64, 56, 96, 112, 128, 160, 224)
"""Inputs to try, in pixels; the first that a network takes is its smallest. 56 and 112 are for patches of 14."""

KNOWN_SIDES = {"inception_v3": 112, "maxvit_t": 224, "alexnet": 96} | dict.fromkeys(
    ("efficientnet_b0", "googlenet", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "vit_b_32"),
    SIDES[0],
)
"""What `smallest` finds for networks that are asked for often; `small` sees to it that they stay right."""

_POOL = 4_194_301
"""Numbers that are drawn; every tensor takes its values from somewhere among them, a larger one again and again."""


@dataclass(frozen=True)
class Small:
    """A network with random weights on a small input.

    Attributes:
        net: on the CPU, in eval mode, no parameter requires a gradient.
        side: of its square input, in pixels.
        layers: with that input.
    """

    net: nn.Module
    side: int
    layers: ModelLayers


def small(name: str) -> Small:
    """A network of the catalogue on the smallest of `SIDES` at which its default layer is the usual one.

    The values are drawn so that signals neither die nor overflow on their way down and up: torchvision's own start
    values leave some heads at zero and multiply some variances a thousandfold. What a network holds beside its
    parameters (tables of positions) is as its constructor makes it.
    """
    usual = outline(name)[1].resolve(["last-conv"])
    side = KNOWN_SIDES.get(name) or smallest(name)
    net = filled(name, side)
    layers = probe_layers(net, (3, side, side), name)
    assert layers.resolve(["last-conv"]) == usual, f"{name} is no longer whole at {side} pixels"
    return Small(net, side, layers)


def smallest(name: str) -> int:
    """The first of `SIDES` at which the default layer is the usual one."""
    usual = outline(name)[1].resolve(["last-conv"])
    return next(side for side in SIDES if _last(name, side) == usual)


def filled(name: str, side: int) -> nn.Module:
    """A network of the catalogue for an input of such a side, in eval mode, with the values that `small` says."""
    with _no_parameters():
        net = _built(name, side).eval()
    _fill(net, seed=sum(name.encode()))
    return net


def narrow(build: Callable[[], nn.Module]) -> nn.Module:
    """What a constructor makes, in eval mode, with values like those of `filled`."""
    with _no_parameters():
        net = build().eval()
    _fill(net, seed=0)
    return net


def batch(count: int, side: int, seed: int = 0) -> Tensor:
    """(count, 3, side, side) of what a network might see: blobs of several sizes, different in each image."""
    generator = torch.Generator().manual_seed(seed)
    layers = [torch.randn(count, 3, size, size, generator=generator) for size in (2, 5, 16)]
    grown = [nn.functional.interpolate(layer, (side, side), mode="bilinear") for layer in layers]
    return torch.stack(grown).sum(0).contiguous(memory_format=torch.channels_last)


@cache
def outline(name: str) -> tuple[int, ModelLayers]:
    """The side of the input that a network's default weights were trained with, and its layers there.

    Without weights: on the meta device a forward takes a moment and no memory, however large the network.
    """
    side = model_facts(name).default.input_size
    return side, _layers(name, side)


def _layers(name: str, side: int) -> ModelLayers:
    with _no_parameters():
        net = _built(name, side).eval()
    return probe_layers(net.to("meta"), (3, side, side), name)


@cache
def _last(name: str, side: int) -> tuple[str, ...]:
    """The default layer; none where the input is too small."""
    try:
        return _layers(name, side).resolve(["last-conv"])
    except Exception:  # whatever a forward raises of an input that it does not take
        return ()


def _built(name: str, side: int) -> nn.Module:
    if name in PACKAGED:
        return EfficientNetLite(PACKAGED.index(name))
    with warnings.catch_warnings(action="ignore"):  # on start values, which are not used
        try:
            return models.get_model(name, weights=None, image_size=side)  # what depends on the size has to be told
        except TypeError:
            return models.get_model(name, weights=None)


@contextmanager
def _no_parameters() -> Iterator[None]:
    """Inside ``with``, a parameter goes to the meta device as it is registered, before its values are drawn."""
    register = nn.Module.register_parameter

    def registered(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
        register(module, name, parameter)

    with patch.object(nn.Module, "register_parameter", registered):
        yield


def _fill(net: nn.Module, seed: int) -> None:
    """Give every parameter and every running statistic a value."""
    random = np.random.default_rng(seed)
    pool = random.standard_normal(_POOL, dtype=np.float32)

    def drawn(tensor: Tensor) -> Tensor:
        values = pool[random.integers(_POOL // 2) :][: tensor.numel()]
        return torch.from_numpy(np.resize(values, tuple(tensor.shape)))

    for module in net.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            values = drawn(parameter)
            if parameter.dim() > 1:
                values.mul_((2 / max(parameter[0].numel(), 1)) ** 0.5)
            elif name == "weight":
                values.mul_(0.2).add_(1)
            else:
                values.mul_(0.1)
            module._parameters[name] = nn.Parameter(values, requires_grad=False)
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(drawn(module.running_mean).mul_(0.1))
            module.running_var.copy_(drawn(module.running_var).mul_(0.2).exp_())
