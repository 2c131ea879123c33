"""What fits into a budget of passes, and that the passes are those that are made."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import tiny
from measures.judging import QUIET, explained, explaining, photographs, requests
from PIL import Image

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.method import find_method
from cnnviz_cli.core.mosaic_sets import Chosen
from cnnviz_cli.run.budget import Fitted, JudgedCost, LeftOut, within_budget
from cnnviz_cli.run.judge import Judge
from cnnviz_cli.run.judging import own_means
from cnnviz_cli.run.mosaics import MosaicImage, MosaicJudge

OWN = {"a": 2, "b": 100, "c": 10}
"""What each method takes."""

SHARED, EACH = {"x": 50, "y": 0}, {"x": 0, "y": 30}
"""What each measure takes once, and for each map."""


def passes(methods: Sequence[str], measures: Sequence[str]) -> int:
    return sum(OWN[one] for one in methods) + sum(SHARED[one] + EACH[one] * len(methods) for one in measures)


def test_cheap_methods_come_first_and_the_order_asked_for_stays() -> None:
    # a, then c: 2 + 10 + 50 + 60 = 122; with b it were 252.
    found = within_budget(["b", "c", "a"], ["x", "y"], passes, 200)
    assert found == Fitted(
        ("c", "a"), ("x", "y"), 122, (LeftOut("b", "it takes 130 passes of an image, and 78 of 200 are left"),)
    )
    assert within_budget(["b", "c", "a"], ["x", "y"], passes, 252).left_out == ()


def test_where_no_method_fits_the_dearest_measures_go() -> None:
    found = within_budget(["a", "b"], ["x", "y"], passes, 40)
    assert (found.methods, found.measures, found.passes) == (("a",), ("y",), 32)
    assert found.left_out[0] == LeftOut(
        "x", "it takes 50 passes of an image for all maps, and the budget for everything is 40"
    )


@pytest.mark.parametrize("budget", [20, 45])
def test_what_a_measure_takes_is_told_of_all_maps_whatever_the_budget(budget: int) -> None:
    def each(methods: Sequence[str], measures: Sequence[str]) -> int:
        return len(methods) * (1 + 60 * ("p" in measures) + 10 * ("q" in measures))

    left = within_budget(["a", "b", "c"], ["p", "q"], each, budget).left_out[0]
    words = "it takes 180 passes of an image for all maps, and the budget for everything is"
    assert left == LeftOut("p", f"{words} {budget}")


def test_a_budget_that_leaves_nothing_says_what_the_least_takes() -> None:
    with pytest.raises(UsageError, match="a budget of 31 passes of an image leaves nothing: a judged by y takes 32"):
        within_budget(["a", "b"], ["x", "y"], passes, 31)


def test_passes_are_those_that_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = tiny.build(tiny.Plain).float(), photographs(1)
    with explaining(net, batch, "gradcam,gradient,smoothgrad,occlusion", samples=3, max_memory=1e-6) as explainer:
        judge = Judge(explainer, requests("removal,subsets,cells,sparseness,drop", steps=3, subsets=5))
        cost = JudgedCost.of(judge)
        assert cost.methods == ("gradcam", "gradient", "smoothgrad", "occlusion")
        told = cost.passes(cost.methods, cost.measures)
        parts = {name: cost.passes([name], cost.measures) for name in cost.methods}
        judge.judge_batch(explained(explainer, batch), QUIET)  # what is found out about a network once is found
        counts = tiny.count_passes(monkeypatch, explainer.session.net)
        judge.judge_batch(explained(explainer, batch), QUIET)
    # The second observation takes a forward of its own; occlusion's equal variants and the whole image may be merged.
    assert sum(counts.values()) <= told <= sum(counts.values()) * 1.2
    # Methods share their forward, the controls, and the streams that are the same for every map.
    assert told < sum(parts.values())
    assert cost.passes(["gradcam"], ["sparseness"]) == 2


def test_a_run_of_another_class_counts_for_methods_that_depend_on_it_alone() -> None:
    net, batch = tiny.build(tiny.Plain).float(), photographs(1)
    with explaining(net, batch, "eigencam,gradcam") as explainer:
        judge = Judge(explainer, requests("class,sparseness"), controls=False)
        cost = JudgedCost.of(judge)
        # A forward, and a backward for the class: once, and once more for the other class.
        assert cost.passes(["gradcam"], ["sparseness"]) == 2
        assert cost.passes(["gradcam"], ["class"]) == 4
        assert cost.passes(["eigencam"], ["class"]) == cost.passes(["eigencam"], ["sparseness"]) == 1
        assert cost.passes(["eigencam", "gradcam"], ["class"]) == 4


@pytest.mark.parametrize("cell", ["small", "full"])
def test_passes_of_mosaics_are_those_that_are_made(monkeypatch: pytest.MonkeyPatch, cell: str) -> None:
    """By hand: four arrangements of four images, each a forward and four backwards: 4 x 5 / 4 = 5 for each image."""
    net, batch = tiny.build(tiny.Plain).float(), photographs(4)
    with explaining(net, batch, "gradcam,occlusion", max_memory=1e-6) as explainer:
        asked = requests("grid,sparseness", cell=cell)
        judge = Judge(explainer, asked, controls=False, images=4)
        cost = JudgedCost.of(judge)
        area = 1 if cell == "small" else 4
        both = [cost.passes(["gradcam"], names) for names in (["grid", "sparseness"], ["sparseness"])]
        assert both[0] - both[1] == 5 * area
        told = cost.passes(cost.methods, ["grid"]) - cost.passes(cost.methods, ["sparseness"])
        images = tuple(Chosen(str(at), f"{at}.png", f"{at:064d}", at, str(at)) for at in range(4))
        tiles = [MosaicImage(one, Image.new("RGB", (24, 24))) for one in batch]
        names = judge.maps_of(cost.panels)
        mosaics = judge.mosaics_for(names, (24, 24))
        assert mosaics is not None
        mosaic = MosaicJudge(explainer, [(asked[0].measure, mosaics)], QUIET, controls=False)
        mosaic.judge(images, lambda one: tiles[one.index])  # what is found out about a network once is found
        counts = tiny.count_passes(monkeypatch, explainer.session.net)
        mosaic.judge(images, lambda one: tiles[one.index])
    made = sum(counts.values()) / 4  # passes, of four images
    assert made <= told / area <= made * 1.25


@pytest.mark.parametrize(
    ("method", "given", "fill", "expected"),
    [
        ("occlusion", {}, "auto", ["cells", "subsets"]),
        ("occlusion", {}, "mean", ["cells", "removal", "subsets"]),
        ("occlusion", {"cover": "black"}, "auto", []),
        ("occlusion", {"cover": "black"}, "black", ["cells", "removal", "subsets"]),
        ("occlusion", {"cover": "blur"}, "blur:3", ["cells", "removal", "subsets"]),
        ("kernel-shap", {}, "mean", ["cells", "removal", "subsets"]),
        ("rise", {}, "mean", ["deletion", "insertion"]),
        ("rise", {}, "rise", ["cells", "deletion", "insertion", "removal", "subsets"]),
        ("gradcam", {}, "mean", []),
    ],
)
def test_measures_that_fill_as_a_method_does_are_its_own_means(
    method: str, given: dict[str, str], fill: str, expected: list[str]
) -> None:
    asked = requests("removal,subsets,cells,deletion,insertion,sparseness", fill=fill)
    assert sorted(own_means(find_method(method).options(**given), asked)) == expected
