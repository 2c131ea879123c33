"""Laws that every registered method keeps, on every tiny network. A new method is tested by being registered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import tiny
import torch
from running import Runner, given_for, numbers, recipe_of, run_method
from torch import Tensor, nn

import cnnviz_cli.methods  # noqa: F401
from cnnviz_cli.core.families import ATTACK, EVERY_FAMILY, FAMILIES
from cnnviz_cli.core.method import Method, methods
from cnnviz_cli.core.needs import Evidence, UndeclaredError
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.engine import Plan, observe

METHODS = {m.name: m for family in (None, ATTACK.name) for m in methods(family)}

TRANSFORMERS = ("attention-rollout", "legrad", "transformer-attribution")
"""Methods that read attention, which no convolutional network has."""

CONVOLUTIONAL = {m.name: m for m in methods() if m.name not in TRANSFORMERS}


def nets_of(name: str) -> tuple[type[nn.Module], ...]:
    """The tiny networks that a method applies to, the one with most of the traps at the end."""
    return (tiny.Transformer,) if name in TRANSFORMERS else tiny.NETS


QUICK = {
    "samples": 3, "steps": 4, "masks": 6, "draws": 40, "cells": 4, "noisy_masks": 2, "mask_steps": 3, "noisy_inputs": 2,
}  # fmt: skip
"""Options that say how much work a method does, small: a law holds for any amount."""


UNKNOWN = ("map_similarity", "map_similarity_same_class")
"""Statistics that are not known of maps that say nothing."""


def quick(name: str, **changed: Any) -> dict[str, Any]:
    """The options of a method: `changed`, little work, otherwise the defaults."""
    names = {item.name for item in fields(METHODS[name].options)}
    return {**{option: amount for option, amount in QUICK.items() if option in names}, **changed}


def variations(method: Method) -> Iterator[dict[str, Any]]:
    """Each choice and each switch away from its default, and each number at 2."""
    hints = get_type_hints(method.options)
    for item in fields(method.options):
        if hints[item.name] is bool:
            yield {item.name: not item.default}
        elif int in get_args(hints[item.name]):  # a number, or the default, a word
            yield {item.name: item.default if item.name in QUICK else 2}
        elif get_origin(hints[item.name]) is Literal:
            yield from ({item.name: choice} for choice in get_args(hints[item.name]) if choice != item.default)
        elif hints[item.name] is int and item.name not in QUICK:
            yield {item.name: 2}


# The defaults on every network; what an option changes on one that has most of the traps.
CASES = [(name, {}, kind) for name in METHODS for kind in nets_of(name)]
CASES += [(name, options, nets_of(name)[-1]) for name, method in METHODS.items() for options in variations(method)]


def each_of(cases: list[tuple[str, dict[str, Any], type[nn.Module]]]) -> pytest.MarkDecorator:
    ids = [f"{name}-{options}-{kind.__name__}" for name, options, kind in cases]
    return pytest.mark.parametrize(("name", "options", "kind"), cases, ids=ids)


each_case = each_of(CASES)
each_case_on_traps = each_of([(name, options, kind) for name, options, kind in CASES if kind is nets_of(name)[-1]])
each_net = pytest.mark.parametrize("kind", tiny.NETS, ids=[k.__name__ for k in tiny.NETS])
each_net_of_it = pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in METHODS for kind in nets_of(name)])
each_method = pytest.mark.parametrize("name", METHODS)


def assert_same(left: list[Panel], right: list[Panel], rows: slice, **tolerance: float) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert (type(a), a.layer, a.target) == (type(b), b.layer, b.target)
        first, second = numbers(a), numbers(b)
        assert first.keys() == second.keys()
        for key in first:
            torch.testing.assert_close(
                first[key][rows], second[key], msg=lambda text, key=key: f"{key}: {text}", **tolerance
            )


@cache
def explained(name: str, options: tuple[tuple[str, Any], ...], kind: type[nn.Module]) -> list[Panel]:
    """What a method says of three images together."""
    return list(run_method(name, tiny.build(kind), tiny.pictures(3), **quick(name, **dict(options))))


@each_case
def test_a_batch_equals_its_images_one_by_one(
    name: str, options: dict[str, Any], kind: type[nn.Module], run: Runner
) -> None:
    net, batch = tiny.build(kind), tiny.pictures(3)
    together = explained(name, tuple(options.items()), kind)
    for image in (0, 2):  # the first and the last: what leaks from one to another reaches one of them
        alone = run(name, net, batch[image : image + 1], **quick(name, **options))
        assert_same(together, alone, slice(image, image + 1), rtol=1e-9, atol=1e-12)


@each_case_on_traps
def test_twice_gives_the_same_bits(name: str, options: dict[str, Any], kind: type[nn.Module], run: Runner) -> None:
    again = run(name, tiny.build(kind), tiny.pictures(3), **quick(name, **options))
    assert_same(explained(name, tuple(options.items()), kind), again, slice(None), rtol=0, atol=0)


@each_case
def test_results_are_finite_even_for_a_constant_image_and_a_dead_layer(
    name: str, options: dict[str, Any], kind: type[nn.Module], run: Runner
) -> None:
    alive, dead = tiny.build(kind), tiny.build(kind)
    layer = dead.blocks[1].out if kind is tiny.Transformer else dead.conv2
    layer.weight.zero_()
    layer.bias.fill_(-1)
    batch = torch.cat([torch.zeros(1, 3, tiny.SIZE, tiny.SIZE).double(), tiny.pictures(1)])
    for net in (alive, dead):
        for panel in run(name, net, batch, **quick(name, **options)):
            for key, values in numbers(panel).items():
                assert key in UNKNOWN or values.double().isfinite().all(), key


@each_method
def test_the_chunk_leaves_no_trace(name: str, run: Runner) -> None:
    net, batch = tiny.build(nets_of(name)[-1]), tiny.pictures(2)
    if not Plan.of(recipe_of(name, net, **quick(name)).needs).streams:
        return
    whole, single = run(name, net, batch, **quick(name)), run(name, net, batch, how={"memory": 1}, **quick(name))
    assert_same(whole, single, slice(None), rtol=1e-9, atol=1e-12)


@each_net_of_it
def test_nothing_is_changed_also_when_explaining_fails(
    name: str, kind: type[nn.Module], run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, batch = tiny.build(kind), tiny.pictures(2)
    before, pixels = tiny.state_of(net), batch.clone()
    run(name, net, batch, **quick(name))

    def refuse(_logits: Tensor) -> Tensor:
        raise RuntimeError("refused")

    with pytest.raises(RuntimeError, match="refused"):
        run(name, net, batch, choose=refuse, **quick(name))
    assert tiny.state_of(net) == before

    def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("the engine broke")

    if observe_takes_gradients(name, net):
        monkeypatch.setattr(torch.autograd, "_engine_run_backward", broken)
        with pytest.raises(RuntimeError, match="the engine broke"):
            run(name, net, batch, **quick(name))
    assert tiny.state_of(net) == before
    assert torch.equal(batch, pixels)


def observe_takes_gradients(name: str, net: nn.Module) -> bool:
    return bool(Plan.of(recipe_of(name, net, **quick(name)).needs).backwards)


@each_method
def test_the_evidence_is_not_modified(name: str) -> None:
    net, batch = tiny.build(nets_of(name)[-1]), tiny.pictures(2)
    recipe = recipe_of(name, net, **quick(name))
    evidence = observe(net, batch, Plan.of(recipe.needs), tiny.first_class, given=given_for(batch)).evidence
    before = {need: evidence[need].clone() for need in recipe.needs}
    recipe.explain(evidence)
    assert all(torch.equal(evidence[need], value) for need, value in before.items())


@each_method
def test_every_need_is_declared_and_every_declared_need_is_used(name: str) -> None:
    net, batch = tiny.build(nets_of(name)[0]), tiny.pictures(2)
    recipe = recipe_of(name, net, **quick(name))
    evidence = observe(net, batch, Plan.of(recipe.needs), tiny.first_class, given=given_for(batch)).evidence
    for left_out in recipe.needs:
        narrowed = evidence.only(need for need in recipe.needs if need != left_out)
        with pytest.raises(UndeclaredError):
            recipe.explain(narrowed)
    with pytest.raises(UndeclaredError):
        recipe.explain(Evidence({}))


@each_net
def test_together_equals_alone(kind: type[nn.Module], run: Runner) -> None:
    net, batch = tiny.build(kind), tiny.pictures(2)
    recipes = {name: recipe_of(name, net, **quick(name)) for name in CONVOLUTIONAL}
    plan = Plan.of(need for recipe in recipes.values() for need in recipe.needs)
    evidence = observe(net, batch, plan, tiny.first_class, given=given_for(batch)).evidence
    for name, recipe in recipes.items():
        together = recipe.explain(evidence.only(recipe.needs))
        assert_same(list(together), list(run(name, net, batch, **quick(name))), slice(None), rtol=1e-9, atol=1e-12)


@each_method
def test_targets_are_explained_each_for_itself(name: str, run: Runner) -> None:
    net, batch = tiny.build(nets_of(name)[-1]), tiny.pictures(2)
    wanted = torch.tensor([[3, 1], [0, 4]])
    if not recipe_of(name, net, **quick(name)).follows_target:
        return
    second = run(name, net, batch, choose=lambda _logits: wanted, rank=1, **quick(name))
    alone = run(name, net, batch, choose=lambda _logits: wanted[:, 1:], **quick(name))
    assert {panel.target for panel in second} == {1}
    for a, b in zip(second, alone, strict=True):
        for key, values in numbers(a).items():
            torch.testing.assert_close(values, numbers(b)[key], rtol=1e-9, atol=1e-12)


@each_method
def test_the_registry_says_what_a_reader_needs(name: str) -> None:
    method = METHODS[name]
    assert method.summary.endswith(".")
    assert "http" in method.paper
    assert method.family in EVERY_FAMILY
    for item in fields(method.options):
        assert item.metadata["help"].endswith("."), item.name
    hash(method.options())


def test_each_familys_default_is_registered() -> None:
    for family in (*FAMILIES.values(), ATTACK):
        assert METHODS[family.default].family == family.name
