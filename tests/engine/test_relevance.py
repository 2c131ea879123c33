"""Relevance: each rule by hand, whole networks in slow loops, zennit where it is right, and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import pytest
import tiny
import torch
from peers import vgg11
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.needs import Relevance
from cnnviz_cli.core.objectives import Contrast, Negated, TargetLogit
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine import relevance_rules as rules
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.relevance_rules import EPSILON, Linear

LOW, HIGH = (-2.0, -2.1, -1.9), (2.0, 2.3, 2.6)
COMPOSITES = ["epsilon", "epsilon-plus-flat", "epsilon-gamma-box"]


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Equal but for rounding, which a quotient by next to nothing makes larger by up to 1 / epsilon."""
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def need_of(composite: str, **how: object) -> Relevance:
    return Relevance(composite, **{"low": LOW, "high": HIGH, **how})


def relevance(net: nn.Module, batch: Tensor, need: Relevance, target: int = 0, against: int = 4) -> Tensor:
    yes = int(net(batch.clone()).shape[1] == 1)  # of one score the second of two sides is the score itself
    chosen = torch.tensor([[target + yes, against]]).expand(len(batch), -1)
    return observe(net, batch, Plan.of([need]), lambda _scores: chosen).evidence[need]


class Seen(nn.Module):
    """A function of the picture as a network with one class a number it gives, no weights of its own."""

    def __init__(self, form: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        return self.form(x)


def of_form(form: Callable[[Tensor], Tensor], values: list[float], composite: str = "epsilon", **how: object) -> Tensor:
    """Relevance of three numbers, as a picture of one pixel, for class 0 of what `form` makes of (1, 3, 1, 1)."""
    batch = torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)
    return relevance(Seen(form).eval(), batch, need_of(composite, **how)).flatten()


def assert_about(found: Tensor, expected: list[float]) -> None:
    """Equal but for epsilon."""
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), rtol=1e-5, atol=1e-5)


# --- by hand -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "x", "w", "expected"),
    [
        (rules.epsilon, [1, 2], [3, -1], [3, -2]),  # z = 3 - 2
        (rules.z_plus, [1, 2], [3, -1], [1, 0]),  # z = 3
        (rules.z_plus, [1, -2], [3, -1], [3 / 5, 2 / 5]),  # -2 times -1 raises it too
        (rules.flat, [1, 2], [3, -1], [0.5, 0.5]),
        (rules.gamma, [1, 2], [3, -1], [3.75 / 1.75, -2 / 1.75]),  # 3 (1 + 1/4) - 2
        (rules.gamma, [1, 2], [1, -2], [-1 / 4, 5 / 4]),  # z = -3 < 0: 1 - 4 (1 + 1/4)
        (rules.gamma, [1, -2], [3, -1], [3.75 / 6.25, 2.5 / 6.25]),
    ],
)
def test_each_rule_of_one_neuron(rule: rules.Rule, x: list[float], w: list[float], expected: list[float]) -> None:
    layer = Linear(functional.linear, torch.tensor([w]).double(), None)
    assert_about(rule(layer, torch.tensor([x]).double(), torch.ones(1, 1).double())[0], expected)


def test_the_box_rule_of_one_neuron() -> None:
    # (1 - -1) 3 + (2 - 3) (-1) = 6 + 1
    layer = Linear(functional.linear, torch.tensor([[3.0, -1.0]]), None)
    low, high = torch.full((1, 2), -1.0), torch.full((1, 2), 3.0)
    assert_about(rules.z_box(layer, torch.tensor([[1.0, 2.0]]), torch.ones(1, 1), (low, high))[0], [6 / 7, 1 / 7])


