"""How a page takes its place: what it replaces, and what is left when it cannot be written."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from exports.saved import image, save
from report.reading import Read
from report.test_several_runs import numbered

from cnnviz_cli.core.errors import OutputError
from cnnviz_cli.report import ReportOptions, write_report


@pytest.mark.parametrize(
    "name", ["maps/mine.txt", "previews/mine.webp", "chunk-00001.js", "maps/deep/000000-0-0.webp", "maps"]
)
@pytest.mark.parametrize("beside", [True, False])
def test_a_folder_with_a_file_that_is_not_ours_is_not_replaced(tmp_path: Path, name: str, beside: bool) -> None:
    """Whether or not a page of ours has its data there: names of ours alone say nothing."""
    root = save(tmp_path / "run", image("a.png"))
    if beside:
        write_report([root])
    mine = root / "report-data" / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("precious", encoding="utf-8")
    with pytest.raises(OutputError, match=r"was not written by cnnviz"):
        write_report([root])
    assert mine.read_text(encoding="utf-8") == "precious"
    assert (root / "report.html").exists() == beside


def test_pictures_alone_are_no_data_of_a_page(tmp_path: Path) -> None:
    root = save(tmp_path / "run", image("a.png"))
    mine = root / "report-data" / "previews" / "000001.webp"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"a holiday")
    with pytest.raises(OutputError, match=r"report-data/previews"):
        write_report([root])
    assert mine.read_bytes() == b"a holiday"


def test_pages_whose_names_end_differently_have_data_of_their_own(tmp_path: Path) -> None:
    root = save(tmp_path / "run", *(numbered(f"{n}.png", n) for n in range(5)))
    first = write_report([root], ReportOptions(output=tmp_path / "a.html"))
    write_report([root], ReportOptions(output=tmp_path / "a.htm", limit=2))
    assert len(Read(first.path).entries) == 5
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a-data", "a.htm", "a.htm-data", "a.html", "run"]


@pytest.mark.parametrize("single", [False, True])
def test_what_a_killed_process_left_is_swept(tmp_path: Path, single: bool) -> None:
    root = save(tmp_path / "run", *(numbered(f"{n}.png", n) for n in range(60)))
    code = (
        "import os, sys, pathlib\nfrom cnnviz_cli.report import ReportOptions, write_report\n"
        "stop = lambda done, whole: os._exit(9)\n"
        f"write_report([pathlib.Path(sys.argv[1])], ReportOptions(progress=stop, single_file={single}))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(root)], check=False).returncode == 9
    assert len([one for one in root.iterdir() if one.name.startswith(".cnnviz-")]) > 1
    of_a_run = root / ".cnnviz-0123456789ab.tmp"
    of_a_run.write_bytes(b"")
    write_report([root])
    assert [one.name for one in root.iterdir() if one.name.startswith(".cnnviz-")] == [of_a_run.name]


def test_what_another_process_is_writing_is_not_swept(tmp_path: Path) -> None:
    """One page is written while another, in the same folder, is half done."""
    root = save(tmp_path / "run", *(numbered(f"{n}.png", n) for n in range(60)))
    code = (
        "import sys, pathlib\nfrom cnnviz_cli.report import ReportOptions, write_report\n"
        "write_report([pathlib.Path(sys.argv[1])], ReportOptions(output=pathlib.Path(sys.argv[2])))"
    )
    done: list[int] = []

    def meanwhile(_done: int, _whole: int) -> None:
        if not done:
            command = [sys.executable, "-c", code, str(root), str(tmp_path / "other.html")]
            done.append(subprocess.run(command, check=False).returncode)

    made = write_report([root], ReportOptions(output=tmp_path / "one.html", progress=meanwhile))
    assert done == [0]
    assert [len(Read(path).entries) for path in (made.path, tmp_path / "other.html")] == [60, 60]


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("room", [0, 20_000])
def test_a_full_disk_is_a_sentence_and_the_page_of_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, single: bool, room: int
) -> None:
    """The page's file takes some bytes and then no more, also when it is closed."""
    root = save(tmp_path / "run", image("a.png"))
    write_report([root])
    before = {one: one.read_bytes() for one in root.rglob("*") if one.is_file()}

    class Full(io.FileIO):
        left = room

        def write(self, data: Any, /) -> int:
            if len(data) > self.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.left -= len(data)
            return super().write(data)

    usual = Path.open

    def opened(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        return io.BufferedWriter(Full(path, "x")) if mode == "xb" else usual(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OutputError, match="the disk is full"):
        write_report([root], ReportOptions(single_file=single))
    assert {one: one.read_bytes() for one in root.rglob("*") if one.is_file()} == before


def test_where_the_page_cannot_take_its_name_the_data_of_before_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = save(tmp_path / "run", *(numbered(f"{n}.png", n) for n in range(120)))
    write_report([root])
    before = {one: one.read_bytes() for one in root.rglob("*") if one.is_file()}

    def refuse(_path: Path, _target: Path) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match="permission denied"):
        write_report([root], ReportOptions(limit=10))
    assert {one: one.read_bytes() for one in root.rglob("*") if one.is_file()} == before
