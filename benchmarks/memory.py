"""Peak memory of the real command against the number of images."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Line

SAMPLES = sorted((Path(__file__).parents[1] / "sample_images").glob("*.[pj][np]g"))


def _peak(images: int, command: str) -> float:
    """GiB at the peak of a run over copies of the sample images, as the run itself reports it."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in"), Path(folder, "out")
        source.mkdir()
        for number in range(images):
            sample = SAMPLES[number % len(SAMPLES)]
            shutil.copy(sample, source / f"{number:04}{sample.suffix}")
        run = [sys.executable, "-m", "cnnviz_cli", command, str(source), "-o", str(out), "-q"]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        return json.loads((out / "run.json").read_text())["peak_memory_bytes"] / 2**30


def growth(command: str = "all", runs: int = 3) -> list[Line]:
    """100 images against 10: medians, since an allocator's luck moves a peak by some percent."""
    few, many = (statistics.median(_peak(images, command) for _ in range(runs)) for images in (10, 100))
    name = f"{command}: peak memory, 100 images over 10"
    return [Line(name, "100 images, GiB", "10 images, GiB", (many, few), many / few, "<= 1.05")]
