"""The rescale rule: by hand, a whole network in slow loops, captum where it is right, and exact completeness."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.needs import INPUT, Evidence, Multipliers, Need
from cnnviz_cli.core.objectives import Contrast, Negated, TargetLogit
from cnnviz_cli.engine import Plan, observe

SLOW = {"rtol": 1e-9, "atol": 1e-13}


@dataclass(frozen=True)
class Fixed:
    """One reference for every image."""

    values: tuple[float, ...]
    shape: tuple[int, ...]
    at: str = INPUT
    needs: tuple[Need, ...] = ()
    count: int = 1

    def make(self, _evidence: Evidence, _image: int, _start: int, _stop: int) -> Tensor:
        return torch.tensor(self.values, dtype=torch.float64).view(1, *self.shape)

    def label(self) -> str:
        return "fixed"


def fixed(reference: Tensor) -> Fixed:
    return Fixed(tuple(reference.flatten().tolist()), tuple(reference.shape))


def multipliers(net: nn.Module, batch: Tensor, reference: Tensor, target: int = 0, **how: object) -> Tensor:
    need = Multipliers(fixed(reference), **how)
    yes = int(net(batch.clone()).shape[1] == 1)  # of one score the second of two sides is the score itself
    chosen = torch.tensor([[target + yes, 4]]).expand(len(batch), -1)
    return observe(net, batch, Plan.of([need]), lambda _scores: chosen).evidence[need]


class Seen(nn.Module):
    """A function of the picture as a network, no weights of its own."""

    def __init__(self, form: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        return self.form(x)


def of_form(form: Callable[[Tensor], Tensor], values: list[float], reference: list[float]) -> list[float]:
    """Multipliers of three numbers, as a picture of one pixel, for class 0 of what `form` makes of it."""
    x, other = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (values, reference))
    return multipliers(Seen(form).eval(), x[None], other).flatten().tolist()


# --- by hand -----------------------------------------------------------------------------------------------


def test_two_layers() -> None:
    # Hidden before the rectifier: 3 - 1 = 2 and 1, at the reference 0 - 2 = -2 and 2; after it 2 and 1, 0 and 2. The
    # first lets (2 - 0) / (2 - -2) = 1/2 through, the second all. Score 3 h1 + 2 h2: 8 and 4.
    first = torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, 0.0]]).double()
    second = torch.tensor([[3.0, 2.0]]).double()
    form = lambda x: functional.linear(functional.linear(x.flatten(1), first).relu(), second)  # noqa: E731
    found = of_form(form, [3, 1, 5], [0, 2, 0])
    assert found == [1.5, 0.5, 0]
    assert 3 * found[0] - found[1] == 8 - 4


def _in_place(form: Callable[[Tensor], object]) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        hidden = x * 1
        form(hidden)
        return hidden.sum(1).flatten(1)

    return call


_total = lambda x: x.sum(1).flatten(1)  # noqa: E731

FORMS: dict[str, tuple[Callable[[Tensor], Tensor], list[float]]] = {
    # of (2, -1, 3) compared with (-2, -3, 3): the third does not differ, and has the derivative
    "relu": (lambda x: _total(x.relu()), [0.5, 0, 1]),
    "F.relu_": (_in_place(functional.relu_), [0.5, 0, 1]),
    "nn.ReLU in place": (_in_place(nn.ReLU(inplace=True)), [0.5, 0, 1]),
    "clamp": (_in_place(lambda x: x.clamp_(min=0)), [0.5, 0, 1]),
    "maximum": (lambda x: _total(torch.maximum(x, torch.zeros(()).double())), [0.5, 0, 1]),
    "leaky": (lambda x: _total(functional.leaky_relu(x, 0.5)), [0.75, 0.5, 1]),
    "square": (lambda x: _total(x**2), [0, -4, 6]),
    "softplus": (
        lambda x: _total(functional.softplus(x)),
        [0.5, (0.3132616875182228 - 0.04858735157374206) / 2, 1 / (1 + 2.718281828459045**-3)],
    ),
    "sum": (lambda x: (x[:, 0] - 2 * x[:, 1] + 1).flatten(1), [1, -2, 0]),
    "product": (lambda x: (x[:, 0] * x[:, 1]).flatten(1), [-2, 0, 0]),
    "product in place": (_in_place(lambda x: x.mul_(x.flip(1))), [6, -4, 0]),
    # 3 is the largest of both: what it adds is nothing
    "no change of the maximum": (lambda x: x.view(-1, 3).amax(1, keepdim=True), [0, 0, 1]),
}


@pytest.mark.parametrize("name", FORMS)
def test_each_operation_by_hand(name: str) -> None:
    form, expected = FORMS[name]
    assert of_form(form, [2, -1, 3], [-2, -3, 3]) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("values", "reference", "expected"),
    [
        ([1, 4, 0], [3, 2, 0], [0, 0.5, 0]),  # 4 is 1 more than 3: to where it is, which differs by 2
        ([1, 2, 0], [5, 0, 0], [0.75, 0, 0]),  # 2 is 3 less than 5: to where 5 was, which differs by -4
    ],
)
def test_a_maximum_by_hand(values: list[float], reference: list[float], expected: list[float]) -> None:
    found = of_form(lambda x: functional.max_pool2d(x.view(-1, 1, 1, 3), (1, 3)).flatten(1), values, reference)
    assert found == expected


def test_a_matrix_product_by_hand() -> None:
    # (1, 2) (3, 4)^T = 11 and (0, 1) (1, 0)^T = 0: each with the other's mean, (2, 2) and (0.5, 1.5).
    def form(x: Tensor) -> Tensor:
        return (x[:, 0] @ x[:, 1].transpose(1, 2)).flatten(1)

    batch = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]]).double()[None]
    other = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]).double()
    found = multipliers(Seen(form).eval(), batch, other)
    assert found.flatten().tolist() == [2, 2, 0.5, 1.5]
    assert ((batch - other) * found).sum() == 11


# --- slow loops --------------------------------------------------------------------------------------------


def _slope_slowly(before: Tensor, other_before: Tensor, curve: Callable[[Tensor], Tensor]) -> Tensor:
    result = torch.zeros_like(before)
    for place in range(before.numel()):
        a, b = before.flatten()[place], other_before.flatten()[place]
        result.view(-1)[place] = (curve(a) - curve(b)) / (a - b)
    return result


def _pool_slowly(given: Tensor, before: Tensor, other: Tensor) -> Tensor:
    """Through a 3x3 maximum of stride 1 and padding 1, window by window."""
    _channels, rows, columns = before.shape
    result = torch.zeros_like(before)
    for c, i, j in torch.cartesian_prod(*(torch.arange(n) for n in before.shape)).tolist():
        window = [
            (c, r, s) for r in range(max(i - 1, 0), min(i + 2, rows)) for s in range(max(j - 1, 0), min(j + 2, columns))
        ]
        here, there = max(window, key=lambda p: float(before[p])), max(window, key=lambda p: float(other[p]))
        gained = before[here] - other[there]
        winner = here if gained > 0 else there
        if gained != 0:
            result[winner] += given[c, i, j] * gained / (before[winner] - other[winner])
    return result


def test_an_overlapping_pool_and_a_relu6_position_by_position() -> None:
    net, batch = tiny.build(tiny.OverlappingPool), tiny.pictures(2)
    batch = batch * 20  # far enough for 6
    reference = tiny.pictures(1, seed=7)[0] * 20
    found = multipliers(net, batch, reference, target=2)[1]

    def stages(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        one = net.conv1(x)
        pooled = net.pool(one.clamp(min=0))
        return one, one.clamp(min=0), net.conv2(pooled)

    conv1, relu1, conv2 = (t[0] for t in stages(batch[1:]))
    other1, others, other2 = (t[0] for t in stages(reference[None]))
    given = (net.fc.weight[2] / 36).view(6, 1, 1) * _slope_slowly(conv2, other2, lambda v: v.clamp(0, 6))
    given = functional.conv_transpose2d(given[None], net.conv2.weight, stride=2, padding=1, output_padding=1)[0]
    given = _pool_slowly(given, relu1, others) * _slope_slowly(conv1, other1, lambda v: v.clamp(min=0))
    expected = functional.conv_transpose2d(given[None], net.conv1.weight, padding=1)[0]
    torch.testing.assert_close(found, expected, **SLOW)


# --- completeness ------------------------------------------------------------------------------------------


def _missed(net: nn.Module, batch: Tensor, shares: Tensor, reference: Tensor, target: int) -> float:
    """How far the shares are from the scores' differences, relative to the largest of these."""
    gained = (net(batch) - net(reference[None]))[:, target]
    return float((shares.sum((1, 2, 3)) - gained).abs().max() / gained.abs().max())


