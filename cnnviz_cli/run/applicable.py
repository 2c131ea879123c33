"""Which methods a network lets run: built, and tried where only a pass can tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.evidence import Gradient, GradientOver, Input, Need, Scores, Seeds, Walk
from cnnviz_cli.core.evidence import Targets as TargetsNeed
from cnnviz_cli.core.method import Frame, Method, Recipe, Scope
from cnnviz_cli.engine.device import memory_errors_named
from cnnviz_cli.engine.observe import observe
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.engine.targets import Targets


@dataclass(frozen=True)
class Asked:
    """A method somebody wants.

    Attributes:
        by_name: it was named, so that it is a mistake if it does not apply; else it is one of all.
    """

    method: Method
    options: Any
    by_name: bool


Built = tuple[Method, tuple[Recipe, ...]]
"""A method with a recipe for each target, or one if it depends on none."""


@dataclass(frozen=True)
class Applicable:
    """What can be run, and of the rest why not.

    Attributes:
        refused: by name of the method, in the order asked for.
    """

    built: tuple[Built, ...]
    refused: Mapping[str, UsageError]


def applicable(
    asked: Sequence[Asked], scope: Scope, targets: Targets, net: nn.Module, device: torch.device, precision: str
) -> Applicable:
    """Build every method, and try those that were not named on one black picture.

    Raises:
        UsageError: a named method does not apply, or a setting does not fit.
    """
    built: list[tuple[Asked, tuple[Recipe, ...]]] = []
    refused: dict[str, UsageError] = {}
    for one in asked:
        try:
            built.append((one, _recipes(one, scope, len(targets.ranks))))
        except UsageError as error:
            if one.by_name or _chosen_by_hand(error, one):
                error.where = error.where or one.method.name
                raise
            refused[one.method.name] = error
    doubtful = {one.method.name: recipes[0] for one, recipes in built if not one.by_name}
    refused |= _tried(doubtful, scope.frame, targets, net, device, precision)
    left = tuple((one.method, recipes) for one, recipes in built if one.method.name not in refused)
    order = [one.method.name for one in asked]
    return Applicable(left, {name: refused[name] for name in sorted(refused, key=order.index)})


def _recipes(one: Asked, scope: Scope, targets: int) -> tuple[Recipe, ...]:
    first = one.method.build(one.options, scope)
    if not first.follows_target:
        return (first,)
    others = (one.method.build(one.options, replace(scope, rank=rank)) for rank in range(1, targets))
    return (first, *others)


def _chosen_by_hand(error: UsageError, one: Asked) -> bool:
    """Whether the error is about an option that somebody has set: then it is a mistake, whoever stumbles over it."""
    for item in fields(one.options):
        if error.where == f"--{item.name.replace('_', '-')}":
            return getattr(one.options, item.name) not in (item.default, item.metadata.get("in_all", item.default))
    return False


def _tried(
    recipes: Mapping[str, Recipe], frame: Frame, targets: Targets, net: nn.Module, device: torch.device, precision: str
) -> dict[str, UsageError]:
    """What the engine refuses: everything asked for in one go, and one by one only if that fails."""
    picture = torch.zeros(1, len(frame.black), *frame.size, device=device).contiguous(memory_format=torch.channels_last)

    def refusal(needs: Iterable[Need]) -> UsageError | None:
        try:
            with memory_errors_named(1):
                observe(net, picture, Plan.of(needs), targets, precision=precision)
        except UsageError as error:
            return error
        return None

    samples = {name: _samples(recipe.needs) for name, recipe in recipes.items()}
    distinct = {kind: need for found in samples.values() for kind, need in found.items()}
    if not distinct or refusal(distinct.values()) is None:
        return {}
    refused = {kind: refusal([need]) for kind, need in distinct.items()}
    errors = {name: next(filter(None, (refused[kind] for kind in kinds)), None) for name, kinds in samples.items()}
    return {name: error for name, error in errors.items() if error is not None}


_NEVER_REFUSED = Input | Seeds | TargetsNeed | Scores | Walk

Kind = tuple[Any, ...]


def _samples(needs: Iterable[Need]) -> dict[Kind, Need]:
    """One need of each kind, rule and place; of a stream one gradient, since no variant meets what another does not."""
    found: dict[Kind, Need] = {}
    for need in needs:
        if isinstance(need, _NEVER_REFUSED):
            continue
        one: Need = Gradient(need.at, need.of, need.through) if isinstance(need, GradientOver) else need
        objective = getattr(one, "of", None)
        layers = objective.layers() if objective is not None else ()
        told = [getattr(one, name, None) for name in ("at", "layer", "through", "composite")]
        found.setdefault((type(one), type(objective), layers, *told), one)
    return found
