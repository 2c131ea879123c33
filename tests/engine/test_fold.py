"""A network without its batch normalisations is the same function under the same names, and its original stays."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

import pytest
import tiny
import torch
from engine.test_stream import Noisy
from peers import vgg11
from running import given_for
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d

from cnnviz_cli.core.needs import INPUT, Activation, BiasGradients, Gradient, GradientOver, Need, Scores, Unaltered
from cnnviz_cli.core.objectives import TargetLogit
from cnnviz_cli.engine import Plan, observe, twins
from cnnviz_cli.engine.execution import Execution, take_notes
from cnnviz_cli.engine.norm_pairs import is_norm_of
from cnnviz_cli.engine.twins import count_folded, find_twin, fuse, make_twin

PLAIN = Execution(fold=False)


class Normed(nn.Module):
    """A convolution before its normalisation, one that two share, and one that somebody else sees too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.shared, self.norm2, self.norm3 = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False)
        self.seen, self.norm4 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.conv5, self.norm5 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x)).relu()
        x = self.norm2(self.shared(x)).relu()
        x = self.norm3(self.shared(x)).relu()
        x = self.seen(x)
        x = self.norm4(x).relu() + x
        return self.fc(self.relu(self.norm5(self.conv5(x))).mean((2, 3)))


FOLDED = {"conv1", "conv5"}


def normed(kind: type[nn.Module] = Normed) -> Any:
    return lively(tiny.build(kind))


def lively(net: nn.Module) -> nn.Module:
    """With statistics and factors that do something."""
    random = torch.Generator().manual_seed(3)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | FrozenBatchNorm2d):
            mean, var = module.running_mean, module.running_var
            assert mean is not None
            assert var is not None
            mean.copy_(torch.randn(mean.shape, generator=random) / 4)
            var.copy_(torch.rand(var.shape, generator=random) + 0.5)
            if module.weight is not None:
                module.weight.data.copy_(torch.rand(mean.shape, generator=random) + 0.5)
                module.bias.data.copy_(torch.randn(mean.shape, generator=random) / 4)
    return net


def folded(net: nn.Module, batch: Tensor, layers: Sequence[str] = ()) -> set[str]:
    """The paths of the convolutions that are folded where these layers are read."""
    twin = find_twin(net, batch, layers)
    names = {module: name for name, module in net.named_modules()}
    return set() if twin is None else {names[pair.convolution] for pair in twin.pairs}


def slope(net: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Scores, and the gradient of the first class."""
    leaf = batch.clone().requires_grad_()
    scores = net(leaf.clone())
    return scores.detach(), torch.autograd.grad(scores[:, 0].sum(), leaf)[0]


def both(net: nn.Module, batch: Tensor, needs: Sequence[Need], **how: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Answers, the scores last, of the folded network and of the network itself."""
    found = []
    for execution in (Execution(), PLAIN):
        plan = Plan.of(needs)
        seen = observe(net, batch, plan, tiny.first_class, execution=execution, given=given_for(batch), **how)
        found.append([*(seen.evidence[need] for need in needs), seen.logits])
    return found[0], found[1]


def assert_same(mine: Sequence[Tensor], theirs: Sequence[Tensor], relative: float) -> None:
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=relative * float(other.abs().max()))


EXACT = 1e-11
"""Of the largest value, in float64."""


# --- by hand -----------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    conv, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0).eval()
    conv.weight.data.fill_(3), conv.bias.data.fill_(1)
    norm.running_mean.fill_(2), norm.running_var.fill_(4), norm.weight.data.fill_(5), norm.bias.data.fill_(7)
    weight, bias = fuse(conv, norm)
    # 5 (3 x + 1 - 2) / 2 + 7 = 7.5 x + 4.5
    assert (weight.item(), bias.item()) == (7.5, 4.5)


# --- what is folded ----------------------------------------------------------------------------------------


