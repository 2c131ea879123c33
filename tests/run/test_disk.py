"""A disk that is full or read-only: exit 5, nothing torn under a final name, and the next run goes on."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from run.resuming import files_of, photographs, run, tiny_model

from cnnviz_cli.core.errors import ExitCode, OutputError
from cnnviz_cli.files.inputs.search import Source

preparation = importlib.import_module("cnnviz_cli.run.session")


pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    return photographs(tmp_path / "in", 5)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run on a disk that takes everything."""
    place = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "load_model", tiny_model)
        run(place / "out", photographs(place / "in", 5))
    return files_of(place / "out")


def failing(genuine: Callable[..., Any], nth: int, number: int) -> Callable[..., Any]:
    """`genuine`, refused from its n-th call on; a write is carried out by half before."""
    calls = [0]

    def call(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] < nth:
            return genuine(*arguments, **named)
        if genuine is WRITE and calls[0] == nth:
            return genuine(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
        raise OSError(number, os.strerror(number))

    return call


WRITE = os.write


def whole(out: Path) -> None:
    assert not list(out.rglob(".cnnviz-*"))
    for path in out.rglob("*.png"):
        if path.is_file():
            with Image.open(path) as picture:
                picture.load()


@pytest.mark.parametrize("nth", [1, 2, 4, 5])
@pytest.mark.parametrize(
    ("place", "number"),
    [((os, "write"), errno.ENOSPC), ((os, "fsync"), errno.ENOSPC), ((Path, "replace"), errno.EROFS)],
    ids=["write", "fsync", "rename"],
)
def test_every_call_that_the_disk_may_refuse(
    place: tuple[Any, str], number: int, nth: int, tmp_path: Path, sources: list[Source], undisturbed: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*place, failing(getattr(*place), nth, number))
        with pytest.raises(OutputError) as caught:
            run(out, sources)
    assert caught.value.code is ExitCode.OUTPUT
    assert "--output" in caught.value.fix
    assert not (out / "manifest.json").exists()
    whole(out)
    run(out, sources)
    assert files_of(out) == undisturbed


ON_A_SMALL_DISK = """
import importlib, subprocess, sys
from pathlib import Path
from run.resuming import Listener, files_of, photographs, run, tiny_model
from cnnviz_cli.core.errors import OutputError
importlib.import_module("cnnviz_cli.run.session").load_model = tiny_model
disk, plain = Path(sys.argv[1]), Path(sys.argv[2])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], check=True)
sources = photographs(plain / "in", 20)
run(plain / "out", sources)
try:
    run(disk / "out", sources)
except OutputError as error:
    assert "the disk is full" in error.what, error.what
else:
    raise SystemExit("the disk was not full")
assert not list(disk.rglob(".cnnviz-*"))
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
try:
    run(disk / "out", sources)
except OutputError as error:
    assert "read-only" in error.what, error.what
else:
    raise SystemExit("the disk was not read-only")
subprocess.run(["mount", "-o", "remount,rw,size=8m", disk], check=True)
heard = Listener()
run(disk / "out", sources, heard)
assert 0 < len(heard.done_) < 20, heard.done_
assert files_of(disk / "out") == files_of(plain / "out")
"""


def _may_mount() -> bool:
    probe = subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False) if UNSHARE else None
    return probe is not None and probe.returncode == 0


UNSHARE = shutil.which("unshare")


def test_a_real_disk_that_is_full_then_read_only_then_larger(tmp_path: Path) -> None:
    if not _may_mount():
        pytest.skip("no mount without rights here")
    (tmp_path / "disk").mkdir()
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path / "disk"), str(tmp_path / "plain")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"},
    )
    assert done.returncode == 0, done.stderr
