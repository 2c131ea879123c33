"""How the scores of a vision transformer go back to the patches through its attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz_cli.core.attention import AttentionFlow, AttentionLayers
from cnnviz_cli.core.errors import EvidenceError
from cnnviz_cli.core.layers import MAX_LEADING_TOKENS, upsample
from cnnviz_cli.core.needs import Gradient
from cnnviz_cli.core.objectives import Objective
from cnnviz_cli.core.scores import to_two_classes
from cnnviz_cli.engine.answers import PassContext, answers
from cnnviz_cli.engine.attention_capture import AttentionRecorder, AttentionRun
from cnnviz_cli.engine.operations import check_visible
from cnnviz_cli.engine.passes import Pass, answer
from cnnviz_cli.engine.plan import Plan


def count_attention(net: nn.Module, image: Tensor) -> int:
    """How many layers of attention run in one forward on a (1, C, H, W) input, those that mix tokens; 0 in a network
    without any. Raises UsageError for a program that cannot be looked into, or tokens of unknown places."""
    check_visible(net, AttentionFlow.looks_at)
    recorder = AttentionRecorder(net, 1)
    with torch.no_grad(), recorder.active():
        net(image.clone())
    return len(_mixing(recorder.runs))


def _mixing(runs: Sequence[AttentionRun]) -> list[AttentionRun]:
    """The layers whose tokens attend to each other; where there is none, those by which others read them."""
    return [run for run in runs if run.mixes] or list(runs)


@answers(AttentionFlow)
def trace_flow(context: PassContext, need: AttentionFlow) -> Tensor:
    """(B, 1, h, w): see `AttentionFlow`."""
    recorder = AttentionRecorder(context.net, len(context.batch))
    with recorder.active():
        context.run(context.batch, Plan.of([Gradient(of=need.of)]), fold=False)
    runs = [run for run in recorder.runs if run.gradient is not None]
    _check_found(runs)
    read = _find_read(runs[-1]).to(runs[-1].weights)
    rows = read / read.sum(1, keepdim=True).clamp(min=1)
    around = rows  # what has passed by all layers so far, and through none
    keep, take = need.by.shares
    later: AttentionRun | None = None
    for run in reversed(runs):
        if later is not None:
            rows, around = (_match_tokens(each, run, later) for each in (rows, around))
        assert run.gradient is not None  # or it would not be among them
        taken = run.carry(rows, need.by.pass_on(run.weights, run.gradient))
        if run.mixes:
            rows, around = keep * rows + take * taken, keep * around
        else:
            rows, around = taken, torch.zeros_like(taken)
        later = run
    skipped, height, width = runs[0].grid
    return answer((rows - around)[:, skipped:].reshape(len(rows), 1, height, width))


def _find_read(last: AttentionRun) -> Tensor:
    """(B, Q) bool, from which outputs of the last layer the scores are read; of an image by whose score no gradient
    comes back, as from a head of zeros, the class token if there may be one, else all."""
    read = last.queries_read()
    usual = torch.ones_like(read[0])
    if last.mixes and last.grid[0]:
        usual[1:] = False
    return torch.where(read.any(1, keepdim=True), read, usual)


def _match_tokens(rows: Tensor, run: AttentionRun, later: AttentionRun) -> Tensor:
    """(B, keys of `later`) values as those of what `run` gives: tokens that were put in front in between are dropped,
    patches that were merged two by two share what they have."""
    count, given = run.queries, later.keys
    if given == count:
        return rows
    if 0 < given - count <= MAX_LEADING_TOKENS:
        return rows[:, given - count :]
    skipped, height, width = run.grid if run.mixes else (0, 0, 0)
    merged = (-(-height // 2), -(-width // 2))
    if not skipped and given == merged[0] * merged[1]:
        down, across = (torch.arange(side, dtype=torch.int64, device=rows.device) // 2 for side in (height, width))
        parents = (down[:, None] * merged[1] + across).flatten()
        children = torch.bincount(parents, minlength=given)
        return (rows / children)[:, parents]
    raise EvidenceError(
        f"{count} tokens of '{run.module}' become {given} of '{later.module}', and how is not known",
        fix="Use another method, for instance gradcam, see: cnnviz methods",
    )


def _check_found(runs: Sequence[AttentionRun]) -> None:
    if not runs:
        raise EvidenceError(
            "the scores of this network depend on no attention",
            fix="Use a method that reads feature maps, for instance gradcam, see: cnnviz methods",
        )


@answers(AttentionLayers)
def read_layers(context: PassContext, need: AttentionLayers) -> Tensor:
    """(B, L, h, w): see `AttentionLayers`."""
    net, batch = context.net, context.batch
    recorder = AttentionRecorder(net, len(batch), keep=frozenset(name for name, _ in net.named_modules()))
    with torch.enable_grad(), context.execution.applied_to(net, batch.device):
        with recorder.active():
            score = _score(context, need.of, net(batch.clone().requires_grad_()))
        runs = [run for run in recorder.runs if run.recorded.requires_grad]
        _check_found(runs)
        runs = _mixing(runs)
        blocks = find_blocks([run.module for run in runs])
        last = blocks[-1]
        outputs = [recorder.outputs.get(block) for block in blocks]
        maps = []
        for run, block, output in zip(runs, blocks, outputs, strict=True):
            end = outputs[-1]
            own = score
            if block != last and output is not None and end is not None and output.shape == end.shape:
                own = _score_behind(context, need.of, last, output)
            found: tuple[Tensor | None, ...] = torch.autograd.grad(
                own, run.recorded, retain_graph=True, allow_unused=True
            )
            gradient = torch.zeros_like(run.weights) if found[0] is None else found[0].view(run.weights.shape)
            everyone = run.weights.new_full((len(batch), run.queries), 1 / run.queries)
            taken = run.carry(everyone, need.by.pass_on(run.weights, gradient))
            skipped, height, width = run.grid
            maps.append(answer(taken[:, skipped:].reshape(len(batch), 1, height, width)))
    size = max((tuple(each.shape[2:]) for each in maps), key=lambda shape: shape[0] * shape[1])
    return torch.cat([each if each.shape[2:] == size else upsample(each, (size[0], size[1])) for each in maps], 1)


def _score(context: PassContext, of: Objective, output: Any) -> Tensor:
    logits = to_two_classes(context.readout.scores(output, context.anchor))
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return of.value(Pass(logits, context.targets, {}, {}, context.anchor)).sum()


def _score_behind(context: PassContext, of: Objective, last: str, output: Tensor) -> Tensor:
    """The score where the last block gives `output` instead."""

    def give(_module: nn.Module, _inputs: Any, given: Any) -> Any:
        return (output, *given[1:]) if isinstance(given, tuple) else output

    hook = context.net.get_submodule(last).register_forward_hook(give)
    try:
        return _score(context, of, context.net(context.batch.clone()))
    finally:
        hook.remove()


def find_blocks(modules: Sequence[str]) -> list[str]:
    """For each module the shortest path above it that lies above none of the others: its block."""
    found = []
    for module in modules:
        parts = module.split(".")
        paths = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
        others = [other for other in modules if other != module]
        own = (path for path in paths if not any(f"{other}.".startswith(f"{path}.") for other in others))
        found.append(next(own, module))
    return found
