"""An accelerator in four minutes: ``python -m benchmarks gpu [SECTION...] [--device cpu] [--json FILE]``.

Each section has a share of the time and is written to the JSON file when it ends, so a run that is stopped leaves what
it has measured. ``--device cpu`` takes a smaller set. To add a section, write a function of a `Bench` that gives rows
and put `section` before it.

A machine without a network takes its packages as wheels: fetch them elsewhere with ``pip download --only-binary=:all:
--dest wheels pydantic typer PyYAML captum grad-cam`` (for its Python and platform, see pip's ``--python-version`` and
``--platform``), then there ``pip install --no-index --find-links wheels NAME``. Without captum or grad-cam their rows
are left out, and a line says so.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.compute import ours_net, recipe_of, theirs, top1
from benchmarks.machine import machine_kind, matmul_rate, package_versions
from benchmarks.memory import SAMPLES
from benchmarks.precision import spearman
from benchmarks.throughput import photographs
from cnnviz_cli.core.method import Recipe
from cnnviz_cli.core.process import usable_cores
from cnnviz_cli.engine.device import move_to_device, synchronize
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.observe import observe
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.files.images.decode import read_image

RESULTS = Path(__file__).with_name("gpu.json")
_ROUNDS = 10


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        samples: of SmoothGrad.
        compiled: whether compiled passes are timed too: compiling takes long on a CPU.
    """

    network: str
    cam_network: str
    batches: tuple[int, ...]
    steps: int
    samples: int
    photographs: int
    compiled: bool


LARGE = Size("resnet50", "resnet50", (1, 8, 32, 128), 50, 25, 1000, compiled=True)
SMALL = Size("resnet50", "resnet18", (1, 4), 16, 8, 24, compiled=False)


@dataclass(frozen=True)
class Row:
    """One figure; `name` begins with what was done and says of what."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True)
class Bench:
    """What a section is told: the device, how much to measure, and when to be done (`time.perf_counter`)."""

    device: torch.device
    size: Size
    end: float

    def executions(self, *, compiled: bool = False) -> dict[str, Execution]:
        """The ways to carry out passes that are compared, by name; `compiled` is for streams of scores, since nothing
        else is compiled."""
        kinds = {"fp32": Execution(), "bf16": Execution(precision="bf16"), "fp16": Execution(precision="fp16")}
        if self.device.type == "cpu":
            kinds = {name: kind for name, kind in kinds.items() if name == "fp32" or machine_kind().bf16}
            kinds.pop("fp16", None)
        if compiled and self.size.compiled:
            kinds |= {f"{name}, compiled": replace(kind, compile=True) for name, kind in kinds.items()}
        return kinds

    def seconds(self, work: Callable[[], object]) -> float:
        """Median seconds of `work` after one round that does not count, unless the time is up with it."""
        taken: list[float] = []
        for turn in range(_ROUNDS + 1):
            synchronize(self.device)
            start = time.perf_counter()
            work()
            synchronize(self.device)
            if turn or self.late:
                taken.append(time.perf_counter() - start)
            if self.late:
                break
        return statistics.median(taken)

    def network(self, name: str) -> nn.Module:
        """As a run has it."""
        return move_to_device(ours_net(name), self.device)

    def batch(self, count: int) -> Tensor:
        """Noise, in the layout of a run."""
        noise = torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        return noise.to(self.device, memory_format=torch.channels_last)

    @property
    def late(self) -> bool:
        """Whether the section's time is up: what is left is left out."""
        return time.perf_counter() > self.end


Section = Callable[[Bench], Iterator[Row]]
SECTIONS: dict[str, tuple[Section, float]] = {}
"""By name: what it does, and its share of the time."""


def section(share: float) -> Callable[[Section], Section]:
    """Put a function into the sections under its name, with a share of the time: all shares together are 1 or less."""

    def put(work: Section) -> Section:
        SECTIONS[work.__name__] = (work, share)
        return work

    return put


def explain(net: nn.Module, batch: Tensor, recipes: Sequence[Recipe], execution: Execution) -> Callable[[], list[Any]]:
    """The methods together, as a run calls them."""
    plan = Plan.of(need for recipe in recipes for need in recipe.needs)
    seeds = {"seeds": torch.zeros(len(batch), dtype=torch.int64, device="cpu")}

    def work() -> list[Any]:
        seen = observe(net, batch, plan, top1, execution=execution, given=seeds)
        return [recipe.explain(seen.evidence.only(recipe.needs)) for recipe in recipes]

    return work


@section(0.05)
def limits(bench: Bench) -> Iterator[Row]:
    """What the device multiplies."""
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        rate = matmul_rate(kind, bench.device, seconds=0.5, size=2048 if bench.device.type == "cpu" else 8192)
        yield Row(f"matrix multiplication, {str(kind).removeprefix('torch.')}", rate / 1000, "TFLOP/s")


