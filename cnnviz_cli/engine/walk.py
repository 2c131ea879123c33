"""Follow a path whose every step depends on the gradient at the step before."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnviz_cli.core.evidence import Gradient, PathIntegral
from cnnviz_cli.core.memory_format import laid_out_like
from cnnviz_cli.engine.answers import answers
from cnnviz_cli.engine.passes import run_pass
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.engine.setting import PassContext


@answers(PathIntegral)
def run_walk(context: PassContext, need: PathIntegral) -> Tensor:
    """(B, 3, H, W) what the path has attributed at its end; the whole batch walks together."""
    gradient = Gradient(of=need.of)
    plan = Plan.of([gradient])
    evidence = context.evidence.only(need.along.needs)
    point = need.along.begin(evidence)
    total = torch.zeros_like(point)
    for step in range(need.along.count):
        made = run_pass(
            context.net,
            context.net,
            # A path may keep its place elsewhere, and more exactly than the network needs it.
            laid_out_like(point.to(context.batch.device, context.batch.dtype), context.batch),
            plan,
            context.targets,
            context.precision,
            readout=context.readout,
            held=context.held,
        )
        point, part = need.along.advance(evidence, step, point, made.answers[gradient])
        total = total + part
        context.tick(step + 1, need.along.count)
    return total.to(context.logits)
