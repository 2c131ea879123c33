"""The smallest change that flips a label: closed forms of linear classifiers, steps by hand, captum, and bounds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import inf
from typing import Any, cast

import pytest
import tiny
import torch
from engine.test_stream import Noisy
from running import given_for
from torch import Tensor, nn
from torch.nn import functional

from cnnviz_cli.core.attacks import CUT_FINE, FACTS, HALF_FINE, Attack, AttackFact, LogOdds, Norm, SeenByAttack
from cnnviz_cli.core.draws import normal, uniform
from cnnviz_cli.core.needs import INPUT, Gradient, GradientOver, Seeds
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.attack import Ball
from cnnviz_cli.engine.passes import Pass

SIDE = 6
MEAN, STD = torch.tensor([0.5, 0.4, 0.3]).double(), torch.tensor([0.25, 0.2, 0.1]).double()
BLACK, WHITE = (tuple(((end - MEAN) / STD).tolist()) for end in (0.0, 1.0))
PGD = {"length": 10, "step": 0.25, "starts": 1}
FGSM = {"length": 1, "step": 1.0, "starts": 0}


class Linear(nn.Module):
    """Scores that are linear in the pixels."""

    def __init__(self, classes: int = 2, channels: int = 3, seed: int = 0) -> None:
        super().__init__()
        self.fc = nn.Linear(channels * SIDE**2, classes)
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.fc.weight.copy_(torch.randn(self.fc.weight.shape, generator=random))
            self.fc.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def linear(classes: int = 2, channels: int = 3) -> Linear:
    return Linear(classes, channels).double().eval().requires_grad_(False)


def pixels(count: int = 1, seed: int = 3) -> Tensor:
    """Images of grey between 0.3 and 0.7, so that no small change is cut off."""
    random = torch.Generator().manual_seed(seed)
    return 0.3 + 0.4 * torch.rand(count, 3, SIDE, SIDE, generator=random, dtype=torch.float64)


def normalized(images: Tensor) -> Tensor:
    return (images - MEAN.view(-1, 1, 1)) / STD.view(-1, 1, 1)


def attack_of(norm: Norm = "linf", eps: float = 0.1, **changed: Any) -> Attack:
    usual: dict[str, Any] = {"rank": 0, "wanted": None, "sigmoid": False, "black": BLACK, "white": WHITE, **FGSM}
    return Attack(norm=norm, eps=eps, **{**usual, **changed})


def likeliest(scores: Tensor) -> Tensor:
    return scores.argmax(1, keepdim=True)


def answered(net: nn.Module, batch: Tensor, need: Attack, choose: Any = likeliest, **how: Any) -> Any:
    """The attacked inputs, and the facts by name."""
    facts = [AttackFact(need, fact) for fact in FACTS]
    seen = observe(net, batch, Plan.of([need, *facts]), choose, given=given_for(batch), **how)
    return seen.evidence[need], {fact.fact: seen.evidence[fact] for fact in facts}


def smallest_of(net: Linear, batch: Tensor, norm: Norm) -> Tensor:
    """(B,) the smallest change that a classifier of two classes allows: its margin by the dual norm of its slopes."""
    weight = (net.fc.weight[0] - net.fc.weight[1]).view(3, SIDE, SIDE) / STD.view(-1, 1, 1)
    scores = net(batch)
    margin = (scores[:, 0] - scores[:, 1]).abs()
    return margin / (weight.abs().sum() if norm == "linf" else weight.norm())


@pytest.mark.parametrize(
    ("walk", "fine"),
    [(FGSM, CUT_FINE), (PGD, 2 * HALF_FINE), ({**PGD, "starts": 0}, HALF_FINE)],
    ids=["one", "pgd", "bim"],
)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_classifier_flips_at_its_margin_by_the_dual_norm(norm: Norm, walk: Any, fine: float) -> None:
    net, batch = linear(), normalized(pixels(3))
    least = smallest_of(net, batch, norm)
    attacked, told = answered(net, batch, attack_of(norm, 4 * float(least.max()), **walk))
    assert told["flipped"].tolist() == [1, 1, 1]
    assert (told["eps"] >= least * (1 - 1e-9)).all()
    # A random start spends a part of its steps across the slope.
    assert (told["eps"] <= least * (1 + 1.2 * fine)).all()
    assert (net(attacked).argmax(1) != net(batch).argmax(1)).all()


@pytest.mark.parametrize("walk", [FGSM, PGD], ids=["one", "pgd"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_budget_just_below_the_margin_flips_nothing_and_one_above_it_does(norm: Norm, walk: Any) -> None:
    net, batch = linear(), normalized(pixels())
    least = float(smallest_of(net, batch, norm))
    attacked, told = answered(net, batch, attack_of(norm, 0.99 * least, **walk))
    assert told["flipped"].tolist() == [0]
    assert told["eps"].item() == pytest.approx(0.99 * least)
    # What is said is of a change as large as the budget, which lowers the score as far as there is room.
    assert told[cast("Any", norm)].item() == pytest.approx(0.99 * least, rel=1e-9)
    assert told["score_after"].item() == pytest.approx(net(attacked).softmax(1).max().item())
    assert told["score_after"].item() < told["score_before"].item()
    assert told["label_after"].tolist() == told["label"].tolist()
    _, told = answered(net, batch, attack_of(norm, 1.05 * least, **walk))
    assert told["flipped"].tolist() == [1]


def test_the_first_flip_along_the_way_is_found_and_not_a_later_one() -> None:
    class Striped(nn.Module):
        """The label changes at 0.2, back at 0.4, and again at 0.7 of the mean of all pixels."""

        def forward(self, x: Tensor) -> Tensor:
            mean = x.mean((1, 2, 3))
            edges = (mean - 0.2) * (mean - 0.4) * (mean - 0.7)
            return torch.stack([-edges, edges], 1)

    batch = torch.full((1, 3, SIDE, SIDE), 0.1).double()
    need = attack_of(eps=0.8, black=(0.0,) * 3, white=(1.0,) * 3)
    attacked, told = answered(Striped().eval(), batch, need)
    assert told["eps"].item() == pytest.approx(0.1, rel=2 * CUT_FINE)
    assert attacked.mean().item() == pytest.approx(0.2, rel=2 * CUT_FINE)


def test_sizes_are_pixel_values_whatever_the_preprocessing() -> None:
    net, images = linear(), pixels()
    eps = 0.9 * float(smallest_of(net, normalized(images), "linf"))
    attacked, told = answered(net, normalized(images), attack_of(eps=eps))
    change = (attacked - normalized(images)) * STD.view(-1, 1, 1)
    slope = (net.fc.weight[0] - net.fc.weight[1]).view(3, SIDE, SIDE)
    away = -slope.sign() if net(normalized(images)).argmax() == 0 else slope.sign()
    torch.testing.assert_close(change[0], eps * away, rtol=1e-9, atol=1e-12)
    assert told["linf"].item() == pytest.approx(eps)
    assert told["l2"].item() == pytest.approx(eps * (3 * SIDE**2) ** 0.5)
    assert told["changed"].item() == 1


def test_a_changed_pixel_is_one_of_which_any_channel_differs() -> None:
    net = linear()
    weight = torch.zeros(2, 3, SIDE, SIDE).double()
    weight[0, 1, :2] = 1
    net.fc.weight.data = weight.flatten(1)
    net.fc.bias.data = torch.tensor([9.0, 0.0]).double()
    _, told = answered(net, normalized(pixels()), attack_of(eps=0.01))
    assert told["changed"].item() == pytest.approx(2 / SIDE)


@pytest.mark.parametrize("walk", [FGSM, PGD], ids=["one", "pgd"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_pixel_goes_beyond_black_and_white_and_alpha_stays(norm: Norm, walk: Any) -> None:
    net = linear(channels=4)
    images = torch.cat([torch.rand(2, 3, SIDE, SIDE).double().round(), torch.ones(2, 1, SIDE, SIDE).double()], 1)
    black, white = (-1.0, -2.0, 0.0, 1.0), (1.0, 2.0, 0.5, 1.0)
    low, high = torch.tensor(black).view(-1, 1, 1).double(), torch.tensor(white).view(-1, 1, 1).double()
    batch = low + images * (high - low)
    attacked, _ = answered(
        net, batch, attack_of(norm, 0.3 if norm == "linf" else 3.0, black=black, white=white, **walk)
    )
    assert (attacked >= low - 1e-12).all()
    assert (attacked <= high + 1e-12).all()
    assert torch.equal(attacked[:, 3], batch[:, 3])


def test_values_that_are_beyond_white_already_may_stay_there() -> None:
    net, batch = linear(), normalized(pixels() + 0.8)
    attacked, _ = answered(net, batch, attack_of(eps=0.01))
    assert (attacked <= batch.maximum(torch.tensor(WHITE).view(-1, 1, 1)) + 1e-12).all()
    assert (((batch - attacked) * STD.view(-1, 1, 1)).abs() <= 0.01 + 1e-12).all()


def by_hand(net: nn.Module, batch: Tensor, norm: Norm, eps: float, steps: int, step: float, start: Tensor) -> Tensor:
    """Madry's walk on pixels, by the cross-entropy, slowly; the point at which the label leads by least."""
    images = batch * STD.view(-1, 1, 1) + MEAN.view(-1, 1, 1)
    target = net(batch).argmax(1)
    points = [(images + start).clamp(0, 1)]
    for _ in range(steps):
        point = points[-1]
        leaf = point.clone().requires_grad_()
        (slope,) = torch.autograd.grad(functional.cross_entropy(net(normalized(leaf)), target, reduction="sum"), leaf)
        if norm == "linf":
            change = (point + step * slope.sign() - images).clamp(-eps, eps)
        else:
            change = point + step * slope / slope.norm() - images
            change = change * min(1.0, eps / float(change.norm()))
        points.append((images + change).clamp(0, 1))
    leads = [net(normalized(point))[0].sort(descending=True).values for point in points]
    least = min(range(len(points)), key=lambda number: float(leads[number][0] - leads[number][1]))
    return normalized(points[least])


