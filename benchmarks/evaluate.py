"""What it takes to judge ten methods of one image, beside the forwards that this needs and beside the peers' own code,
in processor time of one thread."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import cnnviz_cli.measures  # noqa: F401
from benchmarks.compute import folded_forwards
from benchmarks.dream import processor_seconds
from benchmarks.measure import Line, line
from benchmarks.memory import SAMPLES, peak
from cnnviz_cli.api.arguments import build_settings
from cnnviz_cli.api.explain import open_session
from cnnviz_cli.config.evaluate_fields import QUICK_METHODS
from cnnviz_cli.core.measures import find_measure
from cnnviz_cli.core.needs import Evidence, Input, Scores, Seeds
from cnnviz_cli.core.readings import read_map
from cnnviz_cli.core.removal import Around, Removed, RiseFills
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine.device import keep_freed_memory
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.models.load.loaded_model import load_model
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.judge import Batch, Judge, MeasureRequest

QUIET = Reporter()
NETWORK = "efficientnet_lite0"
CHELSEA = next(path for path in SAMPLES if path.stem == "chelsea")

STEPS, SUBSETS, CELLS = 16, 200, 9
"""The measures' own, of removal and of subsets."""

RISE_STEP = 224
"""Pixels that RISE's code replaces at a time, of its evaluation notebook."""

PERCENTILES = [10, 20, 30, 40, 50, 60, 70, 80, 90]
"""ROADCombined's default."""


@dataclass(frozen=True)
class Judged:
    """An image that ten methods have explained, and what judges their maps."""

    explainer: Explainer
    batch: Batch

    def judge(self, names: str, **options: Any) -> Judge:
        found = [find_measure(name) for name in names.split(",")]
        requests = []
        for one in found:
            own = {name: given for name, given in options.items() if hasattr(one.options(), name)}
            requests.append(MeasureRequest(one, one.options(**own)))
        return Judge(self.explainer, tuple(requests), controls=False)

    def work(self, judge: Judge) -> Callable[[], object]:
        return lambda: judge.judge_batch(self.batch, QUIET)

    def plan(self, judge: Judge) -> Plan:
        return judge.plan_for(judge.maps_of(self.batch.panels), self.batch.size)

    def maps(self) -> list[np.ndarray[Any, Any]]:
        """(H, W) of each method, in [0, 1] as the peers take them."""
        readings = [read_map(several[0].pick(0), self.batch.size).signed for several in self.batch.panels]
        return [(each - each.min()) / (each.max() - each.min()) for each in readings]

    def filling(self, judge: Judge) -> Callable[[], object]:
        """All that removal's fill makes of the image, for orders of a finished map each."""
        seeds = torch.tensor(self.explainer.session.seeds_of(self.batch.digests))
        curves = [need.on for need in self.plan(judge).needs if isinstance(need, Scores)]
        curves = [each for each in curves if isinstance(each, Removed) and isinstance(each.fill, Around)]
        readings = [read_map(several[0].pick(0), self.batch.size) for several in self.batch.panels]
        answers = {Input(): self.batch.inputs, Seeds(): seeds}
        for each, reading in zip(curves, readings, strict=True):
            answers[each.order] = each.order.made_of(reading, int(seeds[0])).unsqueeze(0)
        evidence = Evidence(answers)
        return lambda: [each.make(evidence, 0, 0, each.count) for each in curves]


@contextmanager
def explained() -> Iterator[Judged]:
    families, settings = build_settings(
        methods=",".join(QUICK_METHODS), layers=None, targets="top1", options={}, device="cpu"
    )
    with open_session("explain", NETWORK, settings, None, None, QUIET) as session:
        explainer = Explainer.of(session, families, QUIET)
        model = load_model(NETWORK, reporter=QUIET)
        inputs = model.preprocessing.prepare(read_image(CHELSEA).image)[0].unsqueeze(0)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        observation, panels = explainer.explain_batch(inputs, ["chelsea"], QUIET)
        yield Judged(explainer, Batch(inputs, ["chelsea"], observation, panels))


def forwards_of(plan: Plan) -> int:
    return sum({need.on: need.on.count for need in plan.needs if isinstance(need, Scores)}.values())


def causal_metric(net: nn.Module, image: Tensor, cam: np.ndarray[Any, Any], mode: str) -> np.ndarray[Any, Any]:
    """RISE's `CausalMetric.single_run` (evaluation.py of eclique/RISE), without its plots: one input at a time."""
    chosen = int(net(image).argmax(1))
    positions = image.shape[2] * image.shape[3]
    steps = (positions + RISE_STEP - 1) // RISE_STEP
    start, finish = image.clone(), torch.zeros_like(image)
    if mode == "ins":
        start, finish = RiseFills().cover(Evidence({Input(): image}), 0, least=True)[None].clone(), image.clone()
    scores = np.empty(steps + 1)
    order = np.flip(np.argsort(cam.reshape(-1, positions), axis=1), axis=-1)
    for number in range(steps + 1):
        scores[number] = float(net(start).softmax(1)[0, chosen])
        if number < steps:
            places = order[:, RISE_STEP * number : RISE_STEP * (number + 1)].copy()
            start.numpy().reshape(1, 3, positions)[0, :, places] = finish.numpy().reshape(1, 3, positions)[0, :, places]
    return scores


