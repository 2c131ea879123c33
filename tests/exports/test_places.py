"""The command line of export: what it prints, where it writes, and what it refuses in one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from exports.saved import failed, image, output, save

from cnnviz_cli.cli.main import main
from cnnviz_cli.exports.api import formats


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return save(Path("out"), image("a.png", output("a.png/gradcam.png")), failed("b.png"))


def refused(capsys: pytest.CaptureFixture[str], *words: str, code: int = 2) -> str:
    """What is said when a command ends so; it leaves nothing behind and shows no traceback."""
    before = sorted(Path().rglob("*"))
    assert main(["export", *words]) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.count("error: ") == 1
    assert sorted(Path().rglob("*")) == before
    return said


def test_it_says_where_and_how_much(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(out), "--to", "csv", "-o", "x/t.csv"]) == 0
    assert capsys.readouterr().out == "2 images, 2 lines\nx/t.csv\n"
    assert main(["export", str(out), "--to", "csv", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told.pop("warnings") == []
    assert told == {
        "place": str(out.resolve().with_name("out.csv")), "format": "csv", "counts": {"image": 2, "line": 2},
        "left_out": [], "notes": [],
    }  # fmt: skip


def test_what_is_missing_is_told_and_the_exit_code_is_3(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos").mkdir()
    assert main(["export", str(out), "--to", "fiftyone", "--photos", "photos"]) == 3
    said = capsys.readouterr()
    assert "left out: 2, of a.png, b.png" in said.err
    assert said.out.startswith("0 samples, 0 heat maps\n")


def test_without_a_place_it_is_beside_the_folder(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(out)
    assert main(["export", ".", "--to", "csv"]) == 0
    assert Path("../out.csv").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere", "--to", "csv"], "no such folder"),
        (["photos", "--to", "csv"], "no run has written"),
        (["out", "--to", "cvs"], "Did you mean 'csv'?"),
        (["out", "--to", "csv", "--photos", "photos"], "--photos: csv has no use for it"),
        (["out", "--to", "fiftyone", "--share", "0.3"], "it is for --to coco"),
        (["out", "--to", "coco", "--share", "2"], "no share above 0"),
        (["out", "--to", "fiftyone"], "--photos DIR"),
        (["out", "--to", "fiftyone", "--photos", "gone"], "there is no folder 'gone'"),
        (["out", "--to", "coco"], "--save-arrays"),
        (["out", "--to", "csv", "-o", "out/x.csv"], "in the run's own folder"),
        (["out", "--to", "csv", "-o", "out"], "in the run's own folder"),
        (["out", "--to", "csv", "-o", "mine.txt"], "exists already"),
        (["out", "--to", "csv", "-o", "photos", "--overwrite"], "is not a file"),
        (["out", "--to", "fiftyone", "--photos", "photos", "-o", "mine.txt", "--overwrite"], "is not a folder"),
        (["out", "--to", "csv", "-o", "link.csv", "--overwrite"], "not replaced"),
    ],
)
def test_bad_input_is_one_sentence(out: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    Path("photos").mkdir()
    Path("mine.txt").write_text("mine", encoding="utf-8")
    Path("link.csv").symlink_to("mine.txt")
    assert says in refused(capsys, *words)
    assert Path("mine.txt").read_text(encoding="utf-8") == "mine"
    assert out.is_dir()


def test_an_empty_run_in_progress_is_told(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "manifest.json").rename(out / "manifest.jsonl")
    assert "no run has written" in refused(capsys, "out", "--to", "csv")


def test_a_broken_manifest_is_told(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "manifest.json").write_text('{"images": [', encoding="utf-8")
    assert "no valid manifest" in refused(capsys, "out", "--to", "csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.usefixtures("out")
def test_a_place_that_cannot_be_written_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("closed").mkdir(mode=0o500)
    assert "cannot be written" in refused(capsys, "out", "--to", "csv", "-o", "closed/t.csv", code=5)


@pytest.mark.usefixtures("out")
def test_a_place_below_a_file_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert "cannot be written" in refused(capsys, "out", "--to", "csv", "-o", "file/t.csv", code=5)


@pytest.mark.usefixtures("out")
def test_overwrite_replaces_a_file() -> None:
    Path("t.csv").write_text("old", encoding="utf-8")
    assert main(["export", "out", "--to", "csv", "-o", "t.csv", "--overwrite"]) == 0
    assert "old" not in Path("t.csv").read_text(encoding="utf-8")
    assert sorted(one.name for one in Path().iterdir()) == ["out", "t.csv"]


def test_the_help_names_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--help"]) == 0
    said = capsys.readouterr().out
    for form in formats():
        assert f"{form.name}:" in said