@pytest.mark.parametrize("starts", [0, 1])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_walk_is_the_papers_walk_by_hand(norm: Norm, starts: int) -> None:
    net, batch = linear(4), normalized(pixels(seed=5))
    net.fc.weight.data *= 0.1  # where a network is sure, little is left of the cross-entropy's digits
    eps = 0.002
    need = attack_of(norm, eps, length=4, step=0.6, starts=starts)
    attacked, told = answered(net, batch, need)
    assert told["flipped"].item() == 0
    start = torch.zeros_like(batch)
    if starts:
        seed, first = int(given_for(batch)["seeds"]), 1 << 43
        start[0] = eps * (2 * uniform(seed, first, tuple(batch.shape[1:])).double() - 1)
        if norm == "l2":
            drawn = normal(seed, first, tuple(batch.shape[1:])).double()
            radius = float(uniform(seed, first + 1, (1,))) ** (1 / drawn.numel())
            start[0] = eps * radius * drawn / drawn.norm()
    expected = by_hand(net, batch, norm, eps, 4, 0.6 * eps, start)
    torch.testing.assert_close(attacked, expected, rtol=1e-9, atol=1e-12)


class Two(nn.Module):
    """Two classes: then the walk that lowers the label's odds most is the one at whose end they are lowest."""

    def __init__(self) -> None:
        super().__init__()
        self.net = tiny.build(tiny.Plain)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, :2]


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.parametrize("targeted", [False, True])
def test_captum_takes_the_same_steps_through_the_normalisation(targeted: bool) -> None:
    """Under l2 captum's steps are along the sign, too, and only its ball is round; ours are along the gradient."""
    robust = pytest.importorskip("captum.robust")
    net, images = Two().double().eval().requires_grad_(False), pixels(seed=8)
    label, eps, steps = int(net(normalized(images)).argmax()), 1e-4, 3
    wanted = 1 - label

    def forward(pixels: Tensor) -> Tensor:
        return net(normalized(pixels))

    loss = nn.CrossEntropyLoss(reduction="none")
    choose = lambda scores: torch.tensor([[label, wanted]]).expand(len(scores), -1)  # noqa: E731
    need = attack_of(eps=eps, length=steps, step=0.5, wanted=1 if targeted else None)
    attacked, told = answered(net, normalized(images), need, choose)
    assert told["flipped"].item() == 0
    peer = robust.PGD(forward, loss, lower_bound=0.0, upper_bound=1.0)
    theirs = peer.perturb(
        images.clone().requires_grad_(),
        radius=eps,
        step_size=eps / 2,
        step_num=steps,
        target=torch.tensor([wanted if targeted else label]),
        targeted=targeted,
    )
    torch.testing.assert_close(attacked, normalized(theirs).detach(), rtol=1e-9, atol=1e-12)
    one, _ = answered(net, normalized(images), attack_of(eps=eps, wanted=need.wanted), choose)
    peer = robust.FGSM(forward, loss, lower_bound=0.0, upper_bound=1.0)
    counted = torch.tensor([wanted if targeted else label])
    theirs = peer.perturb(images.clone().requires_grad_(), eps, counted, targeted=targeted)
    torch.testing.assert_close(one, normalized(theirs).detach(), rtol=1e-9, atol=1e-12)


