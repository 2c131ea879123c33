"""What of this machine a run would meet, and whether it would get through."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from PIL import features

from cnnviz_cli import __version__
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import CnnvizError, ExitCode
from cnnviz_cli.core.machine import usable_cores
from cnnviz_cli.core.memory_format import laid_out
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import visible
from cnnviz_cli.engine.device import memory_errors_named, pick, place, synchronise
from cnnviz_cli.engine.memory import free_memory
from cnnviz_cli.files.sink import Sink
from cnnviz_cli.models.load import LoadedModel
from cnnviz_cli.run.prepare import model_of

_GIB = 2**30
_LITTLE_MEMORY = 1 * _GIB
_LITTLE_DISK = 1 * _GIB
_PACKAGES = ("torch", "torchvision", "pillow", "numpy", "typer", "pydantic")
_CODECS = {"JPEG": "jpg", "PNG": "zlib", "WebP": "webp", "TIFF": "libtiff", "AVIF": "avif"}
"""Pictures that Pillow reads only with a library, and the name of that in `PIL.features`."""
_ROUNDS = 5


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of the thing; unique.
        value: what was found, for eyes.
        state: ``warning`` is what a run survives, ``failure`` what it does not.
        fix: what mends it, if it is not ``ok``.
        code: what a run would exit with.
    """

    name: str
    value: str
    state: Literal["ok", "warning", "failure"] = "ok"
    fix: str = ""
    code: ExitCode = ExitCode.OK


def examine(settings: Settings, reporter: Reporter) -> Iterator[Check]:
    """All checks of what `settings` ask for, the quick ones first; a failure keeps no other from being made."""
    yield Check("cnnviz", __version__)
    yield Check("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    yield from (Check(name, version(name)) for name in _PACKAGES)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    yield _threads()
    yield _memory()
    yield from _devices()
    yield from _codecs()
    yield _cache()
    yield guarded("output", lambda: _output(settings.output))
    yield from _forward(settings, reporter)


def _threads() -> Check:
    cores = usable_cores()
    threads = torch.get_num_threads()
    value = f"{threads} of torch on {cores} core{'s' if cores > 1 else ''}"
    if threads > cores:
        return Check(
            "threads", value, "warning", f"More threads than cores wait for one another: OMP_NUM_THREADS={cores}"
        )
    return Check("threads", value)


def _memory() -> Check:
    free = free_memory(torch.device("cpu"))
    if free < _LITTLE_MEMORY:
        return Check(
            "memory", f"{_size(free)} free", "warning", "Use smaller batches and less at a time: --batch-size 1"
        )
    return Check("memory", f"{_size(free)} free")


def _devices() -> Iterator[Check]:
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            value = f"{facts.name}, {_size(facts.total_memory)}, compute capability {facts.major}.{facts.minor}"
            yield Check(f"cuda:{index}", value)
    elif torch.version.cuda:
        yield Check("cuda", f"none is seen (torch was built for CUDA {torch.version.cuda})")
    else:
        yield Check("cuda", "none: torch was built without CUDA")
    if torch.backends.mps.is_available():
        yield Check("mps", "there")


def _codecs() -> Iterator[Check]:
    yield Check("GIF, BMP, PPM", "read")
    for kind, library in _CODECS.items():
        if features.check(library):
            yield Check(kind, f"read by {library} {features.version(library) or ''}".rstrip())
        else:
            fix = "pip install --upgrade --force-reinstall pillow"
            yield Check(kind, "cannot be read: this Pillow lacks its library", "warning", fix)


def _cache() -> Check:
    """Whether downloads can be kept. A folder that is not there yet is judged by what is above it."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    there = _there(folder)
    value = "TORCH_HOME" if os.environ.get("TORCH_HOME") else "the default folder of torch"
    if not os.access(there, os.W_OK | os.X_OK):
        return Check(
            "downloads", f"{value} cannot be written to", "warning", "Set TORCH_HOME to a folder that you may write to."
        )
    count = len(list(folder.glob("*.pth"))) if folder.is_dir() else 0
    free = shutil.disk_usage(there).free
    return Check("downloads", f"{value}, {count} files of weights, {_size(free)} free")


def _there(path: Path) -> Path:
    """The path itself, or the nearest above it that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def _output(folder: Path) -> Check:
    """Writes and removes a file as a run does, below a folder of its own, so that nothing is left behind."""
    above = _there(folder.absolute())
    if above.is_dir():
        with tempfile.TemporaryDirectory(prefix=".cnnviz-", dir=above) as trial:
            sink = Sink(Path(trial))
            sink.open()
            sink.write("trial.bin", b"cnnviz")
    else:
        Sink(folder).open()
    free = shutil.disk_usage(above).free
    if free < _LITTLE_DISK:
        return Check("output", f"can be written, {_size(free)} free", "warning", "Choose another place: --output DIR")
    return Check("output", f"can be written, {_size(free)} free")


def _forward(settings: Settings, reporter: Reporter) -> Iterator[Check]:
    """The device, the model and its forward; what stands on something that failed is left out."""
    chosen: list[torch.device] = []

    def picked() -> Check:
        chosen.append(pick(settings.device))
        return Check("device", f"{chosen[0]} (--device {settings.device})")

    yield guarded("device", picked)
    nets: list[LoadedModel] = []

    def loaded() -> Check:
        start = time.perf_counter()
        found = model_of(settings, reporter)
        nets.append(found)
        return Check("model", f"{found.name} ({found.weights}), loaded in {time.perf_counter() - start:.1f} s")

    yield guarded("model", loaded)
    if not chosen or not nets:
        return
    (model,) = nets
    net, preprocessing, facts = model.net, model.preprocessing, model.facts
    height, width = preprocessing.size

    def timed() -> Check:
        with memory_errors_named(1):
            placed = place(net, chosen[0], facts.memory_format)
            image = torch.zeros(1, preprocessing.channels, height, width, dtype=torch.float32, device=chosen[0])
            image = laid_out(image, facts.memory_format)
            seconds = [_seconds(placed, image) for _ in range(_ROUNDS + 1)][1:]
        return Check(
            "forward", f"{median(seconds) * 1000:.1f} ms for one image of {height} x {width}, median of {_ROUNDS}"
        )

    yield guarded("forward", timed)


def _seconds(net: torch.nn.Module, image: torch.Tensor) -> float:
    start = time.perf_counter()
    with torch.no_grad():
        net(image)
    synchronise(image.device)
    return time.perf_counter() - start


def guarded(name: str, look: Callable[[], Check]) -> Check:
    """What a look at something gives, or the failure that it ended in."""
    try:
        return look()
    except CnnvizError as error:
        return Check(
            name, f"{error.where}: {error.what}" if error.where else error.what, "failure", error.fix, error.code
        )
    except OSError as error:
        what = f"cannot be written: {visible(error.strerror or type(error).__name__)}"
        return Check(name, what, "failure", "Choose another place: --output DIR", ExitCode.OUTPUT)


def _size(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"
