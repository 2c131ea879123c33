"""A run that finds everything done: what it imports, on which its time depends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cnnviz_cli.run import identity

from .conftest import Command

RUN_AGAIN = """
import sys
from cnnviz_cli.cli.main import main
from cnnviz_cli.run import identity
identity._RECENT = 0  # a file that was made just now counts as settled
assert main(sys.argv[1:]) == 0
print(*[name for name in ("PIL", "numpy", "rich.console", "torch", "torchvision") if name in sys.modules])
"""
DREAMS = "dream --target espresso,cup --method pyramid --steps 1 --octaves 1 --model resnet18 -q"
INTO = "dream photo.png --steps 1 --octaves 1 --model resnet18 --size 64 --layer high -q"
RANDOM = "--weights random:0 --input-size 64"


@pytest.mark.parametrize(
    "line",
    [
        "gradcam photo.png -q --input-size 64",
        "all photo.png -q --output out --method gradcam --input-size 64",
        f"{DREAMS} {RANDOM} --judge resnet18=random:1 -o out",
        f"{INTO} {RANDOM} --like like.png",
    ],
)
def test_a_run_with_nothing_to_do_imports_no_numpy(
    line: str, cnnviz: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run is this process's, which has imported all of them."""
    Image.new("RGB", (60, 40), "red").save(tmp_path / "photo.png")
    Image.new("RGB", (60, 40), "blue").save(tmp_path / "like.png")
    os.utime(tmp_path / "like.png", (10**9, 10**9))
    monkeypatch.setattr(identity, "_RECENT", 0)
    done = cnnviz(*line.split())
    assert done.code == 0, done.err
    (manifest,) = tmp_path.rglob("manifest.json")
    listed = manifest.read_bytes()
    again = subprocess.run(
        [sys.executable, "-c", RUN_AGAIN, *line.split()], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert again.stdout.split() == []
    assert manifest.read_bytes() == listed