def peers(image: Tensor, maps: Sequence[np.ndarray[Any, Any]]) -> dict[str, Callable[[], object]]:
    """By what to call it each peer's usage for all maps: in the default layout, nothing folded."""
    from pytorch_grad_cam.metrics.road import ROADCombined
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    net = load_model(NETWORK, reporter=QUIET).net.to(memory_format=torch.contiguous_format).eval()
    image = image.contiguous()
    target = ClassifierOutputSoftmaxTarget(int(net(image).argmax(1)))

    def rise() -> None:
        with torch.no_grad():
            for cam in maps:
                for mode in ("del", "ins"):
                    causal_metric(net, image, cam, mode)

    def subsets() -> None:
        draws = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for _ in maps:
                for start in range(0, SUBSETS, 32):
                    count = min(32, SUBSETS - start)
                    kept = (torch.rand(count, 1, CELLS, CELLS, generator=draws) > 0.2).float()
                    net(image * nn.functional.interpolate(kept, size=image.shape[2:])).softmax(1)

    def road() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for cam in maps:
                ROADCombined(percentiles=PERCENTILES)(image, cam[None], [target], net)

    return {"RISE, 224 pixels a step": rise, "subsets, method by method": subsets, "grad-cam ROADCombined": road}


def speed(rounds: int) -> list[Line]:
    """Of one thread; the peers run once, since they take minutes."""
    threads = torch.get_num_threads()
    keep_freed_memory()
    torch.set_num_threads(1)
    try:
        with explained() as judged:
            return [*_over_the_floor(judged, rounds), *_beside_peers(judged)]
    finally:
        torch.set_num_threads(threads)


def _over_the_floor(judged: Judged, rounds: int) -> list[Line]:
    judge = judged.judge("removal,subsets,deletion,insertion", steps=STEPS, subsets=SUBSETS, rise_steps=STEPS)
    count = forwards_of(judged.plan(judge))
    chunks = folded_forwards(judged.explainer.session.net, judged.batch.inputs, 32)
    contestants = {"ours": judged.work(judge), "filling": judged.filling(judge), **chunks}
    times = processor_seconds(contestants, rounds)
    best = min(chunks, key=lambda name: times[name])
    floor = f"{count} forwards, {best.partition(', ')[2]}, and filling"
    found = {"judged": times["ours"], floor: times[best] * count / 32 + times["filling"]}
    name = f"evaluate, ten methods, {STEPS} steps: removal, subsets, deletion and insertion over their folded forwards"
    return [line(name, found, "judged", floor, "<= 1.25", 1)]


def _beside_peers(judged: Judged) -> list[Line]:
    whole = judged.judge("removal,subsets,deletion,insertion", steps=STEPS, subsets=SUBSETS, rise_steps=STEPS)
    road = judged.judge("removal", steps=len(PERCENTILES) + 1)
    theirs = peers(judged.batch.inputs, judged.maps())
    times = _once({"ours": judged.work(whole), "removal": judged.work(road), **theirs})
    together = {"ours": times["ours"], "peers": sum(times[name] for name in theirs)}
    name = "evaluate, ten methods: RISE's curves, subsets method by method and grad-cam's ROAD over removal, subsets, "
    return [
        line(f"{name}deletion and insertion", together, "peers", "ours", ">= 6"),
        line(
            f"evaluate, ten methods: grad-cam's ROADCombined over removal at its {len(PERCENTILES)} percentiles",
            times, "grad-cam ROADCombined", "removal", ">= 2.5",
        ),
    ]  # fmt: skip


def _once(contestants: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    times = {}
    for name, work in contestants.items():
        start = time.process_time()
        work()
        times[name] = time.process_time() - start
    return times


def quick() -> Line:
    """Wall seconds of the default command on the sample images, from the prompt to the last file."""
    with tempfile.TemporaryDirectory() as out:
        run = [sys.executable, "-m", "cnnviz_cli", "evaluate", *map(str, SAMPLES), "-o", out, "-q"]
        start = time.perf_counter()
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        taken = time.perf_counter() - start
    name = f"evaluate, {len(SAMPLES)} images, the quick methods and measures: seconds from the prompt to the last file"
    return Line(name, "cnnviz evaluate", "a second", (taken, 1.0), taken, "<= 90")


def memory() -> list[Line]:
    """Peaks against more images, more methods, more steps."""
    few: Sequence[str] = ("--method", "gradcam,gradient", "--measure", "removal,subsets", "--subsets", "16")

    def grown(less: tuple[int, str, Sequence[str]], more: tuple[int, str, Sequence[str]]) -> Line:
        (small, first, fewer), (many, second, further) = less, more
        peaks = peak(many, "evaluate", None, *further), peak(small, "evaluate", None, *fewer)
        name = f"evaluate: peak memory, {second} over {first}"
        return Line(name, f"{second}, GiB", f"{first}, GiB", peaks, peaks[0] / peaks[1], "<= 1.05")

    four, many = (*few, "--steps", "4"), (*few, "--steps", "64")
    six = ("--method", "gradcam,gradient,layercam,hirescam,xgradcam,input-x-gradient", *four[2:])
    return [
        grown((2, "2 images", four), (10, "10 images", four)),
        grown((1, "2 methods", four), (1, "6 methods", six)),
        grown((1, "4 steps", four), (1, "64 steps", many)),
    ]


def everything(rounds: int) -> list[Line]:
    """All of it."""
    return [*speed(min(rounds, 3)), quick(), *memory()]
