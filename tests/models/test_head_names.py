"""The layer that gives the scores, found in a file by its shape, whatever it is called there."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import ModelError
from cnnviz_cli.models.load.state_dict import fit_state_dict

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


def saved(classes: int, head: str, prefix: str = "") -> tuple[Net, dict[str, Tensor]]:
    torch.manual_seed(classes)
    net = Net(classes).eval()
    names = {
        name: f"{prefix}{name}" if not name.startswith("fc.") else name.replace("fc", head) for name in net.state_dict()
    }
    return net, {names[name]: tensor for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize("head", ["head", "classifier", "last_linear", "cls", "head.fc", "model_head.1"])
@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("classes", [5, 2])
def test_a_head_of_another_name_is_taken_by_its_shape(head: str, prefix: str, classes: int) -> None:
    net, state = saved(classes, head, prefix)
    found = fit_state_dict(Net(), state, "a.pth")
    assert (found.head, found.classes) == (head, None if classes == 5 else classes)
    torch.testing.assert_close(found.net.eval()(IMAGE), net(IMAGE), rtol=0, atol=0)


def _refused(state: Mapping[str, Tensor]) -> None:
    with pytest.raises(ModelError, match="do not fit the network"):
        fit_state_dict(Net(), dict(state), "a.pth")


def test_what_may_be_another_layer_is_not_taken() -> None:
    _, state = saved(5, "head")
    _refused(state | {"second.weight": torch.zeros(5, 6), "second.bias": torch.zeros(5)})  # two of them
    _refused({name: tensor for name, tensor in state.items() if name != "head.bias"})
    _refused(state | {"head.weight": torch.zeros(5, 7)})  # it reads other features
    _refused({name: tensor for name, tensor in state.items() if not name.startswith("head")})  # there is none
    _refused(
        {name: tensor for name, tensor in state.items() if not name.startswith("conv")}
    )  # and something else lacks
