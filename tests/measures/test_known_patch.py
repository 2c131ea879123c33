"""Measures where the truth is known: nothing beats the patch that makes the class, and random pixels are the worst."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from statistics import mean

import patches
import pytest
import torch
from measures.judging import QUIET, explained, explaining, judge_of, with_map
from torch import Tensor, nn

from cnnviz_cli.core.control_maps import control_readings
from cnnviz_cli.core.judgements import Judgement
from cnnviz_cli.core.measures import Again, Marked
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.run.judge import Batch

INPUTS, CLASSES, TRUTH = patches.images(4, 5)

FAITHFUL = ("input-x-gradient", "lrp", "occlusion", "rise", "gradcam", "layercam")
"""Methods that show what the network reacts to."""

BLIND = ("eigencam", "randomcam")
"""Methods that explain every class alike."""

MEASURES = "removal,subsets,cells,deletion,insertion"
BLACK, WHITE = (-1.0,) * 3, (1.0,) * 3

Numbers = dict[str, float]


def test_the_network_knows_its_classes_by_the_patch_alone() -> None:
    net = patches.trained()
    assert patches.accuracy(net) > 0.98
    assert net(INPUTS).softmax(1).gather(1, CLASSES[:, None]).min() > 0.9
    background = INPUTS.mean((2, 3), keepdim=True).expand_as(INPUTS)
    hidden = torch.where(TRUTH.unsqueeze(1), background, INPUTS)
    assert (net(hidden).argmax(1) == patches.NONE).all()
    alone = torch.where(TRUTH.unsqueeze(1), INPUTS, background)
    assert (net(alone).argmax(1) == CLASSES).all()


@cache
def methods(fill: str = "auto") -> dict[str, Numbers]:
    """What each measure says of each method and control, in the mean over the images."""
    found: dict[str, list[Judgement]] = {}
    with explaining(patches.trained(), INPUTS, ",".join((*FAITHFUL, *BLIND)), masks=128) as explainer:
        judge = judge_of(explainer, f"{MEASURES},class", controls=True, fill=fill)
        for image in judge.judge_batch(explained(explainer, INPUTS), QUIET):
            for task, panels in zip(explainer.tasks, image.panels, strict=True):
                found.setdefault(task.method.name, []).append(panels[0])
            for control in image.controls:
                found.setdefault(control.name, []).append(control.judgement)
    return {name: means(several) for name, several in found.items()}


def means(several: Sequence[Judgement]) -> Numbers:
    names = {name: None for one in several for name in one.numbers}
    return {name: mean(one.numbers[name] for one in several if name in one.numbers) for name in names}


def judged(values: Tensor, measures: str, other: Tensor | None = None, **options: object) -> Numbers:
    """What measures say of maps (B, H, W), of another class `other`, in the mean over the images."""
    with explaining(patches.trained(), INPUTS, "gradient") as explainer:
        batch = replace(
            with_map(explained(explainer, INPUTS), values.unsqueeze(1).float()),
            given={Marked.for_target(0).name: TRUTH},
        )

        def run_again(_how: Again, batch: Batch, _reporter: Reporter) -> list[list[list[Panel]]]:
            shown = other if other is not None else values
            (panel,) = with_map(batch, shown.unsqueeze(1).float()).panels[0]
            return [[[panel.pick(image)]] for image in range(len(INPUTS))]

        judge = replace(judge_of(explainer, measures, **options), run_again=run_again)
        return means([image.panels[0][0] for image in judge.judge_batch(batch, QUIET)])


@cache
def oracle(fill: str = "auto") -> Numbers:
    return judged(TRUTH, MEASURES, fill=fill)


def edges() -> Tensor:
    drawn = [control_readings(picture.numpy(), BLACK, WHITE, 0)["edges"].signed for picture in INPUTS]
    return torch.stack([torch.from_numpy(each) for each in drawn])


def best(column: str, names: Iterable[str]) -> float:
    return max(methods()[name][column] for name in names)


@pytest.mark.parametrize(
    ("column", "near", "apart"),
    [
        ("removal.gain", 0.02, 0.4),
        ("subsets", 0.05, 0.2),
        # The network reacts a little to other cells, too, of which the truth says that they are equal.
        ("cells", 0.1, 0.1),
    ],
)
def test_the_truth_comes_first_and_random_pixels_come_last(column: str, near: float, apart: float) -> None:
    """No method beats the truth by more than `near`, and each beats random pixels by more than `apart`."""
    random = methods()["random pixels"][column]
    assert abs(random) < 0.15
    assert oracle()[column] > random + 0.3
    assert oracle()[column] > best(column, FAITHFUL) - near
    for name in FAITHFUL:
        assert methods()[name][column] > random + apart, name
    # Neither do maps that know nothing of the network come near it.
    assert oracle()[column] > best(column, ("random 7 x 7", "edges", "centre")) + 0.2


@pytest.mark.parametrize("fill", ["mean", "black", "blur:8"])
def test_removal_and_subsets_say_so_with_every_fill(fill: str) -> None:
    random = judged(torch.rand(TRUTH.shape, generator=torch.Generator().manual_seed(0)), "removal,subsets", fill=fill)
    for column in ("removal.gain", "subsets"):
        assert abs(random[column]) < 0.2
        assert oracle(fill)[column] > max(random[column], 0) + 0.15


def test_differences_that_are_rounding_order_nothing() -> None:
    """Of a network that is sure, hiding what tells nothing changes the last digit: that is no order of cells."""
    sure = nn.Sequential(nn.Flatten(), nn.Linear(patches.SIDE**2 * 3, 2)).requires_grad_(False)
    sure[1].weight.mul_(1e-3)
    sure[1].bias.copy_(torch.tensor([30.0, 0.0]))
    with explaining(sure, INPUTS, "gradient") as explainer:
        for image in judge_of(explainer, "subsets,cells").judge_batch(explained(explainer, INPUTS), QUIET):
            (judgement,) = image.panels[0]
            assert not judgement.numbers
            assert judgement.undone["cells"].startswith("no cell changes the score")
            assert judgement.undone["subsets"].startswith("no subset changes the score")


def test_a_map_upside_down_is_worse_than_random() -> None:
    for column in ("removal.gain", "subsets", "cells"):
        assert judged(1 - TRUTH.float(), column.partition(".")[0])[column] < -0.15


def test_half_of_the_truth_is_not_as_good() -> None:
    """A measure tells how much of the evidence a map has, and not only whether it has some."""
    half = TRUTH.float()
    for image in half:
        rows = image.any(1).nonzero()
        image[int(rows[len(rows) // 2]) :] = 0
    for column in ("subsets", "cells"):
        assert judged(half, column)[column] < oracle()[column] - 0.01


def test_deletion_agrees_here_and_insertion_cannot() -> None:
    """RISE's deletion is right where zeros are what the network knows as background. Its blur of 11 x 11 pixels leaves
    the colour of a patch of 12 x 12 where it was, and so the insertion is high whatever comes back first."""
    random = methods()["random pixels"]
    assert oracle()["deletion"] < 0.15 < random["deletion"] - 0.1
    for name in FAITHFUL:
        assert methods()[name]["deletion"] < random["deletion"] - 0.1
    assert min(oracle()["insertion"], random["insertion"]) > 0.9


def test_what_explains_every_class_alike_is_last_in_class() -> None:
    for name in BLIND:
        assert methods()[name]["class"] == pytest.approx(0, abs=1e-5)
    drawn = edges()
    assert judged(drawn, "class", drawn)["class"] == pytest.approx(0, abs=1e-5)
    assert judged(TRUTH, "class", -TRUTH.float())["class"] == pytest.approx(2, abs=1e-5)
    for name in FAITHFUL:
        if "class" in methods()[name]:  # Grad-CAM of a class that nothing speaks for is blank
            assert methods()[name]["class"] > 0.05, name


def test_the_truth_lies_inside_of_what_is_marked() -> None:
    found = judged(TRUTH, "inside")
    for column in ("inside", "inside.point", "inside.iou", "inside.best_iou"):
        assert found[column] == pytest.approx(1, abs=1e-5)
    outside = judged(~TRUTH, "inside")
    assert outside["inside"] == 0
    assert outside["inside.iou"] == 0
