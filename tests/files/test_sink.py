"""Files appear whole or not at all, and never outside the output folder."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from cnnviz_cli.core.errors import ExitCode, OutputError
from cnnviz_cli.files.output.sink import Sink


def files_below(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())


@pytest.fixture
def sink(tmp_path: Path) -> Sink:
    sink = Sink(tmp_path / "deep" / "out")
    sink.open()
    return sink


def test_opening_creates_the_folder_and_leaves_nothing_in_it(sink: Sink) -> None:
    assert sink.root.is_dir()
    assert files_below(sink.root) == []
    sink.open()


def test_a_file_has_its_bytes_its_hash_and_ordinary_permissions(sink: Sink, tmp_path: Path) -> None:
    assert sink.write("cats/x.png/a.png", b"first") == hashlib.sha256(b"first").hexdigest()
    sink.write("cats/x.png/a.png", b"second")
    assert (sink.root / "cats/x.png/a.png").read_bytes() == b"second"
    assert files_below(sink.root) == ["cats/x.png/a.png"]
    (tmp_path / "plain").write_bytes(b"")
    assert (sink.root / "cats/x.png/a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only")])
def test_a_failure_keeps_the_old_file_and_leaves_no_other(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, failing: str, number: int, words: str
) -> None:
    sink.write("a.png", b"old")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((os, "fsync", refuse) if failing == "fsync" else (Path, "replace", refuse)))
    for name in ("a.png", "b.png"):
        with pytest.raises(OutputError, match=words) as caught:
            sink.write(name, b"new")
        assert caught.value.code is ExitCode.OUTPUT
        assert "--output" in caught.value.fix
    assert files_below(sink.root) == ["a.png"]
    assert (sink.root / "a.png").read_bytes() == b"old"


def test_an_interruption_inside_the_block_leaves_nothing(sink: Sink) -> None:
    def write_half() -> None:
        with sink.open_replacement("a.png") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert files_below(sink.root) == []


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for root in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(OutputError, match="a file is in the way"):
            Sink(root).open()

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError, match="permission denied"):
        Sink(tmp_path / "out").open()


def test_names_and_links_that_lead_out_are_refused(sink: Sink, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (sink.root / "link").symlink_to(outside, target_is_directory=True)
    for name in ("../x.png", "/etc/x.png", "a/../../x.png", "", ".", "a\\x.png", "link/x.png", "link/new/x.png"):
        with pytest.raises(OutputError):
            sink.write(name, b"x")
    assert list(outside.iterdir()) == []
    assert files_below(tmp_path) == []


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(sink: Sink, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"keep")
    (sink.root / "a.png").symlink_to(tmp_path / "precious")
    sink.write("a.png", b"x")
    assert (tmp_path / "precious").read_bytes() == b"keep"
    assert not (sink.root / "a.png").is_symlink()


def test_a_root_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk", target_is_directory=True)
    sink = Sink(tmp_path / "out")
    sink.open()
    sink.write("a/b.png", b"x")
    assert files_below(tmp_path / "disk") == ["a/b.png"]
