"""``--report`` at the end of a run: of every command that explains, whole or interrupted, divided or judged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report.reading import Read
from run.resuming import Listener

from cnnviz_cli.cli.run_end import photographs_of, write_page
from cnnviz_cli.core.records import Manifest
from cnnviz_cli.run.dreams import Dreamer
from cnnviz_cli.run.present import Presenter

from .conftest import Command, Result

HOW = ("--model", "nets:classifier", "--allow-code", "--input-size", "32", "--threads", "1", "--device", "cpu")


@pytest.fixture
def explain(cnnviz: Command) -> Command:
    """A command with a small network, in this process."""

    def run(*arguments: str | Path) -> Result:
        own = () if arguments[0] == "dream" else ("--workers", "0", "--batch-size", "1")
        return cnnviz(*arguments, *HOW, *own)

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photographs, in a folder below the working one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


def manifest(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / "manifest.json").read_bytes())


def page_files(folder: Path) -> dict[str, bytes]:
    """The page and its data."""
    found = [folder / "report.html", *(folder / "report-data").rglob("*")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if path.is_file()}


@pytest.mark.parametrize("command", ["features", "saliency", "deconv", "gradcam", "all"])
def test_a_run_ends_with_its_page(command: str, explain: Command, cnnviz: Command, photos: Path) -> None:
    done = explain(command, "photos", "--report", "-o", "out")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-2:] == [str(Path("out/manifest.json")), str(Path("out/report.html"))]
    index = Read(Path("out/report.html")).index
    assert (index["n"], index["sources"]) == (3, ["0.png", "1.png", "2.png"])
    (told,) = index["runs"]
    assert told["sha256"] == manifest(Path("out")).sha256  # by which a page is known that is of an older manifest
    assert b"../photos/0.png" in page_files(Path("out"))["report-data/chunk-00000.js"]
    before = page_files(Path("out"))
    for name in before:
        Path("out", name).unlink()
    again = explain(command, "photos", "--report", "-o", "out")
    assert "3 of 3 images are already done" in again.err
    assert page_files(Path("out")) == before
    assert cnnviz("verify", "out").out == "all listed files are unchanged\n"
    assert cnnviz("report", "out", "--photos", "photos").code == 0
    assert page_files(Path("out")) == before
    shutil.rmtree(photos)


@pytest.mark.parametrize("way", ["file", "variable"])
@pytest.mark.usefixtures("photos")
def test_a_file_and_a_variable_ask_for_it_too(explain: Command, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("cnnviz.yaml").write_text("report: true\n")
    if way == "variable":
        monkeypatch.setenv("CNNVIZ_REPORT", "true")
    more = ("--config", "cnnviz.yaml") if way == "file" else ()
    assert explain("gradcam", "photos", "-o", "out", *more).code == 0
    assert Path("out/report.html").is_file()
    assert explain("gradcam", "photos", "-o", "other", "--no-report", *more).code == 0
    assert not Path("other/report.html").exists()
    assert manifest(Path("out")).run == manifest(Path("other")).run


@pytest.mark.usefixtures("photos")
def test_the_answer_in_json_says_where_it_is(explain: Command) -> None:
    told = json.loads(explain("gradcam", "photos", "--report", "-o", "out", "--json", "-q").out)
    assert told["report"] == str(Path("out/report.html"))
    assert "report" not in json.loads(explain("gradcam", "photos", "-o", "other", "--json", "-q").out)
    planned = explain("gradcam", "photos", "--report", "-o", "planned", "--dry-run").out.splitlines()
    names = ("0.png/gradcam.png", "0.png/thumbnail.webp", "0.png/arrays.npz", "report.html")
    assert [line.strip() for line in planned if line.strip() in names] == list(names)
    assert not Path("planned").exists()
    assert explain("gradcam", "photos", "--report", "-o", "quiet", "-q").out == ""
    assert Path("quiet/report.html").is_file()


@pytest.mark.usefixtures("photos")
def test_an_interrupted_run_has_none_and_says_so(explain: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    present, drawn = Presenter.present, []

    def interrupted(self: Presenter, loaded: Any, result: Any) -> Any:
        drawn.append(loaded.source.name)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return present(self, loaded, result)

    with monkeypatch.context() as patch:
        patch.setattr(Presenter, "present", interrupted)
        done = explain("gradcam", "photos", "--report", "-o", "out")
    assert (done.code, "there is no report, since the run was interrupted" in done.err) == (130, True), done.err
    assert not Path("out/report.html").exists()
    assert explain("gradcam", "photos", "--report", "-o", "out").code == 0
    assert explain("gradcam", "photos", "--report", "-o", "once/out").code == 0
    assert Read(Path("out/report.html")).index["n"] == 3
    assert Path("out/manifest.json").read_bytes() == Path("once/out/manifest.json").read_bytes()


@pytest.mark.usefixtures("photos")
def test_interrupted_while_the_page_is_written_the_run_is_whole(
    explain: Command, cnnviz: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_about: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cnnviz_cli.report.write.Index", interrupted)
        done = explain("gradcam", "photos", "--report", "-o", "out")
    assert done.code == 130
    assert done.out.splitlines()[-1] == str(Path("out/manifest.json"))
    assert manifest(Path("out")).run.status == "ok"
    assert not [path for path in Path("out").iterdir() if path.name.startswith((".", "report"))]
    assert cnnviz("verify", "out").code == 0
    assert explain("gradcam", "photos", "--report", "-o", "out").code == 0
    assert Path("out/report.html").is_file()


@pytest.mark.parametrize("name", ["report.html", "report-data", "report-data/notes.txt"])
@pytest.mark.usefixtures("photos")
def test_other_people_s_files_stop_a_run_before_it_begins(name: str, explain: Command) -> None:
    Path("out", name).parent.mkdir(parents=True)
    Path("out", name).write_text("mine")
    done = explain("gradcam", "photos", "--report", "-o", "out")
    assert done.code == 5, done.err
    assert f"'{name}' was not written by cnnviz" in done.err
    assert "loading" not in done.err
    assert Path("out", name).read_text() == "mine"
    assert not Path("out/manifest.json").exists()
    assert explain("gradcam", "photos", "-o", "out").code == 0  # which would replace nothing


@pytest.mark.usefixtures("photos")
def test_shards_leave_the_page_to_what_merges_them(explain: Command, cnnviz: Command) -> None:
    for index in ("1/2", "0/2"):
        done = explain("gradcam", "photos", "--report", "-o", "parts/out", "--shard", index)
        assert f"the report comes when all shards are merged: cnnviz merge {Path('parts/out')}" in done.err
        assert not Path("parts/out/report.html").exists()
        if index == "1/2":
            assert cnnviz("merge", "parts/out").code == 3
            assert not Path("parts/out/report.html").exists()
    merged = cnnviz("merge", "parts/out")
    assert merged.out.splitlines()[-1] == str(Path("parts/out/report.html"))
    assert explain("gradcam", "photos", "--report", "-o", "whole/out").code == 0
    assert cnnviz("report", "whole/out").code == 0
    assert page_files(Path("parts/out")) == page_files(Path("whole/out"))
    told = json.loads(cnnviz("merge", "parts/out", "--json").out)
    assert told["report"] == str(Path("parts/out/report.html"))
    for index in ("0/2", "1/2"):
        explain("gradcam", "photos", "-o", "plain", "--shard", index)
    assert "report" not in json.loads(cnnviz("merge", "plain", "--json").out)
    assert not Path("plain/report.html").exists()


def test_judged_runs_have_theirs_and_several_have_one(explain: Command, cnnviz: Command, photos: Path) -> None:
    for name, method in (("a", "gradcam"), ("b", "layercam")):
        assert explain("gradcam", "photos", "--method", method, "--report", "-o", name).code == 0
    judged = ("--measure", "sparseness", "--device", "cpu", "--workers", "0", "--allow-code", "--report")
    assert explain("evaluate", "photos", "--method", "gradcam,gradient", *judged[:2], "--report", "-o", "j").code == 0
    assert Read(Path("j/report.html")).index["tabs"]["evaluation"] is not None
    done = cnnviz("evaluate", "a", "b", "photos", *judged, "-o", "both")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == str(Path("both/report.html"))
    index = Read(Path("both/report.html")).index
    assert [one["name"] for one in index["runs"]] == ["a", "b"]
    assert [one["method"] for one in index["views"]] == ["gradcam", "layercam"]
    assert index["n"] == 3
    assert json.loads(cnnviz("evaluate", "a", "b", "photos", *judged, "-o", "both", "--json").out)["report"]
    assert photos.is_dir()


def test_dreams_have_theirs_and_none_is_painted_again_for_it(
    explain: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into = ("dream", photos / "0.png", "--method", "octaves", "--layer", "high", "--steps", "1", "--octaves", "1")
    for asked in (("dream", "--target", "1,2", "--steps", "2"), into):
        for folder in ("once", "later", "out"):
            shutil.rmtree(folder, ignore_errors=True)
        done = explain(*asked, "--report", "-o", "once/out")
        assert done.code == 0, done.err
        assert done.out.splitlines()[-1] == str(Path("once/out/report.html"))
        records = manifest(Path("once/out")).images
        for record in records:
            assert record.thumbnail is not None
            width, height = (32, 32) if len(records) == 2 else (50, 40)
            assert (record.thumbnail.width, record.thumbnail.height) == (width, height)
        assert explain(*asked, "-o", "later/out").code == 0
        with monkeypatch.context() as patch:
            patch.setattr(Dreamer, "paint", None)
            done = explain(*asked, "--report", "-o", "later/out")
            assert done.code == 0, done.err
            assert f"{len(records)} of them are painted already: only the thumbnail is new" in done.err
        assert page_files(Path("later/out")) == page_files(Path("once/out"))
        assert Path("later/out/manifest.json").read_bytes() == Path("once/out/manifest.json").read_bytes()


def test_photographs_are_linked_where_the_address_says_no_more_than_the_working_folder(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "photos").mkdir(parents=True)
    shutil.copy(photos / "0.png", here / "photos" / "0.png")
    (here / "a.tar.gz").write_bytes(b"")
    monkeypatch.chdir(here)
    inside, out = Path("photos"), Path("out")
    assert photographs_of(["photos"], out) == [inside]
    assert photographs_of([str(here / "photos")], out) == [here / "photos"]
    assert photographs_of(["photos/0.png"], out) == [inside]
    assert photographs_of(["photos/0.png", "photos/../photos/0.png"], out) == [inside, Path("photos/../photos")]
    assert photographs_of(["photos/0.png", "a.tar.gz"], out) == [Path("a.tar.gz")]
    assert photographs_of(["photos/*.png", "gone", "s3://bucket/x"], out) == []
    assert photographs_of([str(photos)], out) == []
    assert photographs_of(["photos"], tmp_path / "out") == []
    Path("led").symlink_to(photos)
    assert photographs_of(["led"], out) == []


@pytest.mark.usefixtures("photos")
def test_what_the_page_lacks_is_said(explain: Command, tmp_path: Path) -> None:
    assert explain("gradcam", "photos", "--report", "-o", "out").code == 0
    (tmp_path / "empty").mkdir()
    heard = Listener()
    assert write_page([Path("out")], [Path("empty")], heard, Path("elsewhere.html")) == Path("elsewhere.html")
    assert len(heard.warned) == 1
    assert "not found below --photos" in heard.warned[0]
    assert Path("elsewhere.html").is_file()