def _zoo(name: str) -> nn.Module:
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision announces the cost of initialising googlenet
        torch.manual_seed(0)
        net = models.get_model(name, weights=None, num_classes=10)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # one batch sets its statistics, so that signals neither die out nor explode
        net.double().train()(torch.randn(4, 3, 64, 64).double())
        return net.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", tiny.NETS, ids=[k.__name__ for k in tiny.NETS])
def test_shares_add_up_exactly_in_every_tiny_network(kind: type[nn.Module]) -> None:
    net, batch, reference = tiny.build(kind), tiny.pictures(3), tiny.pictures(1, seed=9)[0]
    found = multipliers(net, batch, reference, target=1)
    assert _missed(net, batch, found * (batch - reference), reference, 1) < 1e-12


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mobilenet_v3_small", "squeezenet1_1", "regnet_y_400mf"])
def test_shares_add_up_exactly_with_gates_and_shuffles(name: str) -> None:
    net = _zoo(name)
    batch = torch.randn(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    reference = torch.full((3, 64, 64), -1.0).double()
    found = multipliers(net, batch, reference, target=1)
    assert _missed(net, batch, found * (batch - reference), reference, 1) < 1e-9


def test_objectives_are_explained_as_they_are() -> None:
    net, batch, reference = tiny.build(tiny.Residual), tiny.pictures(2), tiny.pictures(1, seed=9)[0]
    two = multipliers(net, batch, reference, 2)
    four = multipliers(net, batch, reference, 4)
    told_apart = multipliers(net, batch, reference, 2, of=Contrast(0, 1))
    torch.testing.assert_close(told_apart, two - four, **SLOW)
    torch.testing.assert_close(multipliers(net, batch, reference, 2, of=Negated(TargetLogit())), -two, **SLOW)


def test_a_reference_that_is_the_image_leaves_the_gradient() -> None:
    net, batch = tiny.build(tiny.Functional), tiny.pictures(1)
    leaf = batch.clone().requires_grad_()
    (exact,) = torch.autograd.grad(net(leaf)[0, 3], leaf)
    torch.testing.assert_close(multipliers(net, batch, batch[0], 3), exact, **SLOW)


# --- captum ------------------------------------------------------------------------------------------------


def _captum(net: nn.Module, batch: Tensor, reference: Tensor, target: int) -> Tensor:
    from captum.attr import DeepLift

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it sets hooks
        shares = DeepLift(net).attribute(batch.clone().requires_grad_(), reference[None], target)
    return shares.detach()


class Apart(tiny.Plain):
    """A convolution between every two nonlinearities."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu2(self.conv2(self.pool(self.conv1(x)))).mean((2, 3)))


def _both(net: nn.Module) -> tuple[Tensor, Tensor, Callable[[Tensor], float]]:
    """Our shares and captum's, and how far shares are from adding up."""
    batch, reference = tiny.pictures(3), tiny.pictures(1, seed=9)[0]
    ours = multipliers(net, batch, reference, 2) * (batch - reference)
    theirs = _captum(net, batch, reference, 2)
    assert theirs.abs().max() > 1e-4
    return ours, theirs, lambda shares: _missed(net, batch, shares, reference, 2)


@pytest.mark.parametrize("kind", [nn.ReLU, nn.Softplus, nn.ELU, nn.Sigmoid, nn.LeakyReLU])
@pytest.mark.parametrize("net", [tiny.Plain, Apart])
def test_shares_equal_captums_on_modules_used_once(net: type[nn.Module], kind: type[nn.Module]) -> None:
    made = tiny.build(net)
    made.relu1, made.relu2 = kind().eval(), kind().eval()
    if net is tiny.Plain:
        made.pool = nn.AvgPool2d(2).eval()
    ours, theirs, _missing = _both(made)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-13)


