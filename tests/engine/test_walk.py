"""Paths that follow the gradient, on the engine."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import tiny
import torch
from torch import Tensor, nn

from cnnviz_cli.core.needs import Evidence, Input, Need, PathIntegral, Seeds, UndeclaredError
from cnnviz_cli.core.objectives import Negated, TargetLogit
from cnnviz_cli.engine import Plan, observe


@dataclass(frozen=True, slots=True)
class Climb:
    """Steepest ascent from half the image, which attributes step times gradient."""

    steps: int = 3
    careless: bool = False

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Input(),)

    @property
    def count(self) -> int:
        return self.steps

    def begin(self, evidence: Evidence) -> Tensor:
        return evidence[Seeds() if self.careless else Input()].double() / 2

    def advance(self, evidence: Evidence, step: int, point: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        assert evidence[Input()].shape == point.shape == gradient.shape
        move = (step + 1) * gradient.double()
        return point + move, move * gradient.double()

    def label(self) -> str:
        return "uphill"


def climbed(net: nn.Module, picture: Tensor, chosen: int, steps: int, sign: int = 1) -> Tensor:
    point, total = picture / 2, torch.zeros_like(picture)
    for step in range(steps):
        leaf = point[None].clone().requires_grad_()
        with torch.enable_grad():
            slope = sign * torch.autograd.grad(net(leaf)[0, chosen], leaf)[0][0]
        point, total = point + (step + 1) * slope, total + (step + 1) * slope**2
    return total


@pytest.mark.parametrize("kind", tiny.NETS)
def test_a_walk_equals_a_plain_loop(kind: type[nn.Module]) -> None:
    net, batch = tiny.build(kind), tiny.pictures(2)
    chosen = net(batch).argmax(1)
    uphill, downhill = PathIntegral(Climb()), PathIntegral(Climb(), of=Negated(TargetLogit()))
    found = observe(net, batch, Plan.of([uphill, downhill]), tiny.first_class).evidence
    for image in range(2):
        for need, sign in ((uphill, 1), (downhill, -1)):
            expected = climbed(net, batch[image], int(chosen[image]), 3, sign)
            torch.testing.assert_close(found[need][image], expected, rtol=1e-9, atol=1e-14)


def test_the_path_may_keep_its_place_more_exactly_than_the_network() -> None:
    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    need = PathIntegral(Climb())
    exact = observe(net, batch, Plan.of([need]), tiny.first_class).evidence[need]
    single = observe(net.float(), batch.float(), Plan.of([need]), tiny.first_class).evidence[need]
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=1e-5 * float(exact.max()))


def test_a_walk_takes_a_forward_and_a_backward_a_step_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch, need = tiny.build(tiny.Residual), tiny.pictures(3), PathIntegral(Climb(4))
    plan = Plan.of([need])
    assert (plan.cost().forwards, plan.cost().backwards) == (5, 4)
    assert any("uphill" in line for line in plan.lines())
    before, ticks = tiny.state_of(net), []
    observe(net, batch, Plan.of([]), tiny.first_class)  # finds out what can be folded
    with monkeypatch.context() as patch:
        counts = tiny.count_passes(patch, net)
        observe(net, batch, plan, tiny.first_class, tick=lambda done, total: ticks.append((done, total)))
    assert counts == {"forwards": 5, "backwards": 4}
    assert ticks == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert tiny.state_of(net) == before


def test_a_path_sees_what_it_declared_alone() -> None:
    plan = Plan.of([PathIntegral(Climb(careless=True)), Seeds()])
    with pytest.raises(UndeclaredError):
        observe(tiny.build(tiny.Plain), tiny.pictures(1), plan, tiny.first_class, given={"seeds": torch.tensor([0])})
