"""Regression: each number that a network returns is a value by itself, and no class has a probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.readout import rows_of
from cnnviz_cli.core.scores import second_first
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor


@value
class OutputValues:
    """The (B, K) numbers as the network returns them, of one number also (B,).

    One value z alone is read as the two -z and z, see `core.scores.two_sided`; z is always the first to be explained.
    Several rank by their size.

    Attributes:
        head: the name of the part of the output that holds them, see `core.outputs`.
        single: whether it is one value.
    """

    head: str | None = None
    single: bool = False

    def hold(self, _output: Any, _given: Tensor | None, /) -> None:
        return None

    def scores(self, output: Any, _held: Tensor | None, /) -> Tensor:
        found = rows_of(output, self.head)
        if found is None:
            raise UsageError("the network does not return one (batch, values) tensor, so there is no value to explain")
        return found

    def order(self, scores: Tensor, _held: Tensor | None, /) -> Tensor:
        if not self.single:
            return scores
        return second_first(scores)
