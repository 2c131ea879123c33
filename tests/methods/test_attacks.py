"""FGSM and PGD as methods: the panel, by what an image is explained before and after, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nets
import numpy as np
import pytest
import tiny
import torch
from running import given_for, layers_of, recipe_of, run_method, seeds_of
from torch import Tensor

from cnnviz_cli.core.attacks import Attack
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import ATTACK
from cnnviz_cli.core.method import InputSpec, Recipe, methods
from cnnviz_cli.core.panels import Attacked, Heatmap, PixelMap
from cnnviz_cli.core.rank_statistics import mid_ranks, pearson
from cnnviz_cli.core.readings import cell_sums, read_map
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.run.session import method_context

NAMES = [one.name for one in methods(ATTACK.name)]
each = pytest.mark.parametrize("name", NAMES)


def recipe(name: str, options: dict[str, Any], net: Any = None, channels: int = 3, **context: Any) -> Recipe:
    net = net or tiny.build(tiny.Plain)
    method = next(one for one in methods(ATTACK.name) if one.name == name)
    scope = method_context(
        net, layers_of(net, tiny.SIZE), InputSpec((tiny.SIZE,) * 2, (-1.0,) * channels, (1.0,) * channels)
    )
    return method.build(method.options(**options), replace(scope, **context))


def need_of(made: Recipe) -> Attack:
    return next(need for need in made.needs if isinstance(need, Attack))


def attacked(
    name: str, batch: Tensor, *, choose: Any = tiny.first_class, wanted: int | None = None, **options: Any
) -> Attacked:
    net = tiny.build(tiny.Plain)
    made = recipe(name, options, net, wanted_rank=wanted)
    seen = observe(net, batch, Plan.of(made.needs), choose, given=given_for(batch))
    (panel,) = made.explain(seen.evidence.only(made.needs))
    assert isinstance(panel, Attacked)
    return panel


@each
def test_the_panel_has_the_input_before_and_after_and_both_labels(name: str) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    panel = attacked(name, batch, choose=lambda scores: scores.argmax(1, keepdim=True), eps=0.5)
    before, after = net(batch), net(panel.values)
    assert torch.equal(panel.original, batch)
    assert panel.classes[:, 0].tolist() == before.argmax(1).tolist() == panel.classes[:, 2].tolist()
    assert panel.classes[:, 1].tolist() == after.argmax(1).tolist() == panel.statistics["label_after"].tolist()
    assert (panel.classes[:, 0] != panel.classes[:, 1]).all()
    torch.testing.assert_close(panel.arrays()["change"], (panel.values - batch) / 2)
    assert panel.change().abs().amax((1, 2, 3)).tolist() == pytest.approx(panel.statistics["linf"].tolist())
    assert panel.statistics["probability"].tolist() == pytest.approx(before.softmax(1).amax(1).tolist())
    assert panel.statistics["probability_after"].tolist() == pytest.approx(after.softmax(1).amax(1).tolist())
    picked = panel.pick(1)
    assert picked.named_classes() == tuple(panel.classes[1, :2].tolist())
    np.testing.assert_allclose(picked.change(), panel.change()[1].numpy())


def test_both_maps_are_what_the_method_says_of_the_input_and_of_the_attacked_one() -> None:
    batch = tiny.pictures(2)
    panel = attacked("pgd", batch, choose=lambda scores: scores.argmax(1, keepdim=True), eps=0.5, steps=3)
    net = tiny.build(tiny.Plain)
    for found, point, label in ((panel.before, batch, 0), (panel.after, panel.values, 1)):
        chosen = panel.classes[:, label : label + 1]
        (expected,) = run_method("gradcam", net, point, choose=lambda _scores, chosen=chosen: chosen)
        assert isinstance(found, Heatmap)
        torch.testing.assert_close(found.values, expected.values)
    assert (panel.explained_by, panel.layer) == ("Grad-CAM", panel.before.layer)


@pytest.mark.parametrize("explain_by", ["auto", "gradient"])
def test_how_alike_both_maps_are_is_what_measures_of_agreement_say(explain_by: str) -> None:
    panel = attacked(
        "fgsm", tiny.pictures(1), choose=lambda scores: scores.argmax(1, keepdim=True), eps=0.5, explain_by=explain_by
    )
    ranks = [
        mid_ranks(cell_sums(read_map(one.pick(0), (tiny.SIZE,) * 2).order, tiny.SIZE, mean=True))
        for one in (panel.before, panel.after)
    ]
    assert panel.statistics["map_similarity"].item() == pytest.approx(pearson(*ranks))
    assert -1 <= panel.statistics["map_similarity"].item() < 1
    assert panel.statistics["map_similarity_same_class"].item() > panel.statistics["map_similarity"].item()


def test_where_no_layer_has_maps_the_gradient_explains() -> None:
    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(3 * tiny.SIZE**2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.flatten(1))

    made = recipe("fgsm", {}, Flat().double().eval())
    batch = tiny.pictures(1)
    seen = observe(Flat().double().eval(), batch, Plan.of(made.needs), tiny.first_class, given=given_for(batch))
    (panel,) = made.explain(seen.evidence.only(made.needs))
    assert isinstance(panel, Attacked)
    assert isinstance(panel.before, PixelMap)
    assert panel.explained_by == "Gradient"


@pytest.mark.parametrize(
    ("explain_by", "words"), [("nope", "no method"), ("deconvnet", "no single map"), ("feature-maps", "no single map")]
)
def test_what_cannot_explain_is_refused(explain_by: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        recipe("pgd", {"explain_by": explain_by})
    assert raised.value.where == "--explain-by"


def test_a_method_that_needs_variants_or_seeds_may_explain() -> None:
    panel = attacked("fgsm", tiny.pictures(2), eps=0.1, explain_by="smoothgrad")
    assert isinstance(panel.before, PixelMap)
    made = need_of(recipe("fgsm", {"explain_by": "smoothgrad"}))
    assert made.variants >= need_of(recipe("fgsm", {})).variants + 3 * 25


@each
def test_a_region_or_a_similarity_has_no_label(name: str) -> None:
    with pytest.raises(UsageError, match="label of a classifier"):
        recipe(name, {}, classes=False)


def test_the_usual_budget_is_four_levels_or_a_length_of_one() -> None:
    assert need_of(recipe("fgsm", {})).eps == 4 / 255
    assert need_of(recipe("fgsm", {"norm": "l2"})).eps == 1.0
    assert need_of(recipe("pgd", {"eps": 0.25, "norm": "l2"})).eps == 0.25


def test_options_reach_the_walk() -> None:
    made = need_of(recipe("pgd", {"steps": 20, "restarts": 3}, sigmoid=True, wanted_rank=2, rank=1))
    assert (made.length, made.starts, made.sigmoid, made.wanted, made.rank) == (20, 3, True, 2, 1)
    assert made.step == pytest.approx(2.5 / 20)
    assert need_of(recipe("fgsm", {})).is_straight
    assert not need_of(recipe("pgd", {"steps": 1, "restarts": 1})).is_straight


def test_a_wanted_class_is_named_beside_the_others() -> None:
    chosen = torch.tensor([[0, 3], [1, 4]])
    panel = attacked("pgd", tiny.pictures(2), choose=lambda _scores: chosen, wanted=1, eps=0.05, steps=3)
    assert panel.wanted is not None
    assert panel.wanted.tolist() == [3, 4]
    assert {0, 3} <= set(panel.pick(0).named_classes())


def test_a_probability_that_overflows_no_other_statistic() -> None:
    """A dead layer's maps are the same everywhere: how alike they are is not known, and all else is."""
    net = tiny.build(tiny.Plain)
    net.conv2.weight.zero_()
    net.conv2.bias.fill_(-1)
    (panel,) = run_method("fgsm", net, tiny.pictures(1))
    unknown = {name for name, number in panel.statistics.items() if not torch.isfinite(number.double()).all()}
    assert unknown == {"map_similarity", "map_similarity_same_class"}
    assert panel.pick(0).own_state() == "ok"


