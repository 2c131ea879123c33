"""What was read from a network, in numbers and words for people, by what is explained of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cnnviz_cli.core.boxes import found
from cnnviz_cli.core.marks import Area, Rectangle
from cnnviz_cli.core.readout import CLASSES, Readout
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.core.regions import region, shares
from cnnviz_cli.core.scores import probabilities
from cnnviz_cli.engine.observe import Observation
from cnnviz_cli.run.findings import Shown

if TYPE_CHECKING:
    from cnnviz_cli.core.boxes import Boxes
    from cnnviz_cli.core.regions import Regions
    from cnnviz_cli.core.similarity import Similarity
    from cnnviz_cli.core.values import OutputValues

Numbers = NDArray[Any]

PREDICTIONS = 5

_LOWER = " that is likely enough (of torchvision's detectors --min-score says how likely)"


class Teller(Protocol):
    """Puts what was read from a network into words."""

    @property
    def readout(self) -> Readout: ...

    @property
    def located(self) -> bool:
        """Whether what is explained has a place in the picture."""
        ...

    def numbers(self, seen: Observation) -> Numbers:
        """(B, K) the numbers that people are shown, on the CPU; not finite where the network's scores are not."""
        ...

    def shown(self, index: int, number: float, held: Numbers | None, size: tuple[int, int], /) -> Shown:
        """One of the K.

        Args:
            number: its number.
            held: what the readout holds of the picture.
            size: height and width of the network's input.
        """
        ...

    def foremost(self, numbers: Numbers, order: Numbers, /) -> list[int]:
        """Which of the K are told of a picture, whatever is explained: those that stand out, the foremost first.

        Args:
            numbers: (K,).
            order: (K,) by what they are ranked.
        """
        ...

    def missing(self, indices: Sequence[int], /) -> str:
        """Why a picture has nothing to explain if none of these is there."""
        ...


@dataclass(frozen=True)
class ClassTeller:
    """Classes and their probabilities.

    Attributes:
        sigmoid: whether each class has a probability by itself.
    """

    labels: Sequence[str]
    sigmoid: bool
    readout: Readout = CLASSES
    located: bool = False

    def numbers(self, seen: Observation) -> Numbers:
        found: Numbers = probabilities(seen.logits, sigmoid=self.sigmoid).numpy()
        return found

    def shown(self, index: int, number: float, _held: Numbers | None, _size: tuple[int, int], /) -> Shown:
        label = self.labels[index]
        return Shown(Prediction(index=index, label=label, probability=_rounded(number)), f"{index}-{label}")

    def foremost(self, numbers: Numbers, _order: Numbers, /) -> list[int]:
        return _first(numbers)

    def missing(self, _indices: Sequence[int], /) -> str:
        return ""  # a classifier has a score for every class


@dataclass(frozen=True)
class RegionTeller:
    """Classes, and how much of the picture each of them covers."""

    labels: Sequence[str]
    readout: Regions
    located: bool = True

    def numbers(self, seen: Observation) -> Numbers:
        assert seen.held is not None
        covered = shares(seen.held, seen.logits.shape[1]).cpu().double()
        found: Numbers = covered.where(seen.logits.cpu().isfinite(), float("nan")).numpy()
        return found

    def shown(self, index: int, number: float, held: Numbers | None, _size: tuple[int, int], /) -> Shown:
        label = self.labels[index]
        assert held is not None
        drawn = held.ndim == 3
        (inside,) = region(torch.from_numpy(held)[None], torch.tensor([index], dtype=torch.int64, device="cpu"))
        mark = Area(inside.numpy())
        prediction = Prediction(index=index, label=label, probability=None, share=_rounded(number))
        return Shown(prediction, f"{index}-{label}", mark, "within its mask" if drawn else "")

    def foremost(self, _numbers: Numbers, order: Numbers, /) -> list[int]:
        return _first(order)

    def missing(self, indices: Sequence[int]) -> str:
        names = " or ".join(f"'{self.labels[index]}'" for index in dict.fromkeys(indices))
        return f"the network takes no part of it for {names}"


