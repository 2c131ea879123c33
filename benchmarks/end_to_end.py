"""Whole processes, from the shell's prompt to the last file: a folder of photographs, and the same command again."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.measure import Line, flops_of, matmul_limit
from benchmarks.startup import bundled_weights
from benchmarks.throughput import HEIGHT, WIDTH, photographs
from cnnviz_cli.models.load.efficientnet_lite import EfficientNetLite

PHOTOGRAPHS = 200
SCRIPT = Path(__file__).with_name("peer_script.py")


def _seconds(*line: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *line], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def everything(rounds: int, count: int = PHOTOGRAPHS) -> list[Line]:
    """grad-cam's script and cnnviz in turns, each into a folder of its own; then cnnviz with nothing left to do."""
    script, ours, again = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "photographs")
        folder.mkdir()
        photographs(folder, count)
        for turn in range(rounds):
            overlays, figures = (str(Path(name, f"{kind}-{turn}")) for kind in ("overlays", "figures"))
            run = ("-m", "cnnviz_cli", "gradcam", str(folder), "-o", figures, "-q")
            # As a module, so that the script finds this checkout wherever it is started.
            script.append(_seconds("-m", f"benchmarks.{SCRIPT.stem}", str(folder), overlays, bundled_weights()))
            ours.append(_seconds(*run))
            again += [_seconds(*run) for _ in range(3)]
            if len(list(Path(overlays).iterdir())) != count:
                raise SystemExit(f"{SCRIPT.name} has not saved {count} overlays")
    theirs, whole, nothing = (statistics.median(taken) for taken in (script, ours, again))
    net = EfficientNetLite().eval().requires_grad_(False)
    flops = count * flops_of(lambda: net(torch.zeros(1, 3, 224, 224)))
    what = f"{count} photographs of {WIDTH}x{HEIGHT}, bundled network, from the prompt to the last file"
    return [
        Line(
            f"gradcam, {what}: a grad-cam script that saves overlays over cnnviz",
            "benchmarks/peer_script.py",
            "cnnviz gradcam",
            (theirs, whole),
            theirs / whole,
            ">= 4",
            matmul_limit(theirs, flops),
        ),
        Line(
            f"gradcam, {count} photographs that are all done: seconds of the same command again",
            "cnnviz gradcam",
            "a second",
            (nothing, 1.0),
            nothing,
            "<= 0.5",
        ),
    ]
