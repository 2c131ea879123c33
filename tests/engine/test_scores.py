"""Probabilities as scores, and networks with one score for a question of yes or no."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from methods.test_laws import CONVOLUTIONAL
from running import given_for, numbers
from torch import Tensor, nn

import cnnviz_cli.methods  # noqa: F401
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.method import InputSpec, MethodContext, find_method
from cnnviz_cli.core.needs import Gradient
from cnnviz_cli.core.objectives import Contrast, FinerContrast, Negated, Objective, TargetLogit, TargetProbability
from cnnviz_cli.core.scores import probabilities, to_two_classes
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.run.session import method_context

SLOW = {"rtol": 1e-9, "atol": 1e-13}
QUICK = {
    "samples": 3, "steps": 4, "masks": 6, "draws": 40, "cells": 4, "noisy_masks": 2, "mask_steps": 3, "noisy_inputs": 2,
}  # fmt: skip
"""Options that say how much work a method does, small."""


def slope(objective: Objective, logits: Tensor, targets: list[list[int]]) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = objective.value(SimpleNamespace(logits=leaf, targets=torch.tensor(targets)))  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


# Softmax 1/6, 2/6, 3/6; sigmoids 1/2, 2/3, 3/4.
LOGITS = torch.tensor([[0, log(2), log(3)]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("objective", "value", "gradient"),
    [
        (TargetProbability(), 1 / 3, [-1 / 18, 2 / 9, -1 / 6]),  # p_t (1 - p_t) at the target, -p_t p_j elsewhere
        (TargetProbability(sigmoid=True), 2 / 3, [0, 2 / 9, 0]),  # p (1 - p)
        (TargetProbability(1), 1 / 2, [-1 / 12, -1 / 6, 1 / 4]),
        (Contrast(0, 1), log(2) - log(3), [0, 1, -1]),
        (Contrast(0, 1, "softmax"), -1 / 6, [1 / 36, 2 / 9 + 1 / 6, -1 / 6 - 1 / 4]),
        (Contrast(0, 1, "sigmoid"), 2 / 3 - 3 / 4, [0, 2 / 9, -3 / 16]),
        (Negated(TargetProbability(1, sigmoid=True)), -3 / 4, [0, 0, -3 / 16]),
        (FinerContrast(0, 0.5, 1, 1, "sigmoid"), 2 / 3 - 3 / 8, [0, 2 / 9, -3 / 32]),
    ],
)
def test_values_and_slopes_by_hand(objective: Objective, value: float, gradient: list[float]) -> None:
    found, at = slope(objective, LOGITS, [[1, 2]])
    torch.testing.assert_close(found, torch.tensor([value], dtype=torch.float64), **SLOW)
    torch.testing.assert_close(at, torch.tensor([gradient], dtype=torch.float64), **SLOW)


def test_the_classes_with_similar_probabilities() -> None:
    # Sigmoids 1/2, 2/3, 3/4: to 2/3 the third is nearer than the first.
    nearest, _ = slope(FinerContrast(0, 1.0, 1, score="sigmoid"), LOGITS, [[1]])
    torch.testing.assert_close(nearest, torch.tensor([2 / 3 - 3 / 4], dtype=torch.float64), **SLOW)
    both, _ = slope(FinerContrast(0, 1.0, 2, score="sigmoid"), LOGITS, [[1]])
    mean = (exp(1 / 2) / 2 + exp(3 / 4) * 3 / 4) / (exp(1 / 2) + exp(3 / 4))
    torch.testing.assert_close(both, torch.tensor([2 / 3 - mean], dtype=torch.float64), **SLOW)


def test_in_words() -> None:
    assert TargetProbability(1, sigmoid=True).label() == "the probability of target 2"
    assert Contrast(0, 3).label() == "the score of target 1 less that of the contrast"
    assert Contrast(1, 3, "softmax").label() == "the probability of target 2 less that of the contrast"
    assert FinerContrast(score="softmax").label().startswith("the probability of target 1 less 1 times that of the 3")


def test_probabilities_for_the_record() -> None:
    torch.testing.assert_close(probabilities(LOGITS, sigmoid=False), torch.tensor([[1, 2, 3]]).double() / 6, **SLOW)
    torch.testing.assert_close(probabilities(LOGITS, sigmoid=True), torch.tensor([[6, 8, 9]]).double() / 12, **SLOW)
    high = torch.tensor([[20.0, 30, 25]])
    assert high.sigmoid().unique().numel() < 3  # what float32 makes of them
    assert probabilities(high, sigmoid=True)[0].argsort(descending=True).tolist() == [1, 2, 0]
    lost = torch.tensor([[float("inf"), 0.0], [float("nan"), 0.0], [1.0, 0.0]])
    for sigmoid in (False, True):
        assert probabilities(lost, sigmoid=sigmoid).isfinite().all(1).tolist() == [False, False, True]


def test_one_score_is_a_no_and_a_yes() -> None:
    sides = to_two_classes(torch.tensor([[2.0], [-1.0]]))
    assert sides.tolist() == [[-2.0, 2.0], [1.0, -1.0]]
    torch.testing.assert_close(probabilities(sides, sigmoid=True).sum(1), torch.ones(2).double())
    assert to_two_classes(sides) is sides


# --- in networks --------------------------------------------------------------------------------------------


class One(tiny.Residual):
    """One score."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 1)


