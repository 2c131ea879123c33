"""Peak memory of the real command against the number of images."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.measure import Line

SAMPLES = sorted((Path(__file__).parents[1] / "sample_images").glob("*.[pj][np]g"))


def peak(images: int, command: str, width: int | None, *options: str) -> float:
    """GiB at the peak of a run over copies of the sample images, as the run itself reports it."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in"), Path(folder, "out")
        source.mkdir()
        for number in range(images):
            sample = SAMPLES[number % len(SAMPLES)]
            if width is None:
                shutil.copy(sample, source / f"{number:04}{sample.suffix}")
            else:
                with Image.open(sample) as photo:
                    large = photo.convert("RGB").resize((width, width * 3 // 4))
                large.save(source / f"{number:04}.jpg")
        run = [sys.executable, "-m", "cnnviz_cli", command, str(source), "-o", str(out), "-q", *options]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        return json.loads((out / "run.json").read_text())["peak_memory_bytes"] / 2**30


def growth(command: str, few: int, many: int, *, width: int | None = None, runs: int = 3) -> Line:
    """Many images against few: medians, since an allocator's luck moves a peak by some percent.

    Args:
        width: in pixels, to make images of 4:3 of that width; None takes the samples as they are.
    """
    less, more = (statistics.median(peak(images, command, width) for _ in range(runs)) for images in (few, many))
    size = f" of {width} x {width * 3 // 4}" if width else ""
    name = f"{command}: peak memory, {many} images{size} over {few}"
    return Line(name, f"{many} images, GiB", f"{few} images, GiB", (more, less), more / less, "<= 1.05")


def variants(command: str, few: tuple[str, ...], many: tuple[str, ...], counts: tuple[int, int]) -> Line:
    """One image with many altered inputs against few."""
    less, more = (statistics.median(peak(1, command, None, *options) for _ in range(3)) for options in (few, many))
    name = f"{few[1]}: peak memory, {counts[1]} variants over {counts[0]}"
    return Line(name, f"{counts[1]}, GiB", f"{counts[0]}, GiB", (more, less), more / less, "<= 1.05")


def everything() -> list[Line]:
    """All of it."""
    lines = [growth("all", 10, 100), growth("gradcam", 8, 24, width=4000, runs=1)]
    for method, option, few, many in (("rise", "--masks", 400, 4000), ("integrated-gradients", "--steps", 32, 320)):
        chosen = ("--method", method, option)
        lines.append(variants("saliency", (*chosen, str(few)), (*chosen, str(many)), (few, many)))
    cams = ("--method", "scorecam", "--layer")
    lines.append(variants("gradcam", (*cams, "stages.6"), (*cams, "head"), (320, 1280)))
    return lines
