"""How much of a map's order survives a lower precision: Spearman's rank correlation with float32, sample images."""

from __future__ import annotations

import torch
from torch import Tensor

import cnnviz_cli.methods  # noqa: F401
from benchmarks.memory import SAMPLES
from cnnviz_cli.cli.reporters import QuietReporter
from cnnviz_cli.core.method import find_method
from cnnviz_cli.core.needs import Activation, Gradient
from cnnviz_cli.engine.device import move_to_device
from cnnviz_cli.engine.execution import Execution, Precision
from cnnviz_cli.engine.observe import observe
from cnnviz_cli.engine.passes import run_pass
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.models.load.loaded_model import load_model
from cnnviz_cli.run.session import method_context


def spearman(left: Tensor, right: Tensor) -> float:
    """The correlation of ranks; equal values share the mean of their ranks."""
    ranks = []
    for values in (left.flatten(), right.flatten()):
        _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
        last = counts.cumsum(0).double()
        ranks.append((last - (counts.double() - 1) / 2)[inverse])
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def notes(precision: Precision = "bf16") -> list[str]:
    """A line for each method, as a run computes it, and one for each kind of answer, as if all were in `precision`:
    the lowest and the median correlation over the sample images."""
    model = load_model("efficientnet_lite0", reporter=QuietReporter())
    net = move_to_device(model.net, torch.device("cpu"))
    batch = torch.stack([model.preprocessing.prepare(read_image(path).image)[0] for path in SAMPLES])
    batch = batch.contiguous(memory_format=torch.channels_last)
    context = method_context(net, model.layers, model.preprocessing.input_spec)
    lines = []
    for name in ("gradcam", "gradient"):
        method = find_method(name)
        recipe = method.build(method.options(), context)
        plan = Plan.of(recipe.needs)
        full = observe(net, batch, plan, lambda logits: logits.argmax(1, keepdim=True))
        low = observe(net, batch, plan, lambda _logits, targets=full.targets: targets, execution=Execution(precision))
        maps = [torch.as_tensor(recipe.explain(seen.evidence)[0].values) for seen in (full, low)]
        lines.append(_line(name, precision, *maps))
    (layer,) = model.layers.resolve(("last-conv",))
    kinds = {
        f"the maps of {layer}": Activation(layer),
        f"the gradient at {layer}": Gradient(layer),
        "the gradient at the input": Gradient(),
        "guided backpropagation": Gradient(through="guide"),
    }
    for words, need in kinds.items():
        plan = Plan.of([need])
        top = run_pass(net, net, batch, plan, lambda order: order.argmax(1, keepdim=True), Execution())
        all_low = run_pass(net, net, batch, plan, top.targets, Execution(precision))
        lines.append(_line(f"{words}, were it", precision, top.answers[need], all_low.answers[need]))
    return lines


def _line(what: str, precision: Precision, full: Tensor, low: Tensor) -> str:
    found = torch.tensor([spearman(a, b) for a, b in zip(full, low, strict=True)])
    return (
        f"efficientnet_lite0: {what} in {precision} against fp32, Spearman over {len(found)} sample images: "
        f"lowest {found.min():.3f}, median {found.median():.3f}"
    )