class Two(tiny.Residual):
    """The same as scores of two classes, which is the oracle."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 2)


def pair() -> tuple[nn.Module, nn.Module]:
    one, two = tiny.build(One), tiny.build(Two)
    state = one.state_dict()
    state["fc.weight"] = torch.cat([-state["fc.weight"], state["fc.weight"]])
    state["fc.bias"] = torch.cat([-state["fc.bias"], state["fc.bias"]])
    two.load_state_dict(state)
    return one, two


def scope_for(net: nn.Module, **changes: Any) -> MethodContext:
    layers = probe_layers(net, (3, tiny.SIZE, tiny.SIZE), "tiny")
    return replace(method_context(net, layers, InputSpec((tiny.SIZE,) * 2, (-1.0,) * 3, (1.0,) * 3)), **changes)


def panels(name: str, net: nn.Module, batch: Tensor, targets: list[list[int]], **changes: Any) -> Any:
    method = find_method(name)
    options = {option: amount for option, amount in QUICK.items() if option in method.options.__dataclass_fields__}
    recipe = method.build(method.options(**options), scope_for(net, **changes))
    chosen = torch.tensor(targets)
    seen = observe(net, batch, Plan.of(recipe.needs), lambda _logits: chosen, given=given_for(batch))
    return recipe.explain(seen.evidence.only(recipe.needs))


METHODS = list(CONVOLUTIONAL)


@pytest.mark.parametrize("name", METHODS)
def test_one_score_is_explained_as_two_classes_are(name: str) -> None:
    one, two = pair()
    batch, targets = tiny.pictures(2), [[1], [0]]
    for mine, theirs in zip(
        panels(name, one, batch, targets, sigmoid=True), panels(name, two, batch, targets, sigmoid=True), strict=True
    ):
        for key, values in numbers(mine).items():
            torch.testing.assert_close(values, numbers(theirs)[key], rtol=1e-8, atol=1e-12)


def test_what_speaks_against_yes_speaks_for_no() -> None:
    one, batch = pair()[0], tiny.pictures(2)
    for name in ("gradcam", "cam", "gradient", "integrated-gradients", "lrp", "deeplift", "occlusion"):
        (no,), (against,) = (
            panels(name, one, batch, [[0], [0]]),
            panels(name, one, batch, [[1], [1]], counterfactual=True),
        )
        torch.testing.assert_close(no.values, against.values, **SLOW)


def test_the_observation_has_both_sides() -> None:
    one, _ = pair()
    batch = tiny.pictures(3)
    seen = observe(one, batch, Plan.of([]), tiny.first_class)
    torch.testing.assert_close(seen.logits, torch.cat([-one(batch), one(batch)], 1), **SLOW)
    assert seen.targets[:, 0].tolist() == (one(batch)[:, 0] > 0).long().tolist()


LOGITS_ONLY = ("cam", "lrp", "deeplift")


@pytest.mark.parametrize("name", METHODS)
def test_probabilities_are_explained_or_refused(name: str) -> None:
    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    if name in LOGITS_ONLY:
        with pytest.raises(UsageError, match=r"before softmax.*--score probability"):
            panels(name, net, batch, [[1], [2]], probable=True)
        return
    for panel in panels(name, net, batch, [[1], [2]], probable=True):
        assert all(values.double().isfinite().all() for values in numbers(panel).values())


@pytest.mark.parametrize("name", ["gradcam", "hirescam", "layercam", "gradient", "input-x-gradient"])
def test_by_the_chain_rule_a_sigmoid_scales_the_map(name: str) -> None:
    net, batch, targets = tiny.build(tiny.Residual), tiny.pictures(2), [[3], [1]]
    (plain,), (probable,) = (panels(name, net, batch, targets, sigmoid=True, probable=p) for p in (False, True))
    chance = net(batch).gather(1, torch.tensor(targets)).sigmoid().view(-1, 1, 1, 1)
    torch.testing.assert_close(probable.values, chance * (1 - chance) * plain.values, rtol=1e-9, atol=1e-15)


def test_rise_explains_probabilities_of_either_kind() -> None:
    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    softmax, sigmoid = (panels("rise", net, batch, [[1], [1]], sigmoid=s)[0].values for s in (False, True))
    assert not torch.allclose(softmax, sigmoid)
    scope = scope_for(net, sigmoid=True)
    assert scope.probability == TargetProbability(0, sigmoid=True)
    assert scope.target == TargetLogit(0)
    assert replace(scope, probable=True, contrast_rank=2).target == Contrast(0, 2, "sigmoid")
    assert replace(scope, probable=True, sigmoid=False, counterfactual=True).target == Negated(TargetProbability(0))


def test_a_network_that_convolves_to_the_end_is_a_classifier() -> None:
    class Convolving(tiny.Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)[:, :, None, None]

    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    other = tiny.build(Convolving)
    other.load_state_dict(net.state_dict())
    flat, deep = (observe(one, batch, Plan.of([Gradient()]), tiny.first_class) for one in (net, other))
    assert torch.equal(flat.logits, deep.logits)
    assert torch.equal(flat.evidence[Gradient()], deep.evidence[Gradient()])
