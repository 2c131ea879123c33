"""Integrals along a line with as many gradients as an image needs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import tiny
import torch
from running import run_method as run
from torch import Tensor, nn

import cnnviz_cli
from cnnviz_cli.core.needs import INPUT, Input
from cnnviz_cli.core.objectives import Negated, TargetLogit
from cnnviz_cli.core.quadrature import LineIntegral, Quadrature
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.methods.common.baselines import Baseline
from cnnviz_cli.render.scaling import state_of

ZERO = Baseline("black", (0.0,) * 3, (1.0,) * 3)
SLOW = {"rtol": 1e-9, "atol": 1e-12}


class Pointwise(nn.Module):
    """y = sum of w f(x), one class more of minus that, by a function of each value that has a derivative."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(3, tiny.SIZE, tiny.SIZE))

    def forward(self, x: Tensor) -> Tensor:
        y = (self.weight * self.function(x)).sum((1, 2, 3))
        return torch.stack([y, -y], 1)


def pointwise(function: Callable[[Tensor], Tensor]) -> nn.Module:
    return Pointwise(function).double().eval().requires_grad_(False)


def always(target: int) -> Callable[[Tensor], Tensor]:
    return lambda logits: torch.full((len(logits), 1), target)


def integrate(net: nn.Module, batch: Tensor, need: LineIntegral, **how: Any) -> tuple[Tensor, Tensor]:
    how = {"choose": always(0), **how}
    choose = how.pop("choose")
    found = observe(net, batch, Plan.of([need, Quadrature(need), Input()]), choose, **how).evidence
    return found[need], found[Quadrature(need)]


def plain_scores(net: nn.Module, picture: Tensor, places: list[float], target: int) -> list[tuple[float, Tensor]]:
    leaf = (torch.tensor(places, dtype=torch.float64).view(-1, 1, 1, 1) * picture).requires_grad_()
    with torch.enable_grad():
        scores = net(leaf)[:, target]
        (gradients,) = torch.autograd.grad(scores.sum(), leaf)
    return list(zip(scores.detach().tolist(), gradients, strict=True))


def refined_slowly(net: nn.Module, picture: Tensor, target: int, tolerance: float, most: int) -> tuple[Tensor, int]:
    """The rule in words: halve the eight worst pieces of the line from zero, until the sum of all errors is small and
    the sum of their magnitudes at most twenty times that. The shares, and how many gradients they took."""
    new, known = [place / 16 for place in range(17)], {}
    while True:
        known |= dict(zip(new, plain_scores(net, picture, new, target), strict=True))
        places = sorted(known)
        errors = {}
        for low, high in pairwise(places):
            slopes = [float((known[place][1] * picture).sum()) for place in (low, high)]
            errors[low, high] = (high - low) * sum(slopes) / 2 - (known[high][0] - known[low][0])
        allowed = tolerance * abs(known[1.0][0] - known[0.0][0])
        if abs(sum(errors.values())) <= allowed and sum(map(abs, errors.values())) <= 20 * allowed:
            break
        wrong = [piece for piece in errors if abs(errors[piece]) > allowed / len(errors)]
        wrong = sorted(wrong, key=lambda piece: (-abs(errors[piece]), piece[0]))[:8][: most - len(places)]
        if not wrong:
            break
        new = [(low + high) / 2 for low, high in wrong]
    total = torch.zeros_like(picture)
    for low, high in pairwise(places):
        total += (high - low) / 2 * (known[low][1] + known[high][1])
    return total * picture, len(places)


# --- by hand -----------------------------------------------------------------------------------------------


def test_a_straight_slope_is_exact_from_seventeen_gradients() -> None:
    # y = sum x^2 / 2: the slope along the line is straight, and its trapezoids are exact: x^2 / 2 at every value.
    batch = tiny.pictures(2)
    shares, facts = integrate(pointwise(lambda x: x.square() / 2), batch, LineIntegral(ZERO))
    torch.testing.assert_close(shares, batch.square() / 2, **SLOW)
    torch.testing.assert_close(facts[:, 1], (batch.square() / 2).sum((1, 2, 3)), **SLOW)
    assert facts[:, 0].tolist() == [0, 0]
    assert facts[:, 2:].tolist() == [[17, 1], [17, 1]]


