"""How far a map lies inside what people have marked: by hand, by slow code, and what must not matter."""

from __future__ import annotations

from dataclasses import replace
from math import isnan, log
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from measures import judging
from torch import Tensor

from cnnviz_cli.core.measures import Marked
from cnnviz_cli.core.readings import ranks, read_values
from cnnviz_cli.measures.inside import best_overlap, overlap_of_first, share_inside, within_reach
from cnnviz_cli.run.judge import Judge

SIDE = 24
COLUMNS = ("inside", "inside.point", "inside.iou", "inside.best_iou", "inside.share", "inside.reach")


def box(left: int, top: int, right: int, bottom: int, size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray[Any, Any]:
    region = np.zeros(size, np.bool_)
    region[top:bottom, left:right] = True
    return region


def numbers(
    values: np.ndarray[Any, Any], region: np.ndarray[Any, Any], reach: float = 0.0, seed: int = 0
) -> list[float]:
    """The four of a map that has the input's size."""
    reading = read_values(values, region.shape)
    places = ranks(reading.order, seed).reshape(region.shape)
    return [
        share_inside(reading.positive, region),
        float(within_reach(region, reach)[places == 0][0]),
        overlap_of_first(places, region),
        best_overlap(reading.order, region),
    ]


# --- by hand -----------------------------------------------------------------------------------------------


def test_a_map_that_is_the_region_has_everything() -> None:
    region = box(4, 6, 10, 12)
    assert numbers(region.astype(np.float64), region) == [1, 1, 1, 1]


def test_a_map_beside_the_region_has_nothing() -> None:
    """But for the lowest threshold, above which everything lies."""
    region = box(0, 0, 6, 6)
    assert numbers(box(12, 12, 18, 18).astype(np.float64), region) == [0, 0, 0, 36 / 576]


def test_one_pixel_inside_a_region() -> None:
    """Of nine pixels marked one is the highest: mass 1, and overlap 1 in 9 at the threshold above zero. The other eight
    places are drawn from 575 pixels of zero."""
    values, region = np.zeros((SIDE, SIDE)), box(4, 4, 7, 7)
    values[5, 5] = 1e-7
    mass, point, iou, best = numbers(values, region)
    assert (mass, point, best) == (1, 1, 1 / 9)
    assert iou in {common / (18 - common) for common in range(1, 10)}


def test_half_of_the_evidence_inside() -> None:
    region, values = box(0, 0, 2, 1, (2, 4)), np.array([[3.0, -5, 1, 0], [2, 0, 0, -1]])
    mass, point, iou, best = numbers(values, region)
    assert mass == pytest.approx(0.5)  # 3 of 3 + 1 + 2: evidence against is none for
    assert point == 1
    assert iou == 1 / 3  # of the two highest, 3 and 2, one is in the region
    assert best == 1 / 2  # 3 alone: 1 of 2


def test_a_map_that_says_nothing_has_what_is_told_beside() -> None:
    """A map of equal magnitude but for a trace: the mean over draws of ties is chance."""
    region, values = box(0, 0, 12, 12), np.ones((SIDE, SIDE))
    places = [ranks(values, seed).reshape(SIDE, SIDE) for seed in range(200)]
    share = region.mean()
    assert share_inside(values.astype(np.float32), region) == share == 0.25
    assert best_overlap(values.astype(np.float32), region) == share
    assert np.mean([overlap_of_first(each, region) for each in places]) == pytest.approx(share / (2 - share), abs=0.005)
    assert np.mean([region[each == 0][0] for each in places]) == pytest.approx(share, abs=0.1)


def test_nothing_positive_has_no_share() -> None:
    assert isnan(share_inside(np.zeros((3, 3), np.float32), box(0, 0, 1, 1, (3, 3))))


# --- slow code ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reach", [0.0, 0.9, 1.0, 1.5, 5.0, 15.0, 100.0])
@pytest.mark.parametrize("size", [(9, 13), (13, 9), (24, 24)])
def test_what_is_within_reach_is_measured_from_each_pixel(reach: float, size: tuple[int, int]) -> None:
    region = np.random.default_rng(2).random(size) < 0.02
    region[0, size[1] - 1] = True
    marked = np.argwhere(region)
    expected = np.array(
        [
            [min((row - y) ** 2 + (column - x) ** 2 for y, x in marked) <= reach**2 for column in range(size[1])]
            for row in range(size[0])
        ]
    )
    assert (within_reach(region, reach) == expected).all()


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_overlaps_are_those_of_every_threshold(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for _ in range(5):
        order = (rng.integers(0, levels, (11, 7)) / levels).astype(np.float32)
        region = rng.random((11, 7)) < 0.3
        overlaps = []
        for threshold in np.unique(order):
            above = order >= threshold
            overlaps.append((above & region).sum() / (above | region).sum())
        assert best_overlap(order, region) == max(overlaps)
        first = set(np.argsort(ranks(order, 4))[: region.sum()].tolist())
        marked = set(np.flatnonzero(region).tolist())
        assert overlap_of_first(ranks(order, 4).reshape(11, 7), region) == len(first & marked) / len(first | marked)


def test_the_share_is_that_of_double_precision() -> None:
    rng = np.random.default_rng(0)
    values, region = rng.standard_normal((SIDE, SIDE)), rng.random((SIDE, SIDE)) < 0.4
    exact = values[(values > 0) & region].sum() / values[values > 0].sum()
    assert numbers(values, region)[0] == pytest.approx(exact, rel=1e-6)


# --- laws --------------------------------------------------------------------------------------------------


def test_the_scale_of_a_map_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    values, region = rng.standard_normal((SIDE, SIDE)), box(3, 3, 15, 12)
    plain = numbers(values, region, 2.0)
    assert numbers(values * 2.0**-30, region, 2.0) == plain
    assert numbers(values * 1e-9, region, 2.0) == pytest.approx(plain, rel=1e-6)
    assert numbers(values * 1000, region, 2.0) == pytest.approx(plain, rel=1e-6)


def test_no_rescaling_that_keeps_the_order_changes_what_goes_by_order() -> None:
    values, region = (
        np.random.default_rng(1).permutation(SIDE**2).reshape(SIDE, SIDE) / SIDE**2 + 0.01,
        box(3, 3, 15, 12),
    )
    plain = numbers(values, region, 2.0)
    for rescaled in (values**3, np.log(values) - log(0.001), values * 5 + 3):
        assert numbers(rescaled, region, 2.0)[1:] == plain[1:]


def test_equal_maxima_are_drawn_from_the_seed() -> None:
    values, region = np.zeros((SIDE, SIDE)), box(0, 0, 12, SIDE)
    values[5, 5] = values[5, 20] = 1
    points = [numbers(values, region, seed=seed)[1] for seed in range(40)]
    assert points == [numbers(values, region, seed=seed)[1] for seed in range(40)]
    assert 5 < sum(points) < 35


# --- in a run ----------------------------------------------------------------------------------------------


def judged(
    batch: Tensor,
    regions: np.ndarray[Any, Any] | None,
    values: Tensor | None = None,
    *,
    digests: tuple[str, ...] = (),
    absent: tuple[str, ...] = (),
    targets: str = "top1",
    **options: Any,
) -> list[dict[str, Any]]:
    """The numbers, or why there are none, of Grad-CAM's map, or of `values` in its place, and of the last target."""
    net = tiny.build(tiny.Plain).float()
    with judging.explaining(net, batch, "gradcam", targets=targets) as explainer:
        judge = Judge(
            explainer,
            judging.requests("inside", **options),
            controls=False,
            images=len(batch),
            regions=regions is not None,
        )
        found = judging.explained(explainer, batch, digests)
        if values is not None:
            found = judging.with_map(found, values)
        if regions is not None:
            last = explainer.session.context.rank if targets == "top1" else int(targets[3:]) - 1
            names = [Marked.for_target(rank).name for rank in range(last + 1)]
            given = {name: torch.from_numpy(regions) & (rank == last) for rank, name in enumerate(names)}
            found = replace(found, given=given, absent={names[-1]: absent} if absent else {})
        return [
            {**image.panels[-1][-1].numbers, **image.panels[-1][-1].undone}
            for image in judge.judge_batch(found, judging.QUIET)
        ]


@pytest.fixture
def batch() -> Tensor:
    return judging.photographs(2, SIDE)


@pytest.fixture
def halves() -> np.ndarray[Any, Any]:
    """The left half of the first image is marked, and a corner of the second."""
    return np.stack([box(0, 0, 12, SIDE), box(12, 12, SIDE, SIDE)])


def test_a_map_that_is_one_cell_is_all_inside(batch: Tensor, halves: np.ndarray[Any, Any]) -> None:
    values = torch.zeros(2, 1, SIDE, SIDE)
    values[0, 0, :, :12] = 1e-9
    values[1, 0, :12, :12] = 1
    first, second = judged(batch, halves, values, tolerance=0.0)
    assert first == dict(zip(COLUMNS, (1, 1, 1, 1, 0.5, 0.5), strict=True))
    assert [second[name] for name in COLUMNS] == [0, 0, 0, 0.25, 0.25, 0.25]


def test_the_tolerance_is_in_pixels_of_a_usual_input(batch: Tensor, halves: np.ndarray[Any, Any]) -> None:
    """15 of 224 are 1.6 of 24: one pixel beside the region counts, two do not."""
    for column, hit in ((11, 1), (12, 1), (13, 0)):
        values = torch.zeros(2, 1, SIDE, SIDE)
        values[:, 0, 5, column] = 1
        first, _ = judged(batch, halves, values)
        assert first["inside.point"] == hit
        assert first["inside.reach"] == 13 / 24
    wide, _ = judged(batch, halves, values, tolerance=19.0)
    assert (wide["inside.point"], wide["inside.reach"]) == (1, 14 / 24)


def test_a_batch_is_its_images(batch: Tensor, halves: np.ndarray[Any, Any]) -> None:
    values = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    together = judged(batch, halves, values, digests=("a", "b"))
    alone = [
        judged(batch[at : at + 1], halves[at : at + 1], values[at : at + 1], digests=(name,))[0]
        for at, name in enumerate(("a", "b"))
    ]
    assert together == alone
    assert together == judged(batch, halves, values, digests=("a", "b"))
    assert all(set(each) == set(COLUMNS) for each in together)


def test_nothing_marked_in_what_is_seen_is_undone(batch: Tensor, halves: np.ndarray[Any, Any]) -> None:
    halves[0] = False
    first, second = judged(batch, halves)
    assert first == {"inside": "nothing is marked in what the network sees"}
    assert set(second) == set(COLUMNS)


def test_where_all_that_is_seen_is_marked_nothing_is_judged(batch: Tensor, halves: np.ndarray[Any, Any]) -> None:
    halves[0] = True
    first, second = judged(batch, halves)
    assert first == {"inside": "what is marked is all that the network sees, where every map lies inside"}
    assert set(second) == set(COLUMNS)
    halves[0, 3, 4] = False
    assert set(judged(batch, halves)[0]) == set(COLUMNS)


def test_each_target_has_a_region_of_its_own(batch: Tensor, halves: np.ndarray[Any, Any]) -> None:
    """The first target's is empty here, so the second is judged by its own or not at all."""
    assert [each["inside.share"] for each in judged(batch, halves, targets="top2")] == [0.5, 0.25]


def test_an_image_without_a_region_is_undone_for_its_reason(batch: Tensor, halves: np.ndarray[Any, Any]) -> None:
    first, second = judged(batch, halves, absent=("it has no annotation", ""))
    assert first == {"inside": "it has no annotation"}
    assert set(second) == set(COLUMNS)


def test_without_annotations_it_is_undone(batch: Tensor) -> None:
    assert judged(batch, None) == [{"inside": "nothing is marked in the images: --annotations"}] * 2


def test_a_constant_map_is_undone(batch: Tensor, halves: np.ndarray[Any, Any]) -> None:
    found = judged(batch, halves, torch.ones(2, 1, SIDE, SIDE))
    assert [list(each) for each in found] == [["inside"]] * 2


def test_a_map_of_evidence_against_has_no_share_and_an_order(batch: Tensor, halves: np.ndarray[Any, Any]) -> None:
    values = -torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) - 0.1
    for each in judged(batch, halves, values):
        assert each["inside"] == "nothing in its map speaks for what is explained"
        assert each["inside.best_iou"] > 0