def test_grey_and_many_bands_are_attacked_like_colours() -> None:
    for channels in (1, 5):
        net = nets.Classifier(channels=channels).double().eval().requires_grad_(False)
        batch = torch.rand(1, channels, 32, 32, generator=torch.Generator().manual_seed(0)).double()
        spec = InputSpec((32, 32), (0.0,) * channels, (1.0,) * channels)
        from cnnviz_cli.models.inspect.probe import probe_layers

        method = next(one for one in methods(ATTACK.name) if one.name == "fgsm")
        scope = method_context(net, probe_layers(net, (channels, 32, 32), "net"), spec)
        made = method.build(method.options(eps=0.5), scope)
        given = {"seeds": torch.tensor(seeds_of(batch))}
        seen = observe(net, batch, Plan.of(made.needs), lambda scores: scores.argmax(1, keepdim=True), given=given)
        (panel,) = made.explain(seen.evidence.only(made.needs))
        assert panel.statistics["linf"].item() <= 0.5 + 1e-9
        assert 0 <= panel.values.min() <= panel.values.max() <= 1


def test_recipes_of_both_share_nothing_by_mistake() -> None:
    made = [need_of(recipe_of(name, tiny.build(tiny.Plain))) for name in NAMES]
    assert len(set(made)) == len(made) == 2


def test_the_target_that_is_attacked_is_the_one_that_is_explained() -> None:
    made = need_of(recipe("fgsm", {}, rank=1))
    assert {need.objective.label() for need in made.explained if need.objective} == {"the score of target 2"}
