"""What comes after a layer, as a function of altered maps of one image: the same as the network run by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.tail_scores import open_tail

Rest = Callable[[Any, Tensor], Tensor]


def after_conv1(net: Any, maps: Tensor) -> Tensor:
    x = net.relu2(net.conv2(net.pool(net.relu1(maps))))
    return net.fc(x.mean((2, 3)))


def opened(net: nn.Module, layer: str, image: Tensor, *, alone: bool = False) -> Any:
    return open_tail(net.eval(), image, layer, Execution("fp32"), alone=alone)


@pytest.mark.parametrize("alone", [False, True])
def test_altered_maps_give_what_the_rest_of_the_network_gives(*, alone: bool) -> None:
    net, image = tiny.build(tiny.Plain).float(), tiny.pictures(1).float()
    maps, logits, scores = opened(net, "conv1", image, alone=alone)
    with torch.no_grad():
        torch.testing.assert_close(maps, net.conv1(image))
        torch.testing.assert_close(logits, net(image))
        altered = torch.cat([maps, 0.5 * maps, maps - 1, torch.zeros_like(maps)])
        torch.testing.assert_close(scores(altered), after_conv1(net, altered))


def test_a_way_around_the_layer_is_that_of_the_image() -> None:
    net, image = tiny.build(tiny.Residual).float(), tiny.pictures(2).float()[1:]
    maps, _, scores = opened(net, "conv2", image)
    with torch.no_grad():
        kept = net.relu(net.bn1(net.conv1(image)))
        altered = torch.cat([maps, 2 * maps, -maps])
        expected = net.fc(torch.relu(net.bn2(altered) + kept).mean((2, 3)))
        torch.testing.assert_close(scores(altered), expected, rtol=1e-4, atol=1e-5)


class OneScore(nn.Module):
    """A question of yes or no."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


def test_one_score_is_two_classes() -> None:
    torch.manual_seed(0)
    net, image = OneScore().eval(), tiny.pictures(1).float()
    maps, logits, scores = opened(net, "conv", image)
    with torch.no_grad():
        value = net(image)
        torch.testing.assert_close(logits, torch.cat([-value, value], 1))
        half = net.fc((0.5 * maps).relu().mean((2, 3)))
        torch.testing.assert_close(scores(0.5 * maps), torch.cat([-half, half], 1))
