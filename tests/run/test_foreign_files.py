"""Files of other people in the output folder: refused with exit 5 and untouched, and our own known by their content."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from run.resuming import files_of, photographs, run

from cnnviz_cli.core.errors import ExitCode, OutputError
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.shards import Shard

pytestmark = pytest.mark.usefixtures("tiny_network")

FOREIGN = {
    "a web application's manifest": ("manifest.json", b'{"name": "app", "icons": []}'),
    "a COCO list with the same indent": ("manifest.json", b'{\n "images": [\n  {\n   "id": 1\n  }\n ]\n}\n'),
    "no JSON": ("manifest.json", b"precious"),
    "a list": ("manifest.json", b"[1, 2]"),
    "nested without end": ("manifest.json", b"[" * 100_000),
    "a list of audio files": ("manifest.jsonl", b'{"audio_filepath": "x.wav", "duration": 1}\n'),
    "lines without an end": ("manifest.jsonl", b'{"audio_filepath": "x.wav"}'),
    "one byte": ("manifest.jsonl", b"x"),
    "a report of another tool": ("run.json", b'{"run": 1, "loss": 0.1}'),
    "text": ("run.json", b"notes"),
    "a picture in the place of one of ours": ("0.png/gradcam.png", b"a drawing"),
    "notes in an image's folder": ("0.png/notes.txt", b"notes"),
    "a file in the place of an image's folder": ("0.png", b"a drawing"),
}

WRITTEN_BY_EVERY_RUN = ("manifest.json", "manifest.jsonl", "run.json")


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    return photographs(tmp_path / "in", 5)


def state_of(folder: Path) -> dict[str, Any]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(("name", "data"), FOREIGN.values(), ids=list(FOREIGN))
def test_other_peoples_files_are_refused_and_untouched(
    tmp_path: Path, sources: list[Source], name: str, data: bytes, force: bool
) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_bytes(data)
    (out / "unrelated.txt").write_text("stays")
    before = state_of(out)
    with pytest.raises(OutputError) as caught:
        run(out, sources, force=force)
    assert caught.value.code is ExitCode.OUTPUT == 5
    why = {
        True: "was not written by cnnviz, and the run would replace it",
        False: "is in the way: figures of this run go there, and no journal in the folder lists it",
    }
    assert caught.value.what == f"'{name}' {why[name in WRITTEN_BY_EVERY_RUN]}"
    assert caught.value.where == str(out)
    assert "--output DIR" in caught.value.fix
    assert state_of(out) == before


@pytest.mark.parametrize("name", ["manifest.json", "manifest.1-of-2.json", "manifest.1-of-2.jsonl", "run.1-of-2.json"])
def test_a_shard_refuses_what_it_would_replace(tmp_path: Path, sources: list[Source], name: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(b'{"precious": 1}\n')
    with pytest.raises(OutputError, match=name.replace(".", r"\.")):
        run(out, sources, shard=Shard(1, 2))
    assert {path.name for path in out.iterdir()} == {name}


def test_our_own_files_are_known_by_their_content(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources)
    undisturbed = files_of(out)
    manifest = (out / "manifest.json").read_bytes()
    kept = {
        "as it is": manifest,
        "written anew by another program": json.dumps(json.loads(manifest), indent=4).encode(),
        "cut": manifest[:2000],
        "empty": b"",
    }
    for data in kept.values():
        (out / "manifest.json").write_bytes(data)
        run(out, sources)
        assert files_of(out) == undisturbed
    report = json.loads((out / "run.json").read_bytes())
    (out / "run.json").write_text(json.dumps({**report, "note": "edited"}))
    (out / "manifest.jsonl").unlink()  # without it everything is done again; the manifest says whose the pictures are
    run(out, sources)
    assert files_of(out) == undisturbed


def test_figures_of_our_own_that_no_journal_lists_are_not_called_foreign(tmp_path: Path, sources: list[Source]) -> None:
    """What is left where someone removes the folder while a run writes to it."""
    out = tmp_path / "out"
    run(out, sources)
    for path in out.iterdir():
        if path.is_file():
            path.unlink()
    before = state_of(out)
    with pytest.raises(OutputError) as caught:
        run(out, sources)
    assert "no journal in the folder lists it" in caught.value.what
    assert "written by" not in caught.value.what
    assert state_of(out) == before


def test_what_lies_beside_is_left_alone(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    (out / "9.png").mkdir(parents=True)
    (out / "9.png" / "gradcam.png").write_bytes(b"of no input of this run")
    (out / "0.png").mkdir()
    (out / "0.png" / ".cnnviz-0123456789ab.tmp").write_bytes(b"half")
    os.mkfifo(out / "0.png" / "pipe")
    assert run(out, sources).summary.ok == 4
    assert (out / "9.png" / "gradcam.png").read_bytes() == b"of no input of this run"