@pytest.mark.parametrize(
    ("composite", "expected"),
    [("epsilon", [2, 4, 0]), ("epsilon-plus-flat", [2, 2, 2]), ("epsilon-gamma-box", [2, 3, 1])],
)
def test_two_layers(composite: str, expected: list[float]) -> None:
    # Hidden 1 + 2 = 3 and 1 - 2 + 0 = -1, cut to 0; score 2 * 3 = 6, all of it from the first hidden unit.
    first = torch.tensor([[1.0, 1.0, 0.0], [1.0, -1.0, 5.0]]).double()
    second = torch.tensor([[2.0, 7.0], [1.0, 1.0]]).double()
    if composite == "epsilon-gamma-box":  # how far above -1: 2, 3 and, its weight now being 1, 1
        first[0, 2] = 1
    found = of_form(
        lambda x: functional.linear(functional.linear(x.flatten(1), first).relu(), second),
        [1, 2, 0],
        composite,
        low=(-1.0,) * 3,
        high=(9.0,) * 3,
    )
    assert_about(found, expected)


W = torch.tensor([[1.0, 1.0, 1.0]]).double()


def _in_place_sum(x: Tensor) -> Tensor:
    a, b = x[:, 0].clone(), x[:, 1]
    a += b
    return a.flatten(1)


FORMS: dict[str, tuple[Callable[[Tensor], Tensor], list[float]]] = {
    # of (1, 3, -2)
    "sum of signals": (lambda x: (x[:, 0] + x[:, 1]).flatten(1), [1, 3, 0]),
    "sum in place": (_in_place_sum, [1, 3, 0]),
    "difference": (lambda x: (x[:, 1] - x[:, 0]).flatten(1), [-1, 3, 0]),
    "scaled sum": (lambda x: torch.add(x[:, 1], x[:, 0], alpha=2).flatten(1), [2, 3, 0]),
    "twice the same": (lambda x: (x[:, 1] + x[:, 1]).flatten(1), [0, 6, 0]),
    "constant added": (lambda x: (x[:, 0] + 5).flatten(1), [6, 0, 0]),
    "added to a constant": (lambda x: (torch.ones(1, 1, 1).double() + x[:, 0]).flatten(1), [2, 0, 0]),
    "from a constant": (lambda x: (5 - x[:, 0]).flatten(1), [4, 0, 0]),
    "constant factor": (lambda x: (x[:, 0] / 2 * 8).flatten(1), [4, 0, 0]),
    "mean": (lambda x: x.mean(1).flatten(1), [1 / 3, 1, -2 / 3]),
    "average pool": (lambda x: functional.adaptive_avg_pool2d(x.view(1, 1, 3, 1), 1).flatten(1), [1 / 3, 1, -2 / 3]),
    "maximum": (lambda x: functional.max_pool2d(x.view(1, 1, 3, 1), (3, 1)).flatten(1), [0, 3, 0]),
    "joined": (lambda x: torch.cat([x[:, 1:], x[:, :1]], 1).sum(1).flatten(1), [1, 3, -2]),
    "gate": (lambda x: (x[:, 1] * x[:, 0].sigmoid()).flatten(1), [0, 3 / (1 + 2.718281828**-1), 0]),
    "gate first": (lambda x: (torch.sigmoid(x[:, 0] * 0) * x[:, 1]).flatten(1), [0, 1.5, 0]),
    "gate spread": (lambda x: (x[:, :2] * x[:, 2:]).sum(1).flatten(1), [-2, -6, 0]),
    "hard gate": (lambda x: (x[:, 1] * (functional.relu6(x[:, 0] + 3) / 6)).flatten(1), [0, 2, 0]),
    "matrix product": (lambda x: x.flatten(1) @ W.T, [1, 3, -2]),
    "matrix product, weight first": (lambda x: W @ x.view(3, 1), [1, 3, -2]),
}


@pytest.mark.parametrize("name", FORMS)
def test_each_operation_by_hand(name: str) -> None:
    form, expected = FORMS[name]
    assert_about(of_form(form, [1, 3, -2]), expected)


ACTIVATIONS: list[Callable[[Tensor], Tensor]] = [
    nn.ReLU(), nn.ReLU(inplace=True), torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, nn.ReLU6(inplace=True),
    lambda x: x.clamp(min=0), lambda x: torch.maximum(x, torch.zeros(())), nn.GELU(), nn.SiLU(inplace=True),
    nn.Hardswish(), nn.ELU(inplace=True), nn.LeakyReLU(), nn.PReLU(), nn.Softplus(), nn.Tanh(), nn.Mish(),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(ACTIVATIONS)))
