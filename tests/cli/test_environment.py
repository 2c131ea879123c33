"""Environments that other programs leave behind: closed streams, hidden packages, stripped docstrings, limits."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnnviz_cli.core.process import environment_error

PACKAGE = Path(__file__).parents[2]
SAMPLE = Path(__file__).parents[2] / "sample_images" / "chelsea.png"


def run(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables, "CNNVIZ": f"{sys.executable} -m cnnviz_cli", "SAMPLE": str(SAMPLE)}
    arguments = ["bash", "-c", command]
    return subprocess.run(arguments, check=False, cwd=folder, env=environment, capture_output=True, text=True)


def test_with_standard_error_closed_no_image_fails(tmp_path: Path) -> None:
    done = run("$CNNVIZ gradcam $SAMPLE -o out --workers 1 --input-size 64 2>&-", tmp_path)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "out" / "chelsea.png" / "gradcam.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["numpy", "typer", "rich", "random", "queue"])
def test_a_file_in_the_place_of_a_package_is_named(tmp_path: Path, name: str) -> None:
    """Of one that is installed or of Python's own, also where nothing of ours can be imported without it."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / f"{name}.py").touch()
    done = run("$CNNVIZ gradcam $SAMPLE -o out", tmp_path, PYTHONPATH=str(tmp_path / "lib"))
    assert done.returncode == 2, done.stderr
    assert f"'import {name}' finds" in done.stderr
    assert f"{name}.py" in done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


def test_a_current_folder_that_is_gone_is_no_bug(tmp_path: Path) -> None:
    done = run("mkdir gone && cd gone && rmdir ../gone && $CNNVIZ gradcam $SAMPLE", tmp_path, PYTHONPATH=str(PACKAGE))
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: the current folder was removed", "  Go to a folder that is there: cd"]


def test_a_module_of_the_users_own_is_not_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be called like one of a package, and be no harm."""
    (tmp_path / "rich.py").touch()
    spec = importlib.util.spec_from_file_location("rich", tmp_path / "rich.py")
    assert spec is not None
    monkeypatch.setitem(sys.modules, "rich", importlib.util.module_from_spec(spec))
    assert environment_error(ValueError("odd")) is None
    found = environment_error(AttributeError("module 'rich' has no attribute 'cells'"))
    assert found is not None
    assert found.what.startswith("'import rich' finds")


def test_without_docstrings_methods_are_still_known(tmp_path: Path) -> None:
    done = run(f"{sys.executable} -OO -m cnnviz_cli methods --json", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "gradcam" in done.stdout


def test_limited_memory_is_no_bug() -> None:
    assert environment_error(ValueError("odd")) is None
    for error in (
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
    ):
        found = environment_error(error)
        assert found is not None
        assert found.code == 6
        assert "ulimit" in found.fix
