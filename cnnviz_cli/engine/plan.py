"""The union of what several recipes need, as a value: printable, testable, counted before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cnnviz_cli.core.needs import (
    INPUT,
    Activation,
    Curvature,
    Given,
    Gradient,
    GradientOver,
    KeyedVariants,
    Need,
    ReluRule,
    Scores,
    SeparatePass,
    Variants,
)
from cnnviz_cli.core.objectives import Objective
from cnnviz_cli.core.records import Cost
from cnnviz_cli.engine.execution import Precision


@dataclass(frozen=True, slots=True)
class Backward:
    """One autograd pass: the gradient of an objective under a rule, at all places that ask, at `curved` once more."""

    of: Objective
    through: ReluRule
    at: tuple[str, ...]
    curved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """All that is asked of the same variants: one forward a variant, one backward for each objective and rule."""

    variants: Variants
    scores: tuple[Scores, ...]
    sums: tuple[GradientOver, ...]

    @property
    def passes(self) -> Plan:
        """The plan of one chunk of variants."""
        return Plan.of(Gradient(need.at, need.of, need.through) for need in self.sums)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one batch costs and gives: each need once, with its sources; a backward for each objective and rule, a
    stream for each set of variants, and the needs with passes of their own."""

    needs: tuple[Need, ...]
    backwards: tuple[Backward, ...]
    streams: tuple[Stream, ...] = ()
    separate: tuple[SeparatePass, ...] = ()

    @classmethod
    def of(cls, needs: Iterable[Need]) -> Plan:
        """The plan that answers all of `needs`, each computed once. Raises ValueError for gradients over variants of a
        layer, or variants made from variants."""
        distinct = tuple(dict.fromkeys(each for need in needs for each in (*_checked_sources(need), need)))
        return cls._of_distinct(distinct)

    @classmethod
    def _of_distinct(cls, distinct: tuple[Need, ...]) -> Plan:
        places: dict[tuple[Objective, ReluRule], dict[str, None]] = {}
        curved: dict[Objective, dict[str, None]] = {}
        streams: dict[Variants, tuple[list[Scores], list[GradientOver]]] = {}
        for need in distinct:
            if isinstance(need, Gradient):
                places.setdefault((need.of, need.through), {})[need.at] = None
            elif isinstance(need, Curvature):
                places.setdefault((need.of, "exact"), {})[need.at] = None
                curved.setdefault(need.of, {})[need.at] = None
            elif isinstance(need, Scores):
                streams.setdefault(need.on, ([], []))[0].append(need)
            elif isinstance(need, GradientOver):
                if need.over.at != INPUT:
                    raise ValueError(f"gradients over variants of {need.over.at}: only variants of the input have them")
                streams.setdefault(need.over, ([], []))[1].append(need)
        backwards = tuple(
            Backward(of, rule, tuple(at), tuple(curved.get(of, ())) if rule == "exact" else ())
            for (of, rule), at in places.items()
        )
        return cls(
            distinct,
            backwards,
            tuple(Stream(over, tuple(scores), tuple(sums)) for over, (scores, sums) in streams.items()),
            tuple(need for need in distinct if isinstance(need, SeparatePass)),
        )

    def parts(self, precision: Precision) -> tuple[tuple[Precision, Plan], ...]:
        """The plan by the precision in which its needs are answered. The first part is for the network's own scores;
        what one part is made from may be in the other."""
        full = tuple(need for need in self.needs if need.full_precision)
        if precision == "fp32" or not full:
            return ((precision, self),)
        rest = tuple(need for need in self.needs if not need.full_precision)
        return (precision, self._of_distinct(rest)), ("fp32", self._of_distinct(full))

    @property
    def activations(self) -> tuple[Activation, ...]:
        """The layers' maps that are asked for themselves."""
        return tuple(need for need in self.needs if isinstance(need, Activation))

    @property
    def given(self) -> tuple[Given, ...]:
        """What the caller has to bring."""
        return tuple(need for need in self.needs if isinstance(need, Given))

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers whose output has to be kept."""
        names: dict[str, None] = {}
        names.update(dict.fromkeys(need.layer for need in self.activations))
        for backward in self.backwards:
            names.update(dict.fromkeys(at for at in backward.at if at != INPUT))
            names.update(dict.fromkeys(backward.of.layers()))
        return tuple(names)

    @property
    def all_layers(self) -> tuple[str, ...]:
        """The same, and those of which variants are made."""
        variants = [stream.variants.at for stream in self.streams if stream.variants.at != INPUT]
        return tuple(dict.fromkeys((*self.layers, *variants)))

    @property
    def gradient_layers(self) -> frozenset[str]:
        """Layers from which autograd has to record, if it does not from the input on."""
        return frozenset(at for backward in self.backwards for at in backward.at if at != INPUT)

    @property
    def graph_layers(self) -> frozenset[str]:
        """Layers whose output must be kept as part of the graph: to differentiate by it, or an objective of it."""
        return self.gradient_layers.union(*(backward.of.layers() for backward in self.backwards))

    @property
    def from_input(self) -> bool:
        """Whether some gradient goes all the way down."""
        return any(INPUT in backward.at for backward in self.backwards)

    @property
    def modifies_relu(self) -> bool:
        """Whether some backward passes rectifiers by another rule than their derivative."""
        return any(backward.through != "exact" for backward in self.backwards)

    def cost(self, precision: Precision = "fp32") -> Cost:
        """Passes for each batch; variants for each image at the most, equal ones counted each."""
        parts = [part for _, part in self.parts(precision)]
        backwards = [backward for part in parts for backward in part.backwards]
        steps = sum(need.steps for need in self.separate)
        own = sum(need.variants for need in self.separate)
        return Cost(
            forwards=len(parts) + steps,
            backwards=len(backwards) + sum(len(backward.curved) for backward in backwards) + steps,
            variants=sum(stream.variants.count for part in parts for stream in part.streams) + own,
            at_most=own > 0,
        )

    def lines(self, precision: Precision = "fp32") -> list[str]:
        """The passes in words, a line each; below fp32 with the precision of each."""
        if precision == "fp32":
            return self._lines("")
        return [line for name, part in self.parts(precision) for line in part._lines(f" in {name}")]

    def _lines(self, way: str) -> list[str]:
        lines: list[str] = []
        if not self.backwards:
            recorded = "autograd off"
        elif self.from_input:
            recorded = "autograd from the input on"
        else:
            recorded = f"autograd from {' or '.join(sorted(self.gradient_layers))} on"
        count = len(self.layers)
        kept = f", keeping {count} layer{'' if count == 1 else 's'}" if count else ""
        if any(need.variants for need in self.separate):
            recorded += " in it"  # and not in the passes that come after it
        lines.append(f"1 forward{way}, {recorded}{kept}")
        for backward in self.backwards:
            places = ", ".join("the input" if at == INPUT else at for at in backward.at)
            rule = "" if backward.through == "exact" else f", rectifiers by rule {backward.through}"
            lines.append(f"1 backward of {backward.of.label()} to {places}{rule}")
            lines += [f"1 backward of that gradient to {layer}" for layer in backward.curved]
        lines += [_stream_line(stream) + way for stream in self.streams]
        return lines + [need.label() + way for need in self.separate]


def _checked_sources(need: Need) -> tuple[Need, ...]:
    """The evidence that another need is made from. Raises ValueError if it would take variants to make variants."""
    if any(source.derived for source in need.sources):
        raise ValueError(f"{need!r} is made from what itself takes variants or forwards of its own")
    return need.sources


def _stream_line(stream: Stream) -> str:
    count, at = stream.variants.count, stream.variants.at
    part = "" if at == INPUT else f" of what comes after {at}"
    most = "at most " if isinstance(stream.variants, KeyedVariants) else ""
    line = f"for each image {most}{count} forward{'' if count == 1 else 's'}{part}: {stream.variants.label()}"
    if stream.sums:
        line += f"; each with a backward of {' and of '.join(one.of.label() for one in stream.passes.backwards)}"
    return line
