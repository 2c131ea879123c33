"""docs/inputs.md: what its commands find."""

from __future__ import annotations

import io
import re
import shlex
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from .conftest import Command, FakeRun

TEXT = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text(encoding="utf-8")
(BLOCK,) = re.findall(r"^```\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)

FOUND = [
    ["cat.jpg", "a.jpg", "b.png"],
    ["2021/a.jpg", "a.jpg", "b.png", "thumbs/a.jpg"],
    ["2021/a.jpg", "a.jpg", "thumbs/a.jpg"],
    ["photos.zip/2021/x.jpg", "train.tar.gz/x.jpg"],
    ["photos/2021/a.jpg", "cat.jpg"],
    ["photos/b.png", "cat.jpg"],
    ["2021/a.jpg", "a.jpg"],
]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the page's commands name, and a pipe."""
    inputs = ("cat.jpg", "photos/a.jpg", "photos/b.png", "photos/2021/a.jpg", "photos/thumbs/a.jpg", "shards/x")
    for name in inputs:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with zipfile.ZipFile("photos.zip", "w") as packed:
        packed.writestr("2021/x.jpg", b"x")
    with tarfile.open("shards/train.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x.jpg"))
    (tmp_path / "list.txt").write_text("photos/2021/a.jpg\ncat.jpg\n", encoding="utf-8")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"photos/b.png\0cat.jpg\0")))


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(("line", "found"), [*zip(BLOCK.splitlines(), FOUND, strict=True)])
def test_the_commands_of_the_page_find_what_it_says(
    cnnviz: Command, fake_run: FakeRun, line: str, found: list[str]
) -> None:
    words = shlex.split(line, comments=True)
    result = cnnviz(*words[words.index("cnnviz") + 1 :])
    assert result.code == 0, result.err
    assert [source.name for source in fake_run.sources] == found
