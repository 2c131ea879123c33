"""The passes that recipes take, and the views of the input that some of them average over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cnnviz_cli.core.layers import as_tensor
from cnnviz_cli.core.method import InputView, Recipe
from cnnviz_cli.core.network import match_memory_format
from cnnviz_cli.core.panels import SHARED, Heatmap, InputProjection, Panel, State
from cnnviz_cli.core.records import Cost
from cnnviz_cli.engine.execution import Precision
from cnnviz_cli.engine.plan import Plan

AveragedPanel = Heatmap | InputProjection


def plan_recipes(recipes: Iterable[Recipe]) -> tuple[Plan, Mapping[InputView, Plan]]:
    """What is asked of each batch, and of each batch seen through a view by the recipes that average over views."""
    every = tuple(recipes)
    views = dict.fromkeys(view for recipe in every for view in recipe.views)
    return (
        Plan.of(need for recipe in every if not recipe.views for need in recipe.needs),
        {view: Plan.of(need for recipe in every if view in recipe.views for need in recipe.needs) for view in views},
    )


def total_cost(plan: Plan, views: Mapping[InputView, Plan], precision: Precision = "fp32") -> Cost:
    """Passes for each batch, variants for each image."""
    costs = [each.cost(precision) for each in (plan, *views.values())]
    return Cost(
        forwards=sum(cost.forwards for cost in costs),
        backwards=sum(cost.backwards for cost in costs),
        variants=sum(cost.variants for cost in costs),
        at_most=any(cost.at_most for cost in costs),
    )


def describe_plans(plan: Plan, views: Mapping[InputView, Plan], precision: Precision = "fp32") -> list[str]:
    """The passes in words, a line each; views with the same passes are told of once."""
    lines = plan.lines(precision)
    for each in dict.fromkeys(views.values()):
        count = sum(one == each for one in views.values())
        lines.append(f"for each of {count} changed inputs:" if count > 1 else "for a changed input:")
        lines += [f"  {line}" for line in each.lines(precision)]
    return lines


def apply_view(view: InputView, batch: Tensor) -> Tensor:
    changed = batch.flip(3) if view.flipped else batch
    return match_memory_format(changed * view.gain, batch)


def undo_view(view: InputView, panel: Panel) -> AveragedPanel:
    if not isinstance(panel, AveragedPanel):
        raise TypeError(f"{type(panel).__name__} cannot be averaged over views")
    values = as_tensor(panel.values)
    return replace(panel, values=values.flip(3)) if view.flipped else panel


_COMBINE: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "values": torch.mean,
    "raw_max": torch.amax,  # where it speaks for the target in one view, the mean of the rectified maps is above zero
    "raw_min": torch.amin,
}


def average_views(panels: Sequence[AveragedPanel]) -> AveragedPanel:
    first = panels[0]
    statistics = {
        name: torch.stack([as_tensor(panel.statistics[name]) for panel in panels]).double().mean(0)
        for name in first.statistics
    }
    numbers = {
        name: combine(torch.stack([as_tensor(getattr(panel, name)) for panel in panels]), 0)
        for name, combine in _COMBINE.items()
        if getattr(first, name, None) is not None
    }
    warnings: dict[State, Tensor] = {
        state: combine(torch.stack([as_tensor(panel.warnings[state]) for panel in panels]), 0)
        for state, combine in ((state, torch.all if state in SHARED else torch.any) for state in first.warnings)
    }
    return replace(first, statistics=statistics, warnings=warnings, **numbers)  # type: ignore[arg-type]  # tensors by name
