"""A new need is its class and one function of the engine that answers it; nothing else has to learn of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
import tiny
import torch
from torch import Tensor

import cnnviz_cli
from cnnviz_cli.core import method as registry
from cnnviz_cli.core.method import MethodContext, Recipe, option
from cnnviz_cli.core.needs import INPUT, Change, Evidence, Given, Input, Need, SeparatePass, Targets
from cnnviz_cli.core.objectives import Objective, TargetLogit
from cnnviz_cli.core.panels import Heatmap
from cnnviz_cli.core.value import value
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.answers import PassContext, answer_to, answers


@value
class Mirrored(SeparatePass):
    """(B, 1, H, W) how far the objective moves where the input is mirrored, at each pixel of the input alike."""

    change: ClassVar[Change] = "shares"
    words: ClassVar[str] = "the input mirrored"

    of: Objective = TargetLogit()
    share: float = 1.0

    @property
    def sources(self) -> tuple[Need, ...]:
        return (Input(),)


@answers(Mirrored)
def run_mirrored(context: PassContext, need: Mirrored) -> Tensor:
    inputs = context.evidence[Input()]
    with torch.no_grad(), context.execution.autocast(inputs.device):
        scores = context.net(inputs.flip(3))
    moved = (context.logits - scores).gather(1, context.targets[:, :1])
    return need.share * moved.view(-1, 1, 1, 1).expand(-1, 1, *inputs.shape[2:]).to(context.logits)


def recipe(share: float = 1.0) -> Recipe:
    need = Mirrored(share=share)
    return Recipe(
        (need,), lambda evidence: [Heatmap(evidence[need].clamp(min=0), raw_max=evidence[need].amax((1, 2, 3)))]
    )


def test_a_method_with_a_new_need_runs_end_to_end() -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    made = recipe(3.0)
    seen = observe(net, batch, Plan.of(made.needs), tiny.first_class)
    (panel,) = made.explain(seen.evidence.only(made.needs))
    with torch.no_grad():
        expected = 3 * (net(batch) - net(batch.flip(3)))[torch.arange(2), seen.targets[:, 0]]
    torch.testing.assert_close(panel.raw_max, expected)
    assert made.follows_target
    assert seen.unchanged[Mirrored(share=3.0)].tolist() == [False, False]


@value
class Options:
    share: float = option(1.0, "What the difference is multiplied by.")


@pytest.fixture
def registered() -> Iterator[None]:
    """A method that reads the need, registered for one test."""
    before = dict(registry._METHODS)

    @registry.method("mirrored", family="gradcam", options=Options, paper="None; https://example.org")
    def _mirrored(options: Options, context: MethodContext) -> Recipe:
        """How far the score moves where the input is mirrored."""
        need = Mirrored(of=context.target, share=options.share)
        return Recipe((need,), lambda evidence: [Heatmap(evidence[need].abs(), target=context.rank)])

    yield
    registry._METHODS.clear()
    registry._METHODS.update(before)


@pytest.mark.usefixtures("registered")
def test_a_registered_method_with_a_new_need_explains_images() -> None:
    net, batch = tiny.build(tiny.Plain).float(), tiny.pictures(3).float()
    found = cnnviz_cli.explain(net, batch, ["gradcam", "mirrored"], share=3.0, batch_size=2)
    with torch.no_grad():
        scores, turned = net(batch), net(batch.flip(3))
    top = scores.argmax(1, keepdim=True)
    expected = 3 * (scores - turned).gather(1, top).abs()
    for image, change in zip(found, expected.flatten().tolist(), strict=True):
        assert [one.method for one in image.explanations] == ["gradcam", "mirrored"]
        values = torch.tensor(image["mirrored"].map)
        torch.testing.assert_close(values, torch.full_like(values, change), rtol=1e-4, atol=1e-6)
    assert expected.unique().numel() == 3


def test_a_new_need_is_planned_tried_and_stood_in_for() -> None:
    need = Mirrored()
    plan = Plan.of([need])
    assert plan.needs == (Input(), need)
    assert (plan.cost().forwards, plan.cost().backwards) == (2, 1)
    assert plan.lines()[-1] == "1 forward and 1 backward of the score of target 1: the input mirrored"
    assert list(need.trial()) == [need]
    assert need.demanding
    assert need.zeros({INPUT: (3, 5, 7)}.__getitem__).shape == (1, 3, 5, 7)


def test_a_need_that_no_file_answers_is_an_error() -> None:
    @value
    class Nowhere(SeparatePass):
        """Answered by nothing."""

    with pytest.raises(NotImplementedError, match="Nowhere"):
        answer_to(Nowhere())


@value
class Covered:
    """Variants of the input: without the pixels at which a map that the caller brings is one."""

    at: str = INPUT
    count: int = 1

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Given("map"),)

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        kept = 1 - evidence[Given("map")][image]
        return (evidence[Input()][image] * kept).expand(stop - start, -1, -1, -1)

    def label(self) -> str:
        return "an input with a map covered"


def test_variants_are_made_from_what_the_caller_brings() -> None:
    from cnnviz_cli.core.needs import Scores

    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    brought = (torch.arange(batch[:, :1].numel()).view_as(batch[:, :1]) % 3 == 0).to(batch)
    need = Scores(Covered())
    plan = Plan.of([need, Targets()])
    assert plan.given == (Given("map"),)
    seen = observe(net, batch, plan, tiny.first_class, given={"map": brought})
    with torch.no_grad():
        expected = net(batch * (1 - brought)).gather(1, seen.targets[:, :1])
    torch.testing.assert_close(seen.evidence[need], expected)
    with pytest.raises(ValueError, match="missing: map"):
        observe(net, batch, plan, tiny.first_class)