def test_a_wanted_class_is_reached_and_not_just_any_other() -> None:
    net, batch = linear(5), normalized(pixels())
    order = net(batch).argsort(1, descending=True)
    last = int(order[0, -1])
    choose = lambda scores: torch.tensor([[int(order[0, 0]), last]]).expand(len(scores), -1)  # noqa: E731
    attacked, told = answered(net, batch, attack_of(eps=0.5, wanted=1, **PGD), choose)
    assert told["flipped"].item() == 1
    assert int(net(attacked).argmax()) == last == int(told["label_after"])
    _, any_other = answered(net, batch, attack_of(eps=0.5, **PGD), choose)
    assert any_other["eps"].item() < told["eps"].item()
    assert told["score_before"].item() == pytest.approx(net(batch).softmax(1)[0, last].item())


@pytest.mark.parametrize("wanted", [None, 1])
def test_what_is_so_already_takes_no_change(wanted: int | None) -> None:
    net, batch = linear(3), normalized(pixels())
    order = net(batch).argsort(1, descending=True)
    chosen = order[:, [1, 0]]  # another class than the label, and the label is wanted
    attacked, told = answered(net, batch, attack_of(wanted=wanted), lambda _scores: chosen)
    assert torch.equal(attacked, batch)
    assert (told["flipped"].item(), told["eps"].item(), told["changed"].item()) == (1, 0, 0)


