"""Every way to write a rectifier, under each rule, against values worked by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnviz_cli.engine.rectifiers import RectifierMode

X = [-2.0, -0.5, 0.5, 3.0, 7.0]
INCOMING = [1.0, -2.0, 3.0, -4.0, 5.0]

Form = Callable[[Tensor], Tensor]


def _discarding(form: Callable[[Tensor], object]) -> Form:
    """An in-place call whose result nobody takes: the network goes on with the tensor itself."""

    def call(x: Tensor) -> Tensor:
        form(x)
        return x

    return call


# name -> (form, its derivative at X)
RELU = [0, 0, 1, 1, 1]
RELU6 = [0, 0, 1, 1, 0]
LEAKY = [0.1, 0.1, 1, 1, 1]
FORMS: dict[str, tuple[Form, list[float] | None]] = {
    "nn.ReLU": (nn.ReLU(), RELU),
    "nn.ReLU(inplace)": (nn.ReLU(inplace=True), RELU),
    "F.relu": (functional.relu, RELU),
    "F.relu by name": (lambda x: functional.relu(input=x), RELU),
    "F.relu(inplace) discarded": (_discarding(lambda x: functional.relu(x, inplace=True)), RELU),
    "F.relu(inplace by position)": (_discarding(lambda x: functional.relu(x, True)), RELU),
    "F.relu_ discarded": (_discarding(functional.relu_), RELU),
    "torch.relu": (torch.relu, RELU),
    "torch.relu_ discarded": (_discarding(torch.relu_), RELU),
    "Tensor.relu": (lambda x: x.relu(), RELU),
    "Tensor.relu_ discarded": (_discarding(lambda x: x.relu_()), RELU),
    "Tensor.clamp(min=0)": (lambda x: x.clamp(min=0), RELU),
    "Tensor.clamp(0)": (lambda x: x.clamp(0), RELU),
    "Tensor.clamp_(min=0) discarded": (_discarding(lambda x: x.clamp_(min=0)), RELU),
    "torch.clamp(0, 6)": (lambda x: torch.clamp(x, 0, 6), RELU6),
    "Tensor.clamp_min(0)": (lambda x: x.clamp_min(0), RELU),
    "nn.ReLU6": (nn.ReLU6(), RELU6),
    "nn.ReLU6(inplace)": (nn.ReLU6(inplace=True), RELU6),
    "F.relu6": (functional.relu6, RELU6),
    "F.hardtanh(0, 6)": (lambda x: functional.hardtanh(x, 0.0, 6.0), RELU6),
    "F.hardtanh(0, 6, inplace) discarded": (_discarding(lambda x: functional.hardtanh(x, 0.0, 6.0, True)), RELU6),
    "Tensor.clamp(min=tensor(0))": (lambda x: x.clamp(min=torch.tensor(0.0)), RELU),
    "torch.clip(min=0)": (lambda x: torch.clip(x, min=0), RELU),
    "Tensor.clip_(0) discarded": (_discarding(lambda x: x.clip_(0)), RELU),
    "torch.maximum(x, 0)": (lambda x: torch.maximum(x, torch.zeros(())), RELU),
    "Tensor.fmax(0)": (lambda x: x.fmax(torch.zeros(5)), RELU),
    "F.threshold_ discarded": (_discarding(lambda x: functional.threshold_(x, 0.0, 0.0)), RELU),
    "nn.Threshold": (nn.Threshold(0.0, 0.0), RELU),
    "nn.LeakyReLU": (nn.LeakyReLU(0.1), LEAKY),
    "nn.LeakyReLU(inplace)": (nn.LeakyReLU(0.1, inplace=True), LEAKY),
    "nn.PReLU": (nn.PReLU(init=0.1).requires_grad_(False), LEAKY),
    "nn.RReLU": (nn.RReLU(0.1, 0.1).eval(), LEAKY),
    "nn.ELU": (nn.ELU(), None),
    "nn.ELU(inplace)": (nn.ELU(inplace=True), None),
    "nn.SELU": (nn.SELU(), None),
    "nn.CELU": (nn.CELU(), None),
    "nn.GELU": (nn.GELU(), None),
    "nn.GELU(tanh)": (nn.GELU(approximate="tanh"), None),
    "nn.SiLU": (nn.SiLU(), None),
    "nn.SiLU(inplace)": (nn.SiLU(inplace=True), None),
    "nn.Mish": (nn.Mish(), None),
    "nn.Hardswish": (nn.Hardswish(), None),
    "nn.Hardswish(inplace)": (nn.Hardswish(inplace=True), None),
    "nn.Softplus": (nn.Softplus(), None),
}


@pytest.mark.parametrize("name", FORMS)
def test_each_form_follows_each_rule(name: str) -> None:
    form, by_hand = FORMS[name]
    leaf = torch.tensor(X, requires_grad=True)
    incoming = torch.tensor(INCOMING)
    native = leaf.detach().requires_grad_()
    (reference,) = torch.autograd.grad(form(native.clone()), native, incoming)
    slope = reference / incoming
    if by_hand is not None:
        torch.testing.assert_close(slope, torch.tensor(by_hand, dtype=torch.float32))

    mode = RectifierMode()
    with mode:
        result = form(leaf.clone())
    assert mode.recorded == 1
    torch.testing.assert_close(result.detach(), form(torch.tensor(X)), rtol=0, atol=0)

    def under(rule: str) -> Tensor:
        mode.rule = rule
        return torch.autograd.grad(result, leaf, incoming, retain_graph=True)[0]

    clamped = torch.tensor([1.0, 0.0, 3.0, 0.0, 5.0])
    torch.testing.assert_close(under("exact"), reference, rtol=0, atol=0)
    torch.testing.assert_close(under("rectify"), clamped, rtol=0, atol=0)
    torch.testing.assert_close(under("guide"), clamped * slope.clamp(min=0))
    # What has reached a ceiling is on, though its slope is zero there; of what has no ceiling nothing changes.
    flat = (slope == 0) & (result.detach() > 0)
    torch.testing.assert_close(under("guide-on"), clamped * slope.clamp(min=0).where(~flat, 1))
    # The rule is looked up at the backward, so one forward serves them in any order.
    torch.testing.assert_close(under("exact"), reference, rtol=0, atol=0)


GATES: list[Form] = [
    torch.sigmoid,
    torch.tanh,
    functional.hardsigmoid,
    functional.hardtanh,
    lambda x: x.softmax(0),
    lambda x: x.clamp(min=1e-6),
    lambda x: x.clamp(min=-1),
    lambda x: torch.maximum(x, torch.ones(())),
]


@pytest.mark.parametrize("gate", GATES)
def test_gates_and_floors_are_no_rectifiers(gate: Form) -> None:
    mode = RectifierMode()
    with mode:
        gate(torch.tensor(X, requires_grad=True))
    assert mode.recorded == 0


def test_nothing_is_recorded_where_no_gradient_passes() -> None:
    mode = RectifierMode()
    with mode:
        functional.relu(torch.tensor(X))
        with torch.no_grad():
            functional.relu(torch.tensor(X, requires_grad=True))
    assert mode.recorded == 0


def test_the_mode_ends_with_its_context() -> None:
    mode = RectifierMode()
    with mode:
        pass
    assert functional.relu(torch.tensor(X, requires_grad=True)).grad_fn.name() == "ReluBackward0"
    assert mode.recorded == 0


def test_the_exact_rule_can_be_differentiated_twice() -> None:
    leaf = torch.tensor(X, requires_grad=True)
    with RectifierMode():
        result = functional.relu(leaf.square() * leaf)
    (first,) = torch.autograd.grad(result.sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), leaf)
    torch.testing.assert_close(second, torch.tensor([0.0, 0.0, 3.0, 18.0, 42.0]))  # 6 x where x > 0


@pytest.mark.parametrize("name", [name for name in FORMS if name.startswith("nn.")])
@pytest.mark.parametrize("rule", ["exact", "rectify", "guide"])
def test_each_module_follows_each_rule_in_low_precision(name: str, rule: str) -> None:
    form, _ = FORMS[name]
    leaf = torch.tensor(X, requires_grad=True)
    mode = RectifierMode()
    mode.rule = rule
    with mode, torch.autocast("cpu", torch.bfloat16):
        result = form((leaf * 1).bfloat16())
    (low,) = torch.autograd.grad(result, leaf, torch.tensor(INCOMING, dtype=result.dtype))
    with mode:
        result = form(leaf * 1)
    (full,) = torch.autograd.grad(result, leaf, torch.tensor(INCOMING))
    torch.testing.assert_close(low, full, rtol=0.02, atol=0.02)
