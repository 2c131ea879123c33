"""What a batch takes: the plan for its images as they are, and those for views of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cnnviz_cli.core.method import InputView, Recipe
from cnnviz_cli.core.records import Cost
from cnnviz_cli.engine.plan import Plan


def planned(recipes: Iterable[Recipe]) -> tuple[Plan, Mapping[InputView, Plan]]:
    """What is asked of each batch, and of each batch seen through a view by the recipes that average over views."""
    every = tuple(recipes)
    views = dict.fromkeys(view for recipe in every for view in recipe.views)
    return (
        Plan.of(need for recipe in every if not recipe.views for need in recipe.needs),
        {view: Plan.of(need for recipe in every if view in recipe.views for need in recipe.needs) for view in views},
    )


def cost_of(plan: Plan, views: Mapping[InputView, Plan]) -> Cost:
    """Passes for each batch, variants for each image."""
    costs = [each.cost() for each in (plan, *views.values())]
    return Cost(
        forwards=sum(cost.forwards for cost in costs),
        backwards=sum(cost.backwards for cost in costs),
        variants=sum(cost.variants for cost in costs),
    )


def lines_of(plan: Plan, views: Mapping[InputView, Plan]) -> list[str]:
    """The passes in words, a line each; views with the same passes are told of once."""
    lines = plan.lines()
    for each in dict.fromkeys(views.values()):
        count = sum(one == each for one in views.values())
        lines.append(f"for each of {count} changed inputs:" if count > 1 else "for a changed input:")
        lines += [f"  {line}" for line in each.lines()]
    return lines
