"""What the engine refuses of a network, found out on one black picture before the first photograph is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.evidence import Need
from cnnviz_cli.core.memory_format import laid_out
from cnnviz_cli.core.method import Frame, Recipe
from cnnviz_cli.core.readout import CLASSES, Readout
from cnnviz_cli.engine.device import memory_errors_named
from cnnviz_cli.engine.observe import observe
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.engine.targets import Targets
from cnnviz_cli.models.facts import KNOWN, NetworkFacts
from cnnviz_cli.run.steady import steady

Kind = tuple[Any, ...]


@dataclass(frozen=True)
class CapabilityCheck:
    """A network to try recipes on.

    Attributes:
        net: on `device`.
        frame: of its input.
        facts: how it has to be run.
    """

    net: nn.Module
    device: torch.device
    frame: Frame
    targets: Targets
    precision: str
    readout: Readout = CLASSES
    facts: NetworkFacts = KNOWN

    def refused(self, recipes: Mapping[str, Recipe]) -> dict[str, UsageError]:
        """By name the recipes that cannot be carried out, and why.

        What all of them need is asked in one go, one of each kind, and one by one only if that is refused.

        Raises:
            MemoryShortError: not even one picture fits into memory.
        """
        samples = {name: _samples(recipe.needs) for name, recipe in recipes.items()}
        distinct = {kind: need for found in samples.values() for kind, need in found.items()}
        if not distinct or self._refusal(distinct.values()) is None:
            return {}
        refused = {kind: self._refusal([need]) for kind, need in distinct.items()}
        errors = {name: next(filter(None, map(refused.get, kinds)), None) for name, kinds in samples.items()}
        return {name: error for name, error in errors.items() if error is not None}

    def _refusal(self, needs: Iterable[Need]) -> UsageError | None:
        black = torch.tensor(self.frame.black, dtype=torch.float32, device=self.device).view(1, -1, 1, 1)
        picture = laid_out(black.expand(-1, -1, *self.frame.size).clone(), self.facts.memory_format)
        plan = Plan.of(needs)
        given = {need.name: need.zeros(lambda _place: picture.shape[1:]) for need in plan.given}
        try:
            with memory_errors_named(1), steady(self.net, self.facts, 0):
                observe(
                    self.net,
                    picture,
                    plan,
                    self.targets.knowing([0]),
                    readout=self.readout,
                    given=given,
                    precision=self.precision,
                    alone=self.facts.alone,
                )
        except UsageError as error:
            return error
        return None


def plain(recipe: Recipe) -> bool:
    """Whether a recipe takes nothing but maps, scores and true gradients, which hardly any network refuses."""
    return not any(need.demanding or need.rule != "exact" for need in recipe.needs)


def _samples(needs: Iterable[Need]) -> dict[Kind, Need]:
    """One need of each kind and place."""
    found: dict[Kind, Need] = {}
    for need in needs:
        for one in need.trial():
            # Of rules for rectifiers: either every one finds a rectifier in the network or none does.
            found.setdefault(one.kind if one.rule == "exact" else ("modified",), one)
    return found