def test_captum_takes_the_derivative_of_a_functional_rectifier() -> None:
    class Called(Apart):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(functional.relu(self.conv2(self.pool(self.conv1(x)))).mean((2, 3)))

    ours, theirs, missing = _both(tiny.build(Called))
    assert missing(ours) < 1e-12
    assert missing(theirs) > 0.05
    # With a module for the same function it is right, and agrees with ours of the function.
    torch.testing.assert_close(ours, _both(tiny.build(Apart))[1], rtol=1e-9, atol=1e-13)


def test_captum_refuses_a_module_used_twice() -> None:
    class Shared(tiny.Plain):
        def forward(self, x: Tensor) -> Tensor:
            x = self.relu1(self.conv1(x))
            return self.fc(self.relu1(self.conv2(x)).mean((2, 3)))

    net, batch, reference = tiny.build(Shared), tiny.pictures(2), tiny.pictures(1, seed=9)[0]
    ours = multipliers(net, batch, reference, 2) * (batch - reference)
    assert _missed(net, batch, ours, reference, 2) < 1e-12
    with pytest.raises(RuntimeError, match="used more than once"):
        _captum(net, batch, reference, 2)


def test_captum_skips_its_rule_where_nonlinearities_follow_each_other() -> None:
    # A pool right after a rectifier: their hooks sit on one tensor, and the rectifier's runs before the pool's has
    # put its own number there.
    ours, theirs, missing = _both(tiny.build(tiny.Plain))
    assert missing(ours) < 1e-12
    assert missing(theirs) > 0.05


