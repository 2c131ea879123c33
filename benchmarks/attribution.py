"""Methods that take many forwards, each against its peer's documented usage, on one image."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.compute import BUNDLED, folded_forwards, ours, ours_net, recipe_of, theirs, top1
from benchmarks.machine import bf16_is_fast
from benchmarks.measure import Line, flops_of, line, matmul_seconds, medians
from benchmarks.memory import SAMPLES
from cnnviz_cli.cli.reporters import QuietReporter
from cnnviz_cli.core.quadrature import LineIntegral, Quadrature
from cnnviz_cli.engine.device import move_to_device
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.observe import observe
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.methods.common.baselines import Baseline
from cnnviz_cli.models.load.loaded_model import load_model

GRADIENT_CAMS = (
    "gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "gradcam-elementwise", "eigengradcam"
)  # fmt: skip


VARIANTS = 32
"""How many altered inputs a stream is timed with."""

LAYERS = {"resnet50": "layer4.2", "vgg16": "features.30"}
"""The layers that grad-cam's own documents name for these networks: ``layer4[-1]`` and ``features[-1]``.

With all of VGG's ``features`` for a layer, its AblationCAM would replace them and so leave the convolutions out.
"""


def _image() -> tuple[Tensor, Tensor]:
    """One image, as the peers take it and as a run hands it to the engine."""
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    return image, image.contiguous(memory_format=torch.channels_last)


def _cam(kind: str, net: nn.Module, layer: nn.Module, image: Tensor) -> Callable[[], object]:
    def work() -> object:
        import pytorch_grad_cam

        with getattr(pytorch_grad_cam, kind)(model=net, target_layers=[layer]) as cam:
            return cam(input_tensor=image, targets=None)

    return work


def cams(name: str) -> list[Line]:
    """Ablation-CAM and Score-CAM; once each, since the peer takes minutes."""
    default, fast = theirs(name), ours_net(name)
    image, ordered = _image()
    recipes = {method: recipe_of(fast, method, layer=(LAYERS[name],)) for method in ("ablationcam", "scorecam")}
    layer = default.get_submodule(LAYERS[name])
    contestants = {
        "grad-cam AblationCAM": _cam("AblationCAM", default, layer, image),
        "ablationcam": ours(fast, ordered, [recipes["ablationcam"]]),
        "grad-cam ScoreCAM": _cam("ScoreCAM", default, layer, image),
        "scorecam": ours(fast, ordered, [recipes["scorecam"]]),
    }
    if bf16_is_fast():
        contestants["scorecam, bf16"] = ours(fast, ordered, [recipes["scorecam"]], Execution("bf16"))
    contestants["ablationcam"]()  # tracing is done once a run
    times = medians(contestants, 1, warm=False)
    lines = [
        line(
            f"{name}: grad-cam's AblationCAM over ablationcam", times, "grad-cam AblationCAM", "ablationcam", ">= 100"
        ),
        line(f"{name}: grad-cam's ScoreCAM over scorecam", times, "grad-cam ScoreCAM", "scorecam", ">= 2.5"),
    ]
    if bf16_is_fast():
        lines.append(line(f"{name}: the same, ours in bf16", times, "grad-cam ScoreCAM", "scorecam, bf16", ">= 4.5"))
    return lines


def bf16_note() -> str:
    """What bfloat16 costs here where it multiplies no faster than float32."""
    fast = ours_net("resnet50")
    batch = torch.randn(16, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    batch = batch.contiguous(memory_format=torch.channels_last)

    def forward(kind: torch.dtype | None) -> Callable[[], object]:
        def work() -> object:
            with torch.inference_mode(), torch.autocast("cpu", kind or torch.bfloat16, enabled=kind is not None):
                return fast(batch)

        return work

    times = medians({"fp32": forward(None), "bf16": forward(torch.bfloat16)}, 3)
    ratio = times["bf16"] / times["fp32"]
    return (
        "Score-CAM in bf16 is not timed: this processor multiplies bfloat16 no faster, and a forward of 16 images of "
        f"ResNet-50 takes {ratio:.1f} times as long in bf16 as in fp32"
    )


def gradients(name: str, rounds: int) -> list[Line]:
    """Integrated gradients and SmoothGrad against captum, with the same steps and samples."""
    from captum.attr import IntegratedGradients, NoiseTunnel, Saliency

    default, fast = theirs(name), ours_net(name)
    image, ordered = _image()
    chosen = int(top1(default(image)))

    def captum_ig() -> None:
        IntegratedGradients(default).attribute(image, target=chosen, n_steps=50)

    def captum_smoothgrad() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tunnel = NoiseTunnel(Saliency(default))
            tunnel.attribute(image, nt_type="smoothgrad", nt_samples=25, stdevs=0.15, target=chosen)

    times = medians(
        {
            "captum IntegratedGradients": captum_ig,
            "integrated-gradients": ours(fast, ordered, [recipe_of(fast, "integrated-gradients", steps=50)]),
            "captum NoiseTunnel": captum_smoothgrad,
            "smoothgrad": ours(fast, ordered, [recipe_of(fast, "smoothgrad", samples=25)]),
        },
        rounds,
    )
    return [
        line(
            f"{name}: captum's IntegratedGradients over ours, 50 steps",
            times, "captum IntegratedGradients", "integrated-gradients", ">= 2",
        ),
        line(
            f"{name}: captum's NoiseTunnel over smoothgrad, 25 samples",
            times, "captum NoiseTunnel", "smoothgrad", ">= 2",
        ),
    ]  # fmt: skip


def at_equal_error(name: str, weights: str, paths: Sequence[Path] = tuple(SAMPLES)) -> tuple[Line, str]:
    """Integrated gradients of the sample images from black: captum's 50 steps, and ours until each image's shares miss
    its score by no more than captum's did. Once each; a note gives errors and gradients."""
    from captum.attr import IntegratedGradients

    model = load_model(name, weights, reporter=QuietReporter())
    fast = move_to_device(model.net, torch.device("cpu"))
    default = deepcopy(fast).to(memory_format=torch.contiguous_format)
    mean, std = (torch.tensor(numbers) for numbers in (model.preprocessing.mean, model.preprocessing.std))
    black = Baseline("black", tuple((-mean / std).tolist()), tuple(((1 - mean) / std).tolist()))
    seconds = {"captum IntegratedGradients": 0.0, "ours to its error": 0.0}
    found = []
    for path in paths:
        image = model.preprocessing.prepare(read_image(path).image)[0].unsqueeze(0)
        chosen, origin = int(top1(default(image))), (-mean / std).view(1, 3, 1, 1).expand_as(image)
        peer = IntegratedGradients(default)
        start = time.perf_counter()
        shares, missed = peer.attribute(image, origin, target=chosen, n_steps=50, return_convergence_delta=True)
        seconds["captum IntegratedGradients"] += time.perf_counter() - start
        error = float(missed.abs() / (shares.sum() - missed).abs())
        need = LineIntegral(black, tolerance=error)
        ordered = image.contiguous(memory_format=torch.channels_last)
        plan = Plan.of([need, Quadrature(need)])
        start = time.perf_counter()
        facts = observe(fast, ordered, plan, top1).evidence[Quadrature(need)][0].tolist()
        seconds["ours to its error"] += time.perf_counter() - start
        found.append(f"{error:.2%} {int(facts[2])}{'' if facts[3] else ' (not reached)'}")
    made = line(
        f"{name}: captum's IntegratedGradients, 50 steps, over ours to the same error, {len(found)} images",
        seconds, "captum IntegratedGradients", "ours to its error", ">= 2",
    )  # fmt: skip
    return made, f"{name}: captum's error after 50 steps and the gradients that ours took to it: {'; '.join(found)}"


