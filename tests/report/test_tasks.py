"""Records of networks that are no classifiers, and what an image may take of a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exports.saved import CAT, DOG, image, output, save
from report.reading import Read

from benchmarks.report import make_run
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.report import ReportOptions, write_report
from cnnviz_cli.report.survey import RIGHT, UNKNOWN, WRONG

SEGMENT = Prediction(index=12, label="dog", probability=None, share=0.31)
ALIKE = Prediction(index=0, label="reference.png", probability=None, similarity=0.8312)
VALUE = Prediction(index=0, label="age", probability=None, value=41.37, unit="years")
BOXES = [Prediction(index=3, label="boat", probability=0.9 - n / 10, box=(1, 2, 3, 4), rank=n + 1) for n in range(2)]


@pytest.mark.parametrize(
    ("said", "figure", "measure"),
    [
        (SEGMENT, "31.0 % of the image", ("share of the image", 0.31)),
        (ALIKE, "0.831", ("similarity", 0.8312)),
        (VALUE, "41.37 years", ("value", 41.37)),
    ],
)
def test_what_stands_in_the_place_of_a_probability_is_said_and_sorted_by(
    tmp_path: Path, said: Prediction, figure: str, measure: tuple[str, float]
) -> None:
    record = image("a.png", output("a.png/g.png", target=said), predictions=[said], truth=CAT)
    read = Read(write_report([save(tmp_path / "run", record)]).path)
    place = read.index["labels"].index(said.label)
    assert read.entries[0]["runs"][0]["predictions"] == [[place, None, figure]]
    assert np.isnan(read.column("probability.0")).all()
    assert list(read.column("outcome.0")) == [UNKNOWN]
    (one,) = read.index["measures"]
    assert (one["title"], one["better"]) == (measure[0], None)
    assert read.column(one["column"])[0] == pytest.approx(measure[1])


def test_two_boxes_of_one_class_are_told_apart(tmp_path: Path) -> None:
    maps = [output(f"a.png/{box.rank}.png", target=box) for box in BOXES]
    read = Read(write_report([save(tmp_path / "run", image("a.png", *maps, predictions=BOXES, truth=CAT))]).path)
    said = read.entries[0]["runs"][0]["predictions"]
    assert [one[3] for one in said] == ["boat, box 1", "boat, box 2"]
    assert [one["title"] for one in read.entries[0]["maps"]] == ["boat, box 1", "boat, box 2"]
    assert [one["role"] for one in read.entries[0]["maps"]] == ["says", "asked"]
    assert list(read.column("outcome.0")) == [UNKNOWN]


@pytest.mark.parametrize(("probability", "outcome"), [(0.5, RIGHT), (0.49, WRONG)])
def test_where_classes_go_together_the_true_one_counts_by_itself(
    tmp_path: Path, probability: float, outcome: int
) -> None:
    record = image("a.png", truth=DOG.model_copy(update={"probability": probability}))
    read = Read(write_report([save(tmp_path / "run", record, multilabel=True)]).path)
    assert list(read.column("outcome.0")) == [outcome]


def test_a_map_about_no_class_stands_under_every_class(tmp_path: Path) -> None:
    record = image("a.png", output("a.png/g.png", target=None))
    (one,) = Read(write_report([save(tmp_path / "run", record)]).path).entries[0]["maps"]
    assert (one["role"], one["target"]) == ("both", None)


def test_against_a_class_and_beside_another_are_views_of_their_own(tmp_path: Path) -> None:
    maps = [
        output("a.png/1.png"),
        output("a.png/2.png", counterfactual=True),
        output("a.png/3.png", contrast=DOG, state="negative"),
    ]
    read = Read(write_report([save(tmp_path / "run", image("a.png", *maps))]).path)
    assert [view["title"] for view in read.index["views"]] == ["gradcam", "gradcam, against", "gradcam, contrasted"]
    assert "rather than tench" in read.entries[0]["maps"][2]["sentence"]


def test_an_image_takes_no_more_than_5_kilobytes(tmp_path: Path) -> None:
    """With a thumbnail of 128 pixels and four maps of a layer; a page of 10,000 may have 50 MB."""
    make_run(tmp_path, 200)
    made = write_report([tmp_path], ReportOptions())
    fixed = (tmp_path / "report.html").stat().st_size
    assert (made.size - fixed) / 200 < 5000
    index = len(Read(made.path).blocks["index"])
    assert (index - 20_000) / 200 < 150
