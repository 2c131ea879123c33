"""What a method may ask of a vision transformer: how its layers of attention hand the score back to the patches.

A layer of attention computes each of its outputs (queries) as a weighted mean of its inputs (keys), in several heads.
The tokens are patches of the image and at most a few others, such as the token of the class; a network may cut them
into windows that attend each for itself. How much a layer passes on is the method's to say, as an `AttentionRule`; the
engine finds the layers, the weights and their gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from cnnviz_cli.core.needs import Change, SeparatePass
from cnnviz_cli.core.objectives import Objective, TargetLogit
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor


class AttentionRule(Protocol):
    """What a layer of attention passes on. Frozen and hashable."""

    def pass_on(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """What each query takes of each key, over all heads.

        Args:
            weights: (B, W, heads, Q, K) behind the softmax, of each of W windows.
            gradient: of the score by the weights, of the same shape.

        Returns:
            (B, W, Q, K).
        """


class ResidualRule(AttentionRule, Protocol):
    """An `AttentionRule` that says how the way around a layer counts beside the way through it."""

    @property
    def shares(self) -> tuple[float, float]:
        """What a token keeps of itself, and what it takes by attention."""


@value
class AttentionFlow(SeparatePass):
    """(B, 1, h, w) what the tokens that the scores are read from have taken of each patch, through all layers.

    From the last layer to the first, shares r of tokens become keep * r + take * r A, with A what the layer passes on
    by `by`. They start evenly on the tokens that the scores are read from: the class token, or all of them. What
    reaches a patch without ever passing through attention is left out.

    Attributes:
        follows: whether the target changes the answer; a rule that reads no gradient gives one map for all of them.
    """

    change: ClassVar[Change] = "none"
    looks_at: ClassVar[str] = "attention"
    words: ClassVar[str] = "the weights of attention, layer by layer"

    by: ResidualRule
    of: Objective = TargetLogit()
    follows: bool = True

    @property
    def follows_target(self) -> bool:
        return self.follows and self.of.follows_target


@value
class AttentionLayers(SeparatePass):
    """(B, L, h, w) what all tokens of a layer together take of each patch, for each of L layers of attention.

    The gradient by a layer's weights is that of the score which the network's head gives for the output of this
    layer's own block. Where that is not possible (the block before has other tokens than the last) it is that of the
    network's own score. Maps of fewer patches are enlarged bilinearly to the most.

    Attributes:
        layers: L.
    """

    change: ClassVar[Change] = "none"
    looks_at: ClassVar[str] = "attention"
    words: ClassVar[str] = "the weights of attention, each layer read by the head itself"

    by: AttentionRule
    layers: int
    of: Objective = TargetLogit()

    @property
    def steps(self) -> int:
        return self.layers

    def label(self) -> str:
        return f"{self.layers} forwards and backwards of {self.of.label()}: {self.words}"
