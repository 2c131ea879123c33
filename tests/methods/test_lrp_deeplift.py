"""The two methods that hand a score down layer by layer: their panels, options and statistics."""

from __future__ import annotations

import pytest
import tiny
import torch
from running import Runner, recipe_of
from torch import Tensor, nn

from cnnviz_cli.core.needs import Evidence, Relevance, Scores
from cnnviz_cli.core.panels import PixelMap, SignedMap
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.device import Footprint
from cnnviz_cli.render.scaling import state_of

SLOW = {"rtol": 1e-9, "atol": 1e-13}


class Weighed(nn.Module):
    """One linear layer without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * tiny.SIZE**2, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def _second(scores: Tensor) -> Tensor:
    return torch.ones(len(scores), 1, dtype=torch.int64)


def test_both_are_weight_times_difference_in_a_linear_network(run: Runner) -> None:
    net, batch = tiny.build(Weighed), tiny.pictures(2)
    weight = net.fc.weight[1].view(3, tiny.SIZE, tiny.SIZE)
    (shares,) = run("deeplift", net, batch, choose=_second)
    torch.testing.assert_close(shares.values, (weight * (batch + 1)).sum(1, keepdim=True), **SLOW)  # black is -1
    (parts,) = run("lrp", net, batch, choose=_second, composite="epsilon")
    torch.testing.assert_close(parts.values, (weight * batch).sum(1, keepdim=True), rtol=1e-3, atol=1e-9)
    assert isinstance(parts, SignedMap)
    torch.testing.assert_close(parts.statistics["conserved"], torch.ones(2).double(), rtol=1e-3, atol=0)


def test_reduce_draws_sizes_too(run: Runner) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    for name in ("lrp", "deeplift"):
        (signed,) = run(name, net, batch)
        (same,) = run(name, net, batch, reduce="signed")
        (largest,) = run(name, net, batch, reduce="max")
        assert isinstance(signed, SignedMap)
        assert isinstance(largest, PixelMap)
        assert torch.equal(signed.values, same.values)
        assert (largest.values >= signed.values.abs() / 3 - 1e-15).all()


@pytest.mark.parametrize("baseline", ["black", "mean", "blur", "noise"])
@pytest.mark.parametrize("kind", tiny.NETS, ids=[k.__name__ for k in tiny.NETS])
def test_deeplift_is_complete_from_every_baseline(baseline: str, kind: type[nn.Module], run: Runner) -> None:
    (panel,) = run("deeplift", tiny.build(kind), tiny.pictures(2), baseline=baseline)
    assert (panel.statistics["completeness_error"] < 1e-9).all()
    assert not panel.warnings["incomplete"].any()


def test_conserved_is_the_sum_over_the_score(run: Runner) -> None:
    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    (panel,) = run("lrp", net, batch, choose=_second)
    torch.testing.assert_close(
        panel.statistics["conserved"], panel.values.sum((1, 2, 3)) / net(batch)[:, 1], rtol=1e-9, atol=0
    )
    # Biases take their part.
    assert ((panel.statistics["conserved"] - 1).abs() > 1e-3).all()


@pytest.mark.parametrize("kind", [tiny.Plain, tiny.InPlace, tiny.OverlappingPool, tiny.Residual])
def test_biases_may_take_nothing(kind: type[nn.Module], run: Runner) -> None:
    net, batch = tiny.build(kind), tiny.pictures(2)
    for composite in ("epsilon", "epsilon-plus-flat", "epsilon-gamma-box"):
        (panel,) = run("lrp", net, batch, choose=_second, composite=composite, biases="nothing")
        # Epsilon takes what it takes; biases took more than that.
        torch.testing.assert_close(panel.statistics["conserved"], torch.ones(2).double(), rtol=2e-3, atol=0)
        (taken,) = run("lrp", net, batch, choose=_second, composite=composite)
        assert ((taken.statistics["conserved"] - 1).abs() > 5e-3).all()


def test_relevance_that_explodes_is_called_unstable() -> None:
    recipe = recipe_of("lrp", tiny.build(tiny.Plain))
    values = tiny.pictures(4) / 1000
    values += (torch.tensor([2.0, 18, 22, -22]).view(-1, 1, 1, 1) - values.sum((1, 2, 3), keepdim=True)) / values[
        0
    ].numel()
    (panel,) = recipe.explain(
        Evidence(dict(zip(recipe.needs, (values, torch.full((4, 1), 2.0).double()), strict=True)))
    )
    torch.testing.assert_close(
        panel.statistics["conserved"], torch.tensor([1.0, 9, 11, -11]).double(), rtol=1e-9, atol=0
    )
    assert [state_of(panel.pick(image)) for image in range(4)] == ["ok", "ok", "unstable", "unstable"]


def test_a_score_of_nothing_is_conserved_as_nothing(run: Runner) -> None:
    net, batch = tiny.build(Weighed), torch.zeros(2, 3, tiny.SIZE, tiny.SIZE).double()
    (panel,) = run("lrp", net, batch)
    assert panel.statistics["conserved"].tolist() == [0, 0]


@pytest.mark.parametrize("name", ["lrp", "deeplift"])
def test_each_takes_one_forward_and_backward_of_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(1)
    plan = Plan.of(recipe_of(name, net).needs)
    scored = sum(need.on.count for need in plan.needs if isinstance(need, Scores))
    monkeypatch.setattr("cnnviz_cli.engine.stream.measure_footprint", lambda *_a: Footprint(1, 1))
    counts = tiny.count_passes(monkeypatch, net)
    observe(net, batch, plan, tiny.first_class)
    assert counts["forwards"] == 1 + 1 + 1  # the batch's own, the method's, and the scores in one chunk
    assert scored == {"lrp": 1, "deeplift": 2}[name]


def test_only_the_box_needs_the_inputs_range() -> None:
    net = tiny.build(tiny.Plain)
    for composite, low in (("epsilon-plus-flat", ()), ("epsilon", ()), ("epsilon-gamma-box", (-1.0,) * 3)):
        (need,) = (n for n in recipe_of("lrp", net, composite=composite).needs if isinstance(n, Relevance))
        assert need.low == low
