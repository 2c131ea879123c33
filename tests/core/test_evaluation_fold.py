"""All images' judgements, added up: against slow sums over whole tables, in any order, in bounded memory."""

from __future__ import annotations

import json
from itertools import pairwise
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import pytest

from cnnviz_cli.core import evaluation_fold
from cnnviz_cli.core.evaluation_board import UNFAITHFUL, leaderboard_of
from cnnviz_cli.core.evaluation_fold import EvaluationTally, Moments, six_digits
from cnnviz_cli.core.evaluation_records import (
    ColumnRecord,
    EvaluationHead,
    MeasureRecord,
    MethodRecord,
    MosaicMap,
    MosaicPlan,
    MosaicRecord,
    MosaicsFound,
)
from cnnviz_cli.core.rank_statistics import agreement_of_ranks, images_to_tell

METHODS = ("first", "second", "third")
CONTROLS = ("noise", "middle")


def head(better: str = "high") -> EvaluationHead:
    return EvaluationHead(
        measures=[MeasureRecord(name="m", title="Mm", paper="", options={})],
        columns=[
            ColumnRecord(name="m.gain", measure="m", title="gain", better=better, chance=0.0, ranked=True),
            ColumnRecord(name="m.most", measure="m", title="most", better="low", chance=None, ranked=False),
        ],
        methods=[MethodRecord(family="f", method=name, title=name.title(), passes=2) for name in METHODS],
        order_by="m.gain",
    )


def record(name: str, gains: dict[str, float | None], controls: dict[str, float], **more: Any) -> dict[str, Any]:
    outputs = [
        {
            "family": "f",
            "method": method,
            "layer": None,
            "target": {"label": "a"},
            "path": f"{name}/{method}.png",
            **({"measures": {}, "undone": {"m": "flat"}} if gain is None else {"measures": {"m.gain": gain}}),
        }
        for method, gain in gains.items()
    ]
    beside = [{"name": one, "target": "a", "measures": {"m.gain": number}} for one, number in controls.items()]
    return {"source": name, "status": "ok", "outputs": outputs, "controls": beside, **more}


def table(images: int, seed: int = 0) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    found = []
    for number in range(images):
        gains = {one: six_digits(random.normal(0.3 * at, 0.2)) for at, one in enumerate(METHODS)}
        if number % 4 == 1:
            gains[METHODS[number % 3]] = None
        found.append(record(f"{number}.png", gains, {one: six_digits(random.normal(0, 0.1)) for one in CONTROLS}))
    return found


def tallied(records: list[dict[str, Any]], better: str = "high") -> Any:
    tally = EvaluationTally(head(better))
    for one in records:
        tally.add(one)
    return tally.evaluation


def numbers(records: list[dict[str, Any]], method: str) -> list[float | None]:
    return [
        output["measures"].get("m.gain") for one in records for output in one["outputs"] if output["method"] == method
    ]