def test_by_sigmoids_a_label_is_flipped_at_one_half() -> None:
    net, batch = linear(3), normalized(pixels())
    scores = net(batch)
    target = scores.argmax(1, keepdim=True)
    weight = net.fc.weight[int(target)].view(3, SIDE, SIDE) / STD.view(-1, 1, 1)
    least = float(scores.max()) / float(weight.abs().sum())
    _, told = answered(net, batch, attack_of(eps=2 * least, sigmoid=True))
    assert told["eps"].item() == pytest.approx(least, rel=2 * CUT_FINE)
    assert told["score_after"].item() == pytest.approx(0.5, abs=3e-3)
    assert told["score_before"].item() == pytest.approx(scores.max().sigmoid().item())


def test_a_network_of_one_score_says_yes_or_no() -> None:
    class One(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, :1]

    net = One().double().eval().requires_grad_(False)
    batch = normalized(pixels())
    weight = net.fc.weight[0].view(3, SIDE, SIDE) / STD.view(-1, 1, 1)
    least = float(net(batch).abs()) / float(weight.abs().sum())
    _, told = answered(net, batch, attack_of(eps=2 * least, sigmoid=True))
    assert told["eps"].item() == pytest.approx(least, rel=2 * CUT_FINE)
    assert {told["label"].item(), told["label_after"].item()} == {0, 1}


