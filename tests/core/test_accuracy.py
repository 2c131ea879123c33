"""How often a network is right, counted by hand."""

from __future__ import annotations

from typing import Any

from cnnviz_cli.core.accuracy import MAX_CONFUSIONS, MAX_MISTAKES, AccuracyCounter, Mistake
from cnnviz_cli.core.records import Confusion

NAMES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu")


def record(source: str, truth: int | None, *likeliest: int, p: float = 0.5, p_truth: float = 0.1) -> dict[str, Any]:
    """An image's record as the manifest has it: its likeliest classes in order, the first with probability `p`."""
    predictions = [
        {"index": index, "label": NAMES[index], "probability": p / (1 + place)} for place, index in enumerate(likeliest)
    ]
    true = None if truth is None else {"index": truth, "label": NAMES[truth], "probability": p_truth}
    return {"source": source, "status": "ok", "predictions": predictions, "truth": true}


def told(*records: dict[str, Any], classes: int = 7, multilabel: bool = False) -> AccuracyCounter:
    tally = AccuracyCounter(classes, multilabel=multilabel)
    for one in records:
        tally.add(one)
    return tally


def test_by_hand() -> None:
    tally = told(
        record("a", 0, 0, 1, 2, 3, 4),  # right
        record("b", 1, 0, 1, 2, 3, 4),  # second
        record("c", 4, 0, 1, 2, 3, 4, p=0.6, p_truth=0.12),  # fifth
        record("d", 5, 0, 1, 2, 3, 4),  # not among five
        record("e", 1, 0, 2, 3, 4, 5),  # not among five, and the same confusion as b
        record("f", 3, 3, 1, 2, 0, 4),  # right
        record("g", None, 3, 1, 2, 0, 4),  # nobody knows
        record("i", 5, 5, 1, 2, 0, 4) | {"status": "failed"},  # drawn in vain
        {"source": "h", "status": "failed", "predictions": [], "truth": None},
    )
    found = tally.accuracy
    assert found is not None
    assert (found.known, found.top1, found.top5, found.present) == (6, 2, 4, None)
    assert found.confusions == [
        Confusion(truth="bee", truth_index=1, predicted="ant", predicted_index=0, count=2),
        Confusion(truth="elk", truth_index=4, predicted="ant", predicted_index=0, count=1),
        Confusion(truth="fox", truth_index=5, predicted="ant", predicted_index=0, count=1),
    ]
    assert [one.source for one in tally.mistakes] == ["b", "c", "d", "e"]
    assert tally.mistakes[1] == Mistake("c", "elk", "ant", 0.6, 0.12)


def test_the_sixth_is_not_among_five() -> None:
    found = told(record("a", 5, 0, 1, 2, 3, 4, 5), record("b", 4, 0, 1, 2, 3, 4, 5)).accuracy
    assert found is not None
    assert (found.known, found.top1, found.top5) == (2, 0, 1)


def test_confusions_as_frequent_as_each_other_come_in_the_order_of_their_classes() -> None:
    found = told(record("a", 4, 0), record("b", 1, 2), record("c", 1, 0)).accuracy
    assert found is not None
    assert [(one.truth_index, one.predicted_index) for one in found.confusions] == [(1, 0), (1, 2), (4, 0)]


def test_of_five_classes_top_five_says_nothing() -> None:
    found = told(record("a", 1, 0, 1), classes=5).accuracy
    assert found is not None
    assert (found.top1, found.top5) == (0, None)


def test_where_classes_go_together_the_true_one_has_to_be_likely_itself() -> None:
    tally = told(
        record("a", 1, 0, 1, p=0.9, p_truth=0.5),  # present, though another is likelier
        record("b", 1, 0, 1, p=0.9, p_truth=0.49),
        record("c", 1, 1, 0, p=0.4, p_truth=0.4),  # the likeliest, and not likely
        multilabel=True,
    )
    found = tally.accuracy
    assert found is not None
    assert (found.known, found.top1, found.top5, found.present, found.confusions) == (3, None, None, 1, [])
    assert [one.source for one in tally.mistakes] == ["b", "c"]


def test_what_has_no_probability_is_neither_right_nor_wrong() -> None:
    value = record("a", 1, 0)
    value["predictions"][0] |= {"probability": None, "value": 3.5}
    box, region = record("b", 1, 0), record("c", 1, 0)
    box["predictions"][0]["box"] = [0.0, 0.0, 1.0, 1.0]
    region["predictions"][0]["share"] = 0.5
    tally = told(value, box, region, record("d", None, 0))
    assert (tally.accuracy, tally.mistakes) == (None, [])


def test_what_is_kept_is_bounded_and_what_is_counted_is_not() -> None:
    tally = told(*(record(str(at), at % 6, 6) for at in range(MAX_MISTAKES + 12)))
    found = tally.accuracy
    assert found is not None
    assert (found.known, len(tally.mistakes), len(found.confusions)) == (MAX_MISTAKES + 12, MAX_MISTAKES, 6)
    assert MAX_CONFUSIONS >= 6
