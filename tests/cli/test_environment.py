"""Environments that other programs leave behind: closed streams, hidden packages, stripped docstrings, limits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cnnviz_cli.core.environment import environment_error

SAMPLE = Path(__file__).parents[2] / "sample_images" / "chelsea.png"


def run(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables, "CNNVIZ": f"{sys.executable} -m cnnviz_cli", "SAMPLE": str(SAMPLE)}
    arguments = ["bash", "-c", command]
    return subprocess.run(arguments, check=False, cwd=folder, env=environment, capture_output=True, text=True)


def test_with_standard_error_closed_no_image_fails(tmp_path: Path) -> None:
    done = run("$CNNVIZ gradcam $SAMPLE -o out --workers 1 2>&-", tmp_path)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "out" / "chelsea.png" / "gradcam.png").stat().st_size > 1000


def test_a_file_in_the_place_of_a_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").touch()
    done = run("$CNNVIZ gradcam $SAMPLE -o out", tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "'import numpy' finds" in done.stderr
    assert "numpy.py" in done.stderr
    assert "bug" not in done.stderr


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
