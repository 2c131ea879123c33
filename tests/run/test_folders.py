"""Commands without --output, one after the other: nothing is lost or mislabelled; and what --force removes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from run.resuming import BROKEN, Listener, files_of, photographs, run

from cnnviz_cli.cli.main import main
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.files.inputs.search import Source, find_images
from cnnviz_cli.files.output.journal import Journal
from cnnviz_cli.files.output.previous_runs import choose_output_folder
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.run.identity import request_digest

pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with whole pictures."""
    photographs(tmp_path / "photos", 5)
    (tmp_path / "photos" / BROKEN).unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """What a command prints under --json."""
    assert main([*arguments, "--json", "--device", "cpu"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def everything(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.png") if path.is_file()}


def test_each_question_has_a_folder_and_each_folder_is_whole(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        ["gradcam", "photos/0.png"],
        ["saliency", "photos/0.png"],
        ["gradcam", "photos/0.png", "--target", "1"],
        ["gradcam", "photos/0.png", "--target", "2", "--target", "3"],
        ["gradcam", "photos/0.png", "--palette", "viridis", "--save-arrays"],
        ["features", "photos/0.png"],
        ["deconv", "photos/0.png"],
    ]
    expected = ["gradcam", "saliency", "gradcam-2", "gradcam-3", "gradcam-4", "features", "deconv"]
    before: dict[str, bytes] = {}
    for line, name in zip(asked, expected, strict=True):
        assert told(capsys, *line)["output"] == f"cnnviz-out/{name}"
        now = everything(here / "cnnviz-out")
        assert before.items() < now.items()  # nothing was overwritten, and something came
        before = now
    for line, name in zip(asked, expected, strict=True):
        again = told(capsys, *line)
        assert (again["output"], again["resumed"]) == (f"cnnviz-out/{name}", 1)
        folder = here / "cnnviz-out" / name
        assert verify(folder) == []  # neither a difference nor a file that no manifest tells of
        manifest = json.loads((folder / "manifest.json").read_bytes())
        assert manifest["run"]["command"] == line[0]
    assert everything(here / "cnnviz-out") == before


@pytest.mark.usefixtures("here")
def test_other_images_get_a_folder_and_more_images_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "gradcam", "photos/0.png")["output"] == "cnnviz-out/gradcam"
    assert told(capsys, "gradcam", "photos/1.png")["output"] == "cnnviz-out/gradcam-2"
    more = told(capsys, "gradcam", "photos")
    assert (more["output"], more["resumed"], more["summary"]["images"]) == ("cnnviz-out/gradcam", 1, 4)
    assert told(capsys, "gradcam", "photos/1.png")["output"] == "cnnviz-out/gradcam-2"
    assert told(capsys, "gradcam", "photos", "--batch-size", "2")["output"] == "cnnviz-out/gradcam"


@pytest.mark.usefixtures("here")
def test_the_summary_tells_of_this_command_alone(capsys: pytest.CaptureFixture[str]) -> None:
    main(["gradcam", "photos/0.png", "--target", "1"])
    main(["gradcam", "photos/1.png", "--target", "2"])
    assert capsys.readouterr().out.splitlines()[-3].startswith("1.png")


def test_a_folder_that_is_not_ours_is_left_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = here / "cnnviz-out" / "gradcam"
    mine.mkdir(parents=True)
    (mine / "manifest.json").write_text("{}")
    (here / "cnnviz-out" / "gradcam-2").write_text("a file")
    assert told(capsys, "gradcam", "photos/0.png")["output"] == "cnnviz-out/gradcam-3"
    assert (mine / "manifest.json").read_text() == "{}"


@pytest.mark.usefixtures("here")
def test_a_folder_that_somebody_names_is_the_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(capsys, "gradcam", "photos/0.png", "-o", "cnnviz-out")["output"] == "cnnviz-out"
    monkeypatch.setenv("CNNVIZ_OUTPUT", "other")
    assert told(capsys, "gradcam", "photos/0.png")["output"] == "other"


@pytest.mark.usefixtures("here")
def test_pictures_in_the_default_folder_are_no_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "gradcam", "photos/0.png")
    assert told(capsys, "gradcam", ".", "-r")["summary"]["images"] == 4


def chosen(here: Path, shard: Shard = SINGLE_SHARD, **settings: str) -> str:
    loaded = load_settings("gradcam", {(name,): value for name, value in settings.items()}, None, {})
    names = [source.name for source in find_images([here / "photos"], recursive=False)]
    return choose_output_folder(here / "cnnviz-out", "gradcam", request_digest("gradcam", loaded), names, shard).name


def test_shards_share_a_folder_and_strangers_at_work_have_their_own(here: Path) -> None:
    first, sources = here / "cnnviz-out" / "gradcam", find_images([here / "photos"], recursive=False)
    first.mkdir(parents=True)
    with Journal(Sink(first), Shard(0, 2).journal):  # it loads its network, and has said nothing yet
        assert chosen(here, Shard(1, 2)) == "gradcam"
        assert chosen(here) == "gradcam-2"
    run(first, sources, shard=Shard(0, 2), batch_size="1")
    assert chosen(here, Shard(1, 2)) == "gradcam"
    assert chosen(here, Shard(1, 2), palette="viridis") == "gradcam-2"


def test_a_photograph_that_changed_is_replaced_and_that_is_said(here: Path) -> None:
    sources = find_images([here / "photos"], recursive=False)
    run(here / "out", sources)
    sources[0].path.write_bytes(sources[1].path.read_bytes())
    heard = Listener()
    run(here / "out", sources, heard)
    assert heard.done_ == [sources[0].name]
    (warning,) = heard.warned
    assert warning == "changed since they were explained, so their figures are replaced: 0.png"


def test_a_shorter_list_says_what_the_manifest_leaves_out(here: Path) -> None:
    sources = find_images([here / "photos"], recursive=False)
    run(here / "out", sources)
    heard = Listener()
    run(here / "out", sources[1:], heard)
    assert "also holds the figures of an image that is not on this list" in heard.warned[0]


def test_force_removes_what_it_replaces_and_nothing_else(here: Path, sources: list[Source]) -> None:
    out = here / "out"
    run(out, sources, target=["0", "1"], save_arrays=True, format="webp")
    (out / "notes.txt").write_text("mine")
    (out / sources[0].name / "notes.txt").write_text("mine")
    run(out, sources[:2], palette="viridis", force=True)
    run(here / "fresh", sources[:2], palette="viridis")
    found = files_of(out)
    assert found.pop("notes.txt") == found.pop(f"{sources[0].name}/notes.txt") == b"mine"
    assert found == files_of(here / "fresh")
    assert not (out / sources[4].name).exists()


def test_force_removes_what_shards_left(here: Path, sources: list[Source]) -> None:
    out = here / "out"
    for index in range(2):
        run(out, sources, shard=Shard(index, 2), batch_size="1")
    run(out, sources[:2], force=True)
    run(here / "fresh", sources[:2])
    assert files_of(out).keys() == files_of(here / "fresh").keys()
    assert not list(out.glob("*-of-*"))


def test_a_journal_that_leads_out_of_the_folder_removes_nothing_there(here: Path, sources: list[Source]) -> None:
    out, precious = here / "out", here / "precious.png"
    run(out, sources)
    precious.write_bytes(b"mine")
    journal = out / "manifest.jsonl"
    text = journal.read_bytes()
    journal.write_bytes(text.replace(b'[["0.png/gradcam.png"', b'[["../precious.png"', 1))
    assert journal.read_bytes() != text
    run(out, sources, force=True)
    assert precious.read_bytes() == b"mine"
