"""`python -m benchmarks dream-quality [FILE]`: how well other networks see what was dreamt for the bundled one.

Twenty classes that no setting was chosen by are painted from two seeds each, at 160 steps or the method's own number,
and shown as they are written to EfficientNet-Lite1 and -Lite2. These are of the same family, so that the probabilities
are upper bounds. Then eight channels of each of three layers, of which the score in the written picture is compared.

Each row is written to FILE (build/dream-quality.jsonl by default) when it is known; what stands there is not painted
again. It takes 30 minutes of one core.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

import cnnviz_cli.methods  # noqa: F401
from cnnviz_cli.cli.reporters import QuietReporter
from cnnviz_cli.core.method import MethodContext, Recipe, find_method
from cnnviz_cli.core.panels import Dreamed
from cnnviz_cli.core.unit_objectives import Channel
from cnnviz_cli.engine.device import move_to_device
from cnnviz_cli.engine.observe import observe
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.methods.common.canvases import LUCID, Fourier
from cnnviz_cli.methods.common.climbing import Adam
from cnnviz_cli.methods.common.dreams import NoiseOptions, dream_recipe
from cnnviz_cli.methods.common.views import Turned
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_model
from cnnviz_cli.run.session import method_context

BUNDLED = "efficientnet_lite0"
JUDGES = ("efficientnet_lite1", "efficientnet_lite2")

CLASSES = (
    207, 94, 511, 954, 440, 387, 130, 291, 323, 417, 487, 555, 604, 701, 717, 779, 883, 949, 849, 340,
)  # fmt: skip
"""Golden retriever, hummingbird, convertible, banana, beer bottle, lesser panda, flamingo, lion, monarch, balloon,
cellular telephone, fire engine, hourglass, parachute, pickup, school bus, vase, strawberry, teapot, zebra."""

SEEDS = 2
CONTESTANTS = ("lucid", "lucid-128", "fourier", "pyramid")
"""Lucid's settings at the network's size, and at lucid's own."""

CHANNELS = {"stages.3": 80, "stages.4": 112, "stages.5": 192}
EACH = 8

STEPS = 160
LUCID_SHIFT = 12
"""Pixels: 8 before scaling and 4 behind."""

Row = dict[str, Any]


OWN_SIDE = 128
"""Of lucid's picture, if nothing is said. lucent enlarges it to the network's 224."""


def lucid_recipe(context: MethodContext, side: int | None = None) -> Recipe:
    """`render_vis` of lucid 6dcc927: its coefficients, colours, views and optimiser; views in one resampling.

    Args:
        side: of the picture, which is enlarged to the network's size; that size if not given.
    """
    size = context.input_spec.size
    canvas_size = (side, side) if side else size
    canvas = Fourier(canvas_size, decay=1.0, contrast=0.0, deviation=0.01, colours=LUCID)
    views = Turned(size, LUCID_SHIFT / canvas_size[0], 0.9, 1.1, 10.0, mirrored=False)
    return dream_recipe(NoiseOptions(), context, canvas, views, Adam(0.05), steps=STEPS)


def recipe_of(name: str, context: MethodContext) -> Recipe:
    """Of lucid, or of a method at its defaults."""
    if name.startswith("lucid"):
        return lucid_recipe(context, OWN_SIDE if name == "lucid-128" else None)
    method = find_method(name, "dream")
    return method.build(method.options(), context)


class Judged:
    """The bundled network, and the others that are shown what it dreams."""

    def __init__(self) -> None:
        self.bundled, *self.judges = (load_model(name, reporter=QuietReporter()) for name in (BUNDLED, *JUDGES))
        net = move_to_device(self.bundled.net, torch.device("cpu"))
        self.context = method_context(net, self.bundled.layers, self.bundled.preprocessing.input_spec)

    def of_class(self, index: int, seed: int, method: str, recipe: Recipe) -> Row:
        """One picture of a class, and what the networks say of it."""
        picture, seconds = self._paint(recipe, index, index + 1000 * seed)
        clean = _scores(self.bundled, picture)
        judged = [float(_scores(judge, picture)[index]) for judge in self.judges]
        rank = 1 + int((clean > clean[index]).sum())
        key = f"class {index}, seed {seed}, {method}"
        return {
            "key": key, "clean": float(clean[index]), "rank": rank, "judged": judged, "seconds": seconds,
        }  # fmt: skip

    def of_channel(self, layer: str, channel: int, method: str) -> Row:
        """One picture of a channel, and its mean there."""
        of = Channel(layer, channel)
        picture, seconds = self._paint(recipe_of(method, replace(self.context, subject=of)), 0, channel)
        seen: list[float] = []
        module = self.bundled.net.get_submodule(layer)
        with module.register_forward_hook(lambda _module, _inputs, maps: seen.append(float(maps[0, channel].mean()))):
            _scores(self.bundled, picture)
        return {"key": f"{layer}, channel {channel}, {method}", "score": seen[0], "seconds": seconds}

    def _paint(self, recipe: Recipe, index: int, seed: int) -> tuple[Tensor, float]:
        """(1, 3, h, w) in [0, 1] as it is written, in 8 bits, and the processor's seconds."""
        like = torch.zeros(1, 3, *self.bundled.preprocessing.input_spec.size)
        like = like.contiguous(memory_format=torch.channels_last)
        chosen, plan = torch.tensor([[index]]), Plan.of(recipe.needs)
        given = {"seeds": torch.tensor([seed])}
        start = time.process_time()
        evidence = observe(self.bundled.net, like, plan, lambda _scores: chosen, given=given).evidence
        (panel,) = recipe.explain(evidence.only(recipe.needs))
        seconds = time.process_time() - start
        assert isinstance(panel, Dreamed)
        return torch.floor(torch.as_tensor(panel.values) * 255 + 0.5) / 255, seconds