@section(0.2)
def gradcam(bench: Bench) -> Iterator[Row]:
    """Grad-CAM and the forward alone, by batch; grad-cam's one image."""
    name = bench.size.network
    net, recipe = bench.network(name), recipe_of(theirs(name), "gradcam")
    for count in bench.size.batches:
        batch = bench.batch(count)

        def forward(batch: Tensor = batch) -> Tensor:
            with torch.no_grad():
                return net(batch)

        yield Row(f"{name}: a forward, batch {count}, fp32", bench.seconds(forward) / count * 1000, "ms an image")
        for kind, execution in bench.executions().items():
            if bench.late:
                return
            taken = bench.seconds(explain(net, batch, [recipe], execution))
            yield Row(f"{name}: gradcam, batch {count}, {kind}", taken / count * 1000, "ms an image")
    if find_spec("pytorch_grad_cam"):
        from pytorch_grad_cam import GradCAM

        peer, image = theirs(name).to(bench.device), bench.batch(1).contiguous()
        layer = peer.get_submodule("layer4.2" if name == "resnet50" else "layer4.1")
        with GradCAM(model=peer, target_layers=[layer]) as cam:
            taken = bench.seconds(lambda: cam(input_tensor=image, targets=None))
        yield Row(f"{name}: grad-cam's GradCAM, one image, fp32", taken * 1000, "ms an image")


@section(0.1)
def families(bench: Bench) -> Iterator[Row]:
    """Features, saliency, Grad-CAM and class deconvolution together."""
    name, count = bench.size.network, bench.size.batches[-1]
    net, whole = bench.network(name), theirs(name)
    recipes = [
        recipe_of(whole, "feature-maps", layer=("low-mid-high",)),
        *(recipe_of(whole, method) for method in ("gradient", "gradcam", "class")),
    ]
    for kind, execution in bench.executions().items():
        if bench.late:
            return
        taken = bench.seconds(explain(net, bench.batch(count), recipes, execution))
        yield Row(f"{name}: all four families, batch {count}, {kind}", taken / count * 1000, "ms an image")


@section(0.25)
def streams(bench: Bench) -> Iterator[Row]:
    """Score-CAM, integrated gradients and SmoothGrad of one image, and their peers."""
    size, name = bench.size, bench.size.cam_network
    net, whole, image = bench.network(name), theirs(name), bench.batch(1)
    recipes = {
        "scorecam": recipe_of(whole, "scorecam"),
        f"integrated-gradients, {size.steps} steps": recipe_of(whole, "integrated-gradients", steps=size.steps),
        f"smoothgrad, {size.samples} samples": recipe_of(whole, "smoothgrad", samples=size.samples),
    }
    for kind, execution in bench.executions(compiled=True).items():
        for method, recipe in recipes.items():
            if execution.compile and method != "scorecam":
                continue
            if bench.late:
                return
            yield Row(
                f"{name}: {method}, {kind}", bench.seconds(explain(net, image, [recipe], execution)), "s an image"
            )


@section(0.15)
def peers(bench: Bench) -> Iterator[Row]:
    """captum and grad-cam at the same work as `streams`, as their documents have it."""
    size, name = bench.size, bench.size.cam_network
    net, image = theirs(name).to(bench.device), bench.batch(1).contiguous()
    target = int(top1(net(image)))
    work: dict[str, Callable[[], object]] = {}
    if find_spec("captum"):
        from captum.attr import IntegratedGradients, NoiseTunnel, Saliency

        steps, samples = size.steps, size.samples
        work[f"captum's IntegratedGradients, {steps} steps"] = lambda: IntegratedGradients(net).attribute(
            image, target=target, n_steps=steps
        )
        work[f"captum's NoiseTunnel, {samples} samples"] = lambda: NoiseTunnel(Saliency(net)).attribute(
            image, nt_type="smoothgrad", nt_samples=samples, stdevs=0.15, target=target
        )
    if find_spec("pytorch_grad_cam"):
        from pytorch_grad_cam import ScoreCAM

        layer = net.get_submodule("layer4.2" if name == "resnet50" else "layer4.1")
        work["grad-cam's ScoreCAM"] = lambda: ScoreCAM(model=net, target_layers=[layer])(image, targets=None)
    for package, module in (("captum", "captum"), ("grad-cam", "pytorch_grad_cam")):
        if not find_spec(module):
            print(f"{package} is not installed: its rows are left out")
    for peer, done in work.items():
        if bench.late:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield Row(f"{name}: {peer}, fp32", bench.seconds(done), "s an image")


