"""Laws that every registered measure keeps. A new measure is tested by being registered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from math import isfinite
from typing import Any, get_args

import pytest
import tiny
import torch
from measures.judging import QUIET, explained, explaining, judge_batch, judge_of, photographs, with_map
from torch import Tensor, nn

from cnnviz_cli.core.measures import Group, Measure, measures
from cnnviz_cli.run.judge import Batch, JudgedImage, Judgement

MEASURES = {one.name: one for one in measures()}
IN_MOSAICS = {"grid"}
"""Measures that judge no map of an image by itself; their laws are in test_mosaics.py."""

NAMES = [name for name in MEASURES if name not in IN_MOSAICS]

QUICK: dict[str, Any] = {"subsets": 20, "steps": 4, "rise_steps": 4}
each_measure = pytest.mark.parametrize("name", NAMES)

AGAIN = {"class", "randomisation", "stability", "sensitivity_max"}
"""Measures that run the methods once more, and so judge no controls."""

NOT_SCALED = {"stability", "sensitivity_max"}
"""Measures of how far a method's maps move: the method gives them anew, on its own scale."""

BY_ORDER = ("removal", "deletion", "insertion")
"""Measures that read nothing of a map but its order."""


def of_map(judged: list[JudgedImage], task: int = 0) -> list[Judgement]:
    """What was found of a task's first map in each image."""
    return [image.panels[task][0] for image in judged]


def same(left: Judgement, right: Judgement, tolerance: float = 2e-5) -> None:
    assert left.numbers.keys() == right.numbers.keys()
    assert left.undone == right.undone
    for name, number in left.numbers.items():
        assert right.numbers[name] == pytest.approx(number, abs=tolerance, rel=tolerance), name
    assert left.curves.keys() == right.curves.keys()
    for name, points in left.curves.items():
        assert right.curves[name] == pytest.approx(points, abs=tolerance), name


def judged(name: str, net: nn.Module, batch: Tensor, methods: str = "gradcam", **options: Any) -> list[JudgedImage]:
    return judge_batch(net, batch, methods, name, how=QUICK, **options)


def sharp(kind: type[nn.Module] = tiny.Plain) -> nn.Module:
    """A tiny network whose scores lie far enough apart to lose something."""
    net = tiny.build(kind).float()
    net.fc.weight.mul_(8)
    return net


@cache
def together(name: str) -> list[JudgedImage]:
    """What a measure says of three images in one batch."""
    return judged(name, sharp(), photographs(3))


@each_measure
def test_a_batch_equals_its_images_one_by_one(name: str) -> None:
    net, batch = sharp(), photographs(3)
    for image in (0, 2):  # the first and the last: what leaks from one to another reaches one of them
        alone = judged(name, net, batch[image : image + 1], digests=[str(image)])
        same(of_map(together(name))[image], of_map(alone)[0])
        for one, other in zip(together(name)[image].controls, alone[0].controls, strict=True):
            same(one.judgement, other.judgement)


@each_measure
def test_the_order_of_the_images_changes_nothing(name: str) -> None:
    net, batch = sharp(), photographs(3)
    backward = judged(name, net, batch.flip(0), digests=["2", "1", "0"])
    for one, other in zip(of_map(together(name)), reversed(of_map(backward)), strict=True):
        same(one, other)


@each_measure
def test_twice_gives_the_same_bits(name: str) -> None:
    assert judged(name, sharp(), photographs(3)) == together(name)


@each_measure
def test_the_chunk_leaves_no_trace(name: str) -> None:
    chunked = judged(name, sharp(), photographs(3), max_memory=1e-6)
    for one, other in zip(together(name), chunked, strict=True):
        same(one.panels[0][0], other.panels[0][0])


@cache
def all_together() -> list[JudgedImage]:
    """What all measures say of two images with the maps of several methods."""
    return judge_batch(sharp(), photographs(2), "gradcam,gradient,lrp", ",".join(NAMES), how=QUICK)


@each_measure
def test_other_measures_and_methods_beside_it_change_nothing(name: str) -> None:
    net, batch = sharp(), photographs(2)
    alone = of_map(judged(name, net, batch, controls=False))
    for one, other in zip(alone, of_map(all_together()), strict=True):
        columns = set(MEASURES[name].column_names)
        same(one, replace(other, **only(other, columns, name)))


