"""A network that turns or bends its image before a layer: its maps would lie over other things than they saw."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnviz_cli.models.inspect.probe import probe_layers


class Turning(nn.Module):
    """One convolution behind `before`, and one behind `after`."""

    def __init__(self, before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.after(self.first(self.before(x)))).relu().mean((2, 3)))


def bent(x: Tensor) -> Tensor:
    theta = torch.tensor([[[0.5, 0.0, 0.1], [0.0, 0.5, 0.0]]], dtype=x.dtype)
    grid = functional.affine_grid(theta.expand(len(x), -1, -1), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def warnings_of(net: nn.Module, layer: str) -> list[str]:
    layers = probe_layers(net.eval(), (3, 16, 16), "net")
    return layers.notes([layer])[1]


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        (lambda x: x.flip(3), "flip of columns"),
        (lambda x: x.flip(-2), "flip of rows"),
        (lambda x: torch.flip(x, [2, 3]), "flip of rows and columns"),
        (lambda x: torch.flip(x, dims=(-1,)), "flip of columns"),
        (lambda x: torch.rot90(x, 1, (2, 3)), "rot90 of rows and columns"),
        (lambda x: torch.rot90(x, dims=[2, 3]), "rot90 of rows and columns"),
        (bent, "grid_sample"),
    ],
)
def test_a_turned_image_is_said_for_each_layer_behind_it(turn: Callable[[Tensor], Tensor], said: str) -> None:
    for layer in ("first", "second"):
        (line,) = warnings_of(Turning(turn), layer)
        assert line.startswith(f"net turns or bends the image before layer '{layer}' ({said}): ")


@pytest.mark.parametrize(
    "harmless",
    [
        lambda x: x,
        lambda x: x.flip(1),  # red, green and blue
        lambda x: x.flip(0),  # images of a batch
        lambda x: torch.roll(torch.roll(x, 2, 3), -2, 3),
        lambda x: x.flip(3).flip(3),
    ],
)
def test_what_leaves_rows_and_columns_where_they_were_is_not(harmless: Callable[[Tensor], Tensor]) -> None:
    assert warnings_of(Turning(harmless), "first") == []


def test_a_flip_that_is_taken_back_concerns_the_layers_between() -> None:
    net = Turning(lambda x: x.flip(3), lambda x: x.flip(3))
    assert len(warnings_of(net, "first")) == 1
    assert warnings_of(net, "second") == []
