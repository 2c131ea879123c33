"""Layers read by a network that runs no further."""

from __future__ import annotations

import nets
import pytest
import torch
from torch import Tensor, nn

from cnnviz_cli.core.needs import Activation
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.execution import DEFAULT_EXECUTION
from cnnviz_cli.engine.partial import LayerReader, count_runs


def batch(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("fold", [True, False])
def test_maps_are_those_of_a_whole_forward_and_nothing_runs_behind_them(fold: bool) -> None:
    net = nets.classifier().eval()
    layers = ("trunk.2", "trunk.5")
    inputs = batch()
    plan = Plan.of(Activation(layer) for layer in layers)
    whole = observe(net, inputs, plan, lambda order: order.argmax(1, keepdim=True))
    reader = LayerReader(net, layers, DEFAULT_EXECUTION, fold=fold)
    reader.read(inputs)
    ran: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear) or name == "trunk.6"
    ]
    found = reader.read(inputs)
    assert not ran
    for hook in hooks:
        hook.remove()
    for layer in layers:
        near = torch.allclose(found[layer], whole.evidence[Activation(layer)], atol=1e-5)
        assert near if not fold else torch.equal(found[layer], whole.evidence[Activation(layer)])
        assert not found[layer].requires_grad


def test_a_layer_that_runs_several_times_is_waited_for() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x)).mean((2, 3))

    net = Twice().eval()
    inputs = batch(1)
    assert count_runs(net, ("conv",), inputs, DEFAULT_EXECUTION) == {"conv": 2}
    (maps,) = LayerReader(net, ("conv",), DEFAULT_EXECUTION, fold=True).read(inputs).values()
    with torch.no_grad():
        assert torch.allclose(maps, net.conv(net.conv(inputs)), atol=1e-6)