@pytest.mark.parametrize(("levels", "stays"), [(0.3, 1), (0.8, 0), (1.2, 1)])
def test_rounding_to_8_bits_may_undo_it(levels: float, stays: int) -> None:
    """Pixels of whole levels; all move by one and the same share of a level, and rounding takes that to the nearest."""
    net = linear()
    images = (255 * pixels()).round() / 255
    slope = 2 * (torch.rand(3, SIDE, SIDE) > 0.5).double() - 1
    net.fc.weight.data = (
        torch.stack([slope.flatten(), -slope.flatten()]) * STD.view(-1, 1, 1).expand_as(slope).flatten()
    )
    scores = net(normalized(images))
    margin = levels / 255 * 2 * 3 * SIDE**2
    net.fc.bias.data[0] += margin - (scores[0, 0] - scores[0, 1])
    _, told = answered(net, normalized(images), attack_of(eps=4 / 255))
    assert told["eps"].item() == pytest.approx(levels / 255, rel=2 * CUT_FINE)
    assert told["in_8_bits"].item() == 1 - stays


@pytest.mark.parametrize("walk", [FGSM, {"length": 2, "step": 0.5, "starts": 2}], ids=["one", "pgd"])
def test_what_else_is_in_the_batch_leaves_no_bit(walk: Any) -> None:
    net = tiny.build(tiny.Residual).float()
    batch = tiny.pictures(3).float()
    need = attack_of(eps=0.5, **walk)
    together, told = answered(net, batch, need)
    assert 1 in told["flipped"]
    for image, alone in enumerate(batch):
        one, facts = answered(net, alone[None], need)
        assert torch.equal(one[0], together[image])
        assert all(torch.equal(facts[name][0], told[name][image]) for name in facts)
    backwards, _ = answered(net, batch.flip(0), need)
    assert torch.equal(backwards.flip(0), together)


def test_more_starts_find_nothing_worse_and_each_is_a_draw_of_its_own() -> None:
    drawn = Ball(tiny.pictures(1), "l2", (-1.0,) * 3, (1.0,) * 3).random(7, 5)
    assert all(not torch.equal(one, other) for one, other in pairwise(drawn))
    assert (drawn.flatten(1).norm(dim=1) <= 1).all()
    assert (drawn.flatten(1).norm(dim=1) > 0.9).all()  # nearly all of a ball of 432 dimensions lies at its border
    net, batch = tiny.build(tiny.Plain), tiny.pictures(1)
    found = [answered(net, batch, attack_of(eps=0.02, length=2, step=0.5, starts=starts))[1] for starts in (1, 6)]
    assert found[1]["score_after"].item() <= found[0]["score_after"].item() or found[1]["flipped"].item()


def test_one_at_a_time_and_in_little_memory_it_is_the_same() -> None:
    class Cramped(Linear):
        largest = 0

        def forward(self, x: Tensor) -> Tensor:
            Cramped.largest = max(Cramped.largest, len(x))
            if len(x) > 3:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(x)

    net, batch = linear(3), normalized(pixels())
    cramped = Cramped(3).double().eval().requires_grad_(False)
    need = attack_of(eps=0.1)
    usual, told = answered(net, batch, need)
    for how, most in (({}, 8), ({"alone": True}, 1)):
        Cramped.largest = 0
        attacked, facts = answered(cramped, batch, need, **how)
        torch.testing.assert_close(attacked, usual, rtol=1e-9, atol=1e-12)
        assert facts["eps"].item() == told["eps"].item()
        assert Cramped.largest == most


def test_log_odds_follow_the_cross_entropy_and_do_not_vanish_where_a_network_is_sure() -> None:
    logits = torch.tensor([[2.0, 1.0, -1.0], [300.0, 1.0, 2.0]], requires_grad=True)
    targets = torch.zeros(2, 1, dtype=torch.int64)
    forward = Pass(logits, targets, {}, {})
    (ours,) = torch.autograd.grad(LogOdds(0).value(forward).sum(), logits)
    (theirs,) = torch.autograd.grad(functional.cross_entropy(logits, targets[:, 0], reduction="sum"), logits)
    torch.testing.assert_close(functional.cosine_similarity(ours[0], -theirs[0], 0), torch.tensor(1.0))
    assert not theirs[1].any()
    assert ours[1].abs().sum() == pytest.approx(2)
    odds = logits.softmax(1)[0, 0] / (1 - logits.softmax(1)[0, 0])
    assert LogOdds(0).value(forward)[0].item() == pytest.approx(odds.log().item(), rel=1e-5)