def test_activations_hand_on_what_they_get(number: int) -> None:
    act = ACTIVATIONS[number]
    if isinstance(act, nn.Module):
        act = act.double().eval().requires_grad_(False)

    def form(x: Tensor) -> Tensor:
        hidden = functional.linear(x.flatten(1), W)
        again = act(hidden)
        return hidden if getattr(again, "data_ptr", int)() == hidden.data_ptr() else again

    found = of_form(form, [1, 3, -2])
    score = float(act(torch.tensor([[2.0]]).double()))
    assert_about(found, [score / 2, score * 1.5, -score])


def test_a_batch_norm_of_its_own_is_a_linear_layer() -> None:
    norm = nn.BatchNorm2d(3, eps=0).double().eval()
    norm.running_mean.copy_(torch.tensor([1.0, 0.0, 0.0]))
    norm.running_var.fill_(4.0)  # (x - mean) / 2 + bias
    norm.requires_grad_(False).bias.copy_(torch.tensor([1.0, 0.0, 1.0]))
    # (1 - 1) / 2 + 1 = 1, 3 / 2, -2 / 2 + 1 = 0; their scores times the share x / 2 of each
    found = of_form(lambda x: norm(x).sum(1).flatten(1), [1, 3, -2])
    assert_about(found, [0.5, 1.5, 0])


@pytest.mark.parametrize("in_place", [False, True])
def test_the_box_follows_the_input_through_its_preprocessing(in_place: bool) -> None:
    # The network first makes 1 - 2x of x, so that -1 to 3 becomes -5 to 3.
    weight = torch.tensor([[3.0, -1.0, 0.5]]).double()

    def form(x: Tensor) -> Tensor:
        if in_place:
            x.mul_(-2).add_(1)
        else:
            x = torch.cat([torch.unsqueeze(x[:, i], 1) * -2 + 1 for i in range(3)], 1)
        return functional.linear(x.flatten(1), weight)

    found = of_form(form, [1, 2, 0], "epsilon-gamma-box", low=(-1.0,) * 3, high=(3.0,) * 3)
    moved = torch.tensor([[-1.0, -3.0, 1.0]]).double()
    layer, ends = Linear(functional.linear, weight, None), torch.ones_like(moved)
    expected = rules.z_box(layer, moved, functional.linear(moved, weight), (ends * -5, ends * 3))
    assert_same(found, expected.flatten())


# --- slow loops --------------------------------------------------------------------------------------------


def _safe(z: float) -> float:
    return z + EPSILON if z >= 0 else z - EPSILON


def _share_slowly(
    rule: str, patch: Tensor, w: Tensor, bias: float, low: Tensor, high: Tensor, takes: bool = True
) -> Tensor:
    """The share of each input of one neuron."""
    up, down = w.clamp(min=0), w.clamp(max=0)
    b = bias if takes else 0.0
    if rule == "flat":
        return torch.ones_like(w) / _safe(float(w.numel()))
    if rule == "epsilon":
        return patch * w / _safe(float((patch * w).sum()) + b)
    if rule == "box":
        parts = patch * w - low * up - high * down
        return parts / _safe(float(parts.sum()))  # b - max(b, 0) - min(b, 0) is nothing
    raising = torch.where(patch > 0, up, down) * patch
    if rule == "plus":
        return raising / _safe(float(raising.sum()) + max(b, 0))
    z = float((patch * w).sum()) + bias
    favoured = raising if z > 0 else torch.where(patch > 0, down, up) * patch
    parts = patch * w + 0.25 * favoured
    extra = max(b, 0) if z > 0 else min(b, 0)
    return parts / _safe(float(parts.sum()) + b + 0.25 * extra) * (z != 0)


