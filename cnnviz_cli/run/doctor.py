"""The checks of `cnnviz doctor`: of this machine and of a network, each with what corrects it."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from PIL import features

from cnnviz_cli import __version__
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import CnnvizError, ExitCode, UsageError, system_reason
from cnnviz_cli.core.network import explain_memory_errors, network_errors, to_memory_format
from cnnviz_cli.core.process import usable_cores
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.engine.device import (
    arithmetic_of,
    free_memory,
    move_to_device,
    multiplication_speed,
    select_device,
    synchronize,
    use_threads,
)
from cnnviz_cli.engine.execution import AUTOCAST
from cnnviz_cli.engine.rectifiers import RectifierMode
from cnnviz_cli.engine.twins import count_folded
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.models.inspect.facts import NetworkFacts
from cnnviz_cli.models.inspect.heads import find_head, noise_input
from cnnviz_cli.models.load.loaded_model import LoadedModel, find_network_facts
from cnnviz_cli.run.session import load_model_for
from cnnviz_cli.tasks.spec import default_task

_GIB = 2**30
_LITTLE_MEMORY = 1 * _GIB
_LITTLE_DISK = 1 * _GIB
_PACKAGES = ("torch", "torchvision", "pillow", "numpy", "typer", "pydantic")
_CODECS = {"JPEG": "jpg", "PNG": "zlib", "WebP": "webp", "TIFF": "libtiff", "AVIF": "avif"}
"""Formats that Pillow reads only with a library, and its name in `PIL.features`."""
_ROUNDS = 5
_COMPARISON_SECONDS = 0.5
_MOST_VARIATION = 5
"""Times the median that the slowest of a few forwards takes on a quiet machine, and more."""


@dataclass(frozen=True)
class Check:
    """One check and its result.

    Attributes:
        state: ``warning`` is what a run survives, ``failure`` what it does not.
        fix: what mends it, if it is not ``ok``.
        code: what a run would exit with.
    """

    name: str
    value: str
    state: Literal["ok", "warning", "failure"] = "ok"
    fix: str = ""
    code: ExitCode = ExitCode.OK


def examine_machine(settings: Settings, reporter: Reporter) -> Iterator[Check]:
    """All checks of what `settings` ask for, the quick ones first; a failure keeps no other from being made."""
    yield Check("cnnviz", __version__)
    yield Check("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    yield from (Check(name, version(name)) for name in _PACKAGES)
    use_threads(settings.threads)
    yield _threads()
    yield _memory()
    yield from _devices()
    yield _precisions()
    yield from _codecs()
    yield from _extras()
    yield _cache()
    yield check_safely("output", lambda: _output(settings.output))
    yield from _forward(settings, reporter)


def _threads() -> Check:
    cores = usable_cores()
    threads = torch.get_num_threads()
    value = f"{threads} of torch on {cores} core{'s' if cores > 1 else ''}"
    if threads > cores:
        fix = f"More threads than cores wait for one another: OMP_NUM_THREADS={cores}"
        return Check("threads", value, "warning", fix)
    return Check("threads", value)


def _memory() -> Check:
    free = free_memory(torch.device("cpu"))
    if free < _LITTLE_MEMORY:
        fix = "Use smaller batches and less at a time: --batch-size 1"
        return Check("memory", f"{_size(free)} free", "warning", fix)
    return Check("memory", f"{_size(free)} free")


def _devices() -> Iterator[Check]:
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            value = f"{facts.name}, {_size(facts.total_memory)}, compute capability {facts.major}.{facts.minor}"
            yield Check(f"cuda:{index}", value)
    elif torch.version.cuda:
        yield Check("cuda", f"none found (torch was built for CUDA {torch.version.cuda})")
    else:
        yield Check("cuda", "none: torch was built without CUDA")
    if torch.backends.mps.is_available():
        yield Check("mps", "there")


def _precisions() -> Check:
    cpu = torch.device("cpu")
    found = []
    for name in AUTOCAST:
        speed = multiplication_speed(name)
        imitated = ", without arithmetic of its own" if arithmetic_of(cpu, name) == "none" else ""
        found.append(f"{name} {speed:.1f}{imitated}")
    return Check(
        "precision", f"{' and '.join(found)} times as fast as fp32, in matrix multiplication on this processor"
    )


def _codecs() -> Iterator[Check]:
    yield Check("GIF, BMP, PPM", "read")
    for kind, library in _CODECS.items():
        if features.check(library):
            yield Check(kind, f"read by {library} {features.version(library) or ''}".rstrip())
        else:
            fix = "pip install --upgrade --force-reinstall pillow"
            yield Check(kind, "cannot be read: this Pillow lacks its library", "warning", fix)


_EXTRAS = {
    "timm": ("timm",),
    "transformers": ("transformers",),
    "onnx": ("onnx", "onnx2torch"),
    "dicom": ("pydicom",),
}
"""Libraries of the extras for networks and images from elsewhere, by the extra's name."""


