"""What a network says of an image, in numbers and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.scores import Readout, highest
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from cnnviz_cli.core.geometry import Annotation
    from cnnviz_cli.core.records import Prediction

    Numbers = NDArray[Any]

PREDICTIONS = 5
"""The most predictions that are listed of an image."""


@value
class TargetDescription:
    """One thing that is explained of an image.

    Attributes:
        name: as file names say it.
        mark: where in the image it is, if it is somewhere.
        where: that in words, if the user and not the network has said it.
        against: what speaks against it, in words; if empty, "against" and its name.
    """

    prediction: Prediction
    name: str
    mark: Annotation | None = None
    where: str = ""
    against: str = ""


@value
class ImageDescription:
    """What a network says of one image, the foremost first, and what is explained of it by rank: None for what is not
    there, or is drawn already."""

    predictions: Sequence[Prediction]
    targets: Sequence[TargetDescription | None]
    contrast: Prediction | None = None
    truth: Prediction | None = None


@value
class Describer:
    """Puts the scores of a readout into numbers and words. A task derives its own from this."""

    readout: Readout

    def numbers(self, scores: Tensor, _anchor: Tensor | None, /) -> Numbers:
        """(B, K) of (B, K) scores the numbers that are shown, on the CPU; not finite where the scores are not."""
        found: Numbers = scores.cpu().double().numpy()
        return found

    def describe(
        self, index: int, number: float, anchor: Numbers | None, size: tuple[int, int], /
    ) -> TargetDescription:
        """One of the K; `anchor`: what the readout holds of the image; `size`: height and width of the input."""
        raise NotImplementedError

    def foremost(self, _numbers: Numbers, order: Numbers, /) -> list[int]:
        """Which of the K are listed as the image's predictions, the foremost first: of their (K,) numbers, and the
        (K,) by which they are ranked."""
        return highest(order, PREDICTIONS)

    def missing(self, _indices: Sequence[int], /) -> str:
        """Why an image has nothing to explain if none of these is there."""
        return ""
