"""FullGrad against values by hand, a slow re-derivation, and grad-cam."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from running import Runner, recipe_of
from torch import Tensor, nn
from torch.nn import functional

from cnnviz_cli.core.panels import Heatmap
from cnnviz_cli.engine import Plan
from cnnviz_cli.render.scaling import state_of

SLOW = {"rtol": 1e-9, "atol": 1e-12}


class Twice(nn.Module):
    """One convolution that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.fc = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv(x), inplace=True)
        return self.fc(functional.relu(self.conv(functional.max_pool2d(x, 2)), inplace=True).mean((2, 3)))


def stretched(share: Tensor) -> Tensor:
    share = share - share.min()
    return share / share.max() if share.max() > 0 else share


def test_worked_by_hand(run: Runner) -> None:
    # score = sum_p k(p) (red(p) + b): x dy/dx is red k in the first colour and 0 in the others, the bias's part b k.
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 1, 1)
            self.kernel = nn.Parameter(torch.tensor([[1.0, -5], [3, 2]]))

        def forward(self, x: Tensor) -> Tensor:
            return (self.conv(x) * self.kernel).sum((1, 2, 3))[:, None]

    net = tiny.build(One)
    net.conv.weight.copy_(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1))
    net.conv.bias.fill_(-0.5)
    batch = torch.tensor([[[[4.0, 1], [-1, 0]], [[1, 2], [3, 4]], [[5, 6], [7, 8]]]], dtype=torch.float64)
    # |red k| = 4, 5, 3, 0, over 5; |b k| = 0.5, 2.5, 1.5, 1, less 0.5, over 2.
    (panel,) = run("fullgrad", net, batch, size=2)
    assert isinstance(panel, Heatmap)
    torch.testing.assert_close(panel.values[0, 0], torch.tensor([[0.8, 2], [1.1, 0.25]], dtype=torch.float64), **SLOW)
    assert (panel.layer, panel.raw_max, panel.target) == (None, None, 0)


def test_one_layer_and_channel_at_a_time(run: Runner) -> None:
    net, batch = tiny.build(tiny.OverlappingPool), tiny.pictures(2)
    (panel,) = run("fullgrad", net, batch)
    for image in range(2):
        source = batch[image : image + 1].clone().requires_grad_()
        conv1 = net.conv1(source)
        conv2 = net.conv2(net.pool(conv1.relu()))
        score = net.fc(net.relu2(conv2).mean((2, 3))).max()
        slope, first, second = torch.autograd.grad(score, [source, conv1, conv2])
        expected = sum(stretched((source.detach()[0, c] * slope[0, c]).abs()) for c in range(3))
        for bias, gradient in ((net.conv1.bias, first[0]), (net.conv2.bias, second[0])):
            for channel in range(len(bias)):
                share = stretched((bias[channel] * gradient[channel]).abs())
                expected = expected + functional.interpolate(share[None, None], (12, 12), mode="bilinear")[0, 0]
        torch.testing.assert_close(panel.values[image, 0], expected, **SLOW)


@pytest.mark.parametrize("kind", [tiny.Plain, tiny.OverlappingPool, tiny.Residual])
def test_equals_grad_cam_on_networks_without_reuse(kind: type[nn.Module], run: Runner) -> None:
    net, batch = tiny.build(kind), tiny.pictures(2)
    net.fc.weight.mul_(1e4)  # its 1e-7 beside each channel's maximum vanishes
    (panel,) = run("fullgrad", net, batch)
    ours = torch.stack([stretched(values) for values in torch.as_tensor(panel.values)[:, 0]])
    torch.testing.assert_close(ours, grad_cams(net, batch).double(), rtol=1e-6, atol=1e-6)


def test_grad_cam_refuses_a_module_that_runs_twice(run: Runner) -> None:
    net, batch = tiny.build(Twice), tiny.pictures(2)
    with pytest.raises(AssertionError):
        grad_cams(net, batch)
    (panel,) = run("fullgrad", net, batch)
    assert panel.values.std() > 0


def test_every_bias_counts(run: Runner) -> None:
    # Without its biases a network's full gradient is the input's part alone.
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    whole = run("fullgrad", net, batch)[0].values
    for layer in (net.conv1, net.conv2):
        layer.bias.zero_()
    source = batch.clone().requires_grad_()
    slope = torch.autograd.grad(net(source).amax(1).sum(), source)[0]
    for image in range(2):
        expected = sum(stretched((batch[image, c] * slope[image, c]).abs()) for c in range(3))
        torch.testing.assert_close(run("fullgrad", net, batch)[0].values[image, 0], expected, **SLOW)
    assert not torch.allclose(whole, run("fullgrad", net, batch)[0].values)


def test_smoothing_takes_layers_for_channels(run: Runner) -> None:
    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    (plain,), (smooth,) = run("fullgrad", net, batch), run("fullgrad", net, batch, smooth="eigen")
    assert smooth.layer is None
    assert not torch.allclose(plain.values, smooth.values)
    # By hand: the input's three parts and one of each run of a layer, centred over positions, and their first
    # principal direction.
    recipe = recipe_of("fullgrad", net)
    from cnnviz_cli.engine import observe

    evidence = observe(net, batch, Plan.of(recipe.needs), tiny.first_class).evidence
    pixels, slope, biases = (evidence[need] for need in recipe.needs)
    for image in range(2):
        parts = [stretched((pixels[image, c] * slope[image, c]).abs()) for c in range(3)] + list(biases[image])
        assert len(parts) == 3 + 4
        table = torch.stack([part.flatten() - part.mean() for part in parts], 1)
        component = table @ torch.linalg.svd(table, full_matrices=False).Vh[0]
        component = component * torch.sign((component * sum(part.flatten() for part in parts)).sum())
        torch.testing.assert_close(smooth.values[image, 0].flatten(), component.clamp(min=0), rtol=1e-6, atol=1e-9)


def test_it_is_flat_not_negative_where_nothing_matters(run: Runner) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(1)
    net.fc.weight.zero_()
    (panel,) = run("fullgrad", net, batch)
    assert state_of(panel.pick(0)) == "flat"


def test_it_has_no_layer_to_choose_and_costs_two_forwards() -> None:
    recipe = recipe_of("fullgrad", tiny.build(tiny.Plain))
    cost = Plan.of(recipe.needs).cost()
    assert (cost.forwards, cost.backwards, cost.variants) == (2, 2, 0)
    with pytest.raises(TypeError, match="layer"):
        recipe_of("fullgrad", tiny.build(tiny.Plain), layer=("conv1",))


def grad_cams(net: nn.Module, batch: Tensor) -> Tensor:
    """(B, H, W) grad-cam's, from 0 to 1."""
    from pytorch_grad_cam import FullGrad
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    wanted: list[Any] = [ClassifierOutputTarget(int(target)) for target in net(batch).argmax(1)]
    with torch.enable_grad(), FullGrad(net, []) as cam:
        return torch.as_tensor(cam(batch, wanted))