def _conv_slowly(rule: str, x: Tensor, w: Tensor, b: Tensor, given: Tensor, stride: int, takes: bool = True) -> Tensor:
    """Relevance of (C, H, W) before a 3x3 convolution with padding 1: neuron by neuron."""
    channels, rows, columns = x.shape
    padded = functional.pad(x, (1, 1, 1, 1))
    inside = functional.pad(torch.ones_like(x), (1, 1, 1, 1))
    ends = [torch.tensor(end, dtype=torch.float64).view(-1, 1, 1).expand(3, 3, 3) for end in (LOW, HIGH)]
    result = torch.zeros_like(padded)
    for k, i, j in torch.cartesian_prod(*(torch.arange(n) for n in given.shape)).tolist():
        place = (slice(None), slice(i * stride, i * stride + 3), slice(j * stride, j * stride + 3))
        there = inside[place].bool()
        numbers = [padded[place][there], w[k][there], float(b[k])]
        limits = [end[there] for end in ends] if channels == 3 else [numbers[0], numbers[0]]
        spread = torch.zeros(there.shape, dtype=x.dtype)
        spread[there] = _share_slowly(rule, *numbers, *limits, takes) * given[k, i, j]
        result[place] += spread
    return result[:, 1 : rows + 1, 1 : columns + 1]


def _dense_slowly(x: Tensor, w: Tensor, b: Tensor, given: Tensor, takes: bool = True) -> Tensor:
    shares = [_share_slowly("epsilon", x, w[k], float(b[k]), x, x, takes) * given[k] for k in range(len(w))]
    return torch.stack(shares).sum(0)


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return conv.weight * scale.view(-1, 1, 1, 1), (conv.bias - norm.running_mean) * scale + norm.bias


@pytest.mark.parametrize("takes", [True, False], ids=["biases", "no-biases"])
@pytest.mark.parametrize("composite", COMPOSITES)
def test_a_residual_network_neuron_by_neuron(composite: str, takes: bool) -> None:
    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    found = relevance(net, batch, need_of(composite, biases=takes), target=3)[1]

    first = {"epsilon": "epsilon", "epsilon-plus-flat": "flat", "epsilon-gamma-box": "box"}[composite]
    later = {"epsilon": "epsilon", "epsilon-plus-flat": "plus", "epsilon-gamma-box": "gamma"}[composite]
    w1, b1 = _folded(net.conv1, net.bn1)
    w2, b2 = _folded(net.conv2, net.bn2)
    x = batch[1]
    hidden = functional.conv2d(x[None], w1, b1, 2, 1)[0].clamp(min=0)
    branch = functional.conv2d(hidden[None], w2, b2, 1, 1)[0]
    total = branch + hidden
    maps = total.clamp(min=0)
    pooled = maps.mean((1, 2))
    scores = net.fc(pooled)

    given = torch.zeros_like(scores)
    given[3] = scores[3]
    given = _dense_slowly(pooled, net.fc.weight, net.fc.bias, given, takes)
    given = torch.stack([maps[c] / 36 / _safe(float(pooled[c])) * given[c] for c in range(6)])
    safe = torch.where(total >= 0, total + EPSILON, total - EPSILON)
    below = _conv_slowly(later, hidden, w2, b2, given * branch / safe, 1, takes) + given * hidden / safe
    expected = _conv_slowly(first, x, w1, b1, below, 2, takes)
    assert_same(found, expected)
    assert_same(net(batch)[1], scores)


@pytest.mark.parametrize("composite", COMPOSITES)
def test_functional_in_place_and_shared_rectifiers_neuron_by_neuron(composite: str) -> None:
    net, batch = tiny.build(tiny.Functional), tiny.pictures(1)
    found = relevance(net, batch, need_of(composite), target=1)[0]
    first = {"epsilon": "epsilon", "epsilon-plus-flat": "flat", "epsilon-gamma-box": "box"}[composite]
    later = {"epsilon": "epsilon", "epsilon-plus-flat": "plus", "epsilon-gamma-box": "gamma"}[composite]
    x = batch[0]
    one = net.conv1(x).clamp(min=0)
    two = net.conv2(one).clamp(min=0)
    three = net.conv3(two).clamp(min=0)
    pooled = three.mean((1, 2))
    given = torch.zeros(5).double()
    given[1] = net.fc(pooled)[1]
    given = _dense_slowly(pooled, net.fc.weight, net.fc.bias, given)
    given = torch.stack([three[c] / 36 / _safe(float(pooled[c])) * given[c] for c in range(6)])
    given = _conv_slowly(later, two, net.conv3.weight, net.conv3.bias, given, 2)
    given = _conv_slowly(later, one, net.conv2.weight, net.conv2.bias, given, 1)
    expected = _conv_slowly(first, x, net.conv1.weight, net.conv1.bias, given, 1)
    assert_same(found, expected)