def _extras() -> Iterator[Check]:
    """None of them is imported, which would take seconds."""
    for extra, names in _EXTRAS.items():
        if all(find_spec(name) for name in names):
            yield Check(extra, ", ".join(f"{name} {version(name)}" for name in names))
        else:
            yield Check(extra, f"not installed (pip install 'cnnviz-cli[{extra}]')")


def _cache() -> Check:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    there = _nearest_existing(folder)
    value = "TORCH_HOME" if os.environ.get("TORCH_HOME") else "the default folder of torch"
    if not os.access(there, os.W_OK | os.X_OK):
        fix = "Set TORCH_HOME to a folder that you may write to."
        return Check("downloads", f"{value} cannot be written to", "warning", fix)
    count = len(list(folder.glob("*.pth"))) if folder.is_dir() else 0
    free = shutil.disk_usage(there).free
    return Check("downloads", f"{value}, {count} files of weights, {_size(free)} free")


def _nearest_existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _output(folder: Path) -> Check:
    """Writes and removes a file as a run does, below a folder of its own, so that nothing is left behind."""
    above = _nearest_existing(folder.absolute())
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
    chosen: list[torch.device] = []

    def picked() -> Check:
        chosen.append(select_device(settings.device))
        return Check("device", f"{chosen[0]} (--device {settings.device})")

    yield check_safely("device", picked)
    nets: list[LoadedModel] = []

    def loaded() -> Check:
        start = time.perf_counter()
        found = load_model_for(settings, reporter)
        nets.append(found)
        return Check("model", f"{found.name} ({found.weights}), loaded in {time.perf_counter() - start:.1f} s")

    yield check_safely("model", loaded)
    if not chosen or not nets:
        return
    (model,) = nets
    net, preprocessing, facts = model.net, model.preprocessing, model.facts
    height, width = preprocessing.size

    def timed() -> Check:
        with explain_memory_errors(1):
            placed = move_to_device(net, chosen[0], facts.memory_format)
            image = torch.zeros(1, preprocessing.channels, height, width, dtype=torch.float32, device=chosen[0])
            image = to_memory_format(image, facts.memory_format)
            seconds = [_seconds(placed, image) for _ in range(_ROUNDS + 1)][1:]
        return Check(
            "forward", f"{median(seconds) * 1000:.1f} ms for one image of {height} x {width}, median of {_ROUNDS}"
        )

    yield check_safely("forward", timed)
    if chosen[0].type == "cpu" and torch.get_num_threads() > 1:
        image = torch.zeros(1, preprocessing.channels, height, width, dtype=torch.float32, device=chosen[0])
        image = to_memory_format(image, facts.memory_format)
        yield check_safely("one thread", partial(_compare_threads, net, image))


def _compare_threads(net: torch.nn.Module, image: torch.Tensor) -> Check:
    """Forwards of one thread and of all in turns: where others hold the cores, all are slower than one."""
    threads, end = torch.get_num_threads(), time.perf_counter() + _COMPARISON_SECONDS
    taken: dict[int, list[float]] = {1: [], threads: []}
    try:
        with explain_memory_errors(1):
            while len(taken[1]) < 2 or (len(taken[1]) < 2 * _ROUNDS and time.perf_counter() < end):
                for count, seconds in taken.items():
                    torch.set_num_threads(count)
                    seconds.append(_seconds(net, image))
    finally:
        torch.set_num_threads(threads)
    return _judge_threads(threads, taken[1][1:], taken[threads][1:])


def _judge_threads(threads: int, one: list[float], several: list[float]) -> Check:
    """What the seconds of forwards with one thread and with several say about the cores."""
    value = f"{median(one) * 1000:.1f} ms instead of {median(several) * 1000:.1f} ms with {threads} threads"
    slowest = max(several)
    if median(several) > median(one):
        fix = "Other processes hold the cores, and threads wait for each other: --threads 1"
    elif slowest > _MOST_VARIATION * median(several):
        value += f", of which the slowest took {slowest * 1000:.1f} ms"
        fix = "Threads wait for each other at times: --threads 1, or OMP_PROC_BIND=true where no other process runs"
    else:
        return Check("one thread", value)
    return Check("one thread", value, "warning", fix)


