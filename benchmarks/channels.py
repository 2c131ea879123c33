"""What --top-channels leaves of a map: the bundled network's last layer, on the sample images."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

import cnnviz_cli.methods  # noqa: F401
from benchmarks.memory import SAMPLES
from benchmarks.precision import spearman
from cnnviz_cli.cli.reporters import QuietReporter
from cnnviz_cli.core.method import InputSpec, find_method
from cnnviz_cli.engine.device import move_to_device
from cnnviz_cli.engine.observe import observe
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.models.load.loaded_model import load_model
from cnnviz_cli.run.session import method_context

COUNTS = (32, 64, 128, 256)
TOP = 0.1


def overlap(left: Tensor, right: Tensor) -> float:
    """The share of the highest tenth of one map's pixels that is in the other's."""
    count = round(TOP * left.numel())
    best = [set(values.flatten().topk(count).indices.tolist()) for values in (left, right)]
    return len(best[0] & best[1]) / count


def notes(methods: tuple[str, ...] = ("scorecam", "ablationcam"), size: int = 224) -> list[str]:
    """A line for each method and number of channels: rank correlation and overlap with the full map, enlarged to the
    input's size; lowest and median over the sample images; and the time of the full map over that of this one."""
    model = load_model("efficientnet_lite0", reporter=QuietReporter())
    net = move_to_device(model.net, torch.device("cpu"))
    batch = torch.stack([model.preprocessing.prepare(read_image(path).image)[0] for path in SAMPLES])
    batch = batch.contiguous(memory_format=torch.channels_last)
    context = method_context(net, model.layers, InputSpec((size, size), (-2.0,) * 3, (2.0,) * 3))
    lines = []
    for name in methods:
        method, maps, seconds = find_method(name), {}, {}
        for top in ("all", *COUNTS):
            recipe = method.build(method.options(top_channels=top), context)
            start = time.perf_counter()
            seen = observe(net, batch, Plan.of(recipe.needs), lambda logits: logits.argmax(1, keepdim=True))
            values = torch.as_tensor(recipe.explain(seen.evidence)[0].values)
            seconds[top] = time.perf_counter() - start
            maps[top] = torch.nn.functional.interpolate(values, (size, size), mode="bilinear")
        for top in COUNTS:
            pairs = list(zip(maps["all"], maps[top], strict=True))
            ranks, tops = ([measure(*pair) for pair in pairs] for measure in (spearman, overlap))
            lines.append(
                f"efficientnet_lite0: {name} of {top} of 1280 channels against all, {len(pairs)} sample images: "
                f"Spearman lowest {min(ranks):.3f}, median {statistics.median(ranks):.3f}; overlap of the highest "
                f"tenth lowest {min(tops):.0%}, median {statistics.median(tops):.0%}; "
                f"{seconds['all'] / seconds[top]:.1f} times as fast"
            )
    return lines