def _scores(model: LoadedModel, picture: Tensor) -> Tensor:
    """(K,) probabilities of the whole picture at the network's own size."""
    size = model.preprocessing.input_spec.size
    shown = interpolate(picture, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    with torch.no_grad():
        return model.net((shown - 0.5) / 0.5).softmax(1)[0]


def _rows(path: Path) -> dict[str, Row]:
    """By key what is known already."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {row["key"]: row for row in map(json.loads, lines)}


def class_rows(
    networks: Judged, recipes: Mapping[str, Recipe], classes: Sequence[int], known: Mapping[str, Row]
) -> Iterator[Row]:
    """One for each class, seed and recipe that is not known; those of one class and seed stand together."""
    for index in classes:
        for seed in range(SEEDS):
            for name, recipe in recipes.items():
                if f"class {index}, seed {seed}, {name}" not in known:
                    yield networks.of_class(index, seed, name, recipe)


def channel_rows(networks: Judged, methods: Sequence[str], known: Mapping[str, Row]) -> Iterator[Row]:
    """One for each channel and method that is not known."""
    for layer, count in CHANNELS.items():
        for number in range(EACH):
            channel = count * (2 * number + 1) // (2 * EACH)
            for name in methods:
                if f"{layer}, channel {channel}, {name}" not in known:
                    yield networks.of_channel(layer, channel, name)


def summary(rows: Mapping[str, Row]) -> list[str]:
    """A line for each method: mean transfer, over lucid's with the middle 95 % of draws of classes, and ranks."""
    found: dict[str, dict[str, list[Row]]] = {}
    for key, row in rows.items():
        if key.startswith("class"):
            index, _seed, name = key.split(", ")
            found.setdefault(name, {}).setdefault(index, []).append(row)
    told = []
    for name, classes in found.items():
        every = [row for of_class in classes.values() for row in of_class]
        first = sum(row["rank"] == 1 for row in every)
        twice = sum(all(row["rank"] == 1 for row in of_class) for of_class in classes.values())
        low, middle, high = _over(classes, found.get("lucid", classes))
        told.append(
            f"{name}: mean transfer {_transfer(classes.values()):.3f}, {middle:.2f} times lucid's ({low:.2f} to "
            f"{high:.2f}); first for {first} of {len(every)} pictures, with each seed for {twice} of {len(classes)} "
            f"classes; {statistics.mean(row['seconds'] for row in every):.1f} s each"
        )
    for layer in CHANNELS:
        ratios = [
            row["score"] / other["score"]
            for key, row in rows.items()
            if key.startswith(f"{layer},") and key.endswith(", pyramid")
            if (other := rows.get(key.replace(", pyramid", ", fourier")))
        ]
        if ratios:
            shown = " ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
            told.append(f"{layer}: pyramid's score over fourier's {statistics.median(ratios):.2f} ({shown})")
    return told


def _transfer(classes: Any) -> float:
    return statistics.mean(share for of_class in classes for row in of_class for share in row["judged"])


def _over(classes: Mapping[str, list[Row]], lucid: Mapping[str, list[Row]]) -> tuple[float, float, float]:
    """The ratio of mean transfers, between the ends of the middle 95 % of those of classes drawn anew."""
    both = [(classes[index], lucid[index]) for index in classes if index in lucid]
    draw, ratios = random.Random(0), []
    for _ in range(2000):
        chosen = draw.choices(both, k=len(both))
        ratios.append(_transfer(ours for ours, _ in chosen) / max(_transfer(theirs for _, theirs in chosen), 1e-9))
    ratios.sort()
    middle = _transfer(ours for ours, _ in both) / max(_transfer(theirs for _, theirs in both), 1e-9)
    return ratios[50], middle, ratios[-51]


def main(arguments: list[str]) -> None:
    """Paint what is missing, print it and the summary."""
    path = Path(arguments[0]) if arguments else Path("build/dream-quality.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    known, networks = _rows(path), Judged()
    recipes = {name: recipe_of(name, networks.context) for name in CONTESTANTS}
    with path.open("a", encoding="utf-8") as file:
        for rows in (
            class_rows(networks, recipes, CLASSES, known),
            channel_rows(networks, ("fourier", "pyramid"), known),
        ):
            for row in rows:
                known[row["key"]] = row
                print(json.dumps(row), file=file, flush=True)
                print(json.dumps(row), flush=True)
    for told in summary(known):
        print(told)


if __name__ == "__main__":
    main(sys.argv[1:])
