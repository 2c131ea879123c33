"""Measures that run the methods once more: against slow derivations from `explain` itself, and captum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch
from measures.judging import QUIET, explained, explaining, judge_batch, judge_of, photographs
from scipy.stats import spearmanr
from torch import Tensor, nn

from cnnviz_cli.core.draws import uniform
from cnnviz_cli.core.measures import Again
from cnnviz_cli.engine.scramble import order_of_weights, scramble
from cnnviz_cli.run.altered_runs import NO_CLASS, NOISE_DRAWS, OTHER_ANSWER, AlteredRuns
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.session import image_seed


def sharp() -> nn.Module:
    net = tiny.build(tiny.Plain).float()
    net.fc.weight.mul_(8)
    return net


def maps_of(net: nn.Module, batch: Tensor, method: str, target: int, **options: Any) -> np.ndarray[Any, Any]:
    """(B, h, w) the values of a method's maps, for one class."""
    with explaining(net, batch, method, targets=[target], **options) as explainer:
        return np.stack([panel.numpy()[0] for panel in explained(explainer, batch).panels[0][0].values])


def numbers_of(net: nn.Module, batch: Tensor, method: str, measures: str, **how: Any) -> list[dict[str, float]]:
    found = judge_batch(net, batch, method, measures, controls=False, how=how)
    return [dict(one.panels[0][0].numbers) for one in found]


def rank_correlation(one: Any, other: Any) -> float:
    return float(spearmanr(np.ravel(one), np.ravel(other)).statistic)


def test_the_other_class_is_the_least_likely_of_so_many() -> None:
    net, batch = sharp(), photographs(3)
    order = net(batch).sort(dim=1, descending=True).indices
    for among in (2, 3, 100):
        found = numbers_of(net, batch, "gradient", "class", among=among)
        for image in range(3):
            first, last = int(order[image, 0]), int(order[image, : min(among, 5)][-1])
            one, other = (maps_of(net, batch, "gradient", target)[image] for target in (first, last))
            assert found[image]["class"] == pytest.approx(1 - rank_correlation(one, other), abs=1e-6)


def test_a_method_that_is_blind_to_the_class_has_no_class_sensitivity() -> None:
    for image in numbers_of(sharp(), photographs(2), "eigencam", "class"):
        assert image["class"] == pytest.approx(0, abs=1e-9)


