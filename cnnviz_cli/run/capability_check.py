"""Which methods a network lets run: each is built, and what the engine may refuse is tried on one black image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from cnnviz_cli.core.errors import EvidenceError, UsageError
from cnnviz_cli.core.families import EVERY_FAMILY
from cnnviz_cli.core.method import Method, MethodContext, Recipe, methods
from cnnviz_cli.core.needs import Need
from cnnviz_cli.core.network import explain_memory_errors, to_memory_format
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.run.session import Session

Kind = tuple[Any, ...]


def find_refused(session: Session, recipes: Mapping[str, Recipe]) -> dict[str, UsageError]:
    """By name the recipes that the network cannot carry out, and why; raises MemoryShortError if no image fits.

    One need of each kind is tried, all together; only if that is refused, each recipe is tried by itself.
    """
    samples = {name: _samples(recipe.needs) for name, recipe in recipes.items()}
    distinct = {kind: need for found in samples.values() for kind, need in found.items()}
    if not distinct or _refusal(session, distinct.values()) is None:
        return {}
    refused = {kind: _refusal(session, [need]) for kind, need in distinct.items()}
    errors = {name: next(filter(None, map(refused.get, kinds)), None) for name, kinds in samples.items()}
    return {name: error for name, error in errors.items() if error is not None}


def _refusal(session: Session, needs: Iterable[Need]) -> UsageError | None:
    spec = session.context.input_spec
    black = torch.tensor(spec.black, dtype=torch.float32, device=session.device).view(1, -1, 1, 1)
    batch = to_memory_format(black.expand(-1, -1, *spec.size).clone(), session.model.facts.memory_format)
    plan = Plan.of(needs)
    given = {need.name: need.zeros(lambda _place: batch.shape[1:]) for need in plan.given}
    try:
        with explain_memory_errors(1):
            session.observe(batch, plan, given, digests=[""], choose=session.targets.with_truths([0]))
    except UsageError as error:
        return error
    return None


def plain(recipe: Recipe) -> bool:
    """Whether a recipe takes nothing but maps, scores and true gradients, which hardly any network refuses."""
    return not any(need.demanding or need.rule != "exact" for need in recipe.needs)


def _samples(needs: Iterable[Need]) -> dict[Kind, Need]:
    found: dict[Kind, Need] = {}
    for need in needs:
        for one in need.trial():
            # Of rules for rectifiers: either every one finds a rectifier in the network or none does.
            found.setdefault(one.kind if one.rule == "exact" else ("modified",), one)
    return found


@dataclass(frozen=True)
class MethodRequest:
    """A method that is asked for. If it was asked for `by_name`, it is a mistake if it does not apply."""

    method: Method
    options: Any
    by_name: bool


BuiltMethod = tuple[Method, tuple[Recipe, ...]]
"""A method with a recipe for each target, or one if it depends on none."""


@dataclass(frozen=True)
class MethodSelection:
    """What can be run, and of the rest why not, by name of the method and in the order asked for."""

    built: tuple[BuiltMethod, ...]
    refused: Mapping[str, UsageError]


def select_methods(asked: Sequence[MethodRequest], session: Session) -> MethodSelection:
    """Build every method, and try on one black image what the engine may refuse.

    Raises:
        UsageError: a named method does not apply, or a setting does not fit.
        MemoryShortError: not even one image fits into memory.
    """
    built: list[tuple[MethodRequest, tuple[Recipe, ...]]] = []
    refused: dict[str, UsageError] = {}
    settings: list[tuple[MethodRequest, str, UsageError]] = []
    for one in asked:
        try:
            built.append((one, build_recipes(one, session.context, len(session.targets.ranks))))
        except UsageError as error:
            if one.by_name:
                raise _with_method(error, one) from None
            refused[one.method.name] = error
            settings += [(one, option, error) for option in _user_set_options(error, one)]
    for one, option, misfit in settings:
        # A setting that suits no method is a mistake, whichever raises it; if another takes it, one is left out.
        if not any(option in _option_names(other) for other, _ in built if other.method.family == one.method.family):
            raise misfit
    recipes = {one.method.name: found[0] for one, found in built}
    for name, refusal in find_refused(session, recipes).items():
        one = next(one for one, _ in built if one.method.name == name)
        if one.by_name:
            if isinstance(refusal, EvidenceError):
                raise _with_method(
                    refusal, one, "\n".join(filter(None, (refusal.fix, _suggest_commands(one.method, session))))
                )
            raise _with_method(refusal, one, "" if plain(recipes[name]) else _alternatives(one.method, session.context))
        refused[name] = refusal
    left = tuple((one.method, found) for one, found in built if one.method.name not in refused)
    order = [one.method.name for one in asked]
    return MethodSelection(left, {name: refused[name] for name in sorted(refused, key=order.index)})


def build_recipes(one: MethodRequest, scope: MethodContext, targets: int) -> tuple[Recipe, ...]:
    """A recipe for each target, or one if the method depends on none; raises UsageError where it does not apply."""
    first = one.method.build(one.options, scope)
    if not first.follows_target:
        return (first,)
    others = (one.method.build(one.options, replace(scope, rank=rank)) for rank in range(1, targets))
    return (first, *others)


def _option_names(one: MethodRequest) -> set[str]:
    return {item.name for item in fields(one.options)}


def _user_set_options(error: UsageError, one: MethodRequest) -> Iterable[str]:
    for item in fields(one.options):
        if error.where == f"--{item.name.replace('_', '-')}" and getattr(one.options, item.name) not in (
            item.default,
            item.metadata.get("in_all", item.default),
        ):
            yield item.name


def _with_method(error: UsageError, one: MethodRequest, fix: str = "") -> UsageError:
    error.where = error.where or one.method.name
    error.fix = fix or error.fix
    return error


def _alternatives(refused: Method, scope: MethodContext) -> str:
    known = sorted(methods(refused.family), key=lambda one: (one.name != EVERY_FAMILY[one.family].default, one.name))
    recipes = ((one.name, _default_recipe(one, scope)) for one in known if one is not refused)
    found = [name for name, recipe in recipes if recipe is not None and plain(recipe)][:3]
    if not found:
        return ""
    listed = found[0] if len(found) == 1 else f"{', '.join(found[:-1])} or {found[-1]}"
    return f"Use {listed} instead, see: cnnviz methods"


def _default_recipe(method: Method, scope: MethodContext) -> Recipe | None:
    try:
        return method.build(method.options(), scope)
    except UsageError:
        return None


def _suggest_commands(refused: Method, session: Session) -> str:
    known = sorted(
        methods(),
        key=lambda one: (one.family != refused.family, one.name != EVERY_FAMILY[one.family].default, one.name),
    )
    recipes = {one.name: _default_recipe(one, session.context) for one in known if one is not refused}
    explaining = {name: one for name, one in recipes.items() if one is not None and one.follows_target and plain(one)}
    failing = find_refused(session, explaining)
    left = [one for one in known if one.name in explaining and one.name not in failing]
    same = [one for one in left if one.family == refused.family][:2]
    found = (same + [one for one in left if one not in same])[:3]
    commands = [f"cnnviz {one.family} --method {one.name}" for one in found]
    return f"These run on this network: {'; '.join(commands)}" if commands else ""
