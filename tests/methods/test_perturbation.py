"""Methods that hide parts of the image: values worked by hand, and slow re-derivations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import exp, factorial
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from running import Runner, given_for, recipe_of, seeds_of
from torch import Tensor, nn

from cnnviz_cli.core.draws import uniform
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.method import InputSpec, find_method
from cnnviz_cli.core.needs import Evidence, Input
from cnnviz_cli.core.panels import Heatmap, SignedMap
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.methods.common.baselines import Baseline
from cnnviz_cli.methods.common.perturbation import EvenSwitches, ShapleySwitches, Windows
from cnnviz_cli.methods.common.segments import Segmenting, _grown, grid, regions
from cnnviz_cli.methods.common.surrogates import lasso, shares_of_a_sum
from cnnviz_cli.methods.xrai import gains, ranks
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.run.session import method_context

SLOW = {"rtol": 1e-9, "atol": 1e-13}
BLACK, WHITE = (-1.0,) * 3, (1.0,) * 3


class Sum(nn.Module):
    """Class 0 scores the mean over colours, summed over pixels; class 1 scores zero."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * size**2, 2, bias=False).double().requires_grad_(False)
        self.fc.weight.zero_()[0] = 1 / 3

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def counting() -> tuple[nn.Module, Tensor]:
    """A sum, and one 4 x 4 picture with pixel values 0 to 15: covered by black (-1) a pixel loses its value + 1."""
    return Sum(4).eval(), torch.arange(16).view(1, 1, 4, 4).expand(1, 3, 4, 4).double().clone()


def zeroth(logits: Tensor) -> Tensor:
    return torch.zeros(len(logits), 1, dtype=torch.int64)


def zero_and_two(logits: Tensor) -> Tensor:
    return torch.tensor([[0, 2]]).expand(len(logits), -1)


SMALL: dict[str, dict[str, Any]] = {
    "occlusion": {},
    "rise": {"masks": 70, "grid": 3},
    "lime": {"draws": 60, "cells": 8},
    "kernel-shap": {"draws": 60, "cells": 8},
    "xrai": {"steps": 5},
}


@pytest.mark.parametrize("name", SMALL)
def test_the_chunks_leave_no_trace(name: str, run: Runner) -> None:
    net, batch = tiny.build(tiny.Residual), tiny.pictures(2)
    (whole,) = run(name, net, batch, **SMALL[name])
    (pieces,) = run(name, net, batch, how={"memory": 1}, **SMALL[name])
    torch.testing.assert_close(pieces.values, whole.values, rtol=1e-9, atol=1e-13)
    assert whole.values.std() > 0


