"""What the numbers of a network are, where they lie from 0 to 1 and are yet no probabilities."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cnnviz_cli.models.inspect.outputs import NetworkOutput, find_values

Ending = Callable[[Tensor], Tensor]


class Ends(nn.Module):
    """Three numbers of an image, and an ending."""

    def __init__(self, ending: Ending) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc, self.ending = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), ending

    def forward(self, x: Tensor) -> Tensor:
        return self.ending(self.fc(self.conv(x).mean((2, 3))))


def told(ending: Ending) -> str:
    net = Ends(ending).eval().requires_grad_(False)
    return find_values(net, (3, 8, 8), NetworkOutput.from_output(net(torch.zeros(1, 3, 8, 8)))).values


@pytest.mark.parametrize(
    ("ending", "values"),
    [
        (lambda z: z.sigmoid(), "probabilities"),
        # From a half to one: not all of what probabilities can be.
        (lambda z: 0.5 + 0.5 * z.tanh().square(), "logits"),
        # A sigmoid that was written into is none any more.
        (lambda z: z.sigmoid().mul_(0.5), "logits"),
        # Beside a sigmoid stands something else: the whole is no sigmoid's.
        (lambda z: torch.cat([0.5 * z.sigmoid(), 0.4 + 0.1 * z.cos()], 1), "logits"),
    ],
)
def test_numbers_from_0_to_1_are_probabilities_where_their_origin_says_so(ending: Ending, values: str) -> None:
    assert told(ending) == values
