"""The real command over a folder: whether the cores are kept busy, and what is spent beside the network."""

from __future__ import annotations

import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.measure import Line
from benchmarks.memory import SAMPLES
from cnnviz_cli.core.process import usable_cores

WIDTH, HEIGHT = 500, 375
PHOTOGRAPHS = 500
FEW_PHOTOGRAPHS = 200


def photographs(folder: Path, count: int) -> None:
    """`count` different JPEG images of 500x375, cut from the sample images."""
    chosen = random.Random(0)
    whole = []
    for sample in SAMPLES:
        with Image.open(sample) as opened:
            factor = 1.4 * max(WIDTH / opened.width, HEIGHT / opened.height)
            whole.append(opened.convert("RGB").resize((round(opened.width * factor), round(opened.height * factor))))
    for number in range(count):
        photo = whole[number % len(whole)]
        left, top = chosen.randint(0, photo.width - WIDTH), chosen.randint(0, photo.height - HEIGHT)
        photo.crop((left, top, left + WIDTH, top + HEIGHT)).save(folder / f"{number:04}.jpg", quality=90)


def _run(source: Path, *options: str) -> dict[str, Any]:
    """What run.json says of one run."""
    with tempfile.TemporaryDirectory() as out:
        run = [sys.executable, "-m", "cnnviz_cli", "gradcam", str(source), "-o", out, "-q", *options]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(Path(out, "run.json").read_text(encoding="utf-8"))
        return found


def _timed_run(source: Path, *options: str) -> tuple[float, float]:
    """Wall seconds of one run without its start, and core-seconds of all its processes without loading the model."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = _run(source, *options)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found["elapsed_seconds"] - found["seconds"]["load"], busy - found["core_seconds"]["load"]


def replicas(count: int = FEW_PHOTOGRAPHS, rounds: int = 3) -> list[Line]:
    """What is lost to the replicas' being several: on this machine by the clock, of eight by their core-seconds."""
    cores = usable_cores()
    contestants = {
        "one": ("--replicas", "1", "--threads", "1", "--workers", "0"),
        "auto": (),
        "eight": ("--replicas", "8"),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    with tempfile.TemporaryDirectory() as folder:
        photographs(Path(folder), count)
        for _ in range(rounds):
            for name, options in contestants.items():
                taken[name].append(_timed_run(Path(folder), *options))
    wall = {name: statistics.median(times[0] for times in found) for name, found in taken.items()}
    busy = {name: statistics.median(times[1] for times in found) for name, found in taken.items()}
    name = f"gradcam, {count} photographs of {WIDTH}x{HEIGHT}, bundled network"
    return [
        Line(
            f"{name}: images a second over {cores} x those of one process with one thread",
            f"one process, wall / {cores}",
            "replicas, wall",
            (wall["one"] / cores, wall["auto"]),
            wall["one"] / cores / wall["auto"],
            ">= 0.9",
            limit=1.0,
        ),
        Line(
            f"{name}: core-seconds of one process with one thread over those of 8 replicas",
            "one process, cores",
            "8 replicas, cores",
            (busy["one"], busy["eight"]),
            busy["one"] / busy["eight"],
            ">= 0.9",
            limit=1.0,
        ),
    ]


def _decode_and_save(paths: list[Path]) -> float:
    """Core-seconds per image for Pillow to read an image and save it as PNG at level 1."""
    taken = []
    for path in paths:
        start = time.thread_time()
        with Image.open(path) as opened:
            photo = opened.convert("RGB")
        photo.save(BytesIO(), "PNG", compress_level=1)
        taken.append(time.thread_time() - start)
    return statistics.median(taken)


def everything(count: int = PHOTOGRAPHS) -> list[Line]:
    """Grad-CAM with the bundled network over `count` images."""
    cores = usable_cores()
    with tempfile.TemporaryDirectory() as folder:
        photographs(Path(folder), count)
        found = _run(Path(folder))
        plain = _decode_and_save(sorted(Path(folder).iterdir())[:100])
    wall = found["elapsed_seconds"] - found["seconds"]["load"]
    busy = {stage: seconds for stage, seconds in found["core_seconds"].items() if stage not in ("load", "wait")}
    beside = (busy["read"] + busy["draw and write"]) / count
    ideal = sum(busy.values()) / cores
    with tempfile.TemporaryDirectory() as folder:
        photographs(Path(folder), 2000)
        many = _run(Path(folder))["peak_memory_bytes"] / 2**30
        for number in range(200, 2000):
            Path(folder, f"{number:04}.jpg").unlink()
        few = _run(Path(folder))["peak_memory_bytes"] / 2**30
    name = f"gradcam, {count} photographs of {WIDTH}x{HEIGHT}, bundled network"
    return [
        *replicas(),
        Line(
            f"{name}: wall clock over busy core-seconds / cores",
            "wall",
            f"busy / {cores}",
            (wall, ideal),
            wall / ideal,
            "<= 1.2",
        ),
        Line(
            f"{name}: core time a picture beside the network over one Pillow decode and one PNG save",
            "read, draw and write",
            "Pillow",
            (beside, plain),
            beside / plain,
            "<= 2",
        ),
        Line(
            "gradcam: peak memory of all processes, 2000 photographs over 200",
            "2000 images, GiB",
            "200 images, GiB",
            (many, few),
            many / few,
            "<= 1.05",
        ),
    ]
