"""Carry out a plan: one forward, the plan's backwards, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.evidence import INPUT, Activation, Evidence, Gradient, Input, Need
from cnnviz_cli.core.layout import as_maps
from cnnviz_cli.engine.plan import Backward, Plan
from cnnviz_cli.engine.rectifiers import RectifierMode

Choose = Callable[[Tensor], Tensor]
"""(B, K) class scores -> (B, R) class indices: the targets of each image."""

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class _Forward:
    """See core.evidence.Forward."""

    logits: Tensor
    targets: Tensor
    kept: dict[str, Tensor]

    def maps(self, layer: str) -> Tensor:
        return _maps(self.kept[layer], layer)


@dataclass(frozen=True)
class Observation:
    """What a batch gave.

    Attributes:
        logits: (B, K) float32 class scores.
        targets: (B, R) class indices.
        evidence: the answers to all needs of the plan.
    """

    logits: Tensor
    targets: Tensor
    evidence: Evidence


def observe(net: nn.Module, batch: Tensor, plan: Plan, choose: Choose, *, precision: str = "fp32") -> Observation:
    """Run `plan` on a batch.

    The model is left as it was found, also when something raises: no hook, no flag, no `.grad`, no mode. Not for two
    threads on one model at a time: each would see the other's hooks.

    Args:
        net: in eval mode, every module of it; its parameters need not require gradients.
        batch: (B, C, H, W) normalised input on the model's device.
        choose: see `Choose`.
        precision: fp32, or bf16 / fp16 for autocast; answers are float32 (float64 for a float64 model) either way.

    Raises:
        UsageError: a gradient was asked for at a layer on which the objective does not depend, or a rectifier rule
            in a model without rectifiers, or a layer has no maps or does not run.
        ValueError: the network is not in eval mode, or torch is in inference mode.
    """
    if any(module.training for module in net.modules()):
        raise ValueError("the network must be in eval mode, every module of it")
    if torch.is_inference_mode_enabled():
        raise ValueError("under torch.inference_mode() nothing can be differentiated; use torch.no_grad()")
    if plan.bends_rectifiers and any(isinstance(module, torch.jit.ScriptModule) for module in net.modules()):
        raise UsageError(
            "parts of this network are TorchScript, whose rectifiers cannot be seen",
            fix="Use the network as Python code, or a method that follows the exact gradient, see: cnnviz methods",
        )
    source = batch.detach()
    # Recording starts at a leaf of our own, and the network gets a clone: its first layer may work in place.
    leaf = source.clone().requires_grad_() if plan.from_input else source
    kept: dict[str, Tensor] = {}
    mode = RectifierMode() if plan.bends_rectifiers else None
    dtype = AUTOCAST.get(precision)
    with ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(plan.from_input))
        stack.enter_context(_captured(net, plan, kept))
        stack.enter_context(mode or nullcontext())
        stack.enter_context(torch.autocast(source.device.type, dtype) if dtype else nullcontext())
        logits = _scores(net(leaf.clone()))
        for layer in plan.layers:
            if layer not in kept:
                raise UsageError(f"layer '{layer}' does not run", fix="See: cnnviz layers MODEL")
    if mode and not mode.seen:
        raise UsageError(
            "this network has no rectifier that a gradient passes, so the rules of a deconvnet change nothing in it",
            fix="Use a method that follows the exact gradient, see: cnnviz methods",
        )
    with torch.enable_grad():
        logits = logits if logits.dtype == torch.float64 else logits.float()
    targets = choose(logits.detach())
    forward = _Forward(logits, targets, kept)
    answers: dict[Need, Tensor] = {}
    for position, backward in enumerate(plan.backwards):
        last = position == len(plan.backwards) - 1
        answers.update(_run_backward(backward, forward, leaf, mode, keep_graph=not last))
    for need in plan.needs:
        if isinstance(need, Activation):
            answers[need] = _answer(forward.maps(need.layer))
        elif isinstance(need, Input):
            answers[need] = _answer(source)
    return Observation(logits.detach(), targets, Evidence(answers))


def _run_backward(
    backward: Backward, forward: _Forward, leaf: Tensor, mode: RectifierMode | None, *, keep_graph: bool
) -> dict[Need, Tensor]:
    points = [leaf if at == INPUT else forward.kept[at] for at in backward.at]
    with torch.enable_grad():
        total = backward.of.value(forward).sum()
    if mode:
        mode.rule = backward.through
    gradients: tuple[Tensor | None, ...] = (None,) * len(points)
    if total.requires_grad:
        # autograd.grad, never .backward(): nobody's .grad is ours to touch.
        gradients = torch.autograd.grad(total, points, retain_graph=keep_graph, allow_unused=True)
    answers: dict[Need, Tensor] = {}
    for at, gradient in zip(backward.at, gradients, strict=True):
        if gradient is None:
            raise UsageError(
                f"{backward.of.label()} does not depend on what layer '{at}' returns (it is off the way, or works in "
                "place and its result is not used), so there is no gradient to read there",
                fix="Choose a layer on the way to the class scores, for instance --layer last-conv",
            )
        shaped = gradient if at == INPUT else _maps(gradient, at)
        answers[Gradient(at, backward.of, backward.through)] = _answer(shaped)
    return answers


@contextmanager
def _captured(net: nn.Module, plan: Plan, kept: dict[str, Tensor]) -> Iterator[None]:
    """Keep the output of the plan's layers while the context is open, recording from those that need a gradient."""

    versions: dict[str, int] = {}

    def keeper(layer: str) -> Callable[[nn.Module, Any, Any], Tensor]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise UsageError(f"layer '{layer}' returns {type(output).__name__}, not one tensor")
            if layer not in plan.attached:
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
            hooks.callback(net.get_submodule(layer).register_forward_hook(keeper(layer)).remove)
        yield
        for layer, version in versions.items():
            # A layer that returns its own input (an identity, a dropout) leaves others with the original in hand.
            if kept[layer]._version != version:
                raise UsageError(
                    f"layer '{layer}' returns its own input, which the network rewrites later",
                    fix="Choose the layer before it or after it; see: cnnviz layers MODEL",
                )


def _scores(output: Any) -> Tensor:
    """The (B, K) class scores in whatever the network returned."""
    scores = getattr(output, "logits", output)
    if isinstance(scores, tuple | list):
        scores = scores[0]
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        raise UsageError("the network does not return one (batch, classes) tensor of scores, so it is no classifier")
    return scores


def _maps(tensor: Tensor, layer: str) -> Tensor:
    maps = as_maps(tensor)
    if maps is None:
        raise UsageError(f"the output of layer '{layer}' is {tuple(tensor.shape)}: it has no maps")
    return maps


def _answer(tensor: Tensor) -> Tensor:
    """Detached, and in a precision that sums can be taken in."""
    detached = tensor.detach()
    return detached if detached.dtype == torch.float64 else detached.float()