def only(judgement: Judgement, columns: set[str], name: str) -> dict[str, Any]:
    return {
        "numbers": {key: value for key, value in judgement.numbers.items() if key in columns},
        "undone": {key: value for key, value in judgement.undone.items() if key in columns | {name}},
        "curves": {key: value for key, value in judgement.curves.items() if key.startswith(f"{name}.")},
    }


def judge_maps(name: str, maps: list[Tensor], net: nn.Module | None = None) -> Iterator[list[Judgement]]:
    """What a measure says of the same images with other maps in the place of a method's."""
    batch = photographs(2)
    with explaining(net or sharp(), batch, "gradcam") as explainer:
        judge = judge_of(explainer, name, **QUICK)
        found: Batch = explained(explainer, batch)
        for values in maps:
            yield of_map(judge.judge_batch(with_map(found, values), QUIET))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_SCALED])
@pytest.mark.parametrize("scale", [1e-9, 1000.0, 2.0**-100])
def test_the_scale_of_a_map_changes_nothing(name: str, scale: float) -> None:
    values = torch.rand(2, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    plain, scaled = judge_maps(name, [values, values * scale])
    for one, other in zip(plain, scaled, strict=True):
        assert one.numbers
        same(one, other)


@pytest.mark.parametrize("name", BY_ORDER)
def test_a_monotone_rescaling_changes_no_measure_of_order(name: str) -> None:
    values = torch.rand(2, 1, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    plain, bent = judge_maps(name, [values, values**3 + 1])
    assert plain == bent


@each_measure
def test_a_constant_map_is_undone_and_a_map_that_is_not_finite(name: str) -> None:
    broken = torch.rand(2, 1, 6, 6)
    broken[:, :, 2, 3] = float("nan")
    constant = torch.full((2, 1, 6, 6), 0.3)
    for found in judge_maps(name, [torch.zeros(2, 1, 6, 6), constant, broken]):
        for judgement in found:
            assert judgement.numbers == {}
            assert list(judgement.undone) == [name]
            assert judgement.undone[name].startswith("its map ")


@each_measure
def test_one_map_that_is_constant_takes_nothing_from_the_other_images(name: str) -> None:
    values = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(5))
    half = values.clone()
    half[0] = 1
    whole, part = judge_maps(name, [values, half])
    assert part[0].numbers == {}
    same(whole[1], part[1])


@each_measure
@pytest.mark.parametrize("how", ["dead", "saturated", "black"])
def test_no_number_is_ever_anything_but_finite(name: str, how: str) -> None:
    net, batch = sharp(), photographs(2)
    if how == "dead":
        net.fc.weight.zero_()
    elif how == "saturated":
        net.fc.weight.mul_(1e6)
    else:
        batch = torch.zeros_like(batch)
    for image in judged(name, net, batch, "gradient,gradcam,occlusion", window=6, stride=6):
        controls = () if name in AGAIN else image.controls
        for judgement in [*(task[0] for task in image.panels), *(one.judgement for one in controls)]:
            assert all(isfinite(number) for number in judgement.numbers.values())
            assert all(isfinite(point) for points in judgement.curves.values() for point in points)
            assert set(judgement.undone) <= {name, *MEASURES[name].column_names}
            assert judgement.numbers or judgement.undone


@each_measure
@pytest.mark.parametrize("options", [{"counterfactual": True}, {"contrast": "1", "targets": [2]}], ids=str)
def test_every_objective_is_judged(name: str, options: dict[str, Any]) -> None:
    for image in judged(name, sharp(), photographs(2), "occlusion", window=6, stride=6, **options):
        judgement = image.panels[0][0]
        assert judgement.numbers or all("probability" in why for why in judgement.undone.values())


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_measure_says_what_it_is(measure: Measure) -> None:
    assert measure.title
    assert measure.summary.endswith(".")
    assert all(column.title for column in measure.columns)
    assert "https://" in measure.paper


def test_faithful_measures_come_first_and_the_gain_of_removal_orders_a_leaderboard() -> None:
    found = list(measures())
    assert found[0].name == "removal"
    groups = [one.group for one in found]
    assert [group for at, group in enumerate(groups) if group not in groups[:at]] == sorted(
        set(groups), key=get_args(Group).index
    )


def test_an_image_of_one_colour_has_no_correlation_of_what_is_rounding() -> None:
    flat = 0.4 + 1e-6 * photographs(2)  # hiding any of it changes the last digit of the score at most
    for image in judged("subsets", sharp(), flat, "gradcam"):
        for judgement in [image.panels[0][0], *(one.judgement for one in image.controls)]:
            assert not judgement.numbers
