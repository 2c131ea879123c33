"""A first forward that failed: the reason decides the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import CnnvizError, ExitCode
from cnnviz_cli.models.input.forward_errors import forward_error

USUAL = (224, 224)


class Net(nn.Module):
    """A network whose forward is given."""

    def __init__(self, forward: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.made = forward

    def forward(self, x: Any) -> Any:
        return self.made(x, *self.parts)


class Pair(nn.Module):
    def forward(self, left: Tensor, right: Tensor, *, scale: float = 1.0) -> Tensor:
        return scale * (left - right).mean((2, 3))


def error_of(net: nn.Module, size: tuple[int, int] = USUAL) -> CnnvizError:
    errors: dict[int, Exception] = {}
    for channels in (3, 1, 4):
        try:
            net(torch.zeros(1, channels, *size))
        except Exception as error:  # whatever it raises
            errors[channels] = error
    return forward_error(net, errors, size, USUAL, "net")


@pytest.mark.parametrize(
    ("net", "said", "fix"),
    [
        (Pair(), "net takes 2 inputs, left and right, and an image is one: TypeError", "fills in the others"),
        (Net(lambda x: x["mri"]), "net reads its input by names, as a mapping", "packs it"),
        (Net(lambda x: x.pixel_values), "net reads 'pixel_values' of its input, and an image is a tensor", "packs it"),
        (Net(lambda x: [*x.items()]), "net reads 'items' of its input", "packs it"),
        (Net(lambda x, conv: conv(x), nn.Conv2d(5, 2, 3)), "net reads 5 channels: .* to have 5 channels", "--bands"),
        (Net(lambda x, norm: norm(x), nn.BatchNorm2d(2).eval()), "net reads 2 channels: ", "--bands 1,2"),
        (Net(lambda x, conv: conv(x).mean((2, 3, 4)), nn.Conv3d(1, 2, 1)), "net reads volumes", r"unsqueeze\(2\)"),
        (Net(lambda x, norm: norm(x), nn.BatchNorm3d(2).eval()), "net reads volumes", r"unsqueeze\(2\)"),
        (Net(lambda x, conv: conv(x), nn.Conv1d(3, 2, 1)), "net reads sequences", "a sequence"),
        (Net(lambda x, words: words(x), nn.Embedding(5, 2)), "net reads whole numbers", "module:factory"),
    ],
)
def test_the_reason_decides_the_remedy(net: nn.Module, said: str, fix: str) -> None:
    error = error_of(net)
    assert (error.code, error.where) == (ExitCode.USAGE, "--model")
    with pytest.raises(CnnvizError, match=said):
        raise error
    assert fix.replace("\\", "") in error.fix
    assert "--input-size" not in error.fix
    assert __file__ in error.excerpt


def test_a_matter_of_size_is_one() -> None:
    net = Net(lambda x, fc: fc(x.flatten(1)), nn.Linear(3 * 16, 2))
    assert "--input-size HxW" in error_of(net).fix
    error = error_of(net, (8, 8))
    assert (error.where, error.fix) == ("--input-size", "Its weights were trained with 224 x 224.")
    assert "takes no input of 8 x 8: mat1 and mat2 shapes cannot be multiplied" in error.what


def test_of_a_grey_network_the_reason_is_what_it_says_of_grey() -> None:
    net = Net(lambda x, conv, fc: fc(conv(x).flatten(1)), nn.Conv2d(1, 2, 3), nn.Linear(7, 2))
    assert "takes no input of 224 x 224: mat1 and mat2" in error_of(net).what


def test_anything_else_is_the_networks_own_failure_with_its_line() -> None:
    def broken(_x: Tensor) -> Tensor:
        raise ValueError("the atlas is missing")

    error = error_of(Net(broken))
    assert error.code == ExitCode.MODEL
    assert "net failed on an input of shape (1, 3, 224, 224) and (1, 1, 224, 224): ValueError: the atlas" in error.what
    assert 'raise ValueError("the atlas is missing")' in error.excerpt
