"""Integrals of gradients along a line, with more gradients where the score moves by more than they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite
from typing import ClassVar

import torch
from torch import Tensor

from cnnviz_cli.core.needs import INPUT, Evidence, Gradient, GradientOver, Input, Need, Scores
from cnnviz_cli.core.quadrature import LineIntegral, Quadrature
from cnnviz_cli.core.scores import resolution
from cnnviz_cli.engine.answers import PassContext, answers
from cnnviz_cli.engine.passes import Pass
from cnnviz_cli.engine.plan import Stream
from cnnviz_cli.engine.stream import ImageStream

FIRST_PIECES = 16
"""Pieces of the line to start from: the gradients at their ends show where the score moves."""

MOST_HALVED = 8
"""Pieces that are halved at a time, the worst first: a chunk of inputs."""

CANCELLED = 20
"""The pieces' own errors, whatever their sign, may add up to so many times the tolerance of their sum."""

NARROWEST = 2.0**-16
"""Of a piece: a float32 image does not move by less."""

FLOOR = 1e-3
"""Of the larger score: a smaller change is measured by that, as in the completeness error, since rounding decides."""


@dataclass(frozen=True)
class Points:
    """Variants: inputs on the line, at the places `at_shares` from 0 to 1."""

    at: ClassVar[str] = INPUT

    along: LineIntegral
    at_shares: tuple[float, ...]

    @property
    def needs(self) -> tuple[Need, ...]:
        return self.along.sources

    @property
    def count(self) -> int:
        return len(self.at_shares)

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        first, last = ends_of(self.along, evidence, image)
        shares = last.new_tensor(self.at_shares[start:stop]).view(-1, 1, 1, 1)
        return first + shares * (last - first)

    def label(self) -> str:
        return f"{self.count} inputs on the line from {self.along.start.label()}"


def ends_of(need: LineIntegral, evidence: Evidence, image: int) -> tuple[Tensor, Tensor]:
    """(C, H, W) where an image's line begins and where it ends."""
    return need.start.make(evidence, image, 0, 1)[0], evidence[Input()][image]


@answers(LineIntegral)
def integrate_line(context: PassContext, need: LineIntegral) -> Mapping[Need, Tensor]:
    """The shares of each image, and what they took."""
    evidence = context.evidence.only(need.sources)
    found = [_Refinement(context, need, evidence, image).integrate() for image in range(len(context.batch))]
    shares, facts = zip(*found, strict=True)
    return {need: torch.stack(shares), Quadrature(need): torch.stack(facts)}


class _Refinement(ImageStream):
    """One image's integral by the trapezoid rule on pieces that are halved where they are wrong.

    The forward that a gradient takes gives the score, so the error of every piece is known: its trapezoid against the
    difference of the scores at its ends. Halving a piece keeps both gradients (the rule is nested), so each is
    computed once. Bhat & Raychowdhury, 2023 (https://arxiv.org/abs/2302.11107) choose steps by the change of the score
    before they start; here the errors decide as they come. Gradients are kept until the end: each takes what the input
    takes, and a hundred of them about as much as autograd keeps for one.
    """

    def __init__(self, context: PassContext, need: LineIntegral, evidence: Evidence, image: int) -> None:
        self.need = need
        self.gradients: dict[float, Tensor] = {}
        self.scores: dict[float, float] = {}
        self.slopes: dict[float, float] = {}
        first, last = ends_of(need, evidence, image)
        self.way = (last - first).to(context.logits)

        self._report = context.tick

        def tick(done: int, _total: int) -> None:
            if len(self.scores) + done < need.most:
                context.tick(len(self.scores) + done, need.most)

        super().__init__(replace(context, tick=tick), self._stream_of((0.0,)), evidence, image)

    def integrate(self) -> tuple[Tensor, Tensor]:
        """(C, H, W) the shares and (4,) what `Quadrature` says, with gradients until they add up, or there are as many
        as allowed, or more would not help."""
        pieces = min(FIRST_PIECES, max(self.need.most - 1, 1))
        new = [place / pieces for place in range(pieces + 1)]
        while new:
            self._add(new)
            complete, worst = self._check()
            new = [] if complete else worst[: self.need.most - len(self.scores)]
        self._report(self.need.most, self.need.most)
        facts = [self.scores[0.0], self.scores[1.0], len(self.scores), float(complete)]
        return self._total() * self.way, self.way.new_tensor(facts)

    def sum_gradients(self, need: GradientOver, made: Pass, chunk: Mapping[int, Sequence[int]]) -> Tensor:
        """Keeps each gradient, and its slope along the line."""
        found = made.answers[Gradient(need.at, need.of, need.through)]
        for place, gradient in zip((self._places[number] for number in chunk), found, strict=True):
            self.gradients[place] = gradient
            product = gradient * self.way.to(gradient)
            self.slopes[place] = float(
                product.sum() if product.device.type == "mps" else product.sum(dtype=torch.float64)
            )
        return found.new_zeros(())

    def _add(self, places: Sequence[float]) -> None:
        self._places = tuple(places)
        self.stream = self._stream_of(self._places)
        (values,) = self.run()[0].values()
        self.scores.update(zip(self._places, values.double().tolist(), strict=True))

    def _check(self) -> tuple[bool, list[float]]:
        """Whether the shares add up; and where to halve the worst pieces, in the order of the line."""
        places = sorted(self.scores)
        ends = list(pairwise(places))
        errors = [self._error(*piece) for piece in ends]
        low, high = self.scores[0.0], self.scores[1.0]
        largest = max(abs(low), abs(high))
        rounding = resolution(self.way, self.context.execution.precision) * largest
        allowed = max(self.need.tolerance * max(abs(high - low), FLOOR * largest), rounding)
        size = sum(map(abs, errors))
        if not isfinite(size):
            return False, []
        if abs(sum(errors)) <= allowed and size <= CANCELLED * allowed:
            return True, []
        open_pieces = [
            (-abs(error), start, stop)
            for error, (start, stop) in zip(errors, ends, strict=True)
            if abs(error) * len(ends) > allowed and stop - start > NARROWEST
        ]
        halves = [(start + stop) / 2 for _, start, stop in sorted(open_pieces)[:MOST_HALVED]]
        return False, halves

    def _error(self, start: float, stop: float) -> float:
        trapezoid = (stop - start) / 2 * (self.slopes[start] + self.slopes[stop])
        return trapezoid - (self.scores[stop] - self.scores[start])

    def _total(self) -> Tensor:
        """(C, H, W) the mean gradient along the line."""
        places = sorted(self.gradients)
        total = torch.zeros_like(self.way, dtype=torch.float32 if self.way.device.type == "mps" else torch.float64)
        for start, stop in pairwise(places):
            total += (stop - start) / 2 * (self.gradients[start].to(total) + self.gradients[stop].to(total))
        return total.to(self.way)

    def _stream_of(self, places: tuple[float, ...]) -> Stream:
        points, of = Points(self.need, places), self.need.of
        return Stream(points, (Scores(points, of),), (GradientOver(points, of, weighted=True),))
