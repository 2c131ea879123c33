"""Altered inputs and altered activations, and what is asked of them.

A method that alters the input many times states how as a frozen value; the engine streams the alterations through the
network in chunks that fit into memory, and keeps sums alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from cnnviz_cli.core.evidence import Evidence, Need


class Variants(Protocol):
    """A list of alterations of each image's input, or of its activation at a layer. Frozen and hashable.

    Equal variants are made and run once, whoever asks. A variant must depend on the evidence of its own image, on its
    number and on nothing else: never on the chunk in which it is made, and never on a global random state.
    """

    @property
    def at(self) -> str:
        """INPUT, or the layer whose output is replaced; then only what comes after the layer runs."""
        ...

    @property
    def needs(self) -> tuple[Need, ...]:
        """The evidence it is made from: activations, gradients, the input, the seeds; no other variants."""
        ...

    @property
    def count(self) -> int:
        """How many there are for each image."""
        ...

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        """Variants number `start` to `stop` (excluded) of the batch's image number `image`.

        Returns:
            (stop - start, 3, H, W) normalised input, or (stop - start, C, h, w) maps of the layer.
        """
        ...

    def label(self) -> str:
        """In words, for ``--dry-run``: "25 noisy inputs"."""
        ...


class WeightedVariants(Variants, Protocol):
    """Variants whose gradients are weighted before they are summed."""

    def weight(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        """(stop - start, ...) what each gradient is multiplied by, of a shape that broadcasts with the gradients."""
        ...


class GradientPath(Protocol):
    """A walk through input space whose every step depends on the gradient at the step before. Frozen and hashable."""

    @property
    def needs(self) -> tuple[Need, ...]:
        """The evidence it starts from."""
        ...

    @property
    def count(self) -> int:
        """How many gradients it takes."""
        ...

    def begin(self, evidence: Evidence) -> Tensor:
        """(B, 3, H, W) where it starts."""
        ...

    def advance(self, evidence: Evidence, step: int, point: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            step: from 0 to `count` - 1.
            point: (B, 3, H, W) where the walk is.
            gradient: of the objective at `point`, of the same shape.

        Returns:
            Where it goes, and what this step attributes; the answer is the sum of the latter. Both (B, 3, H, W).
        """
        ...

    def label(self) -> str:
        """In words, for ``--dry-run``."""
        ...