# --- conservation ------------------------------------------------------------------------------------------


def _unbiased(kind: type[nn.Module]) -> nn.Module:
    net = tiny.build(kind)
    for name, value in net.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            value.zero_()
    return net


@pytest.mark.parametrize("kind", tiny.NETS, ids=[k.__name__ for k in tiny.NETS])
@pytest.mark.parametrize("composite", COMPOSITES)
def test_without_biases_relevance_adds_up_to_the_objective(kind: type[nn.Module], composite: str) -> None:
    net, batch = _unbiased(kind), tiny.pictures(3)
    scores = net(batch)
    for objective, value in (
        (TargetLogit(), scores[:, 2]),
        (Contrast(0, 1), scores[:, 2] - scores[:, 4]),
        (Negated(TargetLogit()), -scores[:, 2]),
    ):
        found = relevance(net, batch, need_of(composite, of=objective), target=2)
        torch.testing.assert_close(found.sum((1, 2, 3)), value, rtol=2e-3, atol=0)


@pytest.mark.parametrize("kind", tiny.NETS, ids=[k.__name__ for k in tiny.NETS])
@pytest.mark.parametrize("composite", COMPOSITES)
def test_biases_that_take_nothing_leave_all_to_the_pixels(
    kind: type[nn.Module], composite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Epsilon takes its part too; what is lost to it is not to be asked here.
    monkeypatch.setattr(rules, "EPSILON", 1e-18)
    net, batch = tiny.build(kind), tiny.pictures(3)
    scores = net(batch)[:, 2]
    found = relevance(net, batch, need_of(composite, biases=False), target=2).sum((1, 2, 3))
    if (kind, composite) == (tiny.Functional, "epsilon-plus-flat"):
        # Some neurons have nothing but their bias to raise them, so that there is nobody to hand relevance to.
        assert ((0.9 * scores < found) & (found < (1 - 1e-4) * scores)).all()
        return
    torch.testing.assert_close(found, scores, rtol=1e-9, atol=0)
    taken = relevance(net, batch, need_of(composite), target=2).sum((1, 2, 3))
    assert ((taken / scores - 1).abs() > 1e-3).all()


@pytest.mark.parametrize(
    ("rule", "weights", "bias", "expected"),
    [
        (rules.epsilon, [3, -1], 4, [3, -2]),  # of 1 and 2, z = 3 - 2 whatever the bias
        (rules.z_plus, [3, -1], 4, [1, 0]),
        (rules.z_plus, [-3, -1], 9, [0, 0]),  # raised by its bias alone
        # The output 1 - 4 + 5 is positive, so that gamma favours what raises it: 1.25 - 4, though the sum is negative.
        (rules.gamma, [1, -2], 5, [-1.25 / 2.75, 4 / 2.75]),
        (rules.gamma, [1, -2], 0, [-1 / 4, 5 / 4]),
    ],
)
def test_a_bias_that_takes_nothing_of_one_neuron(
    rule: rules.Rule, weights: list[float], bias: float, expected: list[float]
) -> None:
    layer = Linear(functional.linear, torch.tensor([weights]).double(), torch.tensor([bias]).double(), takes=False)
    assert_about(rule(layer, torch.tensor([[1.0, 2.0]]).double(), torch.ones(1, 1).double())[0], expected)


def test_a_padded_border_takes_no_flat_relevance() -> None:
    # The flat rule of a corner shares among the 4 pixels that are there.
    weight = torch.randn(1, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net = Seen(lambda x: functional.conv2d(x, weight, padding=1)[:, :, 0, 0]).eval()
    batch = tiny.pictures(1)
    found = relevance(net, batch, need_of("epsilon-plus-flat"))[0]
    torch.testing.assert_close(found[:, :2, :2], net(batch)[0, 0].expand(3, 2, 2) / 12, rtol=1e-6, atol=0)
    assert found[:, 2:].abs().max() == 0


# --- zennit ------------------------------------------------------------------------------------------------


@cache
def _network(name: str, eps: float = 1e-5) -> nn.Module:
    """Made once, and never changed: drawing ten million weights takes longer than to explain."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = (
            models.get_model(name, weights=None, num_classes=10)
            if name == "resnet18"
            else vgg11(batch_norm=name == "vgg11_bn")
        )
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
                module.eps = eps
        return net.double().eval().requires_grad_(False)


def _zennit(
    net: nn.Module, batch: Tensor, composite: str, target: int, zeroed: str | None = None
) -> tuple[Tensor, Tensor]:
    """Its scores while its composite is in place, and its relevance."""
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonGammaBox, EpsilonPlusFlat
    from zennit.torchvision import ResNetCanonizer

    canonizers = [ResNetCanonizer() if isinstance(net, models.ResNet) else SequentialMergeBatchNorm()]
    ends = {n: torch.tensor(end, dtype=torch.float64).view(1, 3, 1, 1) for n, end in (("low", LOW), ("high", HIGH))}
    rules_of = EpsilonPlusFlat if composite == "epsilon-plus-flat" else EpsilonGammaBox
    made = rules_of(canonizers=canonizers, zero_params=zeroed, **(ends if rules_of is EpsilonGammaBox else {}))
    chosen = functional.one_hot(torch.full((len(batch),), target), 10)
    with warnings.catch_warnings(), Gradient(net, made) as attributor:
        warnings.simplefilter("ignore")
        return attributor(batch.clone().requires_grad_(), lambda scores: scores * chosen)


@pytest.mark.parametrize("composite", ["epsilon-plus-flat", "epsilon-gamma-box"])
@pytest.mark.parametrize(
    ("name", "takes"),
    [
        *((name, True) for name in ("vgg11", "vgg11_bn", "resnet18")),
        ("vgg11_bn", False),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in ("vgg11", "resnet18")),
    ],
)
def test_relevance_equals_zennit(composite: str, name: str, takes: bool) -> None:
    net = _network(name, eps=0.0)  # see the next test
    batch = torch.randn(1, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    _scores, theirs = _zennit(net, batch, composite, 4, None if takes else "bias")
    ours = relevance(net, batch, need_of(composite, biases=takes), 4)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11 * float(theirs.abs().max()))
    assert theirs.abs().max() > 0


def test_zennits_merged_batch_norm_still_divides_by_its_eps() -> None:
    # It leaves a BatchNorm with variance 1 behind, which divides by the root of 1 + 1e-5, so that its network gives
    # other scores. Ours gives the network's own.
    net = _network("resnet18")
    batch = torch.randn(1, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    scores, theirs = _zennit(net, batch, "epsilon-plus-flat", 4)
    assert ((scores - net(batch)).abs() > 1e-6).all()
    need = need_of("epsilon-plus-flat")
    ours = relevance(net, batch, need, 4)
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    assert 1e-7 < difference < 1e-3


def test_zennit_counts_a_residual_sum_twice_unless_it_knows_the_network() -> None:
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlusFlat

    net, batch = _unbiased(tiny.Residual), tiny.pictures(1)
    for name in ("bn1", "bn2"):
        setattr(net, name, nn.Identity().eval())
    scores = net(batch)[0]
    best = int(scores.argmax())
    with Gradient(net, EpsilonPlusFlat()) as attributor:
        _scores, theirs = attributor(batch.clone().requires_grad_(), lambda s: s * torch.eye(5)[best].double())
    ours, score = relevance(net, batch, need_of("epsilon-plus-flat"), best), scores[best]
    torch.testing.assert_close(ours.sum(), score, rtol=1e-3, atol=0)
    assert (theirs.detach().sum() / score - 1).abs() > 0.2


# --- refusals and traces -----------------------------------------------------------------------------------


class _Own(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: object, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(_ctx: object, gradient: Tensor) -> Tensor:
        return gradient * 2


def _filled(x: Tensor) -> Tensor:
    kept = torch.zeros_like(x)
    kept[:, :1] = x[:, :1]
    return kept.flatten(1)


REFUSED: dict[str, Callable[[Tensor], Tensor]] = {
    "layer_norm": lambda x: functional.layer_norm(x.flatten(1), (3,)),
    "softmax": lambda x: x.flatten(1).softmax(1),
    "scaled_dot_product_attention": lambda x: functional.scaled_dot_product_attention(
        x.flatten(2), x.flatten(2), x.flatten(2)
    ).flatten(1),
    "matmul": lambda x: (x.flatten(2) @ x.flatten(2).transpose(1, 2)).flatten(1),
    "mul": lambda x: (x * x).flatten(1),
    "div": lambda x: (x[:, :1] / x[:, 1:]).flatten(1),
    "batch_norm": lambda x: functional.batch_norm(x, None, None, training=True).flatten(1),
    "conv2d": lambda x: functional.conv2d(x, x[:1]).flatten(1),
    "setitem": _filled,
    "_OwnBackward": lambda x: _Own.apply(x).flatten(1),
    "no gradient reaches the input": lambda x: x.detach().flatten(1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_operation_without_a_rule_is_refused_by_name(name: str) -> None:
    net = Seen(REFUSED[name]).eval()
    before = tiny.state_of(net)
    with pytest.raises(UsageError, match=name):
        relevance(net, tiny.pictures(2)[:, :, :1, :1].float(), need_of("epsilon-plus-flat"))
    assert tiny.state_of(net) == before


def test_torchscript_is_refused() -> None:
    net = tiny.build(tiny.Plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        scripted = torch.jit.trace(net, tiny.pictures(1))
    with pytest.raises(UsageError, match="TorchScript"):
        relevance(scripted.eval(), tiny.pictures(1), need_of("epsilon"))


@pytest.mark.parametrize("kind", tiny.NETS, ids=[k.__name__ for k in tiny.NETS])
def test_nothing_is_left_behind_also_when_the_backward_fails(
    kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, batch = tiny.build(kind), tiny.pictures(2)
    before, pixels = tiny.state_of(net), batch.clone()
    relevance(net, batch, need_of("epsilon-gamma-box"))
    assert tiny.state_of(net) == before

    def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("the engine broke")

    monkeypatch.setattr(torch.autograd, "_engine_run_backward", broken)
    with pytest.raises(RuntimeError, match="the engine broke"):
        relevance(net, batch, need_of("epsilon-gamma-box"))
    assert tiny.state_of(net) == before
    assert torch.equal(batch, pixels)


def test_parameters_that_require_gradients_change_nothing() -> None:
    class Standardised(tiny.Plain):
        def forward(self, x: Tensor) -> Tensor:
            w = self.conv1.weight
            x = functional.conv2d(x, (w - w.mean()) / w.std(), self.conv1.bias, padding=1)
            return self.fc(self.relu2(self.conv2(self.pool(self.relu1(x)))).mean((2, 3)))

    net, batch = tiny.build(Standardised), tiny.pictures(2)
    frozen = relevance(net, batch, need_of("epsilon-gamma-box"))
    thawed = relevance(net.requires_grad_(True), batch, need_of("epsilon-gamma-box"))
    torch.testing.assert_close(thawed, frozen, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_low_precision_does_not_touch_the_rules() -> None:
    net, batch = tiny.build(tiny.Residual).float(), tiny.pictures(2).float()
    need = need_of("epsilon-plus-flat")
    chosen = torch.zeros(2, 1, dtype=torch.int64)
    full = observe(net, batch, Plan.of([need]), lambda _scores: chosen).evidence[need]
    low = observe(net, batch, Plan.of([need]), lambda _scores: chosen, execution=Execution("bf16")).evidence[need]
    torch.testing.assert_close(low, full, rtol=0, atol=0)
    assert low.dtype == torch.float32
