"""Where a network cuts a gradient off, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import EvidenceError
from cnnviz_cli.core.needs import INPUT, Gradient
from cnnviz_cli.core.objectives import TargetLogit
from cnnviz_cli.engine.gradient_cut import find_gradient_cut
from cnnviz_cli.engine.observe import observe
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.engine.targets import TargetSelector

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Round(torch.autograd.Function):
    """Without a derivative, and not one of torch's functions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rounded = x.round()
        ctx.mark_non_differentiable(rounded)
        return rounded


class Net(nn.Module):
    """A convolution, `between`, and a linear layer."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.fc, self.how = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "input":
            return self.fc(self.conv(x.detach()).mean((2, 3)))
        if self.how == "frozen":
            with torch.no_grad():
                maps = self.conv(x)
            return self.fc(maps.mean((2, 3)))
        if self.how == "inference":
            with torch.inference_mode():
                return self.fc(self.conv(x).mean((2, 3)))
        maps = self.conv(x)
        if self.how == "data":
            return self.fc(maps.data.mean((2, 3)))
        if self.how == "sign":
            return self.fc((maps > 0).float().mean((2, 3)))
        _ = maps.detach().mean()  # looked at, and harmless
        return self.fc(maps.mean((2, 3)))


def net(how: str) -> Net:
    torch.manual_seed(0)
    return Net(how).eval().requires_grad_(requires_grad=False)


def gradient(how: str, at: str) -> Tensor:
    need = Gradient(at, TargetLogit(0))
    return observe(net(how), IMAGE, Plan.of([need]), TargetSelector((0,))).evidence[need]


@pytest.mark.parametrize(
    ("how", "at", "said", "line"),
    [
        ("input", INPUT, r"the input: the network detaches it \(torch.Tensor.detach\)", "self.conv(x.detach())"),
        ("frozen", INPUT, r"the input: 'conv' runs under torch.no_grad\(\)", "maps = self.conv(x)"),
        ("data", "conv", r"layer 'conv': the network detaches it \(torch.Tensor.data\)", "maps.data.mean"),
        ("inference", "conv", r"layer 'conv': the network runs under torch.inference_mode\(\)", "self.fc(self.conv(x)"),
    ],
)
def test_the_operation_that_cuts_is_named_with_its_line(how: str, at: str, said: str, line: str) -> None:
    with pytest.raises(EvidenceError, match=f"no gradient reaches {said}") as caught:
        gradient(how, at)
    assert __file__ in caught.value.excerpt
    assert line in caught.value.excerpt


@pytest.mark.parametrize("how", ["input", "frozen", "plain"])
def test_what_lies_below_a_layer_does_not_matter_to_its_gradient(how: str) -> None:
    # d score / d maps is the class's weight over the number of positions, 6 x 6.
    found = gradient(how, "conv")
    chosen = net(how)(IMAGE).argmax(1)
    expected = net(how).fc.weight.detach()[chosen] / 36
    torch.testing.assert_close(found, expected[:, :, None, None].expand(2, 4, 6, 6))


def test_a_gradient_that_arrives_has_no_cut_whatever_else_is_detached() -> None:
    assert find_gradient_cut(net("plain"), IMAGE[:1], INPUT) is None
    assert find_gradient_cut(net("plain"), IMAGE[:1], "conv") is None


def test_a_layer_off_the_way_is_told_as_such() -> None:
    class Aside(Net):
        def forward(self, x: Tensor) -> Tensor:
            self.conv(x)
            return self.fc(x.mean((2, 3)).repeat(1, 2)[:, :4])

    aside = Aside("").eval().requires_grad_(requires_grad=False)
    with pytest.raises(EvidenceError, match="does not depend on what layer 'conv' returns"):
        observe(aside, IMAGE, Plan.of([Gradient("conv", TargetLogit(0))]), TargetSelector((0,)))


def test_crops_stacked_into_the_batch_are_told_as_such() -> None:
    class Crops(Net):
        def forward(self, x: Tensor) -> Tensor:
            crops = torch.stack([x[..., :4, :4], x[..., 4:, 4:], x[..., :4, 4:]], 1).flatten(0, 1)
            return self.fc(self.conv(crops).mean((2, 3))).view(len(x), 3, 2).mean(1)

    crops = Crops("").eval().requires_grad_(requires_grad=False)
    for images in (1, 2):
        said = f"layer 'conv' gives {3 * images} outputs for {images} images?: it runs on 3 parts of each image"
        with pytest.raises(EvidenceError, match=said) as caught:
            observe(crops, IMAGE[:images], Plan.of([Gradient("conv", TargetLogit(0))]), TargetSelector((0,)))
        assert "--batch-size" not in caught.value.fix


def test_code_of_its_own_is_told_by_its_module() -> None:
    class Rounding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Round.apply(x)  # type: ignore[no-any-return,no-untyped-call]

    torch.manual_seed(0)
    whole = nn.Sequential(nn.Conv2d(3, 2, 8), Rounding(), nn.Flatten()).eval().requires_grad_(requires_grad=False)
    found = find_gradient_cut(whole, IMAGE[:1], "0")
    assert found is not None
    assert (found.module, found.how) == ("1", "calls an autograd function that gives no gradient")
