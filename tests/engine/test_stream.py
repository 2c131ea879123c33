"""Streams of variants: chunks leave no trace, equal variants run once, memory is bounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import tiny
import torch
from running import given_for
from torch import Tensor

from cnnviz_cli.core.draws import normal
from cnnviz_cli.core.errors import MemoryShortError
from cnnviz_cli.core.needs import (
    INPUT,
    Activation,
    Curvature,
    Evidence,
    GradientOver,
    Input,
    Need,
    Scores,
    Seeds,
)
from cnnviz_cli.core.objectives import Negated, TargetLogit
from cnnviz_cli.core.scores import Classes
from cnnviz_cli.engine import Plan, observe, stream
from cnnviz_cli.engine.device import chunk_size


@dataclass(frozen=True, slots=True)
class Noisy:
    """The input with noise on it, weighed by the number of the variant."""

    count: int = 5
    at: str = INPUT
    needs: tuple[Need, ...] = (Input(), Seeds())

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        pixels, seed = evidence[Input()][image], int(evidence[Seeds()][image])
        drawn = [normal(seed, number, tuple(pixels.shape)).to(pixels) for number in range(start, stop)]
        return pixels + torch.stack(drawn)

    def weight(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:  # noqa: ARG002  (the protocol's)
        return torch.arange(start + 1, stop + 1).view(-1, 1, 1, 1)

    def label(self) -> str:
        return "noise"


@dataclass(frozen=True, slots=True)
class Silenced:
    """A layer's maps with one channel set to zero."""

    at: str
    count: int

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Activation(self.at),)

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        maps = evidence[Activation(self.at)][image].repeat(stop - start, 1, 1, 1)
        for place, channel in enumerate(range(start, stop)):
            maps[place, channel] = 0
        return maps

    def label(self) -> str:
        return "silenced"


NEEDS = (
    Scores(Noisy()),
    Scores(Noisy(), Negated(TargetLogit())),
    GradientOver(Noisy()),
    GradientOver(Noisy(), moment=2),
    GradientOver(Noisy(), weighted=True),
    GradientOver(Noisy(), at="conv2", moment=3),
    Scores(Silenced("conv1", 4)),
)


@pytest.mark.parametrize("memory", [None, 1, 40_000])
def test_the_answers_are_those_of_a_plain_loop_for_every_chunk(memory: int | None) -> None:
    net, batch = tiny.build(tiny.InPlace), tiny.pictures(2)
    seen = observe(net, batch, Plan.of(NEEDS), tiny.first_class, given={"seeds": torch.tensor([7, 8])}, memory=memory)
    for image, seed in enumerate([7, 8]):
        chosen = int(net(batch[image : image + 1]).argmax())
        scores, slopes, deep = [], [], []
        for number in range(5):
            noisy = (batch[image] + normal(seed, number, (3, 12, 12)).double()).requires_grad_()
            maps = net.conv2(net.pool(net.conv1(noisy[None]).relu()))
            score = net.fc(maps.relu().mean((2, 3)))[0, chosen]
            slope, below = torch.autograd.grad(score, (noisy, maps))
            scores.append(score.detach())
            slopes.append(slope)
            deep.append(below[0])
        expected = {
            NEEDS[0]: torch.stack(scores),
            NEEDS[1]: -torch.stack(scores),
            NEEDS[2]: sum(slopes) / 5,
            NEEDS[3]: sum(g**2 for g in slopes) / 5,
            NEEDS[4]: sum((i + 1) * g for i, g in enumerate(slopes)),
            NEEDS[5]: sum(g**3 for g in deep) / 5,
        }
        first = net.conv1(batch[image : image + 1])
        without = []
        for channel in range(4):
            maps = first.clone()
            maps[0, channel] = 0
            without.append(net.fc(net.conv2(net.pool(maps.relu())).relu().mean((2, 3)))[0, chosen])
        expected[NEEDS[6]] = torch.stack(without)
        for need, value in expected.items():
            torch.testing.assert_close(seen.evidence[need][image], value, rtol=1e-9, atol=1e-14)


def test_equal_variants_are_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(1)
    plan = Plan.of(NEEDS[:6])
    counts = tiny.count_passes(monkeypatch, net)
    observe(net, batch, plan, tiny.first_class, given=given_for(batch))
    # The batch's own forward, one to learn what a variant takes, and one chunk with one backward for all five sums.
    assert counts == {"forwards": 3, "backwards": 1}
    assert plan.cost().variants == 5
    assert [line for line in plan.lines() if "noise" in line] == [
        "for each image 5 forwards: noise; each with a backward of the score of target 1"
    ]


