"""The engine against plain passes of the same network, and against grad-cam and captum."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torchvision import models

import cnnviz_cli.methods  # noqa: F401
from benchmarks.measure import Line, line, medians
from cnnviz_cli.core.method import InputSpec, Recipe, find_method
from cnnviz_cli.core.objectives import StrongestChannel
from cnnviz_cli.engine.device import move_to_device
from cnnviz_cli.engine.execution import DEFAULT_EXECUTION, Execution
from cnnviz_cli.engine.observe import observe
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load.efficientnet_lite import EfficientNetLite
from cnnviz_cli.run.session import method_context

BATCH = 8


BUNDLED = "efficientnet_lite0"

CHUNKS = (1, 2, 4, 8, 16, 32)


def theirs(name: str) -> nn.Module:
    """As the peers' documents have it: in eval mode and nothing else (grad-cam fails on frozen parameters)."""
    torch.manual_seed(0)
    return (EfficientNetLite() if name == BUNDLED else models.get_model(name, weights=None)).eval()


def ours_net(name: str) -> nn.Module:
    """As our loader hands it on."""
    return move_to_device(theirs(name).requires_grad_(False), torch.device("cpu"))


def top1(logits: Tensor) -> Tensor:
    return logits.argmax(1, keepdim=True)


def ours(
    net: nn.Module, batch: Tensor, recipes: list[Recipe], execution: Execution = DEFAULT_EXECUTION
) -> Callable[[], object]:
    """Our methods together, as a run calls them."""
    plan = Plan.of(need for recipe in recipes for need in recipe.needs)
    seeds = {"seeds": torch.zeros(len(batch), dtype=torch.int64)}

    def work() -> object:
        seen = observe(net, batch, plan, top1, execution=execution, given=seeds)
        return [recipe.explain(seen.evidence.only(recipe.needs)) for recipe in recipes]

    return work


def recipe_of(net: nn.Module, name: str, **options: object) -> Recipe:
    """The recipe of a method for a network of 224x224 input."""
    method = find_method(name)
    frame = InputSpec((224, 224), (-2.0,) * 3, (2.0,) * 3)
    return method.build(
        method.options(**options), method_context(net, probe_layers(net, (3, 224, 224), "bench"), frame)
    )


def _plain_backwards(net: nn.Module, batch: Tensor, times: int) -> Callable[[], object]:
    def work() -> None:
        leaf = batch.clone().requires_grad_()
        score = net(leaf).amax(1).sum()
        for turn in range(times):
            torch.autograd.grad(score, leaf, retain_graph=turn < times - 1)

    return work


def _forward(net: nn.Module, batch: Tensor) -> Callable[[], object]:
    def work() -> object:
        with torch.no_grad():
            return net(batch)

    return work


