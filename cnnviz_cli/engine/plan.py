"""The union of what several recipes need, as a value: printable, testable, counted before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cnnviz_cli.core.evidence import INPUT, Activation, Gradient, Need, Objective, ReluRule
from cnnviz_cli.core.records import Cost


@dataclass(frozen=True, slots=True)
class Backward:
    """One autograd pass: the gradient of one objective under one rule, at every place that asked for it."""

    of: Objective
    through: ReluRule
    at: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one batch costs and gives.

    Attributes:
        needs: each distinct need, in the order first asked for.
        backwards: one for each distinct (objective, rule).
    """

    needs: tuple[Need, ...]
    backwards: tuple[Backward, ...]

    @classmethod
    def of(cls, needs: Iterable[Need]) -> Plan:
        """The plan that answers all of `needs`, each computed once."""
        distinct = tuple(dict.fromkeys(needs))
        places: dict[tuple[Objective, ReluRule], list[str]] = {}
        for need in distinct:
            if isinstance(need, Gradient):
                places.setdefault((need.of, need.through), []).append(need.at)
        return cls(distinct, tuple(Backward(of, rule, tuple(at)) for (of, rule), at in places.items()))

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers whose output has to be kept."""
        names: dict[str, None] = {}
        for need in self.needs:
            if isinstance(need, Activation):
                names[need.layer] = None
        for backward in self.backwards:
            names.update(dict.fromkeys(at for at in backward.at if at != INPUT))
            names.update(dict.fromkeys(backward.of.layers()))
        return tuple(names)

    @property
    def gradient_layers(self) -> frozenset[str]:
        """Layers from which autograd has to record, if it does not from the input on."""
        return frozenset(at for backward in self.backwards for at in backward.at if at != INPUT)

    @property
    def attached(self) -> frozenset[str]:
        """Layers whose output must be kept as part of the graph: to differentiate by it, or an objective of it."""
        return self.gradient_layers.union(*(backward.of.layers() for backward in self.backwards))

    @property
    def from_input(self) -> bool:
        """Whether some gradient goes all the way down."""
        return any(INPUT in backward.at for backward in self.backwards)

    @property
    def bends_rectifiers(self) -> bool:
        """Whether some backward passes rectifiers by another rule than their derivative."""
        return any(backward.through != "exact" for backward in self.backwards)

    def cost(self) -> Cost:
        """Passes for each batch."""
        return Cost(forwards=1, backwards=len(self.backwards), variants=0)

    def lines(self) -> list[str]:
        """The passes in words, a line each."""
        if not self.backwards:
            recorded = "autograd off"
        elif self.from_input:
            recorded = "autograd from the input on"
        else:
            recorded = f"autograd from {' or '.join(sorted(self.gradient_layers))} on"
        count = len(self.layers)
        kept = f", keeping {count} layer{'' if count == 1 else 's'}" if count else ""
        lines = [f"1 forward, {recorded}{kept}"]
        for backward in self.backwards:
            places = ", ".join("the input" if at == INPUT else at for at in backward.at)
            rule = "" if backward.through == "exact" else f", rectifiers by rule {backward.through}"
            lines.append(f"1 backward of {backward.of.label()} to {places}{rule}")
        return lines
