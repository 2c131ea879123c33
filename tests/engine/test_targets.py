"""Which classes are explained."""

from collections.abc import Mapping, Sequence

import pytest
import torch

from cnnviz_cli.core.classes import Labels, contrast_of, ranks_of, truth_index
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.engine.targets import TargetSelector

LABELS = ["tench", "crane", "tiger cat", "Crane", "tiger"]
SCORES = torch.tensor([[0.1, 5.0, 3.0, 3.0, -1.0], [9.0, 0.0, 0.0, 0.0, 10.0]])


def parse(
    specs: Sequence[str | int],
    labels: Sequence[str],
    contrast: str | int | None = None,
    also: Mapping[str, int] | None = None,
) -> TargetSelector:
    called = Labels(tuple(labels), also or {})
    return TargetSelector(ranks_of(specs, called), None if contrast is None else contrast_of(contrast, called))


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (["top1"], [[1], [4]]),
        (["top3"], [[1, 2, 3], [4, 0, 1]]),  # of equal scores the lower index first
        (["Tiger Cat"], [[2], [2]]),
        ([2, "top1"], [[2, 1], [2, 4]]),
        (["top2", "top1", "4", 4], [[1, 2, 4], [4, 0, 4]]),
        (["predicted"], [[1], [4]]),
        (["Predicted, tench"], [[1, 0], [4, 0]]),
        (["predicted,top2,4,"], [[1, 2, 4], [4, 0, 4]]),
        (["ench"], [[0], [0]]),
        (["tiger c"], [[2], [2]]),  # and not the class whose name is a part of this one
        (["tiger"], [[4], [4]]),
        (["ench,ger ca"], [[0, 2], [0, 2]]),
    ],
)
def test_specs(specs: list[str | int], expected: list[list[int]]) -> None:
    assert parse(specs, LABELS)(SCORES).tolist() == expected


@pytest.mark.parametrize(
    ("spec", "what", "fix"),
    [
        ("tigr cat", "no class 'tigr cat'", "'tiger cat'"),
        ("crane", "2 classes", "1 or 3"),
        ("ran", "'ran' is a part of the names of 2 classes", "Name one of them: 1 crane, 3 Crane."),
        ("top1,tigr", "no class 'tigr'", "'tiger'"),
        (",", "no class is named", ""),
        (5, "no class 5", ""),
        ("-1", "no class -1", ""),
        ("top6", "'top6' asks for more classes: the model has 5 classes", "top5"),
        ("top0", "'top0' asks for no class", "top1"),
    ],
)
def test_refusals(spec: str | int, what: str, fix: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        parse([spec], LABELS)
    assert fix in caught.value.fix
    assert caught.value.where == "--target"


def test_of_many_candidates_the_first_are_listed() -> None:
    with pytest.raises(UsageError, match="part of the names of 11 classes") as caught:
        parse(["cat"], [f"cat {number}" for number in range(10)] + ["wildcat"])
    assert caught.value.fix.endswith("6 cat 6, 7 cat 7 and 3 more.")


def test_a_name_with_a_comma_is_one_class() -> None:
    labels = ["a, b", "a", "b"]
    assert parse(["a, b"], labels).ranks == (-1,)
    assert parse(["a,b"], labels).ranks == (-2, -3)
    assert parse(["A, B", "b"], labels).ranks == (-1, -3)


def test_further_names_count_where_no_class_is_called_so() -> None:
    also = {"n01440764": 0, "tiger": 2}
    assert parse(["N01440764", "tiger"], LABELS, also=also).ranks == (-1, -5)


# --- what is true -------------------------------------------------------------------------------------------


def test_the_true_class_is_each_images_own() -> None:
    targets = parse(["predicted,true"], LABELS)
    assert (targets.uses_truth, targets.needs_truth) == (True, False)
    assert targets.with_truths([3, 4])(SCORES).tolist() == [[1, 3], [4, 4]]


def test_in_the_place_of_an_unknown_truth_stands_a_class_that_is_explained_anyway() -> None:
    targets = parse(["true,tench,top1"], LABELS).with_truths([None, 2])
    chosen = targets(SCORES).tolist()
    assert chosen == [[0, 0, 1], [2, 0, 4]]
    assert [targets.drawn_ranks(row) for row in chosen] == [[0, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("specs", "contrast", "asks", "needs"),
    [
        (["true"], None, True, True),
        (["true", "top1"], None, True, False),
        (["top1"], "true", True, True),
        (["top1"], "predicted", False, False),
        (["top1"], None, False, False),
    ],
)
def test_what_cannot_be_explained_without_a_truth(
    specs: list[str | int], contrast: str | None, asks: bool, needs: bool
) -> None:
    targets = parse(specs, LABELS, contrast=contrast)
    assert (targets.uses_truth, targets.needs_truth) == (asks, needs)


def test_a_truth_that_was_not_said_is_a_bug_and_never_a_guess() -> None:
    targets = parse(["top1,true"], LABELS)
    for unsaid in (targets, targets.with_truths([1])):
        with pytest.raises(ValueError, match="not said"):
            unsaid(SCORES)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("Tench", 0),
        ("2", 2),
        ("tiger_cat", 2),
        (" tiger ", 4),
        ("ench", None),
        ("5", None),
        ("n01440764", 0),
        ("", None),
    ],
)
def test_labels_of_pictures(text: str, index: int | None) -> None:
    assert truth_index(text, Labels(tuple(LABELS), {"n01440764": 0})) == index


def test_a_label_is_a_name_before_it_is_a_number() -> None:
    assert [truth_index(text, Labels(("0", "1", "10", "2"))) for text in ("10", "2", "3")] == [2, 3, 3]


def test_a_label_of_several_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="'CRANE' is the name of 2 classes") as caught:
        truth_index("CRANE", Labels(tuple(LABELS)))
    assert caught.value.fix == "Write 1 or 3."


# --- contrasts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contrast", "column"),
    [("true", [3, 0]), ("predicted", [1, 4]), ("top1", [1, 4]), ("ench", [0, 0]), (2, [2, 2]), ("tiger", [4, 4])],
)
def test_the_class_of_a_contrast_comes_last(contrast: str | int, column: list[int]) -> None:
    targets = parse(["top2"], LABELS, contrast=contrast).with_truths([3, 0])
    assert (targets.contrast_rank, targets.width) == (2, 3)
    assert targets(SCORES).tolist() == [[1, 2, column[0]], [4, 0, column[1]]]


def test_no_class_is_told_apart_from_itself() -> None:
    targets = parse(["top2", "tench"], LABELS, contrast="true").with_truths([2, 3])
    chosen = targets(SCORES).tolist()
    assert chosen == [[1, 2, 0, 2], [4, 0, 0, 3]]
    assert [targets.drawn_ranks(row) for row in chosen] == [[0, 2], [0, 1]]


@pytest.mark.parametrize(
    ("contrast", "what"),
    [("top2", "'top2' is more than one class"), ("top9", "5 classes"), ("tigr", "no class 'tigr'")],
)
def test_a_contrast_is_one_class(contrast: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        parse(["top1"], LABELS, contrast=contrast)
    assert caught.value.where == "--contrast"


def test_names_for_files() -> None:
    targets = parse(["top2", "true", "tiger"], LABELS)
    assert targets.names(LABELS) == ["top-1", "top-2", "true", "4-tiger"]