def folded_forwards(net: nn.Module, image: Tensor, count: int) -> dict[str, Callable[[], object]]:
    """By what to call it the forward of `count` images by torch's own folded network, in chunks of each size."""
    folded = fuse(net).to(memory_format=torch.channels_last)

    def forwards(chunk: int) -> Callable[[], object]:
        one = _forward(folded, image.expand(chunk, -1, -1, -1).contiguous(memory_format=torch.channels_last))

        def work() -> None:
            for _ in range(count // chunk):
                one()

        return work

    return {f"{count} folded forwards, {chunk} at a time": forwards(chunk) for chunk in CHUNKS if chunk <= count}


def gradcam_over_folded(rounds: int) -> list[Line]:
    """The bundled network's own pass, in the batches of a run, against the folded forward of as many images."""
    net, count = ours_net(BUNDLED), 8
    images = torch.randn(count, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    # As many together as a run takes, see engine.device.batch_for.
    each = [ours(net, batch, [recipe_of(net, "gradcam")]) for batch in images.split(4)]
    chunks = folded_forwards(net, images[:1], count)
    times = medians({"gradcam": lambda: [work() for work in each], **chunks}, rounds)
    best = min(chunks, key=lambda chunk: times[chunk])
    what = f"{BUNDLED}: gradcam of {count} images over the folded forward at its best chunk"
    return [line(what, times, "gradcam", best, "<= 1.25", 1)]


def gradcam(name: str, rounds: int) -> list[Line]:
    """One method alone: what it costs above a forward, and what the peer takes for the same map."""
    from pytorch_grad_cam import GradCAM

    default, images = theirs(name), torch.randn(BATCH, 3, 224, 224)
    layers = probe_layers(default, (3, 224, 224), name)
    recipe = recipe_of(default, "gradcam")
    layer = default.get_submodule(layers.resolve(["last-conv"])[0])
    one = images[:1]

    def peer(batch: Tensor) -> Callable[[], object]:
        def work() -> object:
            # As the peer's README has it: a context, target_layers, no targets for the highest class.
            with GradCAM(model=default, target_layers=[layer]) as cam:
                return cam(input_tensor=batch, targets=None)

        return work

    net = ours_net(name)
    fast = images.contiguous(memory_format=torch.channels_last)
    times = medians(
        {
            "gradcam": ours(net, fast, [recipe]),
            "forward": _forward(net, fast),
            "one": peer(one),
            "batch": peer(images),
        },
        rounds,
    )
    per_image = {
        "grad-cam, one image": times["one"],
        "grad-cam, batch of 8, an image": times["batch"] / BATCH,
        "cnnviz, batch of 8, an image": times["gradcam"] / BATCH,
    }
    return [
        line(f"{name}: gradcam over a forward, batch 8", times, "gradcam", "forward", "<= 1.15"),
        line(
            f"{name}: grad-cam 1.5.7 over cnnviz",
            per_image,
            "grad-cam, one image",
            "cnnviz, batch of 8, an image",
            ">= 4",
        ),
        line(
            f"{name}: the same, both in batches of 8",
            per_image,
            "grad-cam, batch of 8, an image",
            "cnnviz, batch of 8, an image",
            ">= 1",
        ),
    ]


def four_families(name: str, rounds: int) -> list[Line]:
    """Features, saliency, gradcam and class deconvolution of one batch, compute only."""
    from captum.attr import Deconvolution, LayerActivation, Saliency
    from pytorch_grad_cam import GradCAM

    default, images = theirs(name), torch.randn(BATCH, 3, 224, 224)
    layers = probe_layers(default, (3, 224, 224), name)
    shown = ("low-mid-high",)
    recipes = [
        recipe_of(default, "feature-maps", layer=shown),
        recipe_of(default, "gradient"),
        recipe_of(default, "gradcam"),
        recipe_of(default, "class"),
    ]
    modules = [default.get_submodule(layer) for layer in layers.resolve(shown)]
    last = default.get_submodule(layers.resolve(["last-conv"])[0])

    def peers() -> None:
        classes = default(images).argmax(1)
        for module in modules:
            LayerActivation(default, module).attribute(images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum announces that it sets hooks and requires_grad
            Saliency(default).attribute(images, target=classes)
            Deconvolution(default).attribute(images.clone().requires_grad_(), target=classes)
        with GradCAM(model=default, target_layers=[last]) as cam:
            cam(input_tensor=images, targets=None)

    net = ours_net(name)
    fast = images.contiguous(memory_format=torch.channels_last)
    times = medians(
        {
            "all": ours(net, fast, recipes),
            "1 forward + 2 backwards": _plain_backwards(net, fast, 2),
            "grad-cam + captum": peers,
        },
        rounds,
    )
    return [
        line(f"{name}: four families over 1 forward + 2 backwards", times, "all", "1 forward + 2 backwards", "<= 1.2"),
        line(f"{name}: grad-cam + captum over cnnviz", times, "grad-cam + captum", "all", ">= 3"),
    ]


def deconvnet(name: str, rounds: int, maps: int = 4) -> list[Line]:
    """The deconvnet's own passes against plain backwards from the same layers."""
    net = ours_net(name)
    layers = probe_layers(net, (3, 224, 224), name)
    chosen = layers.resolve(["low-mid-high"])
    batch = torch.randn(BATCH, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    recipe = recipe_of(net, "deconvnet", maps=maps)

    def plain(passes: int) -> Callable[[], object]:
        def work() -> None:
            kept: dict[str, Tensor] = {}
            handles = [
                net.get_submodule(layer).register_forward_hook(
                    lambda _m, _i, output, layer=layer: kept.__setitem__(layer, output.clone()) or kept[layer]
                )
                for layer in chosen
            ]
            leaf = batch.clone().requires_grad_()
            net(leaf)
            for handle in handles:
                handle.remove()
            for layer in chosen:
                for _turn in range(passes):
                    torch.autograd.grad(kept[layer], leaf, kept[layer].detach(), retain_graph=True)

        return work

    assert sum(isinstance(b.of, StrongestChannel) for b in Plan.of(recipe.needs).backwards) == maps * len(chosen)
    times = medians({"deconvnet": ours(net, batch, [recipe]), "plain": plain(maps), "forward": plain(0)}, rounds)
    own = {
        "deconvnet's passes": times["deconvnet"] - times["forward"],
        "plain backwards": times["plain"] - times["forward"],
    }
    return [
        line(
            f"{name}: {maps * len(chosen)} projections over plain backwards",
            own,
            "deconvnet's passes",
            "plain backwards",
            "<= 1.2",
        )
    ]


def everything(rounds: int) -> list[Line]:
    """All of it."""
    lines = gradcam("resnet50", rounds)
    lines += gradcam_over_folded(rounds)
    lines += four_families("resnet50", rounds)
    lines += deconvnet("resnet50", rounds)
    return lines
