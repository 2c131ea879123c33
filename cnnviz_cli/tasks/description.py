"""What a network says of each image of a batch, in numbers and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from cnnviz_cli.core.readout import Readout
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from cnnviz_cli.core.marks import Mark
    from cnnviz_cli.core.records import Prediction

    Numbers = NDArray[Any]

PREDICTIONS = 5
"""The most predictions that are listed of an image."""

NOT_FINITE = "the network's scores are not finite"


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
    mark: Mark | None = None
    where: str = ""
    against: str = ""


@value
class ImageDescription:
    """What a network says of one image, and what is explained of it.

    Attributes:
        predictions: what it says, the foremost first.
        targets: what is explained, by rank; None for what is not there, or is drawn already.
        contrast: what all of it is told apart from, if anything.
        truth: what is true of it; None if unknown.
    """

    predictions: Sequence[Prediction]
    targets: Sequence[TargetDescription | None]
    contrast: Prediction | None = None
    truth: Prediction | None = None


class Observed(Protocol):
    """What was read from a network for a batch, see `engine.observe.Observation`."""

    @property
    def logits(self) -> Tensor: ...

    @property
    def targets(self) -> Tensor: ...

    @property
    def order(self) -> Tensor: ...

    @property
    def held(self) -> Tensor | None: ...


class Chosen(Protocol):
    """Which scores are explained, see `engine.targets.Targets`."""

    @property
    def ranks(self) -> Sequence[Any]: ...

    @property
    def against(self) -> int | None: ...

    def drawn(self, chosen: Sequence[int]) -> list[int]: ...


@value
class Describer:
    """Puts the scores of a readout into numbers and words. A task derives its own from this."""

    readout: Readout

    def numbers(self, seen: Observed) -> Numbers:
        """(B, K) the numbers that are shown, on the CPU; not finite where the network's scores are not."""
        found: Numbers = seen.logits.cpu().double().numpy()
        return found

    def describe(self, index: int, number: float, held: Numbers | None, size: tuple[int, int], /) -> TargetDescription:
        """One of the K.

        Args:
            number: its number.
            held: what the readout holds of the image.
            size: height and width of the network's input.
        """
        raise NotImplementedError

    def foremost(self, _numbers: Numbers, order: Numbers, /) -> list[int]:
        """Which of the K are listed as the image's predictions, the foremost first: of their (K,) numbers, and the
        (K,) by which they are ranked."""
        return highest(order)

    def missing(self, _indices: Sequence[int], /) -> str:
        """Why an image has nothing to explain if none of these is there."""
        return ""


def describe(
    describer: Describer,
    seen: Observed,
    targets: Chosen,
    size: tuple[int, int],
    truths: Sequence[int | None] = (),
    *,
    wanted: bool = True,
) -> list[ImageDescription | str]:
    """Of each image of a batch what the network says of it, or why there is nothing to explain.

    Args:
        size: height and width of the network's input.
        truths: the class that is true of each image, None if unknown.
        wanted: whether an image in which nothing of what is to be explained is there has failed.
    """
    numbers, order = describer.numbers(seen), seen.order.cpu().numpy()
    rows = None if seen.held is None else seen.held.cpu().numpy()
    return [
        _described(
            describer,
            targets,
            numbers[at],
            order[at],
            chosen,
            None if rows is None else rows[at],
            size,
            truths[at] if truths else None,
            wanted=wanted,
        )
        for at, chosen in enumerate(seen.targets.tolist())
    ]


def _described(
    describer: Describer,
    targets: Chosen,
    numbers: Numbers,
    order: Numbers,
    chosen: Sequence[int],
    held: Numbers | None,
    size: tuple[int, int],
    truth: int | None,
    *,
    wanted: bool,
) -> ImageDescription | str:
    import numpy as np

    if not np.isfinite(numbers).all():
        return NOT_FINITE

    def described(index: int) -> TargetDescription:
        return describer.describe(index, float(numbers[index]), held, size)

    ranks = len(targets.ranks)
    drawn = [rank for rank in targets.drawn(chosen) if order[chosen[rank]] > -np.inf]
    if wanted and not drawn and (why := describer.missing(chosen[:ranks])):
        return why
    return ImageDescription(
        predictions=[described(index).prediction for index in describer.foremost(numbers, order)],
        targets=[described(chosen[rank]) if rank in drawn else None for rank in range(ranks)],
        contrast=None if targets.against is None else described(chosen[targets.against]).prediction,
        truth=None if truth is None else described(truth).prediction,
    )


def highest(numbers: Numbers) -> list[int]:
    """The places of the highest, of those that are there at all."""
    import numpy as np

    order: list[int] = np.argsort(-numbers, kind="stable")[:PREDICTIONS].tolist()
    return [index for index in order if numbers[index] > -np.inf]


def rounded(number: float, low: float = 0.0) -> float:
    """A probability, a share or a cosine to six digits: more would make the manifest depend on a sum's last bit."""
    return round(min(1.0, max(low, number)), 6)
