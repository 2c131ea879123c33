"""What is on the disk when: each call that makes something durable, and the order of them, one process watched."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from run.resuming import photographs, run

from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.files.output import journal as journal_module
from cnnviz_cli.files.output import sink as writepoints
from cnnviz_cli.files.output.journal import Journal
from cnnviz_cli.files.output.sink import Sink

if not Path("/proc/self/fd").exists():
    pytest.skip("what a descriptor leads to is read from /proc", allow_module_level=True)


class Watch:
    """Every sync, by the file's path; every renaming; and the moments that the code has labels for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, str]] = []
        genuine, replace, write = os.fsync, Path.replace, os.write

        def fsync(fd: int) -> None:
            genuine(fd)
            self.events.append(("synced", str(Path(f"/proc/self/fd/{fd}").readlink())))

        def replaced(path: Path, target: Path) -> Any:
            self.events.append(("renamed", str(target)))
            return replace(path, target)

        def written(fd: int, data: Any) -> int:
            self.events.append(("written", bytes(data).decode()))
            return write(fd, data)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "fdatasync", fsync)
        monkeypatch.setattr(Path, "replace", replaced)
        monkeypatch.setattr(os, "write", written)
        monkeypatch.setattr(writepoints, "write_point_watcher", lambda label: self.events.append(("label", label)))

    def at(self, kind: str, what: str) -> int:
        """The place of the one event of that kind whose text has `what` in it."""
        (found,) = (at for at, event in enumerate(self.events) if event[0] == kind and what in event[1])
        return found

    def all(self, kind: str, what: str) -> list[int]:
        return [at for at, event in enumerate(self.events) if event[0] == kind and event[1].endswith(what)]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


@pytest.mark.usefixtures("tiny_network")
def test_pictures_are_in_place_before_their_line_and_lines_before_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, out = photographs(tmp_path / "in", 4), tmp_path / "out"
    watch = Watch(monkeypatch)
    run(out, sources)
    for name in ("0.png", "1.png", "2.png"):
        renamed = watch.at("renamed", f"{name}/gradcam.png")
        line = watch.at("written", f'"path":"{name}/gradcam.png"')
        bytes_synced = [
            at for at, event in enumerate(watch.events[:renamed])
            if event[0] == "synced" and event[1].startswith(f"{out}/{name}/.cnnviz-")
        ]  # fmt: skip
        (folder_synced,) = watch.all("synced", f"out/{name}")
        assert len(bytes_synced) == 1
        assert bytes_synced[0] < renamed < folder_synced < line
    last_line = max(at for at, event in enumerate(watch.events) if event[0] == "written" and '"~image":' in event[1])
    begun = watch.at("label", "manifest: before")
    assert any(last_line < at < begun for at in watch.all("synced", "out/manifest.jsonl"))
    named = watch.at("renamed", "out/manifest.json")
    assert any(at > named for at in watch.all("synced", "/out")), "the manifest's name is durable, too"
    header = watch.at("written", '"header":')
    first = min(watch.all("renamed", "gradcam.png"))
    assert any(header < at < first for at in watch.all("synced", "out/manifest.jsonl"))
    assert any(header < at < first for at in watch.all("synced", "/out")), "the journal's own name"


def failed(number: int) -> ImageRecord:
    return ImageRecord(
        source=f"{number}.png", sha256=None, width=None, height=None, status="failed", error="e", predictions=[],
        outputs=[],
    )  # fmt: skip


def syncs_after(tmp_path: Path, watch: Watch, count: int) -> list[int]:
    """After how many lines the journal was synced, while the run went on."""
    sink = Sink(tmp_path / "out")
    sink.open()
    with Journal(sink, "manifest.jsonl") as journal:
        journal.write_header({})
        watch.events.clear()
        for number in range(count):
            journal.append(failed(number))
        lines, found = 0, []
        for kind, what in watch.events:
            lines += kind == "written"
            if kind == "synced" and what.endswith("manifest.jsonl"):
                found.append(lines)
    return found


def test_the_journal_is_synced_after_fifty_lines(tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: 0.0)
    assert syncs_after(tmp_path, watch, 120) == [50, 100]


def test_the_journal_is_synced_after_two_seconds(tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of our own: each look at it is 0.4 seconds after the one before."""
    genuine, looks = time.monotonic, [0]

    def monotonic() -> float:
        looks[0] += 1
        return 0.4 * looks[0]

    monkeypatch.setattr(journal_module.time, "monotonic", monotonic)
    found = syncs_after(tmp_path, watch, 30)
    monkeypatch.setattr(journal_module.time, "monotonic", genuine)
    assert len(found) >= 3
    gaps = [after - before for before, after in pairwise(found)]
    assert max(gaps) <= 6, "a line waits for two seconds at the most"
    assert min(gaps) > 1, "and is not synced by itself"
