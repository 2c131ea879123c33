"""What a network says of one picture. No torch here: processes that only draw import it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnviz_cli.core.marks import Mark
from cnnviz_cli.core.records import Prediction


@dataclass(frozen=True)
class Shown:
    """One thing that is explained of a picture.

    Attributes:
        name: as file names say it.
        mark: where in the picture it is, if it is somewhere.
        where: that in words, where somebody else than the network has said it.
        against: what speaks against it, in words; where there are none, "against" and its name.
    """

    prediction: Prediction
    name: str
    mark: Mark | None = None
    where: str = ""
    against: str = ""


@dataclass(frozen=True)
class Said:
    """What a network says of one picture, and what is explained of it.

    Attributes:
        predictions: what it says, the foremost first.
        shown: what is explained, by rank; None where it is not there, or is shown already.
        contrast: what all of it is told apart from, if anything.
        truth: what is true of it; None where nobody knows.
    """

    predictions: Sequence[Prediction]
    shown: Sequence[Shown | None]
    contrast: Prediction | None = None
    truth: Prediction | None = None
