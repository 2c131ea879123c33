"""Variants that say that they are equal pass the network once, and the answers are those of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from cnnviz_cli.core.needs import INPUT, Activation, Evidence, GradientOver, Input, Need, Scores
from cnnviz_cli.core.objectives import Contrast, Negated, StrongestChannel, TargetLogit
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.device import LARGEST_BLOCK
from cnnviz_cli.engine.stream import made_in_runs

FACTORS = ((1.0, 2.0, 1.0, 3.0, 2.0, 1.0, 0.5), (2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0), (1.0, 2, 3, 4, 5, 6, 7))
"""What each of three images is multiplied by: 4, 1 and 7 different numbers."""


@dataclass(frozen=True)
class Multiplied:
    """The input, or a layer's maps, times numbers; nothing says that some are equal."""

    at: str = INPUT
    count: int = 7

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Input(),) if self.at == INPUT else (Activation(self.at),)

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        values = evidence[self.needs[0]][image]
        return torch.stack([values * factor for factor in FACTORS[image][start:stop]])

    def weight(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        """Differs between equal variants, and from pixel to pixel."""
        pixels = evidence[Input()][image]
        return torch.stack([(number + 1) * pixels.abs() for number in range(start, stop)])

    def label(self) -> str:
        return "multiplied"


@dataclass(frozen=True)
class Keyed(Multiplied):
    """The same, and it says so."""

    def keys(self, _evidence: Evidence, image: int) -> Sequence[float]:
        return FACTORS[image]


def needs_over(kind: type[Multiplied]) -> tuple[Need, ...]:
    over = kind()
    return (
        Scores(over),
        Scores(over, Negated(Contrast(0, 1))),
        Scores(kind("conv2")),
        GradientOver(over),
        GradientOver(over, moment=2),
        GradientOver(over, Contrast(0, 1), at="conv1", moment=3),
        GradientOver(over, weighted=True),
        GradientOver(over, weighted=True, moment=2),
    )


def items_through(net: nn.Module, layer: str, counted: list[int]) -> Any:
    return net.get_submodule(layer).register_forward_hook(lambda _m, inputs, _o: counted.append(len(inputs[0])))


def top2(logits: Tensor) -> Tensor:
    return logits.topk(2, 1).indices


@pytest.mark.parametrize("memory", [None, 1, 40_000])
@pytest.mark.parametrize("kind", [tiny.InPlace, tiny.Residual])
def test_the_answers_are_those_of_every_variant(kind: type[nn.Module], memory: int | None) -> None:
    net, batch = tiny.build(kind), tiny.pictures(3)
    plain = observe(net, batch, Plan.of(needs_over(Multiplied)), top2, memory=memory).evidence
    keyed = observe(net, batch, Plan.of(needs_over(Keyed)), top2, memory=memory).evidence
    for mine, theirs in zip(needs_over(Keyed), needs_over(Multiplied), strict=True):
        torch.testing.assert_close(keyed[mine], plain[theirs], rtol=1e-12, atol=1e-14)
    assert len(set(plain[Scores(Multiplied())][2].tolist())) == 7


def test_by_hand() -> None:
    """A network whose score is the sum of squares of its input: gradients 2 f x, times weights 1 to 7 times |x|."""

    class Squares(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            total = (x**2).sum((1, 2, 3))
            return torch.stack((total, -total), 1)

    net, batch = Squares().eval(), tiny.pictures(3)
    mean, weighted, scores = GradientOver(Keyed()), GradientOver(Keyed(), weighted=True), Scores(Keyed())
    found = observe(net, batch, Plan.of([mean, weighted, scores]), tiny.first_class).evidence
    for image, factors in enumerate(FACTORS):
        x = batch[image]
        torch.testing.assert_close(found[mean][image], 2 * x * sum(factors) / 7)
        share = sum((number + 1) * factor for number, factor in enumerate(factors))
        torch.testing.assert_close(found[weighted][image], 2 * x * x.abs() * share)
        torch.testing.assert_close(found[scores][image], (x**2).sum() * torch.tensor(factors).double() ** 2)


@pytest.mark.parametrize("objective", [TargetLogit(), StrongestChannel("conv2", 0)])
def test_each_value_passes_once(objective: Any) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(3)
    needs = [GradientOver(Keyed(), objective)] + [Scores(Keyed())] * (objective == TargetLogit())
    observe(net, batch, Plan.of(needs), tiny.first_class)  # learns what a variant takes
    counted: list[int] = []
    hook = items_through(net, "conv1", counted)
    observe(net, batch, Plan.of(needs), tiny.first_class)
    hook.remove()
    assert sum(counted) == 3 + 4 + 1 + 7
    plain = observe(net, batch, Plan.of([GradientOver(Multiplied(), objective)]), tiny.first_class).evidence
    keyed = observe(net, batch, Plan.of(needs), tiny.first_class).evidence
    torch.testing.assert_close(keyed[needs[0]], plain[GradientOver(Multiplied(), objective)], rtol=1e-12, atol=1e-14)


def test_of_a_layer_the_tail_runs_once_for_each_value() -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(3)
    plan = Plan.of([Scores(Keyed("conv1"))])
    observe(net, batch, plan, tiny.first_class)
    counted: list[int] = []
    hook = items_through(net, "conv2", counted)
    observe(net, batch[:1], plan, tiny.first_class)
    hook.remove()
    assert counted[0] == 1
    assert counted[-1] == 4


def test_a_network_that_takes_images_alone_may_not_be_a_function_so_every_variant_passes() -> None:
    class Counting(tiny.Plain):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x) + self.calls

    net, batch = tiny.build(Counting), tiny.pictures(1)
    need = Scores(Keyed())
    net.calls = 0
    scores = observe(net, batch, Plan.of([need]), tiny.first_class, alone=True).evidence[need][0]
    assert net.calls == 8
    assert len(set(scores.tolist())) == 7


def test_progress_counts_the_variants_whose_answers_are_known() -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(3)
    told: list[tuple[int, int]] = []
    plan = Plan.of([Scores(Keyed())])
    observe(net, batch, plan, tiny.first_class, memory=1, tick=lambda *done: told.append(done))
    assert told == [(3, 7), (5, 7), (6, 7), (7, 7), (7, 7), *((done, 7) for done in range(1, 8))]


def test_without_equals_the_bits_are_those_of_variants_without_keys() -> None:
    net, batch = tiny.build(tiny.Plain).float(), tiny.pictures(3).float()
    for need, other in zip(needs_over(Keyed), needs_over(Multiplied), strict=True):
        mine, theirs = (observe(net, batch, Plan.of([one]), top2).evidence[one][2] for one in (need, other))
        assert torch.equal(mine, theirs)


def test_numbers_in_a_row_are_made_together() -> None:
    calls: list[tuple[int, int]] = []

    def make(start: int, stop: int) -> Tensor:
        calls.append((start, stop))
        return torch.arange(start, stop)

    assert made_in_runs(make, [0, 1, 2, 5, 7, 8]).tolist() == [0, 1, 2, 5, 7, 8]
    assert calls == [(0, 3), (5, 6), (7, 9)]
    assert made_in_runs(make, [4]).tolist() == [4]


def test_a_chunk_of_a_cpu_stays_below_the_largest_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnviz_cli.engine.stream.LARGEST_BLOCK", 3 * 8 * 4 * 12 * 12)  # of three maps of conv1
    assert LARGEST_BLOCK == 2**25
    net, batch = tiny.build(tiny.Plain), tiny.pictures(1)
    plan = Plan.of([Scores(Multiplied())])
    observe(net, batch, plan, tiny.first_class)
    counted: list[int] = []
    hook = items_through(net, "conv1", counted)
    observe(net, batch, plan, tiny.first_class)
    hook.remove()
    assert counted == [1, 2, 2, 2, 1]