def test_captum_loses_what_overlapping_windows_share() -> None:
    # Its max_unpool2d assigns where several windows have one winner.
    net = tiny.build(Apart)
    net.pool = nn.MaxPool2d(3, stride=1, padding=1).eval()
    ours, theirs, missing = _both(net)
    assert missing(ours) < 1e-12
    assert missing(theirs) > 0.05


# --- refusals and traces -----------------------------------------------------------------------------------


def _filled(x: Tensor) -> Tensor:
    kept = torch.zeros_like(x)
    kept[:, :1] = x[:, :1]
    return kept.flatten(1)


REFUSED: dict[str, Callable[[Tensor], Tensor]] = {
    "layer_norm": lambda x: functional.layer_norm(x.flatten(1), (3,)),
    "softmax": lambda x: x.flatten(1).softmax(1),
    "div": lambda x: (x[:, :1] / x[:, 1:]).flatten(1),
    "batch_norm": lambda x: functional.batch_norm(x, None, None, training=True).flatten(1),
    "maximum": lambda x: torch.maximum(x[:, :1], x[:, 1:]).flatten(1),
    "setitem": _filled,
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_operation_without_a_rule_is_refused_by_name(name: str) -> None:
    net, batch = Seen(REFUSED[name]).eval(), tiny.pictures(2)[:, :, :1, :1]
    before = tiny.state_of(net)
    with pytest.raises(UsageError, match=name):
        multipliers(net, batch, batch[0] * 2)
    assert tiny.state_of(net) == before


@pytest.mark.parametrize("kind", tiny.NETS, ids=[k.__name__ for k in tiny.NETS])
def test_nothing_is_left_behind_also_when_the_backward_fails(
    kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, batch, reference = tiny.build(kind), tiny.pictures(2), tiny.pictures(1, seed=9)[0]
    before, pixels = tiny.state_of(net), batch.clone()
    multipliers(net, batch, reference)
    assert tiny.state_of(net) == before

    def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("the engine broke")

    monkeypatch.setattr(torch.autograd, "_engine_run_backward", broken)
    with pytest.raises(RuntimeError, match="the engine broke"):
        multipliers(net, batch, reference)
    assert tiny.state_of(net) == before
    assert torch.equal(batch, pixels)