def test_a_map_of_each_half_tells_its_class_from_the_other() -> None:
    class Halves(nn.Module):
        """Class 0 adds up the left half of the first colour, class 1 the right."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 1, 1, bias=False)
            self.conv.weight.data = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            found = self.conv(x)
            return torch.stack([found[..., :12].sum((1, 2, 3)), found[..., 12:].sum((1, 2, 3))], 1)

    (found,) = numbers_of(Halves().eval(), photographs(1).abs(), "gradient", "class")
    assert found["class"] == pytest.approx(2, abs=1e-9)


def test_where_there_are_no_other_classes_it_is_undone() -> None:
    class OneScore(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).relu().mean((1, 2, 3), keepdim=False)[:, None]

    torch.manual_seed(0)
    (found,) = judge_batch(OneScore().eval(), photographs(1), "gradient", "class", controls=False)
    assert found.panels[0][0].numbers["class"] == pytest.approx(0)  # no has the same magnitudes as yes
    (found,) = judge_batch(
        OneScore().eval(), photographs(1), "gradient", "class", controls=False, settings={"task": "regression"}
    )
    assert found.panels[0][0].undone == {"class": NO_CLASS}


def noisy(batch: Tensor, image: int, draw: int, share: float) -> Tensor:
    seed = image_seed(0, str(image))
    noise = uniform(seed, NOISE_DRAWS + draw, tuple(batch.shape[1:])) * 2 - 1
    return (batch[image] + share * noise)[None]


def test_stability_is_the_mean_over_noisy_inputs_and_the_largest_change() -> None:
    net, batch = sharp(), photographs(2)
    with explaining(net, batch, "gradient") as explainer:
        spec = explainer.session.context.input_spec
    span = torch.tensor([high - low for low, high in zip(spec.black, spec.white, strict=True)]).view(-1, 1, 1)
    found = numbers_of(net, batch, "gradient", "stability", stability_noise=0.005, stability_draws=3)
    for image in range(2):
        target = int(net(batch[image : image + 1]).argmax())
        own = maps_of(net, batch[image : image + 1], "gradient", target)[0]
        alike, moved = [], []
        for draw in range(3):
            changed = (batch[image] + 0.005 * span * (noisy(batch * 0, image, draw, 1)[0]))[None]
            assert int(net(changed).argmax()) == target
            other = maps_of(net, changed, "gradient", target)[0]
            alike.append(rank_correlation(own, other))
            moved.append(np.linalg.norm(other - own) / np.linalg.norm(own))
        assert found[image]["stability"] == pytest.approx(1 - np.mean(alike), abs=1e-5)
        assert found[image]["stability.max"] == pytest.approx(max(moved), rel=1e-4)
        assert found[image]["stability.left_out"] == 0


def test_without_noise_nothing_moves_not_even_what_a_method_draws() -> None:
    for method in ("smoothgrad", "randomcam", "rise"):
        options = {"masks": 20} if method == "rise" else {}
        found = judge_batch(
            sharp(), photographs(2), method, "stability", controls=False, how={"stability_noise": 0.0}, **options
        )
        for image in found:
            numbers = image.panels[0][0].numbers
            assert numbers["stability"] == pytest.approx(0, abs=1e-12)
            assert numbers["stability.max"] == 0


def test_inputs_that_get_another_answer_are_left_out_and_counted() -> None:
    net, batch = sharp(), photographs(2)
    found = judge_batch(
        net, batch, "gradient", "stability", controls=False, how={"stability_noise": 0.05, "stability_draws": 8}
    )
    with explaining(net, batch, "gradient") as explainer:
        spec = explainer.session.context.input_spec
    span = torch.tensor([high - low for low, high in zip(spec.black, spec.white, strict=True)]).view(-1, 1, 1)
    counts = []
    for image, judged in enumerate(found):
        target = int(net(batch[image : image + 1]).argmax())
        other = sum(
            int(net((batch[image] + 0.05 * span * noisy(batch * 0, image, draw, 1)[0])[None]).argmax()) != target
            for draw in range(8)
        )
        counts.append(other)
        judgement = judged.panels[0][0]
        assert judgement.numbers["stability.left_out"] == other
        if other == 8:
            assert judgement.undone["stability"] == OTHER_ANSWER
    assert max(counts) > 0


def test_max_sensitivity_is_captums() -> None:
    metrics = pytest.importorskip("captum.metrics")
    net, batch = sharp(), photographs(1)
    target = int(net(batch).argmax())

    def explain(inputs: Tensor | tuple[Tensor, ...], **_: Any) -> tuple[Tensor]:
        images = inputs if isinstance(inputs, Tensor) else inputs[0]
        return (torch.from_numpy(np.stack([maps_of(net, one[None], "gradient", target) for one in images])),)

    def perturb(inputs: Tensor) -> Tensor:
        return torch.cat([noisy(batch, 0, draw, 0.02) for draw in range(len(inputs))])

    theirs = metrics.sensitivity_max(explain, batch, perturb_func=perturb, n_perturb_samples=4)
    (ours,) = numbers_of(net, batch, "gradient", "sensitivity_max", radius_draws=4)
    assert ours["sensitivity_max"] == pytest.approx(float(theirs), rel=1e-4)


@pytest.mark.parametrize("method", ["gradient", "gradcam", "lrp", "occlusion"])
def test_randomisation_compares_with_the_maps_of_the_shuffled_network(method: str) -> None:
    net, batch = sharp(), photographs(2, size=21)
    found = judge_batch(net, batch, method, "randomisation", controls=False)
    shuffled = scramble(net, order_of_weights(net, batch[:1]), seed=0)
    undone = 0
    for image, judged in enumerate(found):
        judgement = judged.panels[0][0]
        target = int(net(batch[image : image + 1]).argmax())
        own, other = (maps_of(one, batch, method, target)[image] for one in (net, shuffled))
        if np.ptp(other) == 0:
            assert "same value" in judgement.undone["randomisation"]
            undone += 1
            continue
        if own.shape == (21, 21):
            assert judgement.numbers["randomisation.signed"] == pytest.approx(rank_correlation(own, other), abs=1e-5)
            expected = rank_correlation(abs(own), abs(other))
            assert judgement.numbers["randomisation.all"] == pytest.approx(expected, abs=1e-5)
        curve = judgement.curves["randomisation.all"]
        assert curve[-1] == judgement.numbers["randomisation.all"]
        assert judgement.curves["randomisation.signed"][-1] == judgement.numbers["randomisation.signed"]
    assert undone < len(found)


def test_the_complexity_rises_by_the_entropy_of_the_magnitudes() -> None:
    net, batch = sharp(), photographs(1)
    (found,) = numbers_of(net, batch, "gradient", "randomisation")
    target = int(net(batch).argmax())
    shuffled = scramble(net, order_of_weights(net, batch), seed=0)

    def entropy(values: Any) -> float:
        shares = np.abs(values.astype(np.float64)).ravel()
        shares = shares[shares > 0] / shares.sum()
        return float(-(shares * np.log(shares)).sum())

    before, after = (entropy(maps_of(one, batch, "gradient", target)[0]) for one in (net, shuffled))
    assert found["randomisation.complexity_rise"] == pytest.approx((after - before) / before, rel=1e-5)


def test_a_map_of_the_image_alone_stays_when_all_weights_are_shuffled() -> None:
    class Bright(nn.Module):
        """Every weight of a convolution is the same, so that shuffling changes nothing."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3, padding=1, bias=False)
            self.conv.weight.data.fill_(0.1)
            self.fc = nn.Linear(2, 4)
            self.fc.weight.data.fill_(1.0)
            self.fc.bias.data.zero_()

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).relu().mean((2, 3)))

    (found,) = numbers_of(Bright().eval(), photographs(1), "gradcam", "randomisation")
    assert found["randomisation.all"] == pytest.approx(1)
    assert found["randomisation.ssim"] == pytest.approx(1)
    assert found["randomisation.complexity_rise"] == pytest.approx(0, abs=1e-9)


