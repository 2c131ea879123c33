"""One forward, its backwards, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import EvidenceError, UsageError
from cnnviz_cli.core.layers import as_maps, split_run
from cnnviz_cli.core.needs import INPUT, Curvature, Gradient, Need
from cnnviz_cli.core.scores import CLASSES, Readout, to_two_classes
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.plan import Backward, Plan
from cnnviz_cli.engine.rectifiers import RectifierMode

Choose = Callable[[Tensor], Tensor]
"""(B, K) by what classes are ranked, mostly their scores -> (B, R) class indices: the targets of each image."""

_NO_SECOND = ("is not implemented", "double backwards on")
"""What torch and torchvision say of an operation that has a derivative but no second one."""

Read = Callable[[Any], Tensor]
"""What a network returns for one image -> (1, K) its scores."""


@dataclass
class Pass:
    """What one forward gave: see core.objectives.Forward, and the answers to the plan's own needs.

    Attributes:
        logits: (B, K) class scores, detached once the backwards are over.
        anchor: what is held of each image, see `Readout`; None where that is nothing.
        order: (B, K) the values by which classes are ranked; None where the classes were chosen already.
        kept: output of each layer of the plan, as the module returned it.
        runs: how often each of these layers ran.
        answers: to the plan's Activation, Gradient and Curvature needs.
    """

    logits: Tensor
    targets: Tensor
    kept: dict[str, Tensor]
    answers: dict[Need, Tensor]
    anchor: Tensor | None = None
    order: Tensor | None = None
    runs: dict[str, int] = field(default_factory=dict)

    def maps(self, layer: str) -> Tensor:
        return maps_of(self.kept[layer], layer)


def run_pass(
    net: Callable[[Tensor], Any],
    modules: nn.Module,
    batch: Tensor,
    plan: Plan,
    choose: Choose | Tensor,
    execution: Execution,
    *,
    readout: Readout = CLASSES,
    masks: Tensor | None = None,
    anchor: Tensor | None = None,
    owned: bool = False,
) -> Pass:
    """Run the forward and the backwards of `plan`; its streams of variants are left out.

    Args:
        net: what to call; `modules` itself or a part of it.
        batch: what `net` is called with, on its device.
        choose: see `Choose`; or the (B, R) classes themselves, which are chosen already of what `batch` was made from.
        masks: the region to be explained in each image, see `Readout.hold`.
        anchor: what is held of each image already; found out if not given.
        owned: whether `batch` is not needed afterwards, so that recording may start at it, or a first layer work in
            place on it.

    Raises:
        UsageError: see `observe`.
    """
    source = batch.detach()
    # Recording starts at a leaf of our own, and the network gets a clone: its first layer may work in place.
    leaf = (source if owned else source.clone()).requires_grad_() if plan.from_input else source
    kept: dict[str, Tensor] = {}
    ran: dict[str, int] = {}
    mode = RectifierMode() if plan.modifies_relu else None
    with ExitStack() as stack:
        # Nothing is recorded before something requires a gradient. What the network itself switches off and on again
        # (`with torch.no_grad()` around a frozen part) has to be on again behind it.
        stack.enter_context(torch.set_grad_enabled(bool(plan.backwards)))
        stack.enter_context(_capture_layers(modules, plan, kept, ran))
        stack.enter_context(mode or nullcontext())
        stack.enter_context(execution.applied_to(modules, source.device))
        output = net(leaf if owned and not plan.from_input else leaf.clone())
        anchor = readout.hold(output, masks) if anchor is None else anchor
        logits = to_two_classes(readout.scores(output, anchor))
        for layer in plan.layers:
            if layer not in kept:
                raise UsageError(f"layer '{layer}' does not run", fix="See: cnnviz layers MODEL")
            if len(kept[layer]) != len(source):
                raise _miscount_error(layer, len(kept[layer]), len(source))
    if mode and not mode.recorded:
        raise NoRectifierError(
            "this network has no rectifier that a gradient passes, so the rules of a deconvnet change nothing in it",
            fix="Use a method that follows the exact gradient, see: cnnviz methods",
        )
    with torch.enable_grad():
        logits = logits if logits.dtype == torch.float64 else logits.float()
    if isinstance(choose, Tensor):
        made = Pass(logits, choose, kept, {}, anchor, runs=ran)
    else:
        order = readout.order(logits.detach(), anchor)
        made = Pass(logits, choose(order), kept, {}, anchor, order, ran)
    for position, backward in enumerate(plan.backwards):
        last = position == len(plan.backwards) - 1
        made.answers.update(_run_backward(backward, made, leaf, mode, keep_graph=not last))
    for need in plan.activations:
        made.answers[need] = answer(made.maps(need.layer))
    made.logits = logits.detach()
    return made


class NoRectifierError(UsageError):
    """A rule for rectifiers was asked of a network in which no gradient passes one."""


def _miscount_error(layer: str, outputs: int, images: int) -> UsageError:
    """A layer whose maps would be taken for those of other images, or of one alone."""
    of = f"{images} image{'s' if images > 1 else ''}"
    what = f"layer '{layer}' gives {outputs} output{'s' if outputs > 1 else ''} for {of}"
    if outputs > images and outputs % images == 0:
        parts = outputs // images
        return EvidenceError(
            f"{what}: it runs on {parts} parts of each image at once (crops or views that the network stacks into the "
            "batch), so its maps do not lie over the image",
            fix="Choose a layer outside of that part of the network, see: cnnviz layers MODEL",
        )
    if images > 1:
        return UsageError(what, fix="If the network takes one image after the other: --batch-size 1")
    return EvidenceError(what, fix="Choose another layer, see: cnnviz layers MODEL")


def _run_backward(
    backward: Backward, forward: Pass, leaf: Tensor, mode: RectifierMode | None, *, keep_graph: bool
) -> dict[Need, Tensor]:
    points = [leaf if at == INPUT else forward.kept[at] for at in backward.at]
    with torch.enable_grad():
        total = backward.of.value(forward).sum()
    if mode:
        mode.rule = backward.through
    gradients: tuple[Tensor | None, ...] = (None,) * len(points)
    if total.requires_grad:
        # autograd.grad, never .backward(): no .grad is ours to touch.
        gradients = torch.autograd.grad(
            total, points, retain_graph=keep_graph or None, create_graph=bool(backward.curved), allow_unused=True
        )
    elif forward.anchor is not None and not total.any():
        # What is held is in none of these images, and the network returned nothing that was made of them.
        gradients = tuple(torch.zeros_like(point) for point in points)
    answers: dict[Need, Tensor] = {}
    for at, gradient in zip(backward.at, gradients, strict=True):
        if gradient is None:
            place = "the input" if at == INPUT else f"what layer '{at}' returns"
            aside = "" if at == INPUT else " (it is off the way, or works in place and its result is not used)"
            raise EvidenceError(
                f"{backward.of.label()} does not depend on {place}{aside}, so there is no gradient to read there",
                fix="" if at == INPUT else "Choose a layer on the way to the class scores, see: cnnviz layers MODEL",
                at=at,
            )
        shaped = gradient if at == INPUT else maps_of(gradient, at)
        answers[Gradient(at, backward.of, backward.through)] = answer(shaped)
        if at in backward.curved:
            curvature = _curvature(gradient, forward.kept[at], keep_graph=keep_graph or at != backward.curved[-1])
            answers[Curvature(at, backward.of)] = answer(maps_of(curvature, at))
    return answers


def _curvature(gradient: Tensor, maps: Tensor, *, keep_graph: bool) -> Tensor:
    if not gradient.requires_grad:  # the objective is linear from here on
        return torch.zeros_like(maps)
    try:
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            gradient, maps, maps.detach(), retain_graph=keep_graph or None, allow_unused=True
        )
    except RuntimeError as error:
        if not any(words in str(error) for words in _NO_SECOND):
            raise
        raise UsageError(
            f"torch cannot differentiate this network twice: {error}",
            fix="Use a method that needs no second derivative, see: cnnviz methods",
        ) from error
    return torch.zeros_like(maps) if found[0] is None else found[0]


@contextmanager
def _capture_layers(net: nn.Module, plan: Plan, kept: dict[str, Tensor], ran: dict[str, int]) -> Iterator[None]:
    """Keep the output of the plan's layers while the context is open, recording from those that need a gradient, and
    count their runs."""

    versions: dict[str, int] = {}

    def keeper(layer: str, run: int | None) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
            ran[layer] = ran.get(layer, 0) + 1
            if run is not None and run != ran[layer]:
                return None
            if not isinstance(output, Tensor):
                raise UsageError(f"layer '{layer}' returns {type(output).__name__}, not one tensor")
            if output.is_quantized:
                what = f"layer '{layer}' returns quantised numbers, of which nothing can be drawn or differentiated"
                raise EvidenceError(what, fix="Explain the network as it was before it was quantised.")
            if layer in plan.graph_layers and output.is_inference():
                what = f"layer '{layer}' runs under torch.inference_mode(), where nothing is recorded"
                raise EvidenceError(what, fix="Take inference_mode() out of the network's forward.", at=layer)
            if layer not in plan.graph_layers:
                # Values alone: a copy is ours, and the network goes on with exactly what it had.
                kept[layer] = output.detach().clone()
                return output
            if layer in plan.gradient_layers and not output.requires_grad:
                # The earliest place that needs a gradient: nothing below it is recorded, everything after it is.
                output = output.detach().requires_grad_()
                torch.set_grad_enabled(True)
            original: Tensor = output
            kept[layer], versions[layer] = original, original._version
            # The original is ours; a later ReLU(inplace=True) or += rewrites the clone.
            return original.clone()

        return keep

    with ExitStack() as hooks:
        for layer in plan.layers:
            path, run = split_run(layer)
            hooks.callback(net.get_submodule(path).register_forward_hook(keeper(layer, run)).remove)
        yield
        for layer, version in versions.items():
            # A layer that returns its own input (an identity, a dropout) leaves others with the original in hand.
            if kept[layer]._version != version:
                raise UsageError(
                    f"layer '{layer}' returns its own input, which the network rewrites later",
                    fix="Choose the layer before it or after it; see: cnnviz layers MODEL",
                )


def maps_of(tensor: Tensor, layer: str) -> Tensor:
    """A layer's output as (B, C, h, w)."""
    maps = as_maps(tensor)
    if maps is None:
        raise UsageError(f"the output of layer '{layer}' is {tuple(tensor.shape)}: it has no maps")
    return maps


def answer(tensor: Tensor) -> Tensor:
    """Detached, and in a precision that sums can be taken in."""
    detached = tensor.detach()
    return detached if detached.dtype == torch.float64 else detached.float()
