"""The last linear layer of a network: found by what it does, and what it is given read without changing anything."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.twins import run_on_twin
from cnnviz_cli.models.inspect.linear_end import find_linear_end
from tests.tiny import NETS, SIZE, Plain, Residual, Transformer, build, pictures

SHAPE = (3, SIZE, SIZE)


class WithEnd(Plain):
    """Something behind the last linear layer."""

    def __init__(self, end) -> None:
        super().__init__()
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(super().forward(x))


class Cosine(Plain):
    """A linear layer that is asked for a cosine."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu2(self.conv2(self.pool(self.relu1(self.conv1(x))))).mean((2, 3))
        return functional.linear(functional.normalize(x), functional.normalize(self.fc.weight))


class Own(nn.Linear):
    """A layer that is called linear and is not."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


class OwnLast(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.fc = Own(6, 5)


class Twice(Plain):
    """One layer that runs on each half of the image, of which the second gives the scores."""

    def forward(self, x: Tensor) -> Tensor:
        maps = self.relu2(self.conv2(self.pool(self.relu1(self.conv1(x)))))
        self.fc(maps[:, :, :2].mean((2, 3)))
        return self.fc(maps[:, :, 2:].mean((2, 3)))


class ByConvolution(Plain):
    """Scores that are averages of maps."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu2(self.conv2(self.pool(self.relu1(self.conv1(x)))))).mean((2, 3))


@pytest.mark.parametrize("kind", [*NETS, Transformer, Twice])
def test_features_and_weights_give_the_scores(kind):
    net = build(kind)
    end = find_linear_end(net, SHAPE)
    assert end is not None
    batch = pictures(4)
    features = end.features(batch)
    torch.testing.assert_close(features @ end.weight.T + end.bias, net(batch))
    assert end.name == ("head" if kind is Transformer else "fc")
    assert not list(net.get_submodule(end.name)._forward_pre_hooks)


@pytest.mark.parametrize("end", [nn.Softmax(-1), nn.LogSoftmax(-1), nn.Sigmoid()])
def test_probabilities_are_seen_through(end):
    net = build(lambda: WithEnd(end))
    found = find_linear_end(net, SHAPE)
    assert found is not None
    batch = pictures(2)
    torch.testing.assert_close(end(found.features(batch) @ found.weight.T + found.bias), net(batch))


@pytest.mark.parametrize(
    "kind", [lambda: WithEnd(nn.ReLU()), lambda: WithEnd(nn.LayerNorm(5)), Cosine, OwnLast, ByConvolution]
)
def test_what_is_not_linear_is_none(kind):
    assert find_linear_end(build(kind), SHAPE) is None


def test_a_layer_without_a_bias_has_none():
    class Bare(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 5, bias=False)

    end = find_linear_end(build(Bare), SHAPE)
    assert end is not None
    assert end.bias is None


def test_an_error_of_the_network_leaves_no_hook():
    net = build(Plain)
    end = find_linear_end(net, SHAPE)
    assert end is not None
    with pytest.raises(RuntimeError):
        end.features(torch.zeros(1, 2, SIZE, SIZE, dtype=torch.float64))
    assert not net.fc._forward_pre_hooks


def test_features_are_read_on_a_twin_without_normalisations():
    net = build(Residual)
    end = find_linear_end(net, SHAPE)
    assert end is not None
    batch, seen = pictures(2), []

    def run(twin: nn.Module) -> Tensor:
        seen.append(twin)
        return twin(batch)

    torch.testing.assert_close(run_on_twin(end.features, batch, (), run, fold=True), end.features(batch))
    assert seen[-1] is not end.features
    assert Execution("fp32", fold=True).fold
