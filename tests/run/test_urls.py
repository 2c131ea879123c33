"""Runs over an object store: what they make, what they remember, and what other processes read of it."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from run.resuming import Listener, files_of, listed, photographs, run

from cnnviz_cli.files.inputs import remote
from cnnviz_cli.files.inputs.search import find_images

CLIENT = """
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

__version__ = "2026.1"


class S3FileSystem(DirFileSystem):
    cachable = False

    def __init__(self, **_settings):
        super().__init__({root!r}, LocalFileSystem())

    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("s3://").rstrip("/")
"""
"""A client of a store that is a folder, for processes that are started anew."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryFileSystem:
    """The photographs of a folder, in memory and in the bucket ``box``."""
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    photographs(tmp_path / "in")
    made = MemoryFileSystem()
    for path in (tmp_path / "in").iterdir():
        made.pipe_file(f"/box/{path.name}", path.read_bytes())
    return made


@pytest.mark.usefixtures("tiny_network", "store")
def test_a_store_makes_the_files_that_a_folder_makes(tmp_path: Path) -> None:
    run(tmp_path / "here", listed(tmp_path / "in"))
    run(tmp_path / "there", find_images(["memory://box/"], recursive=False))
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
    written = b"".join(path.read_bytes() for path in (tmp_path / "there").rglob("*.json*"))
    assert b"memory:" not in written


@pytest.mark.usefixtures("tiny_network")
def test_what_is_done_is_not_fetched_again_and_what_was_changed_is_done_again(
    tmp_path: Path, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    real = remote.read

    def counted(address: Any, limit: int) -> bytes:
        fetched.append(address.key)
        return real(address, limit)

    # What was changed a moment ago may be changed again within the same moment, and is not trusted.
    monkeypatch.setattr("cnnviz_cli.files.output.resume._RECENT", 0)
    run(tmp_path / "out", find_images(["memory://box/"], recursive=False))
    monkeypatch.setattr(remote, "read", counted)
    assert run(tmp_path / "out", find_images(["memory://box/"], recursive=False)).done_before == 6
    assert set(fetched) == {"3.png", "4.png", "5.png"}, "what failed is tried again, in its batch"
    store.pipe_file("/box/5.png", store.cat_file("/box/6.png"))
    heard = Listener()
    run(tmp_path / "out", find_images(["memory://box/"], recursive=False), heard)
    assert heard.done_ == ["3.png", "5.png"]


@pytest.mark.usefixtures("tiny_network", "store")
def test_processes_that_read_fetch_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "s3fs.py").write_text(CLIENT.format(root=str(tmp_path)))
    monkeypatch.syspath_prepend(tmp_path / "client")
    monkeypatch.setattr(remote, "_stores", {})
    try:
        sources = find_images(["s3://in/"], recursive=False)
        assert run(tmp_path / "out", sources, workers="2").summary.images == 7
    finally:
        sys.modules.pop("s3fs", None)
        sys.modules["fsspec.registry"]._registry.pop("s3", None)
    run(tmp_path / "here", listed(tmp_path / "in"))
    assert files_of(tmp_path / "out") == files_of(tmp_path / "here")


SECRET = "hush5ecret"


class Web(MemoryFileSystem):
    """A web server that gives the bucket ``box`` to whoever has the signature, and refuses by quoting it."""

    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def info(self, path: str, **_how: Any) -> dict[str, Any]:
        return {"name": path, "size": None, "type": "file"}

    def open(self, path: str, mode: str = "rb", **_how: Any) -> Any:
        name = path.partition("?")[0].rpartition("/")[2]
        if name == "0.png":
            raise PermissionError(path)
        return BytesIO(self.store[f"/box/{name}"].getvalue()) if mode == "rb" else None


@pytest.mark.usefixtures("tiny_network", "store")
def test_no_file_of_a_run_holds_what_a_signed_url_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", SimpleNamespace())
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "https", Web)
    monkeypatch.setattr(remote, "_stores", {})
    urls = [f"https://host.example/p/{SECRET}/{at}.png?sig={SECRET}" for at in range(5)]
    heard = Listener()
    outcome = run(tmp_path / "out", find_images(urls, recursive=False), heard)
    assert outcome.summary.failed == 2
    assert outcome.first[0].error == "it cannot be fetched: permission denied, or no credentials"
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) >= 6
    assert not any(SECRET.encode() in path.read_bytes() or SECRET in str(path) for path in written)
    assert SECRET not in "".join([*heard.said, *heard.warned, *heard.done_])
