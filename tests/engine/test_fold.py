"""A network without its batch normalisations is the same function, and its original is left alone."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from engine.test_stream import Noisy
from running import given_for
from torch import Tensor, nn
from torchvision import models

from cnnviz_cli.core.needs import INPUT, Activation, Gradient, GradientOver, Scores
from cnnviz_cli.core.objectives import TargetLogit
from cnnviz_cli.core.scores import to_two_classes
from cnnviz_cli.engine import Plan, observe, stream
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.graph import fold_batchnorm, fold_if_equivalent


class Normed(nn.Module):
    """A convolution before its normalisation, one that two share, and one that somebody else sees too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.shared, self.norm2, self.norm3 = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False)
        self.seen, self.norm4 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x)).relu()
        x = self.norm2(self.shared(x)).relu()
        x = self.norm3(self.shared(x)).relu()
        x = self.seen(x)
        return self.fc((self.norm4(x).relu() + x).mean((2, 3)))


def normed() -> nn.Module:
    return lively(tiny.build(Normed))


def lively(net: nn.Module) -> nn.Module:
    """With statistics and factors that do something."""
    random = torch.Generator().manual_seed(3)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            mean, var = module.running_mean, module.running_var
            assert mean is not None
            assert var is not None
            mean.copy_(torch.randn(mean.shape, generator=random) / 4)
            var.copy_(torch.rand(var.shape, generator=random) + 0.5)
            if module.affine:
                module.weight.data.copy_(torch.rand(mean.shape, generator=random) + 0.5)
                module.bias.data.copy_(torch.randn(mean.shape, generator=random) / 4)
    return net


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