@dataclass(frozen=True)
class BoxTeller:
    """What was found, the likeliest first.

    Attributes:
        labels: by the number that a box is labelled with; empty where nobody has said them.
    """

    labels: Sequence[str]
    readout: Boxes
    located: bool = True

    def numbers(self, seen: Observation) -> Numbers:
        assert seen.held is not None
        found: Numbers = seen.held[:, :, 5].cpu().double().numpy()
        return found

    def shown(self, index: int, number: float, held: Numbers | None, size: tuple[int, int], /) -> Shown:
        assert held is not None
        _, kind, _, (left, top, right, bottom) = found(held)[index]
        label = self.labels[kind] if kind < len(self.labels) else str(kind)
        height, width = size
        box = (left / width, top / height, right / width, bottom / height)
        prediction = Prediction(index=kind, label=label, probability=_rounded(number), box=box, rank=index + 1)
        return Shown(prediction, f"box-{index + 1}-{label}", Rectangle(box))

    def foremost(self, _numbers: Numbers, order: Numbers, /) -> list[int]:
        return _first(order)

    def missing(self, indices: Sequence[int]) -> str:
        if 0 in indices:
            return f"the network finds nothing in it{_LOWER}"
        return f"the network finds fewer than {min(indices) + 1} things in it{_LOWER}"


@dataclass(frozen=True)
class ValueTeller:
    """What a regression returns, with its unit.

    Attributes:
        labels: of one value two: what minus the value is called, and the value.
    """

    labels: Sequence[str]
    readout: OutputValues
    unit: str = ""
    located: bool = False

    def numbers(self, seen: Observation) -> Numbers:
        found: Numbers = seen.logits.cpu().double().numpy()
        return found

    def shown(self, index: int, number: float, _held: Numbers | None, _size: tuple[int, int], /) -> Shown:
        label = self.labels[index]
        # Six digits, as of probabilities: more would make the manifest depend on the last bit of a sum.
        value, unit = float(f"{number:.6g}"), self.unit or None
        return Shown(Prediction(index=index, label=label, probability=None, value=value, unit=unit), f"{index}-{label}")

    def foremost(self, numbers: Numbers, _order: Numbers, /) -> list[int]:
        return [1] if self.readout.single else _first(numbers)

    def missing(self, _indices: Sequence[int], /) -> str:
        return ""


@dataclass(frozen=True)
class SimilarityTeller:
    """How alike the picture is to another one, to the network.

    Attributes:
        other: the other's name.
    """

    other: str
    readout: Similarity
    located: bool = False

    def numbers(self, seen: Observation) -> Numbers:
        found: Numbers = seen.logits.cpu().double().numpy()
        return found

    def shown(self, index: int, number: float, _held: Numbers | None, _size: tuple[int, int], /) -> Shown:
        label = f"{'similar' if index else 'not similar'} to {self.other}"
        opposite = f"{'not similar' if index else 'similar'} to {self.other}"
        similarity = round(min(1.0, max(-1.0, number)), 6)
        return Shown(
            Prediction(index=index, label=label, probability=None, similarity=similarity), label, against=opposite
        )

    def foremost(self, _numbers: Numbers, _order: Numbers, /) -> list[int]:
        return [1]

    def missing(self, _indices: Sequence[int], /) -> str:
        return ""


def _first(numbers: Numbers) -> list[int]:
    """The places of the highest, which are there at all."""
    order: list[int] = np.argsort(-numbers, kind="stable")[:PREDICTIONS].tolist()
    return [index for index in order if numbers[index] > -np.inf]


def _rounded(number: float) -> float:
    # Six digits: more would make the manifest depend on the last bit of a sum.
    return round(min(1.0, max(0.0, number)), 6)
