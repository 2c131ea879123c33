"""A run that finds everything done: what it imports, on which its time depends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

RUN_AGAIN = """
import sys
from cnnviz_cli.cli.main import main
assert main(sys.argv[1:]) == 0
print(*[name for name in ("PIL", "numpy", "rich.console", "torch", "torchvision") if name in sys.modules])
"""


@pytest.mark.parametrize(
    "line", ["gradcam photo.png -q", "gradcam photo.png -q --output out", "all photo.png -q -o out"]
)
def test_a_run_with_nothing_to_do_imports_no_numpy(line: str, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), "red").save(tmp_path / "photo.png")
    flags = ["--method", "gradcam"] if line.startswith("all") else []
    found = []
    for _ in range(2):
        script = [sys.executable, "-c", RUN_AGAIN, *line.split(), *flags]
        done = subprocess.run(script, capture_output=True, text=True, check=True, cwd=tmp_path)
        found.append(done.stdout.split())
    first, again = found
    assert {"PIL", "numpy", "torch"} <= set(first)
    assert again == []


DREAMS = "dream --target espresso,cup --method pyramid --steps 1 --octaves 1 --model mobilenet_v3_small -q"
INTO = "dream photo.png --steps 1 --octaves 1 --model mobilenet_v3_small --size 64 --layer high -q"


@pytest.mark.parametrize("line", [DREAMS, f"{DREAMS} --judge resnet18=random:1 -o out", f"{INTO} --like like.png"])
def test_dreams_that_are_done_import_no_numpy(line: str, tmp_path: Path) -> None:
    Image.new("RGB", (60, 40), "red").save(tmp_path / "photo.png")
    Image.new("RGB", (60, 40), "blue").save(tmp_path / "like.png")
    os.utime(tmp_path / "like.png", (10**9, 10**9))
    _wait_until_old(tmp_path / "like.png")
    found, listed = [], []
    for _ in range(2):
        script = [sys.executable, "-c", RUN_AGAIN, *line.split(), "--weights", "random:0", "--input-size", "64"]
        done = subprocess.run(script, capture_output=True, text=True, check=True, cwd=tmp_path)
        found.append(done.stdout.split())
        (manifest,) = tmp_path.rglob("manifest.json")
        listed.append(manifest.read_bytes())
    first, again = found
    assert {"PIL", "numpy", "torch"} <= set(first)
    assert again == []
    assert listed[0] == listed[1]


def _wait_until_old(path: Path) -> None:
    """Until a file is one that a run takes for settled, by the rule of `run.identity`."""
    while path.stat().st_ctime_ns > time.time_ns() - 2 * 10**9:
        time.sleep(0.05)
