"""Gradients at every bias against values by hand and a slow re-derivation."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d

from cnnviz_cli.core.layers import min_max_normalize
from cnnviz_cli.core.needs import BiasGradients
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.biases import bias_of
from cnnviz_cli.engine.execution import Execution

SLOW = {"rtol": 1e-9, "atol": 1e-12}


def seen(net: nn.Module, batch: Tensor, **how: Any) -> Tensor:
    need = BiasGradients()
    return observe(net, batch, Plan.of([need]), tiny.first_class, **how).evidence[need]


def slowly(outputs: list[tuple[Tensor, Tensor]], score: Tensor, size: int = tiny.SIZE) -> list[Tensor]:
    """Channel by channel: |b g|, minus its minimum, over its maximum, enlarged, added up. One image."""
    expected = []
    gradients = torch.autograd.grad(score, [output for output, _bias in outputs])
    for (_output, bias), gradient in zip(outputs, gradients, strict=True):
        total = torch.zeros(size, size, dtype=torch.float64)
        for channel in range(gradient.shape[1]):
            share = (bias[channel] * gradient[0, channel]).abs()
            share = share - share.min()
            if share.max() > 0:
                share = share / share.max()
            total += functional.interpolate(share[None, None], size=(size, size), mode="bilinear")[0, 0]
        expected.append(total)
    return expected


def test_one_convolution_worked_by_hand() -> None:
    # score = sum over positions of k(p) (w x(p) + b): the gradient at the convolution's output is k, so the answer is
    # |b k| from its least to its most.
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)
            self.kernel = nn.Parameter(torch.tensor([[1.0, -5.0], [3.0, 2.0]]))

        def forward(self, x: Tensor) -> Tensor:
            return (self.conv(x) * self.kernel).sum((1, 2, 3))[:, None]

    net = tiny.build(One)
    net.conv.bias.fill_(-0.5)
    # |b k| = 0.5, 2.5, 1.5, 1.0: less 0.5, over 2.
    answer = seen(net, torch.randn(2, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    assert answer.shape == (2, 1, 2, 2)
    torch.testing.assert_close(answer[1, 0], torch.tensor([[0, 1], [0.5, 0.25]]).double(), **SLOW)


def test_batchnorms_hidden_bias_and_an_in_place_sum() -> None:
    # Residual: conv1, bn1, in-place ReLU, conv2, bn2, `+=`. The gradient must be that of each output before the
    # in-place operations, which the copies below are.
    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    answer = seen(net, batch)
    assert answer.shape == (2, 4, tiny.SIZE, tiny.SIZE)
    for image in range(2):
        source = batch[image : image + 1].clone().requires_grad_()
        conv1 = net.conv1(source)
        bn1 = (conv1 - net.bn1.running_mean.view(1, -1, 1, 1)) / (
            net.bn1.running_var.view(1, -1, 1, 1) + net.bn1.eps
        ).sqrt() * net.bn1.weight.view(1, -1, 1, 1) + net.bn1.bias.view(1, -1, 1, 1)
        x = functional.relu(bn1)
        conv2 = net.conv2(x)
        bn2 = net.bn2(conv2)
        score = net.fc(functional.relu(bn2 + x).mean((2, 3))).max()

        def hidden(norm: nn.BatchNorm2d) -> Tensor:
            # What it gives for nothing: x -> w (x - m) / s + b at x = 0.
            return norm(torch.zeros(1, 6, 1, 1).double()).flatten()

        outputs = [(conv1, net.conv1.bias), (bn1, hidden(net.bn1)), (conv2, net.conv2.bias), (bn2, hidden(net.bn2))]
        for place, expected in enumerate(slowly(outputs, score)):
            torch.testing.assert_close(answer[image, place], expected, **SLOW)


def test_a_module_that_runs_twice_counts_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.fc = nn.Linear(3, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = functional.relu(self.conv(x), inplace=True)
            x = functional.relu(self.conv(functional.max_pool2d(x, 2)), inplace=True)
            return self.fc(x.mean((2, 3)))

    net, batch = tiny.build(Twice), tiny.pictures(1)
    answer = seen(net, batch)
    assert answer.shape[1] == 2
    first = net.conv(batch.clone().requires_grad_())
    second = net.conv(functional.max_pool2d(first.relu(), 2))
    score = net.fc(second.relu().mean((2, 3))).max()
    for place, expected in enumerate(slowly([(first, net.conv.bias), (second, net.conv.bias)], score)):
        torch.testing.assert_close(answer[0, place], expected, **SLOW)


def test_a_layer_off_the_way_is_zero_and_keeps_its_place() -> None:
    class Aside(tiny.Plain):
        def forward(self, x: Tensor) -> Tensor:
            self.conv2(self.pool(self.conv1(x)))
            return super().forward(x)

    answer = seen(tiny.build(Aside), tiny.pictures(2))
    assert answer.abs().sum((2, 3)).bool().tolist() == [[False, False, True, True]] * 2


def test_a_network_without_biases_gives_no_maps() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3, bias=False), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).relu().mean((2, 3)))

    assert seen(tiny.build(Bare), tiny.pictures(2)).shape == (2, 0, tiny.SIZE, tiny.SIZE)


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(3),
        nn.BatchNorm2d(3, affine=False),
        nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
        FrozenBatchNorm2d(3),
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_the_bias_of_running_statistics_is_the_answer_to_zero(norm: nn.Module) -> None:
    norm.eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, values in [*norm.named_buffers(), *norm.named_parameters()]:
            if values.is_floating_point():
                values.copy_(torch.rand(3, generator=generator) + 0.5 * (name == "running_var"))
        torch.testing.assert_close(bias_of(norm), norm(torch.zeros(1, 3, 1, 1)).flatten())


def test_only_what_adds_a_bias_to_channels_has_one() -> None:
    group, layer = nn.GroupNorm(3, 6), nn.LayerNorm(6)
    assert torch.equal(bias_of(group), group.bias)
    assert torch.equal(bias_of(layer), layer.bias)
    nothing = (nn.Linear(3, 3), nn.ReLU(), nn.Conv2d(3, 3, 1, bias=False), nn.LayerNorm((3, 4, 4)))
    assert [bias_of(module) for module in nothing] == [None] * len(nothing)
    dynamic = nn.BatchNorm2d(3, affine=False, track_running_stats=False)
    assert bias_of(dynamic) is None


def test_one_forward_and_one_backward_and_nothing_left(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    before = tiny.state_of(net)
    observe(net, batch, Plan.of([]), tiny.first_class)  # finds out what can be folded
    counts = tiny.count_passes(monkeypatch, net)
    seen(net, batch)
    assert counts == {"forwards": 2, "backwards": 1}  # the first forward of every run, and its own
    assert Plan.of([BiasGradients()]).cost().forwards == 2
    monkeypatch.undo()
    assert tiny.state_of(net) == before


def test_low_precision_answers_in_float32() -> None:
    net, batch = tiny.build(tiny.Residual).float(), tiny.pictures(2).float()
    low, full = seen(net, batch, execution=Execution("bf16")), seen(net, batch)
    assert low.dtype == torch.float32
    assert (low - full).abs().mean() < 0.05 * full.abs().mean()


def test_what_is_only_rounding_is_flat() -> None:
    maps = torch.tensor([[[1.0, 1.0 + 2e-7], [1.0, 1.0]], [[1.0, 1.001], [1.0, 1.0]], [[0, 0], [0, 0.0]]])
    expected = torch.tensor([[[0.0, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 0], [0, 0]]])
    assert torch.equal(min_max_normalize(maps), expected)
    assert torch.equal(min_max_normalize(-maps)[1], 1 - expected[1])