def test_the_error_of_trapezoids_worked_by_hand() -> None:
    # y = x^3 of one value: f(t) = 3 x^3 t^2, whose trapezoids of width h are too large by h^3 / 12 * 6 x^3 each, by
    # h^2 / 2 of y in all: 1 / 512 of it in sixteen pieces, which is within 1 %, and 1 / 2048 in thirty-two.
    batch = torch.ones(1, 3, tiny.SIZE, tiny.SIZE).double()
    net = pointwise(lambda x: x**3)
    shares, facts = integrate(net, batch, LineIntegral(ZERO))
    torch.testing.assert_close(shares, batch * (1 + 1 / 512), **SLOW)
    assert facts[0, 2:].tolist() == [17, 1]
    shares, facts = integrate(net, batch, LineIntegral(ZERO, tolerance=1 / 2047))
    torch.testing.assert_close(shares, batch * (1 + 1 / 2048), **SLOW)
    assert facts[0, 2:].tolist() == [33, 1]


def test_errors_that_cancel_do_not_pass_for_none() -> None:
    # f(t) = 3e6 (t - 1/2)^5 + 1: errors left and right of the middle are opposite, so that the sum is right at once.
    batch = torch.ones(1, 3, tiny.SIZE, tiny.SIZE).double()
    net = pointwise(lambda x: 5e5 * (x - 0.5) ** 6 + x)
    shares, facts = integrate(net, batch, LineIntegral(ZERO))
    assert float(shares.sum() / batch.sum()) == pytest.approx(1)
    assert facts[0, 2] > 17
    assert facts[0, 3] == 1


# --- against slow loops ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tiny.NETS)
def test_it_is_the_rule_in_words_and_near_the_integral(kind: type[nn.Module]) -> None:
    net, batch = tiny.build(kind), tiny.pictures(2)
    for tolerance in (0.01, 1e-4):
        shares, facts = integrate(net, batch, LineIntegral(ZERO, tolerance=tolerance), choose=always(2))
        for image in range(2):
            expected, count = refined_slowly(net, batch[image], 2, tolerance, 256)
            assert facts[image, 2] == count
            torch.testing.assert_close(shares[image], expected, **SLOW)
            gained = float(facts[image, 1] - facts[image, 0])
            if facts[image, 3]:
                assert abs(float(shares[image].sum()) - gained) <= tolerance * abs(gained)
    nodes = [(place + 0.5) / 2000 for place in range(2000)]
    exact = torch.stack([gradient for _, gradient in plain_scores(net, batch[0], nodes, 2)]).mean(0) * batch[0]
    assert (shares[0] - exact).norm() <= 0.02 * exact.norm()


def test_minus_the_score_has_minus_the_shares() -> None:
    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    shares, facts = integrate(net, batch, LineIntegral(ZERO))
    against, opposite = integrate(net, batch, LineIntegral(ZERO, Negated(TargetLogit())))
    torch.testing.assert_close(against, -shares, **SLOW)
    torch.testing.assert_close(opposite[:, :2], -facts[:, :2], **SLOW)


# --- what it takes -----------------------------------------------------------------------------------------


def hard_and_easy() -> tuple[nn.Module, Tensor]:
    """A network with a step at 0.6 of a white image, and beside that one an image that does not reach it."""
    net = pointwise(lambda x: x + 20 * torch.sigmoid(200 * (x - 0.6)))
    return net, torch.stack([torch.full((3, tiny.SIZE, tiny.SIZE), value).double() for value in (1.0, 0.3)])


def test_each_image_takes_its_own_and_each_gradient_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = hard_and_easy()
    shares, facts = integrate(net, batch, LineIntegral(ZERO))
    assert facts[1, 2:].tolist() == [17, 1]
    assert 17 < facts[0, 2] < 64
    assert facts[0, 3] == 1
    for image in range(2):
        alone, own = integrate(net, batch[image : image + 1], LineIntegral(ZERO))
        assert torch.equal(own[0], facts[image])
        assert torch.equal(alone[0], shares[image])
    seen: list[Tensor] = []
    handle = net.register_forward_pre_hook(lambda _module, given: seen.extend(given[0].detach()))
    passes = tiny.count_passes(monkeypatch, net)
    integrate(net, batch, LineIntegral(ZERO), memory=1)
    handle.remove()
    assert passes["backwards"] == facts[:, 2].sum()
    for image, count in zip(batch, facts[:, 2].tolist(), strict=True):
        shares_of_way = [float(one.mean() / image.mean()) for one in seen if one.shape == image.shape]
        assert len({round(share * 2**16) for share in shares_of_way if share <= 1}) >= count