def _seconds(net: torch.nn.Module, image: torch.Tensor) -> float:
    start = time.perf_counter()
    with torch.no_grad():
        net(image)
    synchronize(image.device)
    return time.perf_counter() - start


def check_safely(name: str, look: Callable[[], Check]) -> Check:
    """The result of a check, or the failure that it ended in."""
    try:
        return look()
    except CnnvizError as error:
        return Check(
            name, f"{error.where}: {error.what}" if error.where else error.what, "failure", error.fix, error.code
        )
    except OSError as error:
        what = f"cannot be written: {escape_text(system_reason(error))}"
        return Check(name, what, "failure", "Choose another place: --output DIR", ExitCode.OUTPUT)


def _size(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"


_MAX_NAMES = 6

_UNNAMED = {1: "the grey of its colours, or its only band", 3: "its colours"}
"""What of an image goes into a network of so many channels if no bands are named."""

_RANGES = {"auto": "what the values need", "container": "all that their type holds"}
"""What becomes 0 and 1, by the value of the setting."""


def examine_network(settings: Settings, reporter: Reporter) -> Iterator[Check]:
    """All that was found out of the network that `settings` name; one failure where it cannot be loaded or run."""
    found: list[LoadedModel] = []

    def loaded() -> Check:
        with network_errors():
            found.append(load_model_for(settings, reporter))
        return Check("model", f"{found[0].name} ({found[0].weights})", fix="--model NAME, --weights SPEC")

    yield check_safely("model", loaded)
    if not found:
        return
    (model,) = found
    yield Check("code", _code(model))
    yield from _input_checks(settings, model)
    yield from _output_checks(settings, model)
    yield Check("default layer", _default_layer(model), fix="--layer NAME; see: cnnviz layers MODEL")
    yield from _trial(model)
    yield check_safely("classifier head", partial(_head, model))
    yield check_safely("rectifiers", partial(_rectifiers, model))
    yield Check("max-pooling", "yes" if model.layers.max_pooled else "none", fix="--rule rectify|guide")
    yield check_safely("batch norms", partial(_folding, model))


def _code(model: LoadedModel) -> str:
    kind = type(model.net)
    return model.layers.whole or f"Python, {escape_text(kind.__module__, 80)}.{escape_text(kind.__qualname__, 80)}"


def _input_checks(settings: Settings, model: LoadedModel) -> Iterator[Check]:
    preprocessing = model.preprocessing
    channels, (height, width) = preprocessing.channels, preprocessing.size
    named = {1: "grey", 3: "RGB", 4: "RGB and alpha"}.get(channels, f"{channels} channels")
    size = f"{named}, {height} x {width}, resize {preprocessing.mode}"
    if preprocessing.mode == "crop":
        size += f" of {' x '.join(map(str, preprocessing.resized_size))}"
    yield Check("input", size, fix="--input-size HxW, --resize MODE, --resize-to N, --interpolation FILTER")
    chosen = ", ".join(map(str, settings.bands))
    bands = f"{chosen} go into the {channels} channels" if chosen else _UNNAMED.get(channels, "all that an image has")
    yield Check("bands", bands, fix="--bands N[,N...], counted from 1; --show-bands R,G,B")
    wide = _RANGES.get(settings.value_range, settings.value_range.replace(",", " to "))
    values = f"0 to 255 in 8 bits, {wide} in more, become 0 and 1"
    yield Check("value range", values, fix="--value-range auto|container|LO,HI")
    normalised = f"mean {_list_values(preprocessing.mean)}; std {_list_values(preprocessing.std)}"
    yield Check("normalisation", normalised, fix="--mean X[,X...], --std X[,X...]")


def _output_checks(settings: Settings, model: LoadedModel) -> Iterator[Check]:
    returned, task = model.layers.returned, default_task(model.returns, settings.task)
    words = [f"{returned.description}: {model.returns}"]
    if returned.bounds is not None:
        words.append(f"from {returned.bounds[0]:.3g} to {returned.bounds[1]:.3g} in the trial")
    yield Check(
        "output", ", ".join(words), fix="" if returned.head else "--head NAME|INDEX, of an output of several parts"
    )
    if returned.head:
        heads = list_some([f"'{escape_text(head.name, 60)}'" for head in returned.heads], _MAX_NAMES)
        yield Check("head", f"'{escape_text(returned.head, 60)}' of {heads}", fix="--head NAME|INDEX")
    if task.probabilities:
        values = f"taken for {returned.values}" + (f" ({returned.why})" if returned.why else "")
        yield Check("values", values, fix="--returns logits|probabilities|log-probabilities")
    if returned.classes:
        unit = f" in {escape_text(settings.unit, 20)}" if settings.unit else ""
        several = returned.classes > 1
        plain = f"{returned.classes:,} class{'es' * several}"
        values = f"{task.name}, {returned.classes:,} value{'s' * several}{unit}"
        shown, fix = (plain, "regression --unit UNIT") if task.probabilities else (values, "auto, --unit UNIT")
        yield Check("task", shown, fix=f"--task {fix}")


def _list_values(values: Iterable[float]) -> str:
    return ", ".join(f"{one:g}" for one in values)


def _default_layer(model: LoadedModel) -> str:
    try:
        names = model.layers.resolve(("last-conv",))
    except UsageError as error:
        return error.what
    default = model.layers.default
    why = (default.why if default else "") or "the last layer with maps over the input"
    shape = " x ".join(map(str, model.layers[names[-1]].shape))
    return f"{', '.join(names)} ({shape}): {why}"


def _trial(model: LoadedModel) -> Iterator[Check]:
    facts = model.facts
    if not facts.tried:  # torchvision's are known; here the user wants to see
        tried: list[NetworkFacts] = []

        def trial() -> Check:
            with network_errors():
                tried.append(find_network_facts(model.net, model.preprocessing, model.layers, facts.kept_training))
            return Check("trial", "run on noise")

        check = check_safely("trial", trial)
        if not tried:
            yield check
            return
        (facts,) = tried
    layout = f"{facts.memory_format}" + (f": {facts.why_contiguous}" if facts.why_contiguous else "")
    yield Check("memory layout", layout, fix="--memory-format channels_last|contiguous")
    kept = ", ".join(escape_text(name, 60) for name in facts.kept_training[:_MAX_NAMES])
    yield Check("eval mode", f"switched one by one, against its own train(): {kept}" if kept else "its own")
    agree = {
        "none": "agree to the bit",
        "seeded": "differ by its random draws, which start from the seed and the image: --seed N",
        "free": "differ whatever the seed: the same command may give other figures",
    }
    yield Check("two forwards", agree[facts.randomness], "ok" if facts.randomness == "none" else "warning")
    batches = {
        "independent": "an image's output does not depend on the others of its batch",
        "coupled": "an image's output depends on the others of its batch, so that images pass one at a time",
        "single": "it takes one image at a time",
    }
    yield Check("batches", batches[facts.batching], "ok" if facts.batching != "coupled" else "warning")
    gradient = f"none reaches the input: {facts.no_gradient}" if facts.no_gradient else "reach the input"
    yield Check("gradients", gradient, "warning" if facts.no_gradient else "ok")
    runs = [f"{escape_text(name, 60)} {len(found)} times" for name, found in model.layers.runs.items()]
    yield Check("repeated layers", list_some(runs, _MAX_NAMES) or "none", fix="--layer NAME@N" if runs else "")


def _head(model: LoadedModel) -> Check:
    preprocessing = model.preprocessing
    with network_errors():
        head = find_head(model.net, model.layers, (preprocessing.channels, *preprocessing.size))
    if head is None:
        return Check("classifier head", "no global average and one linear layer at the end")
    return Check("classifier head", f"averages the maps of '{head.layer}' and weighs the averages")


def _rectifiers(model: LoadedModel) -> Check:
    preprocessing, mode = model.preprocessing, RectifierMode()
    noise = noise_input(model.net, (preprocessing.channels, *preprocessing.size)).requires_grad_()
    with network_errors(), torch.enable_grad(), mode:
        model.net(noise.clone())
    found = f"{mode.recorded} that a gradient passes" if mode.recorded else "none that a gradient passes"
    return Check("rectifiers", found)


def _folding(model: LoadedModel) -> Check:
    preprocessing = model.preprocessing
    count = sum("BatchNorm" in type(module).__name__ for module in model.net.modules())
    folded = count_folded(model.net, noise_input(model.net, (preprocessing.channels, *preprocessing.size)))
    return Check(
        "batch norms", f"{folded} of {count} are folded into the convolutions before them" if count else "none"
    )
