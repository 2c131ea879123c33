"""Carry out a plan for one batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import EvidenceError
from cnnviz_cli.core.layers import input_proportions
from cnnviz_cli.core.needs import INPUT, Activation, Evidence, Gradient, Input, Need, PathIntegral, Targets
from cnnviz_cli.core.network import match_memory_format, without_checkpoints
from cnnviz_cli.core.objectives import Objective
from cnnviz_cli.core.scores import CLASSES, Readout, resolution
from cnnviz_cli.engine.answers import PassContext, Tick, answer_to, answers, no_tick
from cnnviz_cli.engine.execution import DEFAULT_EXECUTION, Execution
from cnnviz_cli.engine.gradient_cut import explain_missing_gradient
from cnnviz_cli.engine.operations import check_visible
from cnnviz_cli.engine.passes import Choose, Pass, answer, run_pass
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.engine.stream import run_stream
from cnnviz_cli.engine.twins import run_on_twin

__all__ = ["Choose", "Observation", "observe"]


@dataclass(frozen=True)
class Observation:
    """What a batch gave.

    Attributes:
        logits: (B, K) float32 class scores.
        order: (B, K) the values by which classes are ranked; minus infinity for a class that is absent.
        anchor: what the readout holds of each image; None where that is nothing.
        unchanged: by need (B,) whether the answer shows no change of the score beyond rounding.
    """

    logits: Tensor
    targets: Tensor
    evidence: Evidence
    order: Tensor
    anchor: Tensor | None = None
    unchanged: Mapping[Need, Tensor] = field(default_factory=dict)


def observe(
    net: nn.Module,
    batch: Tensor,
    plan: Plan,
    choose: Choose,
    *,
    readout: Readout = CLASSES,
    masks: Tensor | None = None,
    given: Mapping[str, Tensor] = MappingProxyType({}),
    execution: Execution = DEFAULT_EXECUTION,
    memory: int | None = None,
    tick: Tick = no_tick,
    alone: bool = False,
) -> Observation:
    """Run `plan` on a batch.

    The model is left as it was found, also when something raises: no hook, no flag, no `.grad`, no mode. Not for two
    threads on one model at a time: each would see the other's hooks.

    Args:
        net: in eval mode, every module of it; its parameters need not require gradients.
        batch: (B, C, H, W) normalised input on the model's device.
        masks: (B, ...) where the region to be explained is in each image, if the readout takes that.
        given: by name what the plan's `Given` needs are answered with, the batch first.
        execution: how the passes are carried out.
        memory: bytes that streams of variants may take at a time; a quarter of what is free if not given.
        tick: called with (done, total) as a stream of variants goes on.
        alone: whether variants pass the whole network one by one, since it draws random numbers or is no function of
            each image by itself; `batch` is then one image.

    Raises:
        UsageError: a gradient was asked for at a layer on which the objective does not depend, or a rectifier rule
            in a model without rectifiers, or a layer has no maps or does not run, or parts of the model are a program
            that cannot be looked into.
        ValueError: the network is not in eval mode, torch is in inference mode, or something is not in `given`, or
            there not of the whole batch.
    """
    if any(module.training for module in net.modules()):
        raise ValueError("the network must be in eval mode, every module of it")
    if torch.is_inference_mode_enabled():
        raise ValueError("under torch.inference_mode() nothing can be differentiated; use torch.no_grad()")
    if plan.modifies_relu or any(stream.passes.modifies_relu for stream in plan.streams):
        check_visible(net, "rectifiers")
    for reason in dict.fromkeys(need.looks_at for need in plan.separate if need.looks_at):
        check_visible(net, reason)
    missing = [need.name for need in plan.given if need.name not in given]
    if missing:
        raise ValueError(f"evidence that the caller has to bring is missing: {', '.join(missing)}")
    unfit = [need.name for need in plan.given if given[need.name].shape[:1] != batch.shape[:1]]
    if unfit:
        raise ValueError(f"evidence of the caller is not that of {len(batch)} images: {', '.join(unfit)}")
    with input_proportions(*batch.shape[-2:]), without_checkpoints(), _explain_gradient_cuts(net, batch[:1]):
        parts = [(replace(execution, precision=name), part) for name, part in plan.parts(execution.precision)]

        def run(part: Plan, how: Execution, choose: Choose | Tensor, **named: Any) -> Pass:
            return run_on_twin(
                net,
                batch,
                part.layers,
                lambda twin: run_pass(twin, twin, batch, part, choose, how, readout=readout, **named),
                fold=how.fold and not alone,
            )

        (first, own), *others = parts
        forward = run(own, first, choose, masks=masks)
        # Every part is about the targets and the anchors that the first has found.
        passes = [forward] + [run(part, how, forward.targets, anchor=forward.anchor) for how, part in others]
        answers: dict[Need, Tensor] = {need: value for each in passes for need, value in each.answers.items()}
        own_answers: dict[Need, Tensor] = {Input(): answer(batch), Targets(): forward.targets}
        answers.update((need, value) for need, value in own_answers.items() if need in plan.needs)
        answers.update((need, given[need.name]) for need in plan.given)
        evidence = Evidence(answers)
        for (how, part), each in zip(parts, passes, strict=True):
            context = PassContext(
                net,
                batch.detach(),
                forward.targets,
                each,
                how,
                evidence,
                memory,
                tick,
                readout,
                forward.anchor,
                alone,
            )
            for stream in part.streams:
                answers.update(run_stream(context, stream))
            for need in part.separate:
                found = answer_to(need)(context, need)
                answers.update(found if isinstance(found, Mapping) else {need: found})
        assert forward.order is not None  # by it the classes were chosen just now
        unchanged = _find_unchanged_needs(forward, answers, batch, execution.precision)
        return Observation(forward.logits, forward.targets, Evidence(answers), forward.order, forward.anchor, unchanged)


@contextmanager
def _explain_gradient_cuts(net: nn.Module, image: Tensor) -> Iterator[None]:
    """Errors about a missing gradient say where the network cuts it off, whatever asked for it."""
    try:
        yield
    except EvidenceError as error:
        if error.at is None:
            raise
        raise explain_missing_gradient(error, net, image) from None


def _find_unchanged_needs(
    forward: Pass, answers: Mapping[Need, Tensor], batch: Tensor, precision: str
) -> dict[Need, Tensor]:
    """By need that measures a change of a score, for which images the score does not change.

    Args:
        precision: of the needs that do not ask for the full one.
    """
    terms: dict[Objective, Tensor] = {}
    found: dict[Need, Tensor] = {}
    with torch.no_grad():
        for need in answers:
            if need.measures_change:
                objective = need.objective
                assert objective is not None  # every need that asks for a change has one
                if objective not in terms:
                    terms[objective] = objective.terms(forward).abs()
                own = "fp32" if need.full_precision else precision
                unchanged = find_unchanged(need, answers, batch, terms[objective], own)
                if unchanged is not None:
                    found[need] = unchanged
    return found


def find_unchanged(
    need: Need, answers: Mapping[Need, Tensor], inputs: Tensor, terms: Tensor, precision: str = "fp32"
) -> Tensor | None:
    """(B,) whether an image's answer shows no change of the score beyond its rounding; None where that is not known.

    Scores of altered inputs are compared with each other. Slopes are multiplied by what they are slopes by: the score
    cannot change by more than that between zero and the value.

    Args:
        need: one that `measures_change`.
        answers: the batch's; of a gradient at a layer the layer's maps are looked up.
        terms: (B,) the magnitude of the objective's terms.
    """
    answer = answers[need]
    unit = resolution(answer, precision)
    if need.change == "values":
        flat = answer.flatten(1)
        return flat.amax(1) - flat.amin(1) <= unit * flat.abs().amax(1).maximum(terms.to(flat))
    if need.change == "shares":
        reach = answer.abs().flatten(1).sum(1)
    elif need.change == "slopes":
        place = need.place
        multiplier = inputs if place == INPUT else answers.get(Activation(place))
        if multiplier is None:
            return None
        power = getattr(need, "moment", 1)
        slopes = answer if power == 1 else answer.abs().pow(1 / power)
        length = _norms(multiplier)
        if place == INPUT:
            length = length.clamp(min=multiplier[0].numel() ** 0.5)
        reach = _norms(slopes) * length  # no less than the sum of the slopes, which of weighted ones are shares
    else:
        return None
    return reach <= unit * terms.to(reach)


def _norms(values: Tensor) -> Tensor:
    """(B,) Euclidean lengths; squares of tiny numbers do not vanish."""
    flat = values.flatten(1)
    top = flat.abs().amax(1, keepdim=True)
    unit = flat / top.where(top > 0, 1)
    return unit.square().sum(1).sqrt() * top.squeeze(1)


@answers(PathIntegral)
def integrate_path(context: PassContext, need: PathIntegral) -> Tensor:
    """(B, 3, H, W) what the path has attributed at its end; the whole batch walks together."""
    gradient = Gradient(of=need.of)
    plan = Plan.of([gradient])
    evidence = context.evidence.only(need.along.needs)
    point = need.along.begin(evidence)
    total = torch.zeros_like(point)
    for step in range(need.along.count):
        # A path may keep its place elsewhere, and more exactly than the network needs it.
        inputs = match_memory_format(point.to(context.batch.device, context.batch.dtype), context.batch)
        forward = context.run(inputs, plan)
        point, step_total = need.along.advance(evidence, step, point, forward.answers[gradient])
        total = total + step_total
        context.tick(step + 1, need.along.count)
    return total.to(context.logits)
