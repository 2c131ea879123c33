"""cnnviz concepts --concept, as docs/tcav.md shows it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli.conftest import Command
from concept_folders import make_folders

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tcav.md").read_text(encoding="utf-8")
FEW = {"cats": 3, "fur": 10, "coffee": 10, "striped": 10, "dotted": 10, "random": 12}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("folders")
    make_folders(made, FEW)
    return made


@pytest.fixture
def example(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(folders, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNVIZ_INPUT_SIZE", "64")
    return tmp_path


def commands() -> list[list[str]]:
    (block, *_) = re.findall(r"^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return [shlex.split(line, comments=True) for line in block.splitlines() if line]


def test_every_command_of_the_page_runs(cnnviz: Command, example: Path) -> None:
    made, _, *asked = commands()
    assert made[:2] == ["python", "tools/concept_folders.py"]
    subprocess.run([sys.executable, str(ROOT / made[1]), "--help"], check=True, capture_output=True)
    assert len(asked) == 4
    for number, command in enumerate(asked):
        out = ["-o", f"out{number}"] if "--dry-run" not in command else []
        done = cnnviz(*command[1:], "--cuts", "30", *out)
        assert done.code == 0, (command, done)
    sheet = json.loads((example / "out0" / "manifest.json").read_bytes())
    scores = sheet["findings"]["tcav"]["scores"]
    assert [one["concept"] for one in scores] == ["fur", "coffee", "striped"]
    assert {path.name for path in (example / "out0").glob("tcav.*")} == {"tcav.png", "tcav.csv", "tcav.npz"}
    assert len(json.loads((example / "out1" / "manifest.json").read_bytes())["findings"]["tcav"]["scores"]) == 4


def test_a_dry_run_says_what_would_be_shown(cnnviz: Command, example: Path) -> None:
    done = cnnviz(
        "concepts",
        "cats",
        "--concept",
        "fur",
        "--against",
        "random",
        "--target",
        "285",
        "--layer",
        "stages.4",
        "--dry-run",
    )
    assert done.code == 0
    assert "10 images of fur" in done.out
    assert "one backward" in done.out
    assert not list(example.glob("cnnviz*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--concept", "fur", "--target", "285"], "a concept is told apart from images without it, and there are none"),
        (["--concept", "fur", "--against", "random"], "concepts are tested for a class, and none is named"),
        (["--concept", "fur", "--against", "fur", "--target", "285"], "nothing tells them apart"),
        (["--against", "random"], "--against: it is about concepts that are named, and none is"),
        (
            ["--concept", "fur", "--against", "random", "--target", "285", "--crops", "none"],
            "--crops: it is about concepts that",
        ),
        (["--concept", "cats", "--against", "random", "--target", "285"], "'cats' has 3 images that can be shown"),
        (["--concept", "fern", "--against", "random", "--target", "285"], "there is no folder 'fern'"),
        (["--concept", "fern", "--against", "random", "--target", "top3"], "another one in each image"),
        (["--concept", "fern", "--against", "random", "--target", "285,predicted"], "another one in each image"),
    ],
)
@pytest.mark.usefixtures("example")
def test_mistakes_are_one_sentence(
    words: list[str], said: str, cnnviz: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnviz_cli.run.session.load_model", None)  # all of them are found before it is asked for
    done = cnnviz("concepts", "cats", *words)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err


def test_the_folders_of_the_page_are_the_same_each_time(example: Path) -> None:
    before = {path: path.read_bytes() for path in example.rglob("*.png")}
    make_folders(example, FEW)
    assert {path: path.read_bytes() for path in example.rglob("*.png")} == before
    assert len(set(before.values())) == len(before) == sum(FEW.values())