@pytest.mark.parametrize("images", [1, 2, 5, 23])
def test_the_means_errors_and_medians_are_those_of_whole_tables(images: int) -> None:
    records = table(images)
    found = {row.method: row.measures["m.gain"] for row in tallied(records).methods if row.measures}
    for method in METHODS:
        known = [one for one in numbers(records, method) if one is not None]
        if not known:
            assert method not in found
            continue
        cell = found[method]
        assert (cell.count, cell.mean) == (len(known), pytest.approx(mean(known), rel=1e-5))
        assert cell.median == pytest.approx(median(known), rel=1e-5)
        if len(known) == 1:
            assert cell.error is None
        else:
            assert cell.error == pytest.approx(stdev(known) / len(known) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("images", [2, 5, 23, 60])
def test_alpha_from_sums_is_alpha_of_the_whole_table(images: int) -> None:
    records = table(images)
    columns = [[np.nan if one is None else one for one in numbers(records, method)] for method in METHODS]
    expected = agreement_of_ranks(np.array(columns).T)
    assert tallied(records).columns[0].alpha == pytest.approx(expected, abs=1e-6)


def test_alpha_of_ties_and_of_perfect_agreement() -> None:
    same = [record(f"{at}.png", {"first": 0.1, "second": 0.2, "third": 0.3}, {}) for at in range(4)]
    assert tallied(same).columns[0].alpha == 1
    tied = [record(f"{at}.png", dict.fromkeys(METHODS, 0.5), {}) for at in range(4)]
    assert tallied(tied).columns[0].alpha is None
    assert tallied(same[:1]).columns[0].alpha is None


def test_how_many_images_tell_the_first_two_apart() -> None:
    records = table(23)
    found = tallied(records)
    first, second = (numbers(records, row.method) for row in found.methods[:2])
    sides = [[np.nan if one is None else one for one in side] for side in (first, second)]
    assert found.tell_apart == images_to_tell(*sides)


@pytest.mark.parametrize("better", ["high", "low"])
def test_rows_come_best_first_and_are_held_against_the_controls(better: str) -> None:
    records = table(23)
    found = tallied(records, better)
    means = [row.measures["m.gain"].mean for row in found.methods]
    assert means == sorted(means, reverse=better == "high")
    sign = 1 if better == "high" else -1
    for row in found.methods:
        margins = {}
        for control in CONTROLS:
            steps = [
                output["measures"]["m.gain"] - beside["measures"]["m.gain"]
                for one in records
                for output in one["outputs"]
                for beside in one["controls"]
                if output["method"] == row.method and output["measures"] and beside["name"] == control
            ]
            error = stdev(steps) / len(steps) ** 0.5
            margins[control] = (sign * mean(steps) - error, mean(steps), error)
        nearest = min(margins, key=margins.__getitem__)
        cell = row.measures["m.gain"]
        assert cell.beats_controls is (margins[nearest][0] > 0)
        found_nearest = cell.nearest_control
        assert found_nearest.control == nearest
        assert (found_nearest.mean, found_nearest.error) == pytest.approx(margins[nearest][1:], rel=1e-5)
    assert {row.method: row.measures["m.gain"].beats_controls for row in found.controls} == dict.fromkeys(CONTROLS)


def test_images_that_differ_more_than_methods_do_hide_no_difference() -> None:
    """By hand: 0.1 more than the best control in each of four images whose own level goes from 0 to 0.9."""
    levels = (0.0, 0.3, 0.6, 0.9)
    records = [
        record(f"{at}.png", {"first": level + 0.1 + 0.01 * (-1) ** at}, {"noise": level, "middle": level - 0.2})
        for at, level in enumerate(levels)
    ]
    cell = tallied(records).methods[0].measures["m.gain"]
    # Differences 0.11, 0.09, 0.11, 0.09: standard deviation 0.011547, error 0.0057735; of the means it is 0.19.
    assert (cell.nearest_control.control, cell.nearest_control.mean) == ("noise", 0.1)
    assert cell.nearest_control.error == pytest.approx(0.0057735, rel=1e-5)
    assert cell.error > 0.19
    assert cell.beats_controls is True


def test_only_images_that_have_both_are_compared() -> None:
    records = [
        record("0.png", {"first": 0.5}, {"noise": 0.1}),
        record("1.png", {"first": None}, {"noise": 0.9}),
        record("2.png", {"first": -5.0}, {}),
    ]
    cell = tallied(records).methods[0].measures["m.gain"]
    assert (cell.nearest_control.mean, cell.nearest_control.error, cell.beats_controls) == (0.4, None, True)


@pytest.mark.parametrize(
    ("better", "mean_number", "marked"),
    [("low", 0.51, True), ("low", 0.5, False), ("high", 0.5, True), ("high", 0.51, False)],
)
def test_a_mean_on_the_wrong_side_of_a_limit_is_marked(better: str, mean_number: float, *, marked: bool) -> None:
    made = head(better)
    columns = [made.columns[0].model_copy(update={"limit": 0.5, "mark": "beyond"}), *made.columns[1:]]
    tally = EvaluationTally(made.model_copy(update={"columns": columns}))
    for at in range(2):
        tally.add(record(f"{at}.png", {"first": mean_number, "second": None}, {}))
    rows = {row.method: row.marks for row in tally.evaluation.methods}
    assert rows == {"first": ["beyond"] if marked else None, "second": None}
    assert leaderboard_of(tally.evaluation, []).rows[0].marks == (("beyond",) if marked else ())


def test_a_method_that_fills_as_a_measure_does_is_marked_where_it_was_judged() -> None:
    made = head()
    methods = [made.methods[0].model_copy(update={"own_means": ["m"]}), *made.methods[1:]]
    tally = EvaluationTally(made.model_copy(update={"methods": methods}))
    tally.add(record("0.png", {"first": 0.1, "second": 0.2}, {}))
    rows = {row.method: row.marks for row in tally.evaluation.methods}
    assert rows == {
        "first": ["Mm: judged by its own means, it fills what it hides as the measure does."],
        "second": None,
    }


def test_what_was_never_judged_says_why_and_comes_last() -> None:
    records = [record(f"{at}.png", {"first": None, "second": 0.1, "third": 0.2}, {}) for at in range(3)]
    found = tallied(records)
    assert [row.method for row in found.methods] == ["third", "second", "first"]
    assert (found.methods[-1].measures, found.methods[-1].undone) == ({}, {"m": "flat"})


def test_failed_and_unjudged_images_count_for_nothing() -> None:
    failed = {"source": "x.png", "status": "failed", "outputs": []}
    plain = record("y.png", {}, {})
    records = table(5)
    assert tallied([failed, *records, plain]) == tallied(records)
    assert tallied([failed]).images == 0


def test_several_targets_are_cases_of_their_own() -> None:
    one = record("0.png", {"first": 0.1, "second": 0.2}, {"noise": 0.0})
    two = record("0.png", {"first": 0.3, "second": 0.5}, {"noise": 0.1})
    both = {**one, "outputs": one["outputs"] + two["outputs"], "controls": one["controls"] + two["controls"]}
    found = tallied([both])
    assert (found.images, found.cases) == (1, 2)
    assert {row.method: row.measures["m.gain"].mean for row in found.methods} == {"first": 0.2, "second": 0.35}


def two_targets(name: str, gains: dict[str, tuple[float, float]], noise: tuple[float, float]) -> dict[str, Any]:
    """An image with two targets."""
    one, two = (record(name, {m: both[at] for m, both in gains.items()}, {"noise": noise[at]}) for at in (0, 1))
    return {**one, "outputs": one["outputs"] + two["outputs"], "controls": one["controls"] + two["controls"]}


def test_targets_of_one_image_are_one_image_in_the_error() -> None:
    """By hand: 0.1 and 0.3, 0.5 and 0.7: the means of the images are 0.2 and 0.6, s = 0.2828, error 0.2.

    As four numbers of four images they would have 0.1291.
    """
    records = [
        two_targets("0.png", {"first": (0.1, 0.3), "second": (0.0, 0.0)}, (0.1, 0.1)),
        two_targets("1.png", {"first": (0.5, 0.7), "second": (0.3, 0.6)}, (0.2, 0.4)),
    ]
    found = tallied(records)
    cell = found.methods[0].measures["m.gain"]
    assert (cell.mean, cell.error, cell.count, cell.clusters) == (0.4, 0.2, 4, 2)
    # Over noise: 0, 0.2 and 0.3, 0.3: sums 0.2 and 0.6 about 4 x 0.2 / 2: residuals -0.2, 0.2: sqrt(2 x 0.08) / 4.
    assert (cell.nearest_control.mean, cell.nearest_control.error) == (0.2, 0.1)
    # To the second 0.1, 0.3 and 0.2, 0.1: mean 0.175, residuals 0.05 and -0.05, error sqrt(2 x 0.005) / 4 = 0.025:
    # 2 x (2 x 0.025 / 0.175)^2 = 0.163, and never fewer than 2.
    assert found.tell_apart == 2


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 2, 2), (1, 3, 2, 7), (4,), (5, 1)])
def test_clustered_errors_are_those_of_whole_tables(sizes: tuple[int, ...]) -> None:
    """Slowly, from the definition; far from 0, where sums of squares would lose all digits."""
    random = np.random.default_rng(3)
    clusters = [random.normal(1e6 + at, 1.0, size) for at, size in enumerate(sizes)]
    moments = Moments()
    for one in clusters:
        moments.add(*one.tolist())
    moments.add()
    whole = np.concatenate(clusters)
    assert moments.mean == pytest.approx(whole.mean(), rel=1e-14)
    assert (moments.count, moments.clusters) == (whole.size, len(sizes))
    if len(sizes) == 1:
        assert (moments.error, moments.clusters_to_tell) == (None, None)
        return
    rest = np.array([(one - whole.mean()).sum() for one in clusters])
    groups = len(sizes)
    expected = np.sqrt(groups / (groups - 1) * (rest**2).sum()) / whole.size
    assert moments.error == pytest.approx(expected, rel=1e-8)
    if set(sizes) == {1}:
        assert moments.error == pytest.approx(whole.std(ddof=1) / whole.size**0.5, rel=1e-8)


