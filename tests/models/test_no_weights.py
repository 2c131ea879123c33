"""Networks that learnt nothing, and those whose weights get a shape only when they run or are loaded."""

from __future__ import annotations

from pathlib import Path

import nets
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

import cnnviz_cli
from cnnviz_cli.cli.reporters import make_reporter
from cnnviz_cli.core.errors import CnnvizError
from cnnviz_cli.models.input.input_overrides import InputOverrides
from cnnviz_cli.models.inspect.heads import zero_input
from cnnviz_cli.models.load.loaded_model import load_model
from cnnviz_cli.models.load.state_dict import fit_state_dict


class AllLazy(nn.Module):
    """One lazy module of each kind that a network of images has."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.LazyConv2d(8, 3, groups=1), nn.LazyBatchNorm2d()
        self.grouped, self.up = nn.LazyConv2d(12, 3, groups=4), nn.LazyConvTranspose2d(6, 2, 2, groups=2)
        self.fc = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.up(self.grouped(self.norm(self.conv(x)))).mean((2, 3)))


@pytest.mark.parametrize("name", ["no_parameters", "no_tensors"])
def test_a_network_that_learnt_nothing_is_explained(name: str) -> None:
    net = getattr(nets, name)()
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = cnnviz_cli.explain(net, image, methods=["gradient", "gradcam"])[0]
    scores = net(image.double() if name == "no_tensors" else image)[0]
    assert found.predictions[0].index == int(scores.argmax())
    gradient = next(one for one in found.explanations if one.method == "gradient")
    # Of a mean over 30 x 30 positions, each with a Sobel filter over the mean of three channels.
    leaf = image.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(leaf)[0, found.predictions[0].index], leaf)
    np.testing.assert_allclose(gradient.map, slope[0].abs().amax(0), atol=1e-9)


def test_without_a_parameter_the_first_buffer_decides() -> None:
    assert zero_input(nets.NoParameters().double(), (3, 4, 5)).dtype == torch.float64
    assert zero_input(nets.NoParameters(buffers=False), (3, 4, 5)).dtype == torch.float32
    counted = nn.BatchNorm2d(3, affine=False)  # its counter of batches is an integer
    counted.register_buffer("running_mean", None)
    counted.register_buffer("running_var", None)
    assert zero_input(counted, (3, 4, 5)).dtype == torch.float32


def test_a_file_gives_lazy_modules_their_shapes() -> None:
    image = torch.rand(2, 5, 16, 16, generator=torch.Generator().manual_seed(1))
    trained = AllLazy()
    trained(image)
    trained.eval()
    net = AllLazy()
    assert any(map(is_lazy, net.parameters()))
    fitted = fit_state_dict(net, trained.state_dict(), "w.pth").net.eval()
    assert not any(map(is_lazy, fitted.parameters()))
    torch.testing.assert_close(fitted(image), trained(image), rtol=0, atol=0)
    assert [type(one) for one in fitted.children()] == [
        nn.Conv2d, nn.BatchNorm2d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear,
    ]  # fmt: skip
    assert [str(one) for one in fitted.children()] == [str(one) for one in trained.children()]


def test_from_the_command_line_as_from_the_file(tmp_path: Path) -> None:
    trained = nets.lazy()
    trained(torch.zeros(1, 3, 32, 32))
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    found = load_model(
        "nets:lazy",
        str(tmp_path / "w.pth"),
        allow_code=True,
        overrides=InputOverrides(size=(32, 32)),
        reporter=make_reporter(quiet=True),
    )
    for name, tensor in trained.state_dict().items():
        assert torch.equal(found.net.state_dict()[name], tensor)


def test_a_file_that_lacks_what_has_no_shape_is_refused(tmp_path: Path) -> None:
    trained = nets.lazy()
    trained(torch.zeros(1, 3, 32, 32))
    state = {name: tensor for name, tensor in trained.state_dict().items() if name != "conv.weight"}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CnnvizError, match="1 missing") as caught:
        load_model("nets:lazy", str(tmp_path / "w.pth"), allow_code=True, reporter=make_reporter(quiet=True))
    assert caught.value.code == 4
    assert "conv.weight" in caught.value.fix + caught.value.excerpt


def test_without_maps_the_words_for_layers_lead_to_methods_of_the_input() -> None:
    class Bare(nets.NoParameters):
        def __init__(self) -> None:
            super().__init__()
            del self.edges, self.ends

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x.mean(1, keepdim=True), self.kernel).relu().mean((2, 3))

    with pytest.raises(CnnvizError, match="no module of Bare has maps") as caught:
        cnnviz_cli.explain(Bare(), torch.zeros(1, 3, 32, 32), methods=["gradcam"])
    assert caught.value.fix == "Use a method that reads the input alone, see: cnnviz methods"