def test_a_lead_that_is_rounding_is_no_flip() -> None:
    class Level(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([1000 + 0 * x.mean((1, 2, 3)), torch.full((len(x),), 1000.0001)], 1)

    batch = normalized(pixels()).float()
    _, told = answered(
        Level().eval(), batch, attack_of(), lambda scores: torch.zeros(len(scores), 1, dtype=torch.int64)
    )
    assert told["flipped"].item() == 0


def test_where_there_is_no_slope_nothing_moves() -> None:
    class Blind(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([1 + 0 * x.sum((1, 2, 3)), 0 * x.sum((1, 2, 3))], 1)

    batch = normalized(pixels())
    for norm in ("linf", "l2"):
        attacked, told = answered(Blind().eval(), batch, attack_of(cast("Norm", norm)))
        assert torch.equal(attacked, batch)
        assert told["flipped"].item() == 0


def test_before_and_after_are_explained_for_the_label_of_each_and_still_for_the_first() -> None:
    net, batch = linear(3), normalized(pixels())
    slope = Gradient()
    need = attack_of(eps=0.2, explained=(slope,))
    seen = [SeenByAttack(need, slope, moment) for moment in ("before", "after", "still")]
    asked = [need, *seen, AttackFact(need, "label"), AttackFact(need, "label_after")]
    evidence = observe(net, batch, Plan.of(asked), likeliest, given=given_for(batch)).evidence
    before, after = (int(evidence[AttackFact(need, fact)]) for fact in ("label", "label_after"))
    assert before != after
    for one, label in zip(seen, (before, after, before), strict=True):
        torch.testing.assert_close(evidence[one][0], net.fc.weight[label].view(3, SIDE, SIDE))


def test_explanations_that_take_variants_are_counted_as_they_pass() -> None:
    net, batch = linear(3), normalized(pixels())
    slope = GradientOver(Noisy(at=INPUT))
    count = slope.over.count
    need = attack_of(eps=0.2, explained=(slope,))
    seen = [SeenByAttack(need, slope, moment) for moment in ("before", "after", "still")]
    heard: list[tuple[int, int]] = []
    plan, given = Plan.of([need, *seen]), given_for(batch)
    observe(net, batch, plan, likeliest, given=given, tick=lambda *told: heard.append(told))
    done = [one for one, _ in heard]
    assert done == sorted(done)
    assert {total for _, total in heard} == {need.variants}
    plain: list[int] = []
    bare = attack_of(eps=0.2)
    observe(net, batch, Plan.of([bare]), likeliest, given=given_for(batch), tick=lambda done, _: plain.append(done))
    assert done[-1] == plain[-1] + 3 * count


def test_of_seeds_only_walks_that_start_at_random_need_any() -> None:
    assert attack_of().sources == ()
    assert attack_of(**PGD).sources == (Seeds(),)
    assert attack_of(**PGD).variants > attack_of().variants > 1
    assert "10 steps" in attack_of(**PGD).label()
    assert replace(attack_of(), eps=inf).is_straight


def test_a_walk_ends_where_the_label_is_flipped_and_counts_no_more_than_it_went() -> None:
    class Counting(Linear):
        seen = 0

        def forward(self, x: Tensor) -> Tensor:
            Counting.seen += 1
            return super().forward(x)

    net = Counting().double().eval().requires_grad_(False)
    batch = normalized(pixels())
    least = float(smallest_of(net, batch, "linf"))
    need = attack_of(eps=1000 * least, length=10, step=0.25, starts=0)
    Counting.seen = 0
    _, told = answered(net, batch, need)
    # The first walk goes a quarter of the budget, and the next begins from that.
    assert told["eps"].item() == pytest.approx(least, rel=HALF_FINE)
    assert Counting.seen < need.passes / 2