def mosaic(name: str, first: list[float], second: list[float], noise: list[float]) -> MosaicRecord:
    of = [f"{name}{at}.png" for at in range(4)]
    numbers = {("f", "first"): first, ("f", "second"): second, (None, "noise"): noise}
    maps = [
        MosaicMap(family=family, method=method, layer=None, measures={"m.gain": list(found)})
        for (family, method), found in numbers.items()
    ]
    return MosaicRecord(of=of, classes=[0, 1, 2, 3], labels=list("abcd"), sha256=name, size=(8, 8), maps=maps)


def test_images_of_one_mosaic_are_one_number_in_the_error() -> None:
    """By hand: two mosaics of means 0.5 and 0.7: mean 0.6, error 0.1; the same eight as images of their own: 0.0845."""
    plan = MosaicPlan(measure="m", most=9, sure=0.2, cell="small")
    tally = EvaluationTally(head().model_copy(update={"mosaics": plan}))
    two = [
        mosaic("a", [0.2, 0.8, 0.4, 0.6], [0.1, 0.6, 0.2, 0.3], [0.25] * 4),
        mosaic("b", [0.4, 1.0, 0.6, 0.8], [0.4, 0.8, 0.6, 0.6], [0.25] * 4),
    ]
    tally.add_mosaics(MosaicsFound(mosaics=two))
    found = tally.evaluation
    cell = found.methods[0].measures["m.gain"]
    assert (cell.mean, cell.error, cell.count, cell.clusters) == (0.6, 0.1, 8, 2)
    # Differences 0.2 and 0.1 by mosaic: mean 0.15, s 0.0707: 4 (0.0707 / 0.15)^2 = 0.89, so two mosaics of four images.
    assert found.tell_apart == 8
    alone = EvaluationTally(head().model_copy(update={"mosaics": plan}))
    alone.add_mosaics(MosaicsFound(mosaics=two[:1]))
    assert alone.evaluation.methods[0].measures["m.gain"].error is None
    assert alone.evaluation.tell_apart is None


