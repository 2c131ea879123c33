"""A run that finds everything done: what it imports, on which its time depends."""

from __future__ import annotations

import subprocess
import sys
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