@section(0.15)
def throughput(bench: Bench) -> Iterator[Row]:
    """The real command over generated photographs, with reading and drawing; how busy the network keeps the device."""
    count = bench.size.photographs
    with tempfile.TemporaryDirectory() as name:
        source, out = Path(name, "in"), Path(name, "out")
        source.mkdir()
        photographs(source, count)
        command = ["-m", "cnnviz_cli", "gradcam", str(source), "-o", str(out), "-q", "--device", str(bench.device)]
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        found = json.loads((out / "run.json").read_text(encoding="utf-8"))
    wall = found["elapsed_seconds"] - found["seconds"]["load"]
    yield Row("efficientnet_lite0: gradcam of 500x375 photographs, decoded and drawn", count / wall, "images/s")
    from cnnviz_cli.cli.reporters import QuietReporter
    from cnnviz_cli.models.load.loaded_model import load_model

    model, size = load_model("efficientnet_lite0", reporter=QuietReporter()), found["batch_size"]
    recipe = recipe_of(model.net, "gradcam")
    net = move_to_device(model.net, bench.device)
    work = explain(net, bench.batch(size), [recipe], Execution())
    busy = _device_seconds(bench, work) * count / size
    yield Row("the same: the network's time on the device over the wall clock", busy / wall * 100, "%")


def _device_seconds(bench: Bench, work: Callable[[], object]) -> float:
    """Median seconds by the device's own clock (CUDA's events), else by the wall clock."""
    if bench.device.type != "cuda":
        return bench.seconds(work)
    work()
    taken = []
    for _ in range(_ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize(bench.device)
        taken.append(start.elapsed_time(end) / 1000)
    return statistics.median(taken)


@section(0.1)
def tolerances(bench: Bench) -> Iterator[Row]:
    """Maps of the sample images on the device against float32 on the CPU: the largest difference and the ranks."""
    from cnnviz_cli.cli.reporters import QuietReporter
    from cnnviz_cli.models.load.loaded_model import load_model

    for method in ("gradcam", "gradient"):
        maps: dict[str, Tensor] = {}
        for kind, execution in {"cpu": Execution(), **bench.executions()}.items():
            if bench.late:
                return
            model = load_model("efficientnet_lite0", reporter=QuietReporter())
            device = torch.device("cpu") if kind == "cpu" else bench.device
            recipe = recipe_of(model.net, method)
            net = move_to_device(model.net, device)
            batch = torch.stack([model.preprocessing.prepare(read_image(path).image)[0] for path in SAMPLES])
            batch = batch.to(device, memory_format=torch.channels_last)
            (panels,) = explain(net, batch, [recipe], execution)()
            maps[kind] = torch.as_tensor(panels[0].values).detach().float().cpu()
            if kind == "cpu":
                continue
            apart = (maps[kind] - maps["cpu"]).flatten(1).abs().amax(1) / maps["cpu"].flatten(1).abs().amax(1)
            ranks = min(spearman(*pair) for pair in zip(maps[kind], maps["cpu"], strict=True))
            name = f"efficientnet_lite0: {method}, {kind} against the CPU in fp32"
            yield Row(f"{name}, largest difference over the largest value", float(apart.max()), "")
            yield Row(f"{name}, lowest Spearman", ranks, "")


def measure(
    names: Sequence[str], device: torch.device, size: Size, seconds: float, path: Path | None
) -> dict[str, Any]:
    """Carry out the sections, each in its share of `seconds`; after each, write all there is to `path`."""
    content: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "conditions": {"python": platform.python_version(), "cores": str(usable_cores()), **package_versions()},
        "complete": False,
        "sections": {},
    }
    end = time.perf_counter() + seconds
    for name in names:
        work, share = SECTIONS[name]
        start = time.perf_counter()
        rows: list[Row] = []
        entry: dict[str, Any] = {}
        try:
            if start > end:
                raise TimeoutError(f"{seconds:g} seconds were up")
            for row in work(Bench(device, size, start + share * seconds)):
                rows.append(row)
                print(f"{row.name}: {row.value:.4g} {row.unit}", flush=True)
        except Exception as error:  # the other sections are worth having
            entry["error"] = f"{type(error).__name__}: {error}"
            print(f"{name}: {entry['error']}", flush=True)
        entry |= {"seconds": round(time.perf_counter() - start, 1), "rows": [asdict(row) for row in rows]}
        content["sections"][name] = entry
        content["complete"] = len(content["sections"]) == len(SECTIONS)
        if path is not None:
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return content


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line names; a CPU's figures are written only where ``--json`` says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a smaller set (default cuda)")
    parser.add_argument("--seconds", type=float, default=240, help="for all sections together (default 240)")
    parser.add_argument("--json", type=Path, help=f"default {RESULTS.name} beside this file; none on a CPU")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {unknown[0]}; there are {', '.join(SECTIONS)}")
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here; --device cpu measures a smaller set")
    small = device.type == "cpu"
    path = given.json or (None if small else RESULTS)
    measure(given.sections or list(SECTIONS), device, SMALL if small else LARGE, given.seconds, path)