@pytest.mark.parametrize("name", ["occlusion", "rise", "lime", "kernel-shap", "xrai"])
def test_the_objective_is_the_one_asked_for(name: str) -> None:
    # What speaks against a class, by a linear model or a difference, is minus what speaks for it.
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    scope = method_context(
        net, probe_layers(net, (3, tiny.SIZE, tiny.SIZE), "tiny"), InputSpec((tiny.SIZE,) * 2, BLACK, WHITE)
    )
    method = find_method(name)
    measure = {"measure": "gain"} if name == "xrai" else {}

    def values(**changes: Any) -> Tensor:
        recipe = method.build(method.options(**SMALL[name], **measure), replace(scope, **changes))
        seen = observe(net, batch, Plan.of(recipe.needs), zero_and_two, given=given_for(batch))
        return recipe.explain(seen.evidence.only(recipe.needs))[0].values

    towards, away = values(contrast_rank=1), values(contrast_rank=1, counterfactual=True)
    if name in ("lime", "kernel-shap", "occlusion"):
        torch.testing.assert_close(away, -towards, **SLOW)
    if name == "rise":  # its lowest value is taken off
        torch.testing.assert_close(away, towards.amax((1, 2, 3), keepdim=True) - towards, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(towards, values())
    assert not torch.allclose(towards, away)


# --- occlusion ---------------------------------------------------------------------------------------------


def test_occlusion_by_hand(run: Runner) -> None:
    net, batch = counting()
    (apart,) = run("occlusion", net, batch, choose=zeroth, size=4, window=2, stride=2, cover="black")
    blocks = torch.tensor([[14.0, 22.0], [46.0, 54.0]]).double()
    torch.testing.assert_close(apart.values[0, 0], blocks.repeat_interleave(2, 0).repeat_interleave(2, 1), **SLOW)
    assert isinstance(apart, SignedMap)
    # 3 x 3 windows every 2 pixels: the second of each axis is cut, and they overlap in row and column 2. The four
    # windows lose 45 + 9, 39 + 6, 66 + 6 and 50 + 4.
    (cut,) = run("occlusion", net, batch, choose=zeroth, size=4, window=3, stride=2, cover="black")
    expected = [[54, 54, 49.5, 45], [54, 54, 49.5, 45], [63, 63, 56.25, 49.5], [72, 72, 63, 54]]
    torch.testing.assert_close(cut.values[0, 0], torch.tensor(expected).double(), **SLOW)


@pytest.mark.parametrize(("window", "stride"), [(0, 0), (5, 3), (99, 1)])
def test_occlusion_window_by_window(window: int, stride: int, run: Runner) -> None:
    net, batch = tiny.build(tiny.Functional), tiny.pictures(2)
    (panel,) = run("occlusion", net, batch, window=window, stride=stride)
    side, step = (2, 1) if window == 0 else (min(window, 12), stride)  # round(12 / 7) = 2
    for image in range(2):
        target = int(net(batch)[image].argmax())
        total, times = torch.zeros(12, 12).double(), torch.zeros(12, 12).double()
        starts = [0]
        while starts[-1] + side < 12:
            starts.append(starts[-1] + step)
        for top, left in product(starts, starts):
            hidden = batch[image].clone()
            for colour in range(3):
                hidden[colour, top : top + side, left : left + side] = batch[image, colour].mean()
            total[top : top + side, left : left + side] += (net(batch) - net(hidden[None]))[image, target]
            times[top : top + side, left : left + side] += 1
        torch.testing.assert_close(panel.values[image, 0], total / times, **SLOW)


def test_windows_of_an_input_that_is_not_square() -> None:
    picture = torch.rand(1, 3, 5, 7)
    windows = Windows((5, 7), (2, 3), 2, Baseline("black", BLACK, WHITE))
    assert (windows.places, windows.count) == ((3, 3), 10)
    made = windows.make(Evidence({Input(): picture}), 0, 0, 10)
    assert torch.equal(made[0], picture[0])
    covered = (made[1:] == -1)[:, 0]
    assert covered.any(0).all()
    assert [int(window.sum()) for window in covered] == [6, 6, 6, 6, 6, 6, 3, 3, 3]
    torch.testing.assert_close(windows.mean_over(torch.full((2, 9), 2.5)), torch.full((2, 5, 7), 2.5))


def test_windows_may_not_leave_gaps() -> None:
    with pytest.raises(UsageError, match="leave gaps"):
        recipe_of("occlusion", tiny.build(tiny.Plain), window=2, stride=3)


# --- rise --------------------------------------------------------------------------------------------------


def test_masks_of_one_cell_show_all_or_nothing(run: Runner) -> None:
    # So each pixel's mean is the probability of the whole image, wherever a mask shows anything.
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    (panel,) = run("rise", net, batch, masks=20, grid=1)
    assert isinstance(panel, Heatmap)
    torch.testing.assert_close(panel.statistics["lowest"], net(batch).softmax(1).amax(1), **SLOW)
    torch.testing.assert_close(panel.values, torch.zeros_like(panel.values), **SLOW)


def _bilinear(cells: Tensor, row: float, column: float) -> float:
    """The value at a place of a grid whose cell (i, j) has its centre at (i + 1/2, j + 1/2)."""
    last = len(cells) - 1
    row, column = max(row - 0.5, 0), max(column - 0.5, 0)
    i, j = min(int(row), last), min(int(column), last)
    a, b = row - i, column - j
    below, right = min(i + 1, last), min(j + 1, last)
    top = (1 - b) * cells[i, j] + b * cells[i, right]
    bottom = (1 - b) * cells[below, j] + b * cells[below, right]
    return float((1 - a) * top + a * bottom)


def test_rise_mask_by_mask(run: Runner) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    (panel,) = run("rise", net, batch, masks=6, grid=5)
    for image, seed in enumerate(seeds_of(batch)):
        target = int(net(batch)[image].argmax())
        seen, weighed = torch.zeros(12, 12).double(), torch.zeros(12, 12).double()
        for number in range(6):
            draw = uniform(seed, number, (27,))
            cells = (draw[:25] < 0.5).double().view(5, 5)
            top, left = int(draw[25] * 3), int(draw[26] * 3)  # a cell is ceil(12 / 5) = 3 pixels
            mask = torch.zeros(12, 12).double()
            for row, column in product(range(12), range(12)):
                # 5 cells are enlarged to 6 * 3 = 18 pixels.
                place = [(at + shift + 0.5) * 5 / 18 for at, shift in ((row, top), (column, left))]
                mask[row, column] = _bilinear(cells, *place)
            score = net(batch[image : image + 1] * mask).softmax(1)[0, target]
            seen += mask
            weighed += score * mask
        assert (seen > 0).all()
        means = weighed / seen
        torch.testing.assert_close(panel.values[image, 0], means - means.min(), rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(panel.statistics["lowest"][image], means.min(), rtol=1e-7, atol=0)


# --- segments ----------------------------------------------------------------------------------------------


def test_a_grid_by_hand() -> None:
    assert grid(4, 4, 4).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert grid(2, 6, 3).tolist() == [[0, 0, 1, 1, 2, 2]] * 2
    assert grid(2, 2, 99).tolist() == [[0, 1], [2, 3]]
    assert grid(3, 5, 1).tolist() == [[0] * 5] * 3


@pytest.mark.parametrize("colours", [1, 3])
def test_superpixels_keep_to_the_edges_of_the_picture(colours: int) -> None:
    picture = torch.full((colours, 32, 32), -0.8)
    picture[:, :, 13:] = 0.9
    segments = Segmenting("slic", 8, BLACK[:colours], WHITE[:colours])
    labels = segments.of(picture)
    assert sorted(set(labels.ravel().tolist())) == list(range(labels.max() + 1))
    assert not set(labels[:, :13].ravel()) & set(labels[:, 13:].ravel())
    assert 4 <= labels.max() + 1 <= 12
    assert segments.of(picture.clone()) is labels  # kept while the stream asks for it chunk by chunk
    assert replace(segments, cells=1).of(picture).max() == 0


def test_regions_cover_the_picture_and_overlap() -> None:
    masks = regions(tiny.pictures(1)[0])
    assert masks.shape[1:] == (tiny.SIZE, tiny.SIZE)
    assert masks.any(0).all()
    assert len(regions(torch.zeros(3, 20, 30))) == 6  # of a constant picture one region a scale


def test_a_region_grows_by_all_pixels_within_its_rim() -> None:
    mask = np.zeros((9, 8), dtype=bool)
    mask[2:4, 6] = True
    near = [[any((i - r) ** 2 + (j - 6) ** 2 <= 9 for r in (2, 3)) for j in range(8)] for i in range(9)]
    assert _grown(mask, 3).tolist() == near
    assert _grown(mask, 0).tolist() == mask.tolist()


# --- lime and kernel SHAP ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), [("lime", {"penalty": 0.0, "draws": 30}), ("kernel-shap", {"draws": 9})])
def test_of_a_sum_each_segment_adds_its_own(name: str, options: dict[str, Any], run: Runner) -> None:
    net, batch = counting()
    how = {"segments": "grid", "cells": 4, "cover": "black", **options}
    (panel,) = run(name, net, batch, choose=zeroth, size=4, **how)
    blocks = torch.tensor([[14.0, 22.0], [46.0, 54.0]]).double()
    torch.testing.assert_close(panel.values[0, 0], blocks.repeat_interleave(2, 0).repeat_interleave(2, 1), **SLOW)
    assert panel.statistics["segments"].tolist() == [4]
    torch.testing.assert_close(panel.statistics["fit"], torch.ones(1).double(), **SLOW)


def test_a_lasso_by_hand() -> None:
    # Four balanced trials of y = 3 z_1 + z_2 / 100: each z has variance 1/4, so w = soft(w / 4, 1/10) * 4.
    on = np.array([[0.0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    weights, start = lasso(on, on @ np.array([3.0, 0.01, 0.0]), np.ones(4), 0.1)
    np.testing.assert_allclose(weights, [2.6, 0, 0], rtol=1e-12)
    np.testing.assert_allclose(start, 1.505 - 1.3, rtol=1e-12)


def test_too_few_trials_share_out_evenly() -> None:
    # One trial tells segments 0 and 1 from 2 and 3; within each pair nothing is known.
    shares = shares_of_a_sum(np.array([[1.0, 1, 0, 0]]), np.array([3.0]), np.ones(1), 4.0)
    np.testing.assert_allclose(shares, [1.5, 1.5, 0.5, 0.5], rtol=1e-12)
    np.testing.assert_allclose(shares_of_a_sum(np.ones((2, 1)), np.zeros(2), np.zeros(2), 7.0), [7.0])


def covered(picture: Tensor, labels: Tensor, on: list[bool]) -> Tensor:
    """The picture with the mean colour in all segments that are off, pixel by pixel."""
    made = picture.clone()
    for row, column in product(range(picture.shape[1]), range(picture.shape[2])):
        if not on[int(labels[row, column])]:
            made[:, row, column] = picture.mean((1, 2))
    return made


SIX = torch.tensor([[row // 6 * 3 + column // 4 for column in range(12)] for row in range(12)])
"""Two rows of three rectangles of a 12 x 12 picture."""


def test_lime_meets_the_conditions_of_its_optimum(run: Runner) -> None:
    # w minimises a lasso exactly if each w_j != 0 has slope penalty * sign(w_j), and each other at most the penalty.
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    (panel,) = run("lime", net, batch, segments="grid", cells=6, draws=25, penalty=0.003)
    kept = 0
    for image, seed in enumerate(seeds_of(batch)):
        picture, target = batch[image], int(net(batch)[image].argmax())
        trials = [[True] * 6] + [(uniform(seed, number, (6,)) < 0.5).tolist() for number in range(1, 26)]
        scores, closeness = [], []
        for on in trials:
            hidden = covered(picture, SIX, on)
            scores.append(float(net(hidden[None])[0, target]))
            cosine = float((hidden * picture).sum() / (hidden.norm() * picture.norm()))
            closeness.append(exp(-((1 - cosine) ** 2) / 2))
        weights = np.array([float(panel.values[image, 0][j == SIX][0]) for j in range(6)])
        assert all(len(panel.values[image, 0][j == SIX].unique()) == 1 for j in range(6))
        z, y, v = np.array(trials, dtype=float), np.array(scores), np.array(closeness) / sum(closeness)
        start = v @ (y - z @ weights)
        left = y - start - z @ weights
        for j in range(6):
            slope = v @ (left * (z[:, j] - v @ z[:, j]))
            if weights[j] != 0:
                np.testing.assert_allclose(slope, 0.003 * np.sign(weights[j]), rtol=1e-8)
            else:
                assert abs(slope) <= 0.003
        kept += int((weights != 0).sum())
        fit = 1 - v @ left**2 / (v @ (y - v @ y) ** 2)
        np.testing.assert_allclose(float(panel.statistics["fit"][image]), fit, rtol=1e-9)
    assert 0 < kept < 12  # some are zero, some are not: both conditions were tried


def _coalitions(count: int) -> Iterator[tuple[bool, ...]]:
    return product((False, True), repeat=count)


@pytest.mark.parametrize("draws", [62, 80])
def test_with_all_coalitions_kernel_shap_gives_shapley_values(draws: int, run: Runner) -> None:
    net, batch = tiny.build(tiny.OverlappingPool), tiny.pictures(2)
    (panel,) = run("kernel-shap", net, batch, segments="grid", cells=6, draws=draws)
    for image in range(2):
        target = int(net(batch)[image].argmax())
        value = {on: float(net(covered(batch[image], SIX, list(on))[None])[0, target]) for on in _coalitions(6)}
        for player in range(6):
            share = 0.0
            for on in _coalitions(6):
                if not on[player]:
                    size, joined = sum(on), (*on[:player], True, *on[player + 1 :])
                    weight = factorial(size) * factorial(5 - size) / factorial(6)
                    share += weight * (value[joined] - value[on])
            found = panel.values[image, 0][player == SIX]
            torch.testing.assert_close(found, torch.full_like(found, share), rtol=1e-9, atol=1e-12)


def test_with_some_coalitions_kernel_shap_solves_a_least_squares_problem_under_a_constraint(run: Runner) -> None:
    # By a Lagrange multiplier, where the method has none.
    net, batch = tiny.build(tiny.Plain), tiny.pictures(1)
    (panel,) = run("kernel-shap", net, batch, segments="grid", cells=6, draws=41)
    target = int(net(batch).argmax())
    switches = ShapleySwitches(Segmenting("grid", 6, BLACK, WHITE), Baseline("mean", BLACK, WHITE), 41)
    on = switches.on(seeds_of(batch)[0], 6, 0, switches.count)
    assert on[0].all()
    assert not on[1].any()
    y = np.array([float(net(covered(batch[0], SIX, row)[None])[0, target]) for row in on.tolist()])
    z = on[2:].double().numpy()
    system = np.block([[2 * z.T @ z, np.ones((6, 1))], [np.ones((1, 6)), np.zeros((1, 1))]])
    shares = np.linalg.solve(system, np.append(2 * z.T @ (y[2:] - y[1]), y[0] - y[1]))[:6]
    found = np.array([float(panel.values[0, 0][j == SIX][0]) for j in range(6)])
    np.testing.assert_allclose(found, shares, rtol=1e-9)
    np.testing.assert_allclose(found.sum(), y[0] - y[1], rtol=1e-12)


def test_the_chosen_coalitions_follow_the_shapley_kernel() -> None:
    switches = ShapleySwitches(Segmenting("grid", 15, BLACK, WHITE), Baseline("mean", BLACK, WHITE), 6000)
    on = switches.on(5, 15, 0, switches.count)[2:]
    assert torch.equal(on[1::2], ~on[::2])
    chance = torch.tensor([1 / (size * (15 - size)) for size in range(1, 15)])
    shares = torch.bincount(on.sum(1), minlength=15)[1:] / len(on)
    torch.testing.assert_close(shares, chance / chance.sum(), rtol=0, atol=0.02)
    alone = on[on.sum(1) == 1].float().mean(0)
    torch.testing.assert_close(alone, torch.full((15,), 1 / 15), rtol=0, atol=0.03)
    assert [switches.complete(count) for count in (12, 13)] == [True, False]


@pytest.mark.parametrize("segments", [1, 2, 6, 9])
@pytest.mark.parametrize("draws", [1, 7, 62])
@pytest.mark.parametrize("kind", [EvenSwitches, ShapleySwitches])
def test_switches_do_not_know_their_chunk(kind: type[EvenSwitches], draws: int, segments: int) -> None:
    switches = kind(Segmenting("grid", 6, BLACK, WHITE), Baseline("mean", BLACK, WHITE), draws)
    whole = switches.on(11, segments, 0, switches.count)
    assert whole.shape == (switches.count, segments)
    assert whole[0].all()
    for size in (1, 2, 3, 5):
        ends = [(start, min(start + size, switches.count)) for start in range(0, switches.count, size)]
        assert torch.equal(torch.cat([switches.on(11, segments, *end) for end in ends]), whole)


# --- xrai --------------------------------------------------------------------------------------------------


def test_regions_are_taken_by_what_they_still_have_to_add() -> None:
    attribution = np.array([[5.0, 4.0, 1.0, -2.0]])
    masks = np.array([[[1, 1, 1, 0]], [[1, 0, 0, 0]], [[0, 1, 1, 0]]], dtype=bool)
    # First the second (5), then the first or third, equal over what is left (2.5); the last pixel is in no region.
    gained = gains(attribution, masks)
    assert gained.tolist() == [[5.0, 2.5, 2.5, -2.0]]
    assert ranks(gained).tolist() == [[1.0, 0.75, 0.75, 0.25]]


def test_xrai_step_by_step(run: Runner) -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    (gained,) = run("xrai", net, batch, steps=8, measure="gain")
    (ranked,) = run("xrai", net, batch, steps=8)
    assert isinstance(gained, SignedMap)
    assert isinstance(ranked, Heatmap)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    for image in range(2):
        picture, target = batch[image], int(net(batch)[image].argmax())
        attribution = torch.zeros(3, 12, 12).double()
        for end in (-1.0, 1.0):
            for node, weight in zip(nodes, weights, strict=True):
                point = (end + (node + 1) / 2 * (picture - end))[None].requires_grad_()
                slope = torch.autograd.grad(net(point)[0, target], point)[0][0]
                attribution += (picture - end) * slope * weight / 2 / 2
        expected = gains_slowly(attribution.amax(0).numpy(), regions(picture))
        torch.testing.assert_close(gained.values[image, 0], torch.tensor(expected), **SLOW)
        shares = [[(expected <= value).mean() for value in row] for row in expected]
        torch.testing.assert_close(ranked.values[image, 0], torch.tensor(shares).double(), **SLOW)
        assert 1 / 144 <= ranked.values[image].min() < ranked.values[image].max() == 1


def gains_slowly(attribution: np.ndarray, masks: np.ndarray) -> np.ndarray:
    taken, gained = np.zeros(attribution.shape, dtype=bool), np.full(attribution.shape, np.nan)
    while True:
        # Of 12 x 12 pixels a region adds at least one: 50 / 224^2 of them is less.
        new = [mask & ~taken for mask in masks if (mask & ~taken).any()]
        if not new:
            break
        best = max(new, key=lambda part: round(attribution[part].mean(), 12))
        gained[best] = attribution[best].mean()
        taken |= best
    return gained
