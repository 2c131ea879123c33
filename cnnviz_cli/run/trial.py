"""What the engine refuses of a network, found out on one black picture before the first photograph is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.evidence import (
    INPUT,
    Activation,
    BiasGradients,
    Curvature,
    Evidence,
    Gradient,
    GradientOver,
    Multipliers,
    Need,
    Relevance,
    Scores,
    Walk,
)
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


@dataclass(frozen=True, slots=True)
class Twice:
    """Variants: the maps of a layer as they are, two at a time."""

    layer: str

    @property
    def at(self) -> str:
        return self.layer

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Activation(self.layer),)

    @property
    def count(self) -> int:
        return 2

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        maps = evidence[Activation(self.layer)][image : image + 1]
        return maps.expand(stop - start, -1, -1, -1).clone()

    def label(self) -> str:
        return f"the maps of {self.layer} as they are"


@dataclass(frozen=True)
class Trial:
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
        try:
            with memory_errors_named(1), steady(self.net, self.facts, 0):
                observe(
                    self.net,
                    picture,
                    Plan.of(needs),
                    self.targets.knowing([0]),
                    readout=self.readout,
                    precision=self.precision,
                    alone=self.facts.alone,
                )
        except UsageError as error:
            return error
        return None


def plain(recipe: Recipe) -> bool:
    """Whether a recipe takes nothing but maps, scores and true gradients, which hardly any network refuses."""
    special = Curvature | Relevance | Multipliers | BiasGradients
    return not any(isinstance(need, special) or _bent(need) for need in recipe.needs)


def _bent(need: Need) -> bool:
    return getattr(need, "through", "exact") != "exact"


def _samples(needs: Iterable[Need]) -> dict[Kind, Need]:
    """One need of each kind and place."""
    found: dict[Kind, Need] = {}
    for need in needs:
        for one in _sampled(need):
            found.setdefault(_kind(one), one)
    return found


def _kind(need: Need) -> Kind:
    if _bent(need):
        return ("bent",)  # either every rule finds a rectifier in the network or none does
    objective = getattr(need, "of", None)
    layers = objective.layers() if objective is not None else ()
    place = need.on.at if isinstance(need, Scores) else getattr(need, "at", getattr(need, "layer", None))
    return (type(need), type(objective), layers, place, getattr(need, "composite", None))


def _sampled(need: Need) -> Iterator[Need]:
    """What to try for a need: as little as may be refused for the same reasons."""
    if isinstance(need, Walk):
        yield Gradient(of=need.of)
    elif isinstance(need, Scores):
        # Altered inputs take a forward like any other; an altered layer takes the network apart.
        if need.on.at != INPUT:
            yield Scores(Twice(need.on.at), need.of)
    elif isinstance(need, Gradient | GradientOver):
        if _bent(need):
            yield Gradient(need.at, need.of, need.through)
        # That a layer depends on the input need not be tried: the way from the objective to the layer is enough.
        layers = need.of.layers() if need.at == INPUT else ()
        yield Gradient(layers[-1] if layers else need.at, need.of)
    elif isinstance(need, Activation | Curvature | Relevance | Multipliers | BiasGradients):
        yield need
