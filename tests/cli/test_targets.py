"""Classes, labels and truths that do not fit are refused before torch is imported, each where it was written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from .conftest import Command, FakeRun


@pytest.fixture(autouse=True)
def files() -> None:
    """Labels of three classes and of one, and a table."""
    Path("three.txt").write_text("cat\ntiger cat\ndog\n", encoding="utf-8")
    Path("one.txt").write_text("defect\n", encoding="utf-8")
    Path("broken.json").write_text("[", encoding="utf-8")
    Path("truth.csv").write_text("a.png,cat\n", encoding="utf-8")
    Path("mine.pth").touch()


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (
            ["--labels", "three.txt", "-t", "tabby"],
            "--target: the model has no class 'tabby'",
            "There are cat, tiger cat, dog.",
        ),
        (["--labels", "three.txt", "-t", "3"], "--target: there is no class 3: the model has 0 to 2", ""),
        (
            ["--labels", "three.txt", "-t", "ti,ca"],
            "--target: 'ca' is a part of the names of 2 classes",
            "0 cat, 1 tiger",
        ),
        (["--labels", "three.txt", "--contrast", "dgo"], "--contrast: the model has no class 'dgo'", "'dog'"),
        (["--labels", "tree.txt"], "--labels: 'tree.txt' cannot be read: No such file", "'three.txt'"),
        (["--labels", "broken.json", "-t", "xyz"], "--labels: broken.json: this is no JSON of labels", ""),
        (["-t", "predicted,true"], "--target: the true classes are not known", "--truth folder"),
        (["--contrast", "true"], "--contrast: the true classes are not known", "--truth FILE.csv"),
        (["--contrast", "top2"], "--contrast: 'top2' is more than one class", ""),
        (["--contrast", "tgier cat"], "--contrast: the model has no class 'tgier cat'", "'tiger cat'"),
        (["--truth", "truht.csv"], "--truth: there is no file 'truht.csv'", "'truth.csv'"),
        (["--score", "logits"], "--score: 'score' must be logit or probability, not 'logits'", "'logit'"),
    ],
)
def test_mistakes(cnnviz: Command, fake_run: FakeRun, arguments: list[str], said: str, hint: str) -> None:
    result = cnnviz("gradcam", "a.png", *arguments)
    assert result.code == 2
    assert said in result.err
    assert hint in result.err
    assert fake_run.settings is None


PAGE = Path(__file__).parents[2] / "docs" / "targets.md"


def test_every_command_of_the_page_is_understood(cnnviz: Command, fake_run: FakeRun) -> None:
    Path("photos").mkdir()
    Path("photos/a.png").touch()
    Path("classes.json").write_text('["tabby", "tiger cat"]', encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("cnnviz ")]
    commands = [shlex.split(line, comments=True) for line in lines]
    assert len(commands) >= 8
    for command in commands:
        fake_run.settings = None
        assert cnnviz(*command[1:]).code == 0, command
        assert fake_run.settings is not None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--labels", "three.txt", "-t", "tiger,cat", "--contrast", "2"],
        ["--labels", "one.txt", "-t", "not defect"],  # what its two classes are called, only the model can tell
        ["--weights", "mine.pth", "-t", "whatever", "--contrast", "this"],
        ["--truth", "truth.csv", "-t", "predicted,true"],
        ["--truth", "folder", "--contrast", "true"],
        ["--truth", "folder"],
        ["--multilabel", "--score", "probability", "-t", "tiger c"],
    ],
)
def test_what_is_right_passes(cnnviz: Command, fake_run: FakeRun, arguments: list[str]) -> None:
    result = cnnviz("gradcam", "a.png", *arguments)
    assert result.code == 0, result.err
    assert fake_run.settings is not None


def test_a_mistake_in_a_file_of_settings_is_shown_there(cnnviz: Command, fake_run: FakeRun) -> None:
    Path("c.yaml").write_text("labels: three.txt\ncontrast: dgo\n", encoding="utf-8")
    result = cnnviz("gradcam", "a.png", "-c", "c.yaml")
    assert "error: c.yaml:2:11: the model has no class 'dgo'" in result.err
    assert fake_run.settings is None


@pytest.mark.usefixtures("fake_run")
def test_the_manifest_has_names_of_files_and_not_their_places(cnnviz: Command, fake_run: FakeRun) -> None:
    labels = Path("three.txt").resolve()
    assert cnnviz("gradcam", "a.png", "--labels", labels, "--truth", Path("truth.csv").resolve()).code == 0
    recorded = fake_run.settings.as_json()
    assert (recorded["labels"], recorded["truth"], recorded["score"]) == ("three.txt", "truth.csv", "logit")
