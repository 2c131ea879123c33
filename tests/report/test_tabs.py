"""What a run says that is about no image: painted pictures and leaderboards."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from exports.saved import CAT, image, output, save
from PIL import Image
from report.conftest import Open
from report.reading import Read
from report.test_several_runs import photo

from cnnviz_cli.core.evaluation_fold import EvaluationTally
from cnnviz_cli.core.evaluation_records import (
    ColumnRecord,
    ControlRecord,
    EvaluationHead,
    MeasureRecord,
    MethodRecord,
)
from cnnviz_cli.core.records import DreamRecord, ExamplePatch, ImageRecord, Judgement, Picture, Subject
from cnnviz_cli.report import ReportOptions, write_report

ESPRESSO = Subject(class_index=967, label="espresso")


def dream_of(root: Path, subject: Subject, **facts: Any) -> ImageRecord:
    """A unit with one painted picture, which is written."""
    folder = subject.folder
    digest = photo(root, f"{folder}/dream.png", "sienna")
    usual: dict[str, Any] = {
        "objective": "the score", "start": "noise", "number": 1, "steps": 20, "score": 12.345678, "start_score": -0.5,
    }  # fmt: skip
    painted = output(
        f"{folder}/dream.png", family="dream", method="pyramid", layer=subject.layer, sha256=digest, subject=subject,
        scale=None, range=None, width=300, height=200, dream=DreamRecord(**{**usual, **facts}),
    )  # fmt: skip
    return image(
        subject.name,
        painted,
        sha256=subject.sha256,
        subject=subject,
        predictions=[],
        width=None,
        height=None,
        seen=None,
    )


def test_dreams_that_all_failed_are_dreams(tmp_path: Path) -> None:
    failed = dream_of(tmp_path / "run", ESPRESSO).model_copy(
        update={"status": "failed", "error": "it is not a number", "outputs": []}
    )
    for command, painted in (("dream", True), ("features", False)):
        made = write_report([save(tmp_path / command, failed, command=command)])
        (tile,) = Read(made.path).index["tabs"]["dreams"]
        assert (tile["subtitle"], tile["sentences"], tile["painted"]) == ("failed", ["it is not a number"], painted)


def test_painted_pictures_are_a_wall(tmp_path: Path) -> None:
    root = tmp_path / "run"
    judged = [Judgement(model="m", weights="w", weights_sha256="", index=1, probability=0.86, rank=1, prediction=CAT)]
    made = write_report(
        [
            save(
                root,
                dream_of(root, ESPRESSO, probability=0.981, rank=1, judged=judged),
                dream_of(root, Subject(layer="stages.2", channel=7)),
                image("a.png"),
            )
        ]
    )
    read = Read(made.path)
    assert read.index["sources"] == ["a.png"]
    first, other = read.index["tabs"]["dreams"]
    assert (first["title"], first["subtitle"]) == ("espresso", "98.1 %, rank 1")
    assert dict(first["facts"]) == {
        "what was climbed": "the score",
        "score": "12.35, before -0.5",
        "probability of its class": "98.1 %, rank 1",
        "judged by": "m 86.0 %, rank 1",
        "painted from": "noise, 20 steps",
    }
    assert read.file(first["figure"]) == root / "class-967-espresso" / "dream.png"
    assert Image.open(BytesIO(base64.b64decode(first["thumb"]))).size == (128, 85)
    assert (other["title"], other["subtitle"], other["layer"]) == ("stages.2 channel 7", "score 12.35", "stages.2")


@pytest.mark.parametrize(
    ("subject", "said", "words"),
    [
        (ESPRESSO, "the score of target 1", "the score of espresso"),
        (ESPRESSO, "the probability of target 1", "the probability of espresso"),
        (Subject(layer="stages.2", channel=7), "the score of target 1", "the score of target 1"),
    ],
)
def test_what_was_climbed_has_the_name_of_its_class(tmp_path: Path, subject: Subject, said: str, words: str) -> None:
    root = tmp_path / "run"
    (tile,) = Read(write_report([save(root, dream_of(root, subject, objective=said))]).path).index["tabs"]["dreams"]
    assert dict(tile["facts"])["what was climbed"] == words


def test_a_run_of_units_alone_is_a_page(tmp_path: Path) -> None:
    root = tmp_path / "run"
    made = write_report([save(root, dream_of(root, ESPRESSO))], ReportOptions(single_file=True))
    read = Read(made.path)
    assert (made.images, read.index["n"], read.entries) == (0, 0, [])
    (tile,) = read.index["tabs"]["dreams"]
    assert tile["figure"] is None
    assert tile["thumb"]


def test_a_recorded_thumbnail_of_a_unit_is_taken(tmp_path: Path) -> None:
    root = tmp_path / "run"
    record = dream_of(root, ESPRESSO)
    digest = photo(root, "small.webp", "navy", "WEBP")
    record = record.model_copy(update={"thumbnail": Picture(path="small.webp", sha256=digest, width=300, height=200)})
    (tile,) = Read(write_report([save(root, record)]).path).index["tabs"]["dreams"]
    pixel = Image.open(BytesIO(base64.b64decode(tile["thumb"]))).convert("RGB").getpixel((60, 40))
    assert pixel == pytest.approx((0, 0, 128), abs=6)


HEAD = EvaluationHead(
    measures=[MeasureRecord(name="gain", title="Gain", paper="", options={}, faithful=True)],
    columns=[
        ColumnRecord(name="gain", measure="gain", title="what is gained", better="high", chance=0.0, ranked=True),
        ColumnRecord(name="gain.most", measure="gain", title="the rest", better="low", chance=None, ranked=False),
    ],
    methods=[
        MethodRecord(family="gradcam", method=name, title=title, passes=passes)
        for name, title, passes in (("gradcam", "Grad-CAM", 2), ("layercam", "Layer-CAM", 3))
    ],
    order_by="gain",
)


def judged_run(root: Path) -> tuple[Path, dict[str, Any]]:
    """A run of three images and two methods, with an evaluation that the program itself has added up."""
    gains = {"gradcam": (0.5, 0.7, 0.9), "layercam": (0.2, 0.1, 0.3)}
    records = [
        image(
            f"{at}.png",
            *(
                output(f"{at}.png/{m}.png", method=m, measures={"gain": gains[m][at], "gain.most": 1 - gains[m][at]})
                for m in gains
            ),
            sha256=f"{at:064x}",
            controls=[ControlRecord(name="centre", target="tiger cat", measures={"gain": 0.15})],
        )
        for at in range(3)
    ]
    place = save(root, *records, command="evaluate") / "manifest.json"
    plain = json.loads(place.read_text(encoding="utf-8"))
    tally = EvaluationTally(HEAD)
    for record in plain["images"]:
        tally.add(record)
    plain["evaluation"] = tally.evaluation.model_dump(mode="json")
    place.write_text(json.dumps(plain), encoding="utf-8")
    return root, plain["evaluation"]


def test_a_leaderboard_is_the_manifests(tmp_path: Path) -> None:
    root, evaluation = judged_run(tmp_path / "run")
    read = Read(write_report([root]).path)
    (board,) = read.index["tabs"]["evaluation"]
    assert read.index["titles"] == {"gain": "what is gained", "gain.most": "the rest"}
    assert [row["title"] for row in board["rows"]] == ["Grad-CAM", "Layer-CAM", "centre"]
    assert [row["control"] for row in board["rows"]] == [False, False, True]
    assert [row["passes"] for row in board["rows"]] == [2, 3, None]
    for row, written in zip(board["rows"], [*evaluation["methods"], *evaluation["controls"]], strict=True):
        cell, number = row["cells"]["gain"], written["measures"]["gain"]
        assert (cell["mean"], cell["error"], cell["count"]) == (number["mean"], number["error"], number["count"])
    assert board["rows"][0]["cells"]["gain"]["mean"] == pytest.approx(0.7)
    assert board["rows"][0]["cells"]["gain"]["error"] == pytest.approx(0.2 / 3**0.5, abs=1e-6)
    assert board["order_by"] == "gain"
    assert (board["images"], board["run"]) == (3, "run")
    assert [(one["name"], one["better"], one["chance"]) for one in board["columns"]] == [("gain", "high", 0.0)]


def test_measures_have_the_titles_of_their_columns_and_what_ranks_comes_first(tmp_path: Path) -> None:
    root, _ = judged_run(tmp_path / "run")
    read = Read(write_report([root], ReportOptions(titles={"gradcam": "Grad-CAM", "layercam": "Layer-CAM"})).path)
    assert [(one["title"], one["better"]) for one in read.index["measures"]] == [
        ("what is gained · Grad-CAM, conv", "higher"),
        ("what is gained · Layer-CAM, conv", "higher"),
        ("the rest · Grad-CAM, conv", "lower"),
        ("the rest · Layer-CAM, conv", "lower"),
    ]
    assert read.column("measure.0").tolist() == pytest.approx([0.5, 0.7, 0.9])
    assert read.column("measure.3").tolist() == pytest.approx([0.8, 0.9, 0.7])


def top_of(root: Path, channel: int, *values: float) -> ImageRecord:
    """A channel with a sheet of patches and a file of these alone; a silent one has neither patches nor that file."""
    subject = Subject(layer="stages.2", channel=channel)
    folder, outputs = subject.folder, []
    examples = [
        ExamplePatch(source=f"{value:g}.png", sha256="", value=value, at=(0, 0), box=(0, 0, 1, 1)) for value in values
    ]
    for name, more in (("unit", {"examples": examples}), ("patches", {})):
        path = f"{folder}/{name}.png"
        outputs.append(
            output(
                path, family="top-images", method=None, layer="stages.2", sha256=photo(root, path, "navy"),
                subject=subject, scale=None, range=None, width=300, height=200, **more,
            )
        )  # fmt: skip
    return image(
        subject.name, *outputs[: 1 + bool(values)], sha256=subject.sha256, subject=subject, predictions=[], width=None,
        height=None, seen=None,
    )  # fmt: skip


def test_the_channels_of_a_folder_are_a_wall_with_their_values(tmp_path: Path) -> None:
    root = tmp_path / "run"
    made = write_report([save(root, top_of(root, 3, 41.28, 7.5), top_of(root, 4))])
    first, silent = Read(made.path).index["tabs"]["dreams"]
    assert (first["title"], first["subtitle"], first["layer"]) == (
        "stages.2 channel 3",
        "41.28 in 41.28.png",
        "stages.2",
    )
    assert first["facts"] == [["patch 1", "41.28 in 41.28.png"], ["patch 2", "7.5 in 7.5.png"]]
    assert Read(made.path).file(first["figure"]) == root / "stages.2-channel-3" / "unit.png"
    assert (silent["subtitle"], silent["facts"]) == ("silent in these images", [])
    assert not first["painted"]


@pytest.mark.browser
def test_the_wall_of_channels_is_called_so(tmp_path: Path, open_page: Open) -> None:
    root = tmp_path / "run"
    made = write_report([save(root, top_of(root, 3, 41.28, 7.5), image("a.png"))])
    shown = open_page(made.path)
    shown.get_by_role("tab", name="Units").click()
    tile = shown.locator(".wall .tile").first
    tile.wait_for()
    assert "stages.2 channel 3" in tile.inner_text()
    tile.click()
    shown.locator("dialog .known dt").first.wait_for()
    assert shown.locator("dialog .known dd").all_inner_texts() == ["41.28 in 41.28.png", "7.5 in 7.5.png"]