def test_it_stops_at_the_most_and_says_that_it_is_not_complete() -> None:
    net, batch = hard_and_easy()
    for most in (1, 2, 17, 20):
        _, facts = integrate(net, batch, LineIntegral(ZERO, most=most))
        assert facts[0, 2:].tolist() == [max(most, 2), 0]


def test_a_score_that_does_not_change_is_measured_by_itself() -> None:
    batch = tiny.pictures(1)
    still, facts = integrate(pointwise(lambda x: 0 * x), batch, LineIntegral(ZERO))
    assert facts[0].tolist() == [0, 0, 17, 1]
    assert not still.any()
    # A sine that comes back to where it was: the trapezoids of sixteen pieces add up to nothing, and none is right.
    ones = torch.ones(1, 3, tiny.SIZE, tiny.SIZE).double()
    _, facts = integrate(pointwise(lambda x: 1 + torch.sin(2 * torch.pi * x)), ones, LineIntegral(ZERO))
    assert facts[0, 2] > 64
    # In float32 a change below the score's own rounding cannot be told from none.
    net = pointwise(lambda x: 1e5 + 1e-3 * x**9).float()
    _, facts = integrate(net, ones.float(), LineIntegral(ZERO, tolerance=1e-9))
    assert facts[0, 2:].tolist() == [17, 1]


def test_scores_that_overflow_end_at_once() -> None:
    _, facts = integrate(pointwise(lambda x: x / 0.0), tiny.pictures(1), LineIntegral(ZERO))
    assert facts[0, 2:].tolist() == [17, 0]


@pytest.mark.parametrize("memory", [None, 1])
def test_progress_goes_up_to_the_most(memory: int | None) -> None:
    net, batch = hard_and_easy()
    ticks: list[tuple[int, int]] = []
    integrate(net, batch, LineIntegral(ZERO), memory=memory, tick=lambda done, total: ticks.append((done, total)))
    assert {total for _, total in ticks} == {256}
    ends = [number for number, (done, _) in enumerate(ticks) if done == 256]
    assert len(ends) == 2
    for part in (ticks[: ends[0] + 1], ticks[ends[0] + 1 :]):
        assert [done for done, _ in part] == sorted({done for done, _ in part})


def test_the_plan_says_up_to_how_many() -> None:
    need = LineIntegral(ZERO)
    plan = Plan.of([need, Quadrature(need)])
    assert plan.cost().model_dump() == {"forwards": 1, "backwards": 0, "variants": 256, "at_most": True}
    assert plan.lines()[-1] == (
        "for each image up to 256 forwards and backwards of the score of target 1: inputs on the line from a black "
        "image, until the shares add up within 1 %"
    )
    assert need.follows_target
    assert Quadrature(need).follows_target
    assert need.measures_change
    assert not Quadrature(need).measures_change
    assert need.zeros({INPUT: (3, 5, 7)}.__getitem__).shape == (1, 3, 5, 7)
    assert Quadrature(need).zeros({INPUT: (3, 5, 7)}.__getitem__).shape == (1, 4)


# --- the methods -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tiny.NETS)
def test_integrated_gradients_are_complete_by_default(kind: type[nn.Module]) -> None:
    (panel,) = run("integrated-gradients", tiny.build(kind), tiny.pictures(2))
    for error, incomplete in zip(panel.statistics["completeness_error"], panel.warnings["incomplete"], strict=True):
        assert incomplete or error <= 0.01
    assert panel.statistics["steps"].min() >= 17


def test_a_figure_says_how_far_a_map_is_off_after_how_many_steps() -> None:
    class Cliff(nn.Module):
        """A step so steep that no piece of 2 ** -16 of the way is small enough."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x).mean((2, 3))
            return y + torch.sigmoid(1e7 * (y - y.detach().new_tensor([0.1234567, 0.1])))

    net = Cliff().eval().requires_grad_(False)
    net.conv.weight.fill_(1 / 3)
    net.conv.bias.zero_()
    batch = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = cnnviz_cli.explain(net, batch, "integrated-gradients", targets=0)[0]["integrated-gradients"]
    assert state_of(found._drawn.panel) == "incomplete"
    steps, error = found.statistics["steps"], found.statistics["completeness_error"]
    assert (
        f"the shares miss the score they explain by {100 * error:.1f} % after {steps:.0f} steps"
        in found._drawn.caption.note
    )
