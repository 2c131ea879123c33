"""`python -m benchmarks dream-quality [CLASSES]`: how well other networks see what was dreamt for the bundled one.

Each of the first CLASSES of twenty classes (all by default) that no setting was chosen by is painted once, at 160 steps
or the method's own number, and shown as it is written to EfficientNet-Lite1 and -Lite2. They are of the same family, so
that the probabilities are upper bounds.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

import cnnviz_cli.methods  # noqa: F401
from cnnviz_cli.cli.reporters import QuietReporter
from cnnviz_cli.core.method import MethodContext, Recipe, find_method
from cnnviz_cli.core.panels import Dreamed
from cnnviz_cli.engine.device import move_to_device
from cnnviz_cli.engine.observe import observe
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.methods.common.canvases import LUCID, Fourier
from cnnviz_cli.methods.common.climbing import Adam
from cnnviz_cli.methods.common.dreams import NoiseOptions, dream_recipe
from cnnviz_cli.methods.common.views import Turned
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_model
from cnnviz_cli.run.session import method_context

JUDGES = ("efficientnet_lite1", "efficientnet_lite2")

CLASSES = (
    207, 94, 511, 954, 440, 387, 130, 291, 323, 417, 487, 555, 604, 701, 717, 779, 883, 949, 985, 340,
)  # fmt: skip
"""Golden retriever, hummingbird, convertible, banana, beer bottle, lesser panda, flamingo, lion, monarch, balloon,
cellular telephone, fire engine, hourglass, parachute, pickup, school bus, vase, strawberry, daisy, zebra."""

STEPS = 160
SHARE = 12 / 224
"""Lucid's shifts of its picture: 8 and 4 of 224 pixels."""


def lucid_recipe(context: MethodContext) -> Recipe:
    """`render_vis` of lucid 6dcc927: its coefficients, colours, views and optimiser; views in one resampling."""
    size = context.input_spec.size
    canvas = Fourier(size, decay=1.0, contrast=0.0, deviation=0.01, colours=LUCID)
    views = Turned(size, SHARE, 0.9, 1.1, 10.0, mirrored=False)
    return dream_recipe(NoiseOptions(), context, canvas, views, Adam(0.05), steps=STEPS)


def main(arguments: list[str]) -> None:
    """Print a row a class and the means."""
    chosen = CLASSES[: int(arguments[0])] if arguments else CLASSES
    torch.set_num_threads(1)
    bundled, *judges = (load_model(name, reporter=QuietReporter()) for name in ("efficientnet_lite0", *JUDGES))
    context = method_context(
        move_to_device(bundled.net, torch.device("cpu")), bundled.layers, bundled.preprocessing.input_spec
    )
    recipes = {"lucid": lucid_recipe(context)}
    for name in ("fourier", "pyramid"):
        method = find_method(name, "dream")
        recipes[name] = method.build(method.options(), replace(context))
    seen: dict[str, list[tuple[float, ...]]] = {name: [] for name in recipes}
    for index in chosen:
        for name, recipe in recipes.items():
            picture = _paint(bundled, recipe, index)
            clean = _scores(bundled, picture)
            rank = 1 + int((clean > clean[index]).sum())
            shares = tuple(float(_scores(judge, picture)[index]) for judge in judges)
            seen[name].append((rank == 1, *shares))
            told = " ".join(f"{share:.2f}" for share in shares)
            print(f"{bundled.labels[index]:<20} {name:<8} clean {clean[index]:.2f} rank {rank}  {told}", flush=True)
    transfer = {name: statistics.mean(share for _, *both in rows for share in both) for name, rows in seen.items()}
    for name, rows in seen.items():
        first = sum(bool(row[0]) for row in rows)
        ratio = transfer[name] / transfer["lucid"]
        told = f"mean transfer {transfer[name]:.2f}, {ratio:.2f} times lucid's"
        print(f"{name}: {told}; first for {first} of {len(rows)}")


def _paint(model: LoadedModel, recipe: Recipe, index: int) -> Tensor:
    """(1, 3, h, w) in [0, 1] as it is written, in 8 bits."""
    like = torch.zeros(1, 3, *model.preprocessing.input_spec.size).contiguous(memory_format=torch.channels_last)
    chosen = torch.tensor([[index]])
    plan, seeds = Plan.of(recipe.needs), torch.tensor([index])
    evidence = observe(model.net, like, plan, lambda _scores: chosen, given={"seeds": seeds}).evidence
    (panel,) = recipe.explain(evidence.only(recipe.needs))
    assert isinstance(panel, Dreamed)
    return torch.floor(torch.as_tensor(panel.values) * 255 + 0.5) / 255


def _scores(model: LoadedModel, picture: Tensor) -> Tensor:
    """(K,) probabilities of the whole picture at the network's own size."""
    size = model.preprocessing.input_spec.size
    shown = interpolate(picture, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    with torch.no_grad():
        return model.net((shown - 0.5) / 0.5).softmax(1)[0]


if __name__ == "__main__":
    main(sys.argv[1:])
