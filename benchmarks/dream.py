"""What a dream takes over the forwards and backwards that it needs, in processor time, and what a large one holds."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

import cnnviz_cli.methods  # noqa: F401
from benchmarks.measure import Line, line
from cnnviz_cli.cli.reporters import QuietReporter
from cnnviz_cli.core.method import Recipe, find_method
from cnnviz_cli.core.unit_objectives import Energy
from cnnviz_cli.engine.device import keep_freed_memory, move_to_device
from cnnviz_cli.engine.observe import observe
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.methods.common.canvases import octave_sizes
from cnnviz_cli.models.load.efficientnet_lite import pad_same
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_model
from cnnviz_cli.run.session import method_context

LAYER, STAGES = "stages.4", 5
STEPS, FOURIER_STEPS = 20, 160
"""The methods' own."""

PHOTOGRAPH, OCTAVES, RATIO = (255, 384), 4, 1.4
TARGET = 282


def loaded() -> LoadedModel:
    model = load_model("efficientnet_lite0", reporter=QuietReporter())
    return replace(model, net=move_to_device(model.net, torch.device("cpu")))


def dreamer(
    model: LoadedModel, method: str, given: Mapping[str, Tensor], *, pictures: int = 1, **options: object
) -> Callable[[], object]:
    """Paint pictures in one batch and tell of them, as a run does."""
    context = method_context(model.net, model.layers, model.preprocessing.input_spec)
    of_layer = Energy(LAYER) if "photograph" in given else None
    found = find_method(method, "dream")
    recipe: Recipe = found.build(found.options(**options), replace(context, subject=of_layer))
    plan, chosen = Plan.of(recipe.needs), torch.tensor([[TARGET]] * pictures)
    like = torch.zeros(pictures, 3, *model.preprocessing.input_spec.size).contiguous(memory_format=torch.channels_last)
    everything = {"seeds": torch.arange(pictures), **given}
    return lambda: recipe.explain(observe(model.net, like, plan, lambda _scores: chosen, given=everything).evidence)


class _UpToLayer(nn.Module):
    """Images to the energy of the layer, by no more of the network."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.stem, self.stages = net.get_submodule("stem"), nn.ModuleList(net.get_submodule("stages")[:STAGES])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(pad_same(x, 3))
        for stage in self.stages:
            x = stage(x)
        return x.square().mean() / 2


def _there_and_back(answer: Callable[[Tensor], Tensor], sizes: list[tuple[int, int]], times: int) -> Callable[[], None]:
    """Forwards and backwards alone, at each size."""
    inputs = [torch.rand(1, 3, *size).contiguous(memory_format=torch.channels_last) for size in sizes]

    def work() -> None:
        for picture in inputs:
            for _ in range(times):
                leaf = picture.detach().requires_grad_()
                torch.autograd.grad(answer(leaf), leaf)

    return work


def processor_seconds(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Medians, in turns; one round more comes first, which does not count."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, work in contestants.items():
            start = time.process_time()
            work()
            if turn:
                taken[name].append(time.process_time() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def speed(rounds: int) -> list[Line]:
    """Of one thread, at the methods' own numbers of steps; glibc keeps freed memory for all of them, as in a run."""
    threads = torch.get_num_threads()
    keep_freed_memory()
    torch.set_num_threads(1)
    try:
        return _speed(rounds)
    finally:
        torch.set_num_threads(threads)


def _speed(rounds: int) -> list[Line]:
    model = loaded()
    whole, part = (
        fuse(deepcopy(net)).requires_grad_(False).to(memory_format=torch.channels_last)
        for net in (model.net, _UpToLayer(model.net).eval())
    )
    sizes = octave_sizes(PHOTOGRAPH, OCTAVES, RATIO, 1)
    photograph = {"photograph": torch.rand(1, 3, *PHOTOGRAPH)}
    octaves = {"octaves": OCTAVES, "octave_scale": RATIO, "steps": STEPS}
    contestants = {
        f"fourier, {FOURIER_STEPS} steps": dreamer(model, "fourier", {}, steps=FOURIER_STEPS),
        f"{FOURIER_STEPS} forwards and backwards": _there_and_back(
            lambda x: whole(x)[0, TARGET], [(224, 224)], FOURIER_STEPS
        ),
        "octaves": dreamer(model, "octaves", photograph, **octaves),
        f"forwards and backwards to {LAYER}": _there_and_back(part, sizes, STEPS),
    }
    times = processor_seconds(contestants, rounds)
    first, second, third, fourth = contestants
    height, width = PHOTOGRAPH
    return [
        line("fourier, 224 x 224: a step over forward and backward", times, first, second, "<= 1.2"),
        line(f"octaves, {width} x {height}: over forward and backward at its sizes", times, third, fourth, "<= 1.3"),
    ]


_PEAK = """
import resource, sys, torch
from benchmarks.dream import dreamer, loaded
height, width = map(int, sys.argv[1:])
torch.set_num_threads(1)
model = loaded()
dreamer(model, "octaves", {"photograph": torch.rand(1, 3, 96, 96)}, steps=1)()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
dreamer(model, "octaves", {"photograph": torch.rand(1, 3, height, width)}, steps=1)()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""


def peak(height: int, width: int) -> float:
    """GiB that a process of its own takes to paint into a photograph, beyond what a small one has taken."""
    run = [sys.executable, "-c", _PEAK, str(height), str(width)]
    return float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


def memory() -> Line:
    """A step at each size, since further ones take nothing more."""
    large, small = peak(3000, 4000), peak(750, 1000)
    name = "octaves: peak memory of 4000 x 3000 over 1000 x 750"
    return Line(name, "4000 x 3000, GiB", "1000 x 750, GiB", (large, small), large / small, "<= 1.3")


def everything(rounds: int) -> list[Line]:
    """All of it."""
    return [*speed(min(rounds, 5)), memory()]