def slope(net: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Scores, and the gradient of the first class."""
    leaf = batch.clone().requires_grad_()
    scores = net(leaf.clone())
    return scores.detach(), torch.autograd.grad(scores[:, 0].sum(), leaf)[0]


def test_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0), nn.Flatten()).eval()
    conv, norm = net[0], net[1]
    conv.weight.data.fill_(3), conv.bias.data.fill_(1)
    norm.running_mean.fill_(2), norm.running_var.fill_(4), norm.weight.data.fill_(5), norm.bias.data.fill_(7)
    made = fold_batchnorm(net)
    assert made is not None
    (one,) = (module for module in made.modules() if isinstance(module, nn.Conv2d))
    # 5 (3 x + 1 - 2) / 2 + 7 = 7.5 x + 4.5
    assert one.bias is not None
    assert (one.weight.item(), one.bias.item()) == (7.5, 4.5)


def test_only_what_nobody_else_sees_is_folded() -> None:
    net, batch = normed(), tiny.pictures(2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    made = fold_batchnorm(net)
    assert made is not None
    assert norms(made) == 1
    assert norms(net) == 4
    for mine, theirs in zip(slope(made, batch), slope(net, batch), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert {id(made.get_submodule("fc")), id(made.get_submodule("seen"))} == {id(net.fc), id(net.seen)}


def test_what_is_not_a_fixed_factor_stays() -> None:
    def hooked(net: Any) -> None:
        net.conv1.register_forward_hook(lambda _m, _i, output: output * 2)

    def subclass(net: Any) -> None:
        net.conv1.__class__ = type("Odd", (nn.Conv2d,), {})

    def training(net: Any) -> None:
        net.norm1.train()

    def unknown(net: Any) -> None:
        net.norm1.running_mean = net.norm1.running_var = None

    for change in (hooked, subclass, training, unknown):
        net = normed()
        change(net)
        made = fold_batchnorm(net)
        assert made is not None
        assert norms(made) == 2, change


def test_a_network_without_pairs_or_that_cannot_be_traced_runs_as_it_is() -> None:
    class Branching(Normed):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(-x if float(x.abs().sum()) < 0 else x)

    for net in (tiny.build(tiny.Plain), tiny.build(Branching)):
        assert fold_batchnorm(net) is None
        batch = tiny.pictures(1)
        assert fold_if_equivalent(net, batch, net(batch), Execution(), to_two_classes) is net


def test_a_copy_that_gives_other_scores_is_not_used() -> None:
    class Moody(Normed):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * (1 if self.kind else 2)

    net, batch = lively(tiny.build(Moody)), tiny.pictures(1)
    net.kind = True
    assert fold_if_equivalent(net, batch, net(batch), Execution(), to_two_classes) is not net
    net.kind = False
    assert fold_if_equivalent(net, batch, net(batch), Execution(), to_two_classes) is net


def test_weights_that_were_rewritten_are_folded_again() -> None:
    net, batch = normed(), tiny.pictures(1)
    one = fold_if_equivalent(net, batch, net(batch), Execution(), to_two_classes)
    assert fold_if_equivalent(net, batch, net(batch), Execution(), to_two_classes) is one
    with torch.no_grad():
        net.conv1.weight *= 1 + 1e-6
    two = fold_if_equivalent(net, batch, net(batch), Execution(), to_two_classes)
    assert two is not one
    assert two is not net
    torch.testing.assert_close(slope(two, batch), slope(net, batch), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stream_at_the_input_runs_the_copy(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = normed(), tiny.pictures(2)
    if precision == "bf16":
        net, batch = net.float(), batch.float()
    over = Noisy(at=INPUT)
    needs = [GradientOver(over, TargetLogit(0)), Scores(over)]

    def seen() -> list[Tensor]:
        found = observe(
            net, batch, Plan.of(needs), tiny.first_class, execution=Execution(precision), given=given_for(batch)
        )
        return [found.evidence[need] for need in needs]

    used = []

    def spy(*given: Any) -> nn.Module:
        used.append(fold_if_equivalent(*given))
        return used[-1]

    monkeypatch.setattr(stream, "fold_if_equivalent", spy)
    fast = seen()
    assert {norms(one) for one in used} == {1}
    monkeypatch.setattr(stream, "fold_if_equivalent", lambda net, *_: net)
    bound = {"rtol": 1e-9, "atol": 1e-12} if precision == "fp32" else {"rtol": 0.1, "atol": 0.05}
    for mine, slow in zip(fast, seen(), strict=True):
        torch.testing.assert_close(mine, slow, **bound)


def test_without_folding_a_stream_runs_the_network_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_given: Any) -> nn.Module:
        raise AssertionError

    monkeypatch.setattr(stream, "fold_if_equivalent", fail)
    net, batch = normed(), tiny.pictures(1)
    need = Scores(Noisy(at=INPUT))
    found = observe(
        net, batch, Plan.of([need]), tiny.first_class, execution=Execution(fold=False), given=given_for(batch)
    )
    assert found.evidence[need].isfinite().all()


def test_a_stream_that_reads_a_layer_runs_the_network_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_given: Any) -> nn.Module:
        raise AssertionError

    monkeypatch.setattr(stream, "fold_if_equivalent", fail)
    net, batch = normed(), tiny.pictures(1)
    need = GradientOver(Noisy(at=INPUT), TargetLogit(0), at="norm2")
    plan = Plan.of([need, Activation("norm2"), Gradient("norm2", TargetLogit(0))])
    found = observe(net, batch, plan, tiny.first_class, given=given_for(batch))
    assert found.evidence[need].isfinite().all()


@pytest.mark.parametrize(
    ("name", "left"),
    [("resnet18", 0), ("googlenet", 0), ("densenet121", 62), ("mobilenet_v3_small", 0), ("regnet_y_400mf", 0)],
)
def test_on_torchvisions_classifiers(name: str, left: int) -> None:
    """DenseNet normalises before it convolves: only its stem and the second halves of its layers can be folded."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = {"init_weights": False} if name == "googlenet" else {}
        net = lively(models.get_model(name, weights=None, **settings).eval().requires_grad_(False).double())
    batch = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    made = fold_batchnorm(net)
    assert made is not None
    assert norms(made) == left
    for mine, theirs in zip(slope(made, batch), slope(net, batch), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10 * float(theirs.abs().max()))
