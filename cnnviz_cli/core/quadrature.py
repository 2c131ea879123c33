"""The need for an integral of gradients along a line, taken as exactly as the image asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from cnnviz_cli.core.needs import Change, Gradient, Input, Need, SeparatePass, Variants
from cnnviz_cli.core.objectives import Objective, TargetLogit
from cnnviz_cli.core.value import value

TOLERANCE = 0.01
"""By how much the shares may miss the change of the score, relative to it."""

MOST_GRADIENTS = 256
"""Where an image is given up that does not get there."""


@value
class LineIntegral(SeparatePass):
    """(B, C, H, W) what each value adds to the objective on the straight line from a reference to the input.

    (x - b) times the integral of g(b + t (x - b)) over t from 0 to 1, with as many gradients as it takes for the shares
    to add up to the objective's change; see `Quadrature` for what that took.

    Attributes:
        start: one variant of the input, the reference b.
        tolerance: by how much they may miss it, relative to the change.
        most: gradients for an image at the most.
    """

    change: ClassVar[Change] = "shares"
    demanding: ClassVar[bool] = False

    start: Variants
    of: Objective = TargetLogit()
    tolerance: float = TOLERANCE
    most: int = MOST_GRADIENTS

    @property
    def sources(self) -> tuple[Need, ...]:
        return (*self.start.needs, Input())

    @property
    def steps(self) -> int:
        return 0  # none of a batch: each image takes its own

    @property
    def variants(self) -> int:
        return self.most

    def trial(self) -> Iterator[Need]:
        yield Gradient(of=self.of)

    def label(self) -> str:
        return (
            f"for each image up to {self.most} forwards and backwards of {self.of.label()}: inputs on the line from "
            f"{self.start.label()}, until the shares add up within {100 * self.tolerance:g} %"
        )


@value
class Quadrature(Need):
    """(B, 4) of each image's `LineIntegral`: the objective at the start and at the input, how many gradients it took,
    and 1 where the shares add up, 0 where they do not. It comes with the integral, which has to be asked for, too."""

    change: ClassVar[Change] = "none"
    derived: ClassVar[bool] = True

    integral: LineIntegral

    @property
    def objective(self) -> Objective | None:
        return self.integral.of

    @property
    def shape(self) -> tuple[int, ...]:
        return (4,)