def test_a_chunk_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    whole = observe(net, batch, Plan.of(NEEDS[:3]), tiny.first_class, given=given_for(batch)).evidence
    real, sizes = stream.run_pass, []

    def short(called: object, modules: object, chunk: Tensor, *rest: object, **named: object) -> object:
        sizes.append(len(chunk))
        if len(chunk) > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] not enough memory: you tried to allocate 9 bytes")
        return real(called, modules, chunk, *rest, **named)

    monkeypatch.setattr(stream, "run_pass", short)
    halved = observe(net, batch, Plan.of(NEEDS[:3]), tiny.first_class, given=given_for(batch)).evidence
    # Each image starts again from the size that its memory suggests.
    assert sizes == [5, 2, 2, 1] * 2
    for need in NEEDS[:3]:
        torch.testing.assert_close(halved[need], whole[need], rtol=1e-12, atol=1e-14)

    def never(*_: object, **__: object) -> object:
        raise MemoryError

    monkeypatch.setattr(stream, "run_pass", never)
    with pytest.raises(MemoryShortError, match="one image"):
        observe(net, batch, Plan.of(NEEDS[:1]), tiny.first_class, given=given_for(batch))


def test_progress_is_told_and_ends_at_the_count() -> None:
    told: list[tuple[int, int]] = []
    net, batch = tiny.build(tiny.Plain), tiny.pictures(1)
    observe(
        net,
        batch,
        Plan.of(NEEDS[:1]),
        tiny.first_class,
        given=given_for(batch),
        memory=1,
        tick=lambda *a: told.append(a),
    )
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_chunks_are_powers_of_two_that_fit() -> None:
    assert [chunk_size(budget, 10, 32) for budget in (0, 9, 10, 39, 40, 79, 10_000)] == [1, 1, 1, 2, 4, 4, 32]


def test_gradients_over_variants_of_a_layer_are_refused() -> None:
    with pytest.raises(ValueError, match="only variants of the input"):
        Plan.of([GradientOver(Silenced("conv1", 4))])


def test_curvature_is_the_hessian_times_the_maps() -> None:
    class Squared(tiny.Plain):
        def forward(self, x: Tensor) -> Tensor:
            x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
            return self.fc(x.mean((2, 3))) ** 3

    net, batch = tiny.build(Squared), tiny.pictures(2)
    needs = [Curvature("conv1"), Curvature("relu2"), Activation("relu2"), Activation("conv1")]
    evidence = observe(net, batch, Plan.of(needs), tiny.first_class, given=given_for(batch)).evidence
    chosen = net(batch).argmax(1)

    def top(maps: Tensor, image: int) -> Tensor:
        return (net.fc(maps.mean((1, 2)))[chosen[image]]) ** 3

    def below(maps: Tensor, image: int) -> Tensor:
        return top(net.conv2(maps[None].relu())[0].relu(), image)

    for layer, value in (("relu2", top), ("conv1", below)):
        for image in range(2):
            maps = evidence[Activation(layer)][image]

            def score(flat: Tensor, image: int = image, value: Any = value, shape: Any = maps.shape) -> Tensor:
                return value(flat.view(shape), image)

            hessian = torch.autograd.functional.hessian(score, maps.flatten())
            expected = (hessian @ maps.flatten()).view(maps.shape)
            torch.testing.assert_close(evidence[Curvature(layer)][image], expected, rtol=1e-9, atol=1e-12)


def test_classes_are_ranked_once_for_a_batch_and_not_for_its_variants() -> None:
    asked: list[int] = []

    class Counting(Classes):
        def order(self, scores: Tensor, anchor: Tensor | None, /) -> Tensor:
            asked.append(len(scores))
            return super().order(scores, anchor)

    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    seen = observe(net, batch, Plan.of(NEEDS[:3]), tiny.first_class, given=given_for(batch), readout=Counting())
    assert asked == [2]
    assert torch.equal(seen.order, seen.logits)


@pytest.mark.parametrize("seeds", [torch.tensor([7]), torch.tensor([7, 8, 9]), torch.tensor(7)])
def test_what_is_given_has_to_be_of_the_whole_batch(seeds: Tensor) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    with pytest.raises(ValueError, match="not that of 2 images: seeds"):
        observe(net, batch, Plan.of([Seeds()]), tiny.first_class, given={"seeds": seeds})