def test_only_what_nobody_else_sees_is_folded() -> None:
    net, batch = normed(), tiny.pictures(2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert folded(net, batch) == FOLDED
    twin = find_twin(net, batch, ())
    assert twin is not None
    assert [name for name, _ in twin.net.named_modules()] == [name for name, _ in net.named_modules()]
    with twin.in_use() as copy:
        assert_same(slope(copy, batch), slope(net, batch), EXACT)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    own = {name for name, value in twin.net.named_parameters() if value is not dict(net.named_parameters()).get(name)}
    assert own == {"conv1.weight", "conv1.bias", "conv5.weight", "conv5.bias"}


def _hook(net: Any) -> None:
    net.conv1.register_forward_hook(lambda _m, _i, output: output * 2)


def _hook_on_norm(net: Any) -> None:
    net.norm1.register_forward_pre_hook(lambda _m, inputs: (inputs[0] * 2,))


def _subclass(net: Any) -> None:
    net.conv1.__class__ = type("Odd", (nn.Conv2d,), {})


def _statistics_of_the_batch(net: Any) -> None:
    net.norm1.running_mean = net.norm1.running_var = None


def _parametrize(net: Any) -> None:
    torch.nn.utils.parametrizations.weight_norm(net.conv1)


def _other_forward(net: Any) -> None:
    net.norm1.forward = lambda x: x * 3


@pytest.mark.parametrize(
    "change", [_hook, _hook_on_norm, _subclass, _statistics_of_the_batch, _parametrize, _other_forward]
)
@pytest.mark.parametrize("late", [False, True], ids=["before", "after a first run"])
def test_what_is_not_a_fixed_factor_stays(change: Callable[[Any], None], late: bool) -> None:
    net, batch = normed(), tiny.pictures(2)
    if late:
        assert folded(net, batch) == FOLDED
    change(net)
    net.eval()
    assert folded(net, batch) == FOLDED - {"conv1"}
    net.requires_grad_(False)
    mine, theirs = both(net, batch, [Gradient()])
    assert_same(mine, theirs, EXACT)


def test_hooks_on_all_modules_see_the_network_itself() -> None:
    net, batch = normed(), tiny.pictures(2)
    assert folded(net, batch) == FOLDED
    seen: list[nn.Module] = []
    hook = nn.modules.module.register_module_forward_hook(lambda module, _i, _o: seen.append(module))
    try:
        assert folded(net, batch) == set()
        observe(net, batch, Plan.of([]), tiny.first_class)
    finally:
        hook.remove()
    assert {net.conv1, net.norm1} <= set(seen)
    assert folded(net, batch) == FOLDED


def test_a_normalisation_in_training_stays() -> None:
    net, batch = normed(), tiny.pictures(2)
    assert folded(net, batch) == FOLDED
    assert is_norm_of(net.norm1, net.conv1)
    net.norm1.train()
    assert folded(net, batch) == FOLDED - {"conv1"}
    # Not by what it gives alone: of some images the statistics may be those it has.
    assert not is_norm_of(net.norm1, net.conv1)


class Functional(Normed):
    """Normalises by a function, and once in place of what a view shows."""

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm1
        x = functional.batch_norm(self.conv1(x), norm.running_mean, norm.running_var, norm.weight, norm.bias)
        y = self.conv5(x)
        y.flatten(1).mul_(0.5)
        return self.fc(self.norm5(y).mean((2, 3)))


class Shared(Normed):
    """A pair that runs twice, and one under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.again, self.norm_again = self.conv5, self.norm5

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x)).relu()
        x = self.norm5(self.conv5(x)).relu()
        # Both convolutions before both normalisations.
        y, z = self.again(x), self.again(x.flip(3))
        return self.fc((self.norm_again(z).relu() + 2 * self.norm_again(y)).mean((2, 3)))


class NormTwice(Normed):
    """One normalisation behind two convolutions, which costs the pair after it nothing."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x)).relu()
        x = self.norm1(self.seen(x)).relu()
        return self.fc(self.norm5(self.conv5(x)).relu().mean((2, 3)))


class Returns(Normed):
    """What its last convolution gives, and nothing else behind a normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x)).relu()
        y = self.conv5(x)
        self.kept = self.norm5(y)
        return y.mean((2, 3))


class Bypass(Normed):
    """Hides its modules from the tree that is copied: bound methods of the originals."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise = [self.norm1.__call__]

    def forward(self, x: Tensor) -> Tensor:
        x = self.normalise[0](self.conv1(x)).relu()
        return self.fc(self.norm5(self.conv5(x)).relu().mean((2, 3)))


class ReadsWeights(Normed):
    """Reads a convolution's weights by itself, after all normalisations."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x)).relu()
        x = self.norm5(self.conv5(x)).relu()
        return self.fc(x.mean((2, 3))) * self.conv1.weight.sum()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Functional, set()),
        (Shared, {"conv1", "conv5"}),
        (NormTwice, {"conv5"}),
        (Returns, {"conv1"}),
        (Bypass, {"conv5"}),
        (ReadsWeights, set()),
    ],
)
def test_odd_ways_to_call_them(kind: type[nn.Module], expected: set[str]) -> None:
    net, batch = normed(kind), tiny.pictures(2)
    assert folded(net, batch) == expected
    mine, theirs = both(net, batch, [Gradient()])
    assert_same(mine, theirs, EXACT)


def test_what_the_network_returns_is_not_folded() -> None:
    class ReturnsItself(Normed):
        def forward(self, x: Tensor) -> Tensor:
            y = self.conv5(self.norm1(self.conv1(x)).relu())
            self.norm5(y)
            return y

    assert folded(normed(ReturnsItself), tiny.pictures(2)) == {"conv1"}


class Branching(Normed):
    """Dark images pass the normalisation by, which noise does not tell."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        x = self.norm1(y if x.amax() > 0 else y * 1).relu()
        return self.fc(self.norm5(self.conv5(x)).relu().mean((2, 3)))


class Swallowing(Branching):
    """Catches whatever happens inside."""

    def forward(self, x: Tensor) -> Tensor:
        try:
            return super().forward(x)
        except Exception:
            return x.new_zeros(len(x), 5) + x.sum()


class Again(Normed):
    """Dark images pass the normalisation twice, which leaves nothing that was given and not taken."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x))
        x = y if x.amax() > 0 else self.norm1(y)
        return self.fc(self.norm5(self.conv5(x.relu())).mean((2, 3)))


@pytest.mark.parametrize("kind", [Branching, Swallowing, Again])
def test_another_way_than_on_noise_runs_the_network_itself(kind: type[nn.Module]) -> None:
    net, batch = normed(kind), tiny.pictures(2)
    take_notes()
    for images in (batch.abs(), -batch.abs()):
        assert folded(net, images) == FOLDED
        mine, theirs = both(net, images, [Gradient(), Activation("norm1")])
        assert_same(mine, theirs, EXACT)
    need = Scores(Noisy(at=INPUT))
    mine, theirs = both(net, -batch.abs() - 9, [need])
    assert_same(mine, theirs, EXACT)
    ((told, _),) = take_notes()  # once for all batches
    assert "--no-fold" in told


def test_weights_that_were_rewritten_are_folded_again() -> None:
    net, batch = normed(), tiny.pictures(1)
    one = find_twin(net, batch, ())
    assert find_twin(net, batch, ()) is one
    _, before = both(net, batch, [Gradient()])
    for change in (
        lambda: net.conv1.weight.data.mul_(1.5),
        lambda: net.conv1.weight[:, 1:].mul_(1.5),
        lambda: net.norm5.running_mean.sub_(0.5),
        lambda: setattr(net.norm1, "eps", 0.5),
        lambda: setattr(net.conv1, "padding", (1, 1)),
        lambda: setattr(net, "conv5", nn.Conv2d(4, 4, 1).double().eval().requires_grad_(False)),
    ):
        change()
        mine, theirs = both(net, batch, [Gradient()])
        assert_same(mine, theirs, EXACT)
        assert not torch.allclose(theirs[-1], before[-1], rtol=1e-6)  # or nothing was tested
        before = theirs
    assert find_twin(net, batch, ()) is not one


def test_what_the_forward_sets_and_what_others_set_is_seen_on_both_sides() -> None:
    class Moody(Normed):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x) * self.mood

    net, batch = tiny.build(Moody), tiny.pictures(1)
    lively(net).mood = 1
    assert folded(net, batch) == FOLDED
    net.mood = 2
    expected, before = net(batch), net.calls
    seen = observe(net, batch, Plan.of([]), tiny.first_class)
    assert (net.mood, net.calls) == (2, before + 1)
    torch.testing.assert_close(seen.logits, expected, rtol=1e-11, atol=0)


def test_hooks_of_others_fire_and_are_left() -> None:
    net, batch = (
        lively(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), nn.Flatten())),
        [],
    )
    net.eval()
    net.double().requires_grad_(False)
    images, heard = tiny.pictures(1), batch
    for name in ("", "0", "0.2"):
        net.get_submodule(name).register_forward_hook(lambda _m, _i, output, name=name: heard.append((name, output)))
    assert folded(net, images) == {"0.0"}
    heard.clear()
    observe(net, images, Plan.of([Activation("0")]), tiny.first_class)
    mine = list(heard)
    heard.clear()
    observe(net, images, Plan.of([Activation("0")]), tiny.first_class, execution=PLAIN)
    assert [name for name, _ in mine] == [name for name, _ in heard] == ["0.2", "0", ""]
    assert_same([output for _, output in mine], [output for _, output in heard], EXACT)
    assert all(len(net.get_submodule(name)._forward_hooks) == 1 for name in ("", "0", "0.2"))


def test_a_twin_goes_with_its_network() -> None:
    net, batch = normed(), tiny.pictures(1)
    twin = find_twin(net, batch, ())
    assert twin is not None
    gone = ref(net), ref(twin.net)
    del net, twin
    gc.collect()
    assert [one() for one in gone] == [None, None]


def test_the_layout_of_weights_is_kept() -> None:
    net = normed().to(memory_format=torch.channels_last)
    batch = tiny.pictures(2).to(memory_format=torch.channels_last)
    twin = find_twin(net, batch, ())
    assert twin is not None
    assert twin.net.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert not twin.net.conv1.weight.requires_grad


@pytest.mark.parametrize("dimensions", [1, 3])
def test_other_dimensions(dimensions: int) -> None:
    conv, norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv3d, nn.BatchNorm3d))[dimensions == 3]
    net = lively(nn.Sequential(conv(2, 4, 3, groups=2), norm(4), nn.ReLU()).double().eval().requires_grad_(False))
    batch = torch.randn(2, 2, *[6] * dimensions, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    twin = find_twin(net, batch, ())
    assert twin is not None
    with twin.in_use() as copy:
        assert_same([copy(batch)], [net(batch)], EXACT)


def test_frozen_statistics() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), FrozenBatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    lively(net.double().eval().requires_grad_(False))
    assert folded(net, tiny.pictures(1)) == {"0"}
    mine, theirs = both(net, tiny.pictures(2), [Gradient(), Activation("1")])
    assert_same(mine, theirs, EXACT)


# --- what is read ------------------------------------------------------------------------------------------

NEEDS = {
    "input": [Gradient()],
    "rectify": [Gradient(through="rectify")],
    "guide": [Gradient(through="guide"), Gradient()],
    "norm": [Activation("norm5"), Gradient("norm5"), Gradient("norm1")],
    "convolution": [Activation("conv5"), Gradient("conv5"), Gradient("norm1")],
    "biases": [BiasGradients(), Gradient()],
    "variants": [GradientOver(Noisy(at=INPUT), TargetLogit(0)), Scores(Noisy(at=INPUT))],
    "variants and a layer": [GradientOver(Noisy(at=INPUT), TargetLogit(0), at="norm1")],
    "variants and a convolution": [GradientOver(Noisy(at=INPUT), TargetLogit(0), at="conv5")],
    "variants of a layer": [Scores(Unaltered("norm1")), Activation("conv1")],
    "variants of a convolution": [Scores(Unaltered("conv5"))],
}


@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_kind_of_need_is_answered_the_same(name: str, precision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = normed(), tiny.pictures(2)
    if precision == "bf16":
        net, batch = net.float(), batch.float()
    ran: list[set[str]] = []
    names = {module: name for name, module in net.named_modules()}

    def noted(*given: Any) -> Any:
        twin = find_twin(*given)
        ran.append({names[pair.convolution] for pair in twin.pairs} if twin else set())
        return twin

    for room in (twins, __import__("cnnviz_cli.engine.graph", fromlist=["graph"])):
        monkeypatch.setattr(room, "find_twin", noted)
    needs = NEEDS[name]
    found = []
    for fold in (True, False):
        execution = Execution(precision, fold=fold)
        plan = Plan.of(needs)
        seen = observe(net, batch, plan, tiny.first_class, execution=execution, given=given_for(batch))
        found.append([*(seen.evidence[need] for need in needs), seen.logits])
        if fold:
            assert ran
            read = {"conv1", "conv5"} & {need.place for need in needs}
            assert FOLDED in ran or read
            assert all(FOLDED - one <= read for one in ran)
            ran.clear()
    assert not ran
    if precision == "fp32":
        assert_same(*found, relative=EXACT)
    for one, other in zip(*found, strict=True):  # rounded to 8 bits, rectifiers of single positions switch
        assert float((one - other).norm()) <= 0.1 * float(other.norm())


# --- on real networks --------------------------------------------------------------------------------------

CLASSIFIERS = {
    "resnet18": 0, "googlenet": 0, "densenet121": 62, "mobilenet_v3_small": 0, "regnet_y_400mf": 0, "vgg11_bn": 0,
    "shufflenet_v2_x0_5": 0, "efficientnet_b0": 0, "squeezenet1_1": 0,
}  # fmt: skip


ALIKE = {"googlenet", "regnet_y_400mf", "shufflenet_v2_x0_5", "squeezenet1_1"}
"""Built of what the others have: convolutions before their norm, grouped and by themselves, in branches."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name for name in CLASSIFIERS]
)
def test_on_torchvisions_classifiers(name: str) -> None:
    """DenseNet normalises before it convolves: only its stem and the second halves of its layers can be folded."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
        net = vgg11(batch_norm=True) if name == "vgg11_bn" else models.get_model(name, weights=None, **settings)
        lively(net.eval().requires_grad_(False))
    norms = [layer for layer, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    batch = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert len(norms) - count_folded(net, batch) == CLASSIFIERS[name]
    layers = [norms[len(norms) // 2], norms[-1]] if norms else ["features.3"]
    needs = [Gradient(), *(need for layer in layers for need in (Activation(layer), Gradient(layer)))]
    mine, theirs = both(net, batch, needs)
    # Rectifiers that a last bit switches move the gradient's own last digits.
    assert_same(mine[1:2] + mine[-1:], theirs[1:2] + theirs[-1:], 1e-5)
    net, batch = net.double(), batch.double()
    mine, theirs = both(net, batch, needs)
    assert_same(mine, theirs, 1e-9)


class Demanding(Normed):
    """Refuses inputs of less than 70 pixels a side."""

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[2:]) < 70:
            raise ValueError("too small")
        x = self.norm1(self.conv1(x)).relu()
        return self.fc(self.norm5(self.conv5(x)).relu().mean((2, 3)))


def test_a_network_that_refuses_small_inputs_is_tried_on_the_size_of_its_own() -> None:
    net = normed(Demanding)
    batch = torch.randn(1, 3, 72, 90, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert folded(net, batch) == FOLDED
    mine, theirs = both(net, batch, [Gradient()])
    assert_same(mine, theirs, EXACT)


def test_what_is_folded_does_not_depend_on_the_size_of_the_first_image() -> None:
    sizes: list[tuple[int, ...]] = []
    net = normed()
    hook = net.register_forward_pre_hook(lambda _m, inputs: sizes.append(tuple(inputs[0].shape)))
    find_twin(net, torch.zeros(2, 3, 100, 80, dtype=torch.float64), ())
    hook.remove()
    assert set(sizes) == {(1, 3, 64, 64)}


def test_twins_share_what_is_fused() -> None:
    net, batch = normed(), tiny.pictures(1)
    one, other = find_twin(net, batch, ()), find_twin(net, batch, ("conv1",))
    assert one is not None
    assert other is not None
    assert one is not other
    assert one.net.conv5.weight is other.net.conv5.weight
    assert other.net.conv1 is net.conv1


def test_on_a_segmenter() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)
    net = lively(net.double().eval().requires_grad_(False))
    batch = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    twin = find_twin(net, batch, ())
    assert twin is not None
    assert not any(isinstance(module, nn.BatchNorm2d) for module in twin.net.modules())
    with twin.in_use() as copy:
        assert_same([copy(batch)["out"]], [net(batch)["out"]], 1e-9)


def test_make_twin_leaves_what_has_no_pair_alone() -> None:
    net = normed()
    twin = make_twin(net, [], {})
    assert twin.net is net


def test_watching_a_network_does_not_import_torchs_compiler() -> None:
    code = """
import sys
import torch
from torch import nn
from cnnviz_cli.engine.twins import find_twin
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
assert find_twin(net, torch.zeros(1, 3, 8, 8), ()) is not None
from cnnviz_cli.models.inspect.outputs import NetworkOutput, find_values
likely = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Sigmoid()).eval()
returned = NetworkOutput.from_output(likely(torch.zeros(1, 3, 2, 2)), None)
assert find_values(likely, (3, 2, 2), returned).values == "probabilities"
assert "sympy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
