"""What is a change of a score, and what its rounding, by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from cnnviz_cli.core.needs import (
    INPUT,
    Activation,
    BiasGradients,
    Curvature,
    Gradient,
    GradientOver,
    Multipliers,
    PathIntegral,
    Relevance,
    Scores,
)
from cnnviz_cli.core.objectives import (
    Contrast,
    FinerContrast,
    Negated,
    StrongestChannel,
    TargetLogit,
    TargetProbability,
)
from cnnviz_cli.core.scores import SLACK, find_cancelled, resolution, rounding_magnitudes
from cnnviz_cli.engine.observe import find_unchanged
from cnnviz_cli.methods.common.cams import Part, finish
from cnnviz_cli.methods.common.paths import Noisy
from cnnviz_cli.methods.common.saliency import reduce_channels

EPS = 2.0**-23
NOISY = Noisy(2, 0.1)
ONES = torch.ones(1, 3, 2, 2)
"""An input of length sqrt(12)."""


def still(need: object, answer: torch.Tensor, terms: float, maps: torch.Tensor | None = None) -> bool | None:
    answers = {need: answer} | ({Activation("a"): maps} if maps is not None else {})
    found = find_unchanged(need, answers, ONES.to(answer), torch.tensor([terms]))  # type: ignore[arg-type]
    return None if found is None else bool(found)


@pytest.mark.parametrize("size", [1e-9, 1.0, 2e5])
def test_scores_differ_where_they_do_by_more_than_their_own_rounding(size: float) -> None:
    need = Scores(NOISY)
    assert resolution(torch.zeros(1)) == SLACK * EPS
    assert still(need, size * torch.tensor([[1.0, 1 + 16 * EPS, 1 - 8 * EPS]]), size)
    assert not still(need, size * torch.tensor([[1.0, 1 + 64 * EPS, 1.0]]), size)
    # Differences of two scores of 1000 are rounded as these are.
    assert still(need, torch.tensor([[0.001, 0.002]]), 1000.0)
    assert not still(need, torch.tensor([[0.001, 0.002]]), 1.0)
    assert still(need, torch.zeros(1, 3), 0.0)
    assert not still(need, torch.tensor([[1.0, float("nan")]]), 1.0)


def test_doubles_are_measured_by_their_own_rounding() -> None:
    fine = torch.tensor([[1.0, 1 + 1e-9]], dtype=torch.float64)
    assert not still(Scores(NOISY), fine, 1.0)
    assert still(Scores(NOISY), fine.float(), 1.0)


@pytest.mark.parametrize("size", [1e-30, 1e-9, 1.0])
def test_a_slope_counts_by_how_far_it_could_move_the_score(size: float) -> None:
    # |g| |x| with twelve equal slopes over an input of ones is 12 g; the score is `size`.
    for need in (Gradient(), Multipliers(NOISY), GradientOver(NOISY)):
        assert still(need, size * EPS * 2 * ONES, size), need  # 24 units of the last place
        assert not still(need, size * EPS * 3 * ONES, size), need  # 36
    at = Gradient("a"), Curvature("a")
    for need in at:
        assert still(need, size * EPS * ONES, size, 2 * ONES), need
        assert not still(need, size * EPS * 2 * ONES, size, 2 * ONES), need
        assert still(need, size * ONES, size) is None, need  # the layer's maps are not there
    for shares in (PathIntegral(NOISY), Relevance("epsilon")):  # type: ignore[arg-type]
        assert still(shares, size * EPS * 2 * ONES, size), shares
        assert not still(shares, size * EPS * 3 * ONES, size), shares


def test_moments_and_weighed_slopes() -> None:
    squares = GradientOver(NOISY, moment=2)
    assert still(squares, (2 * EPS) ** 2 * ONES, 1.0)
    assert not still(squares, (3 * EPS) ** 2 * ONES, 1.0)
    # Weights may be differences of inputs: then the answer is a share of the score itself.
    tiny_input = {GradientOver(NOISY, weighted=True): 3 * EPS * ONES}
    (need,) = tiny_input
    assert not bool(find_unchanged(need, tiny_input, 1e-3 * ONES, torch.ones(1)))


def test_who_is_asked() -> None:
    assert Scores(NOISY).measures_change
    assert Gradient(of=Negated(Contrast(0, 1))).measures_change
    assert not Activation("a").measures_change
    assert not Gradient(of=StrongestChannel("a")).measures_change
    assert not BiasGradients().measures_change
    assert Gradient().at == INPUT


def test_terms_of_objectives() -> None:
    forward = SimpleNamespace(logits=torch.tensor([[3.0, -5.0, 1.0]]), targets=torch.tensor([[0, 1]]))
    assert TargetLogit(1).terms(forward).abs().tolist() == [5]  # type: ignore[arg-type]
    assert Contrast(0, 1).terms(forward).abs().tolist() == [8]  # type: ignore[arg-type]
    assert Negated(Contrast(0, 1)).terms(forward).abs().tolist() == [8]  # type: ignore[arg-type]
    assert Negated(TargetLogit(0)).terms(forward).abs().tolist() == [3]  # type: ignore[arg-type]
    # 3 - 2 (-5) = 13: terms of 3 and 10.
    assert FinerContrast(0, 2.0, contrast_rank=1).terms(forward).abs().tolist() == [13]  # type: ignore[arg-type]


def test_what_probabilities_are_rounded_by() -> None:
    # p = (1/4, 3/4) of z = (-100, -100 + log 3): each logit is rounded by some 100 units, which move p by p (1 - p) of
    # that from its own and as much from the other's.
    logits = torch.tensor([[-100.0, -100.0 + math.log(3)]])
    size = 200 - math.log(3)
    expected = torch.tensor([[3 / 16 * size, 3 / 16 * size]])
    torch.testing.assert_close(rounding_magnitudes(logits, "softmax"), expected, rtol=1e-4, atol=0)
    # Of small logits a probability is rounded as itself; a sigmoid's is moved by its own logit alone.
    torch.testing.assert_close(rounding_magnitudes(torch.tensor([[0.1, 0.1]]), "softmax"), torch.tensor([[0.5, 0.5]]))
    half = torch.tensor([[0.0, math.log(3), -10.0]])
    p = 1 / (1 + math.exp(10))
    torch.testing.assert_close(rounding_magnitudes(half, "sigmoid"), torch.tensor([[0.5, 0.75, p * (1 - p) * 10]]))
    assert rounding_magnitudes(torch.tensor([[-3.0, 2.0]]), "logit").tolist() == [[3, 2]]
    forward = SimpleNamespace(logits=logits, targets=torch.tensor([[0, 1]]))
    for objective, terms in (
        (TargetProbability(1), 3 / 16 * size),
        (Contrast(0, 1, "softmax"), 3 / 8 * size),
        (FinerContrast(0, 2.0, contrast_rank=1, score="softmax"), 3 / 16 * size + 1.5),
    ):
        assert objective.terms(forward).abs().item() == pytest.approx(terms, rel=1e-4)  # type: ignore[arg-type]


def test_short_formats_are_measured_by_two_of_their_own_units() -> None:
    assert resolution(torch.zeros(1), "bf16") == 2.0**-6
    assert resolution(torch.zeros(1), "fp16") == 2.0**-9
    scores = {Scores(NOISY): torch.tensor([[1.0, 1.015], [1.0, 1.017]])}
    (need,) = scores
    assert find_unchanged(need, scores, ONES, torch.ones(2), "bf16").tolist() == [True, False]  # type: ignore[union-attr]


def test_slopes_by_an_input_near_zero_count_for_a_change_of_one() -> None:
    for inputs in (0 * ONES, 0.01 * ONES):
        for slope, flat in ((2 * EPS, True), (3 * EPS, False)):
            assert find_unchanged(Gradient(), {Gradient(): slope * ONES}, inputs, torch.ones(1)).tolist() == [flat]  # type: ignore[union-attr]


def test_sums_whose_terms_take_each_other_away() -> None:
    maps = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1).repeat(1, 1, 2, 2)
    maps[0, 0, 0, 0] += 4 * EPS
    assert find_cancelled(maps.sum(1, keepdim=True), maps).tolist() == [True]
    assert find_cancelled(1e-9 * maps.sum(1, keepdim=True), 1e-9 * maps).tolist() == [True]
    maps[0, 0, 0, 0] += 1e-4
    assert find_cancelled(maps.sum(1, keepdim=True), maps).tolist() == [False]
    # Of 64 terms of 1 each a sum is rounded as their magnitudes' sum is: by 32 x 64 units.
    many = torch.tensor([1.0, -1.0]).repeat(32).view(1, 64, 1, 1)
    for units, noise in ((2000, True), (2100, False)):
        assert find_cancelled(torch.full((1, 1, 1, 1), units * EPS), many).tolist() == [noise]
    assert find_cancelled(0 * maps.sum(1, keepdim=True), 0 * maps).tolist() == [False]  # zero without rounding
    (panel,) = finish([Part("a", torch.tensor([1.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2) * (1 + EPS))], target=0)
    assert panel.warnings["flat"].tolist() == [True]
    colours = torch.tensor([1.0, -3.0, 2.0]).view(1, 3, 1, 1).repeat(1, 1, 4, 4)
    colours[0, 0, 0] += 2 * EPS
    assert reduce_channels(colours, "signed", signed=True, target=0).warnings["flat"].tolist() == [True]
    assert "flat" not in reduce_channels(colours, "max", signed=True, target=0).warnings


def test_a_map_of_positive_weights_below_zero_is_the_layers_and_no_evidence_against() -> None:
    below = -torch.ones(1, 3, 2, 2)
    (panel,) = finish([Part("a", below)], target=0, positive=True)
    assert panel.warnings["silent"].tolist() == [True]
    assert panel.raw_max.tolist() == [-3]
    below[0, 0, 0, 0] = 5
    (panel,) = finish([Part("a", below)], target=0, positive=True)
    assert panel.warnings["silent"].tolist() == [False]
    # Of several layers all have to be silent.
    parts = [Part("a", below), Part("b", -torch.ones(1, 3, 2, 2))]
    (fused,) = finish(parts, fuse="mean", target=0, positive=True)
    assert fused.warnings["silent"].tolist() == [False]
