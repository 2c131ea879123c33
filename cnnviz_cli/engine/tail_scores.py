"""Scores of altered maps of a layer: what comes after it, as a function of them, for one image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cnnviz_cli.core.layers import input_proportions
from cnnviz_cli.core.needs import Activation, Evidence
from cnnviz_cli.core.scores import CLASSES, Readout, to_two_classes
from cnnviz_cli.engine.answers import PassContext, no_tick
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.graph import make_tails
from cnnviz_cli.engine.passes import run_pass
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.engine.targets import TargetSelector
from cnnviz_cli.engine.twins import run_on_twin


def open_tail(
    net: nn.Module,
    image: Tensor,
    layer: str,
    execution: Execution,
    readout: Readout = CLASSES,
    *,
    alone: bool = False,
) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Cut a network behind a layer, for one image.

    Args:
        image: (1, C, H, W) normalised, on the device.
        alone: whether the network takes one input at a time.

    Returns:
        (1, C, h, w) the maps of the layer, (1, K) the scores, and what gives (n, K) scores of (n, C, h, w) altered
        maps. Where the network cannot be cut, all of it runs, with the maps in their place.
    """
    plan = Plan.of((Activation(layer),))
    chosen = TargetSelector((0,))
    height, width = int(image.shape[2]), int(image.shape[3])
    with input_proportions(height, width):
        own = run_on_twin(
            net,
            image,
            plan.layers,
            lambda twin: run_pass(twin, twin, image, plan, chosen, execution, readout=readout),
            fold=execution.fold and not alone,
        )
        evidence = Evidence(dict(own.answers))
        context = PassContext(
            net, image.detach(), own.targets, own, execution, evidence, None, no_tick, readout, own.anchor, alone
        )
        (tail,) = make_tails(context, layer)

    def scores(maps: Tensor) -> Tensor:
        with torch.no_grad(), input_proportions(height, width), execution.autocast(maps.device):
            if alone:
                return torch.cat([context.score_reader(0)(tail(one)) for one in torch.split(maps, 1)])
            found = readout.scores(tail(maps), context.anchor_of(0, len(maps)))
            return to_two_classes(found).float()

    return own.answers[Activation(layer)], own.logits, scores