def test_agreement_is_the_mean_over_images_and_symmetric() -> None:
    def alike(name: str, number: float | None) -> dict[str, Any]:
        rows = [[1.0, number], [number, 1.0]]
        maps = [f"{name}/first.png", f"{name}/second.png"]
        return record(name, {"first": 0.1, "second": 0.2}, {}, agreement={"maps": maps, "rows": rows})

    found = tallied([alike("0.png", 0.5), alike("1.png", None), alike("2.png", 0.1)]).agreement
    assert found.names == ["Second", "First"]
    assert found.rows == [[1.0, 0.3], [0.3, 1.0]]
    assert tallied([alike("0.png", None)]).agreement.rows == [[1.0, None], [None, 1.0]]


def test_memory_is_bounded_and_the_median_then_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_fold, "MOST_KEPT", 10)
    tally = EvaluationTally(head())
    sizes = []
    for one in table(60):
        tally.add(one)
        sizes.append(sum(len(cell.kept) for row in tally._rows.values() for cell in row.cells.values()))
    assert max(sizes) <= 3 * 11
    assert all(later >= sooner for sooner, later in pairwise(sizes))
    assert all(row.measures["m.gain"].median is None for row in tally.evaluation.methods)


def test_every_number_has_six_digits_and_is_finite() -> None:
    text = json.dumps(tallied(table(23)).model_dump(mode="json"), allow_nan=False)

    def walk(found: Any) -> None:
        if isinstance(found, float):
            assert found == six_digits(found)
        for one in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
            walk(one)

    walk(json.loads(text))
    assert "-0.0," not in text


