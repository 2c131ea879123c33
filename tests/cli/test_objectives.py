"""Objectives, and settings that do not go with them, are refused before torch is imported, where they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import Command, FakeRun

SEGMENTER, DETECTOR = ["--model", "deeplabv3_resnet50"], ["--model", "fasterrcnn_resnet50_fpn"]


@pytest.fixture(autouse=True)
def files() -> None:
    """A picture to compare with, two that are none, and a mask."""
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save("other.png")
    Path("text.png").write_text("no picture", encoding="utf-8")
    Path("empty.png").touch()
    Path("mine.pth").touch()
    Path("folder").mkdir()


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (["--objective", "sgement"], "--objective: there is no objective 'sgement'", "'segment'"),
        (["--objective", ""], "--objective: there is no objective ''", "box:2"),
        ([*DETECTOR, "--objective", "box:0"], "--objective: 'box:0': boxes are told by their rank", "box:2"),
        ([*DETECTOR, "--objective", "box:-1"], "--objective: 'box:-1': boxes are told by their rank", "box:2"),
        ([*DETECTOR, "--objective", "box:person"], "--objective: 'box:person': boxes are told by their rank", "box:2"),
        ([*SEGMENTER, "--objective", "segment:"], "--objective: 'segment:' is not whole", "segment:person"),
        (["--objective", "class:7"], "--objective: 'class:7' is not whole", "segment:person"),
        (["--objective", "similarity"], "--objective: similarity to which image?", "similarity:other.jpg"),
        (["--objective", "similarity:"], "--objective: 'similarity:' is not whole", "similarity:other.jpg"),
        (["--objective", "similarity:othr.png"], "--objective: 'othr.png': ", "'other.png'"),
        (["--objective", "similarity:text.png"], "--objective: 'text.png': ", ""),
        (["--objective", "similarity:empty.png"], "--objective: 'empty.png': ", ""),
        (["--objective", "similarity:folder"], "--objective: 'folder': ", ""),
        (
            ["--objective", "segment"],
            "--objective: efficientnet_lite0 returns class scores, so there is no segment to explain",
            "Leave it out, or: --objective class",
        ),
        (
            [*SEGMENTER, "--objective", "box:1"],
            "--objective: deeplabv3_resnet50 returns maps of class scores, so there is no box to explain",
            "segment:CLASS",
        ),
        (
            [*DETECTOR, "--objective", "class"],
            "--objective: fasterrcnn_resnet50_fpn returns boxes, so there is no class to explain",
            "box:RANK",
        ),
        (
            [*DETECTOR, "--objective", "similarity:other.png"],
            "--objective: fasterrcnn_resnet50_fpn returns boxes, and images are compared by vectors",
            "Use a classifier",
        ),
        (
            ["--model", "mine.pth", "--arch", "deeplabv3_resnet50", "--objective", "box"],
            "--objective: mine.pth returns maps of class scores, so there is no box to explain",
            "",
        ),
        (
            [*SEGMENTER, "--objective", "segment:persn"],
            "--objective: the model has no class 'persn'",
            "'person'",
        ),
        ([*SEGMENTER, "-t", "persn"], "--target: the model has no class 'persn'", "--model deeplabv3_resnet50"),
        ([*SEGMENTER, "--objective", "segment:21"], "--objective: there is no class 21: the model has 0 to 20", ""),
        (
            [*SEGMENTER, "--objective", "segment:top22"],
            "--objective: 'top22' asks for more classes: the model has 21 classes",
            "",
        ),
        ([*SEGMENTER, "--objective", "segment:true"], "--objective: true classes are known for whole images", "topK"),
        ([*SEGMENTER, "-t", "true"], "--target: true classes are known for whole images", "topK"),
        (
            [*SEGMENTER, "--objective", "segment:person", "-t", "cat"],
            "--target: 'segment:person' says what is explained already",
            "Leave --target out.",
        ),
        (
            [*DETECTOR, "--objective", "box:2", "-t", "top3"],
            "--target: 'box:2' says what is explained already",
            "Leave --target out.",
        ),
        ([*DETECTOR, "-t", "person"], "--target: 'person': boxes are told by their rank", "--target top3"),
        ([*DETECTOR, "-t", "top99999"], "--target: 'top99999': boxes are told by their rank", "--target top3"),
        (
            ["--objective", "similarity:other.png", "-t", "cat"],
            "--target: there is one thing to explain, the similarity",
            "Leave it out.",
        ),
        ([*SEGMENTER, "--contrast", "cat"], "--contrast: --contrast is for the classes of a classifier", "Leave it"),
        ([*SEGMENTER, "--contrast", "0"], "--contrast: --contrast is for the classes of a classifier", "Leave it"),
        ([*DETECTOR, "--truth", "folder"], "--truth: --truth is for the classes of a classifier", "Leave it out."),
        ([*SEGMENTER, "--multilabel"], "--multilabel: --multilabel is for the classes of a classifier", "Leave it"),
        (
            ["--objective", "similarity:other.png", "--score", "probability"],
            "--score: --score is for the classes of a classifier, and what is explained is a similarity",
            "Leave it out.",
        ),
        (
            ["--region", "other.png"],
            "--region: --region is for segment, and what is explained is a class",
            "Leave it out.",
        ),
        ([*DETECTOR, "--region", "other.png"], "--region: --region is for segment, and what is explained is a box", ""),
        ([*SEGMENTER, "--region", "none.png"], "--region: none.png: ", "white within the region"),
        ([*SEGMENTER, "--region", "text.png"], "--region: text.png: ", "white within the region"),
        ([*SEGMENTER, "--min-score", "0.5"], "--min-score: --min-score is for box", "Leave it out."),
        ([*DETECTOR, "--min-score", "1.5"], "--min-score: 'min_score' must be at most 1, not 1.5", ""),
        (["--embedding", "features"], "--embedding: nothing is compared", "--objective similarity:other.jpg"),
        (["--embedding", "feature"], "--embedding: 'embedding' must be auto, features or output", "'features'"),
        (
            ["--objective", "segment:a", "--model", "module:net", "--allow-code", "--min-score", "0"],
            "--min-score: ",
            "",
        ),
    ],
)
def test_mistakes(cnnviz: Command, fake_run: FakeRun, arguments: list[str], said: str, hint: str) -> None:
    result = cnnviz("gradcam", "a.png", *arguments)
    assert result.code == 2
    assert said in result.err
    assert hint in result.err
    assert result.err.count("error:") == 1
    assert fake_run.settings is None


@pytest.mark.parametrize(
    "arguments",
    [
        [*SEGMENTER],
        [*SEGMENTER, "--objective", "Segment: Person"],
        [*SEGMENTER, "--objective", "segment:top3"],
        [*SEGMENTER, "--objective", "segment:person,cat"],
        [*SEGMENTER, "-t", "person,top2"],
        [*SEGMENTER, "--region", "folder"],
        [*SEGMENTER, "--objective", "segment:person", "--region", "other.png", "--counterfactual"],
        [*DETECTOR],
        [*DETECTOR, "-t", "top2,predicted"],
        [*DETECTOR, "--objective", "box:9999", "--min-score", "0"],
        ["--objective", "similarity:other.png", "--embedding", "output"],
        ["--objective", "class", "-t", "tabby"],
        # What these return, only they can tell.
        ["--model", "module:net", "--allow-code", "-t", "top3", "--min-score", "0.1"],
        ["--model", "module:net", "--allow-code", "--objective", "segment:person", "-o", "x"],
        ["--model", "mine.pth", "--arch", "deeplabv3_resnet50", "-t", "leaf"],
    ],
)
def test_what_is_right_passes(cnnviz: Command, fake_run: FakeRun, arguments: list[str]) -> None:
    result = cnnviz("gradcam", "a.png", *arguments)
    assert result.code == 0, result.err
    assert fake_run.settings is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: deeplabv3_resnet50\nobjective: segment:persn\n", "c.yaml:2:12: the model has no class 'persn'"),
        ("model: deeplabv3_resnet50\ncontrast: cat\n", "c.yaml:2:11: --contrast is for the classes of a classifier"),
        ("objective: similarity:none.png\n", "c.yaml:1:12: 'none.png': "),
        ("model: ssd300_vgg16\nregion: other.png\n", "c.yaml:2:9: --region is for segment"),
        ("objective: box:0\n", "c.yaml:1:12: 'box:0': boxes are told by their rank"),
    ],
)
def test_a_mistake_in_a_file_of_settings_is_shown_there(
    cnnviz: Command, fake_run: FakeRun, text: str, said: str
) -> None:
    Path("c.yaml").write_text(text, encoding="utf-8")
    result = cnnviz("gradcam", "a.png", "-c", "c.yaml")
    assert (result.code, fake_run.settings) == (2, None)
    assert f"error: {said}" in result.err


def test_a_mistake_in_the_environment_is_shown_there(
    cnnviz: Command, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNVIZ_OBJECTIVE", "similarity:none.png")
    result = cnnviz("gradcam", "a.png")
    assert (result.code, fake_run.settings) == (2, None)
    assert "error: CNNVIZ_OBJECTIVE: 'none.png': " in result.err


def test_the_manifest_has_names_of_files_and_not_their_places(cnnviz: Command, fake_run: FakeRun) -> None:
    other = Path("other.png").resolve()
    assert cnnviz("gradcam", "a.png", "--objective", f"similarity:{other}").code == 0
    assert fake_run.settings.as_json()["objective"] == "similarity:other.png"
    assert cnnviz("gradcam", "a.png", *SEGMENTER, "--region", other).code == 0
    assert fake_run.settings.as_json()["region"] == "other.png"
