"""Run one registered method on a tiny network, the way a run does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tiny
import torch
from torch import Tensor, nn

import cnnviz_cli.methods  # noqa: F401
from cnnviz_cli.core.method import Recipe, Scope, find
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.models.probe import probe
from cnnviz_cli.run.prepare import first_kernels

Runner = Callable[..., Sequence[Panel]]


def recipe_of(name: str, net: nn.Module, rank: int = 0, size: int = tiny.SIZE, **options: Any) -> Recipe:
    """The recipe of a method with these options, for a network whose input has `size` rows and columns."""
    layers = probe(net, (3, size, size), "tiny")
    method = find(name)
    return method.build(method.options(**options), Scope(layers, rank, first_kernels(net)))


def run_method(
    name: str,
    net: nn.Module,
    batch: Tensor,
    *,
    choose: Callable[[Tensor], Tensor] = tiny.first_class,
    rank: int = 0,
    size: int = tiny.SIZE,
    **options: Any,
) -> Sequence[Panel]:
    """The panels of one method for one batch."""
    recipe = recipe_of(name, net, rank, size, **options)
    seen = observe(net, batch, Plan.of(recipe.needs), choose)
    return recipe.explain(seen.evidence.only(recipe.needs))


def numbers(panel: Panel) -> dict[str, Tensor]:
    """The raw tensors of a panel, and its statistics, by name."""
    return {name: torch.as_tensor(values) for name, values in {**panel.arrays(), **panel.statistics}.items()}