def test_networks_are_shuffled_once_for_all_batches_and_measures() -> None:
    net, batch = sharp(), photographs(2)
    with explaining(net, batch, "gradient") as explainer:
        judge = judge_of(explainer, "randomisation,class,stability", images=2)
        runs = judge.run_again
        assert isinstance(runs, AlteredRuns)
        asked: list[Again] = []
        found = explained(explainer, batch)
        for _ in range(2):
            asked += judge.again_for(judge.maps_of(found.panels), found.size)
            judge.judge_batch(found, QUIET)
        assert len(asked) == 2 * (4 + 1 + 5)
        assert len(runs._networks) == 4


def test_the_network_is_left_as_it_was() -> None:
    net, batch = sharp(), photographs(2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    judge_batch(net, batch, "gradcam", "randomisation", controls=False)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_methods_that_are_blind_to_the_class_are_not_run_again_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = sharp(), photographs(2)
    alone = numbers_of(net, batch, "gradcam", "class")
    with explaining(net, batch, "eigencam,gradcam,gradient") as explainer:
        given = explained(explainer, batch)
        asked: list[list[str]] = []
        explain = Explainer.explain_batch

        def counted(self: Explainer, *given: Any, **how: Any) -> Any:
            asked.append([task.method.name for task in self.tasks])
            return explain(self, *given, **how)

        monkeypatch.setattr(Explainer, "explain_batch", counted)
        found = judge_of(explainer, "class").judge_batch(given, QUIET)
        assert asked == [["gradcam", "gradient"]]
        names = [task.method.name for task in explainer.tasks]
    for image, one in enumerate(found):
        numbers = {name: panels[0].numbers for name, panels in zip(names, one.panels, strict=True)}
        assert numbers["eigencam"]["class"] == pytest.approx(0, abs=1e-12)
        assert numbers["gradcam"] == alone[image]
    asked.clear()
    with explaining(net, batch, "eigencam") as explainer:
        given = explained(explainer, batch)
        asked.clear()
        found = judge_of(explainer, "class").judge_batch(given, QUIET)
    assert asked == []  # nothing is run again for nothing
    assert [one.panels[0][0].numbers["class"] for one in found] == pytest.approx([0, 0], abs=1e-12)
    # What is identical by the definition: the map of any other class is the same, bit by bit.
    maps = [maps_of(net, batch, "eigencam", target) for target in range(3)]
    assert all(np.array_equal(maps[0], one) for one in maps)