def test_the_board_shows_what_ranks_and_names_layers_where_they_differ() -> None:
    records = [record(f"{at}.png", {"first": 0.1 * at, "second": 0.2}, {"noise": 0.0}) for at in range(3)]
    for one in records:
        one["outputs"].append({**one["outputs"][0], "layer": "deep"})
    board = leaderboard_of(tallied(records), ["net"])
    assert [one.name for one in board.columns] == ["m.gain"]
    assert [one.title for one in board.columns] == ["m gain"]
    assert [(row.title, row.layer) for row in board.rows] == [("Second", ""), ("First", ""), ("First", "deep")]


def test_the_foot_says_whether_a_column_is_judged_nowhere_or_not_everywhere() -> None:
    records = [record("0.png", {"first": 0.1, "second": None}, {})]
    assert leaderboard_of(tallied(records), []).foot == ("Not judged everywhere, m: flat.",)
    records = [record("0.png", {"first": None, "second": None}, {})]
    assert leaderboard_of(tallied(records), []).foot == ("Not judged at all, m: flat.",)


def test_only_curves_about_what_is_removed_are_drawn() -> None:
    curves = {"m.gain": [1.0, 0.5], "m.most": [1.0, 0.0]}
    records = [record("0.png", {"first": 0.1}, {})]
    records[0]["outputs"][0]["curves"] = curves
    made = head()
    assert leaderboard_of(tallied(records), []).charts == ()
    columns = [made.columns[0], made.columns[1].model_copy(update={"curve": "most first"})]
    tally = EvaluationTally(made.model_copy(update={"columns": columns}))
    tally.add(records[0])
    assert [chart.curves for chart in leaderboard_of(tally.evaluation, []).charts] == [(("m.most", "most first"),)]


def test_the_foot_says_what_the_ends_of_a_column_mean() -> None:
    evaluation = tallied([record("0.png", {"first": 0.1}, {})])
    noted = [one.model_copy(update={"note": "0 is blind"}) for one in evaluation.columns]
    assert leaderboard_of(evaluation.model_copy(update={"columns": noted}), []).foot == ("M gain: 0 is blind.",)


def test_the_foot_says_where_nothing_judges_faithfulness() -> None:
    evaluation = tallied([record("0.png", {"first": 0.1}, {})])
    for faithful in (True, False, None):
        judged = [one.model_copy(update={"faithful": faithful}) for one in evaluation.measures]
        foot = leaderboard_of(evaluation.model_copy(update={"measures": judged}), []).foot
        assert (UNFAITHFUL in foot) == (faithful is False)


def test_chance_may_be_the_mean_of_a_column_of_the_images() -> None:
    records = [record(f"{at}.png", {"first": 0.5, "second": 0.1}, {}) for at in range(2)]
    for one, share in zip(records, (0.2, 0.6), strict=True):
        for output in one["outputs"]:
            output["measures"]["m.most"] = share
    evaluation = tallied(records)
    assert leaderboard_of(evaluation, []).columns[0].chance == 0.0
    columns = [one.model_copy(update={"chance_in": "m.most"}) for one in evaluation.columns]
    board = leaderboard_of(evaluation.model_copy(update={"columns": columns}), [])
    assert board.columns[0].chance == pytest.approx(0.4)