def shared(name: str, rounds: int) -> list[Line]:
    """Seven CAMs of one layer and class together, against one of them."""
    fast = ours_net(name)
    _, ordered = _image()
    recipes = [recipe_of(fast, method) for method in GRADIENT_CAMS]
    times = medians(
        {"seven": ours(fast, ordered, recipes), "gradcam": ours(fast, ordered, recipes[:1])}, max(rounds, 9)
    )
    return [line(f"{name}: seven gradient CAMs over gradcam", times, "seven", "gradcam", "<= 1.3")]


def streams(name: str, rounds: int) -> list[Line]:
    """Variants of the input, each a forward: against the forward of a folded network at its best chunk, and against a
    matrix multiplication of as many operations."""
    fast = ours_net(name)
    image, ordered = _image()
    masked = ours(fast, ordered, [recipe_of(fast, "rise", masks=VARIANTS)])
    chunks = folded_forwards(fast, ordered, VARIANTS)
    times = medians({"rise": masked, **chunks}, rounds)
    best = min(chunks, key=lambda chunk: times[chunk])
    with torch.no_grad():
        limit = matmul_seconds(VARIANTS * flops_of(lambda: fast(image)))
    times["as many operations of a matrix multiplication"] = limit
    lines = [line(f"{name}: a stream over the folded forward at its best chunk", times, "rise", best, "<= 1.1", 1)]
    if name == "resnet50":
        share = "as many operations of a matrix multiplication"
        lines.append(line(f"{name}: a stream's share of the matrix multiplication", times, share, "rise", ">= 0.8", 1))
    return lines


def everything(rounds: int) -> tuple[list[Line], list[str]]:
    """All of it, on both networks, and what could not be measured."""
    lines: list[Line] = []
    notes = [] if bf16_is_fast() else [bf16_note()]
    for name in ("resnet50", "vgg16"):
        lines += shared(name, rounds) + gradients(name, min(rounds, 3)) + cams(name)
    for name in ("resnet18", "resnet50", "mobilenet_v2", BUNDLED):
        lines += streams(name, min(rounds, 3))
    for name, weights in (("efficientnet_lite0", "DEFAULT"), ("resnet18", "random:0")):
        made, note = at_equal_error(name, weights)
        lines.append(made)
        notes.append(note)
    return lines, notes
