"""Baselines: the uninformative inputs from which an attribution starts, normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cnnviz_cli.core.draws import uniform
from cnnviz_cli.core.method import InputSpec
from cnnviz_cli.core.needs import INPUT, Evidence, Input, Need, Seeds
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

BaselineChoice = Literal["black", "mean", "blur", "noise"]

BASELINE_HELP = "What says nothing: black, the image's mean colour, a blur of the image, or random noise."

BLUR = 0.1
"""Standard deviation of the blurred baseline, as a share of the shorter side: at 224 pixels no object is left."""

_NOISE_DRAWS = 1 << 40
"""Where the numbers of its draws begin: apart from those of variants, which count from 0."""


@value
class Baseline:
    """One baseline for each image; also the Variants that consist of it alone.

    Attributes:
        kind: black: pixel value 0. mean: the image's mean in each colour. blur: Gaussian blur with a standard deviation
            of `BLUR` of the shorter side. noise: uniform between black and white, each colour of each pixel by itself.
    """

    at: ClassVar[str] = INPUT

    kind: BaselineChoice
    black: tuple[float, ...]
    white: tuple[float, ...]

    @classmethod
    def within(cls, frame: InputSpec, kind: BaselineChoice) -> Baseline:
        """The baseline of that kind for a network's input."""
        return cls(kind, frame.black, frame.white)

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Input(), Seeds()) if self.kind == "noise" else (Input(),)

    @property
    def count(self) -> int:
        return 1

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        return self.of(evidence, image).expand(stop - start, -1, -1, -1)

    def label(self) -> str:
        return {
            "black": "a black image",
            "mean": "the image's mean colour",
            "blur": "the image blurred",
            "noise": "random noise",
        }[self.kind]

    def of(self, evidence: Evidence, image: int, number: int = 0) -> Tensor:
        """(3, H, W) the baseline of the batch's image number `image`; of noise draw `number`."""
        picture = evidence[Input()][image]
        if self.kind == "mean":
            return picture.mean((1, 2), keepdim=True).expand_as(picture)
        if self.kind == "blur":
            rows, columns = picture.shape[1:]
            sigma = BLUR * min(rows, columns)
            return blur_image(picture, spread(rows, sigma, closed=True), spread(columns, sigma, closed=True))
        low = picture.new_tensor(self.black).view(-1, 1, 1)
        if self.kind == "black":
            return low.expand_as(picture)
        high = picture.new_tensor(self.white).view(-1, 1, 1)
        share = uniform(int(evidence[Seeds()][image]), _NOISE_DRAWS + number, tuple(picture.shape))
        return low + (high - low) * share.to(picture)

    def batch(self, evidence: Evidence) -> Tensor:
        """(B, 3, H, W) the baselines of all images."""
        import torch

        return torch.stack([self.of(evidence, image) for image in range(len(evidence[Input()]))])


def spread(length: int, sigma: float, *, closed: bool = False) -> NDArray[Any]:
    """A Gaussian blur along an axis as a (length, length) float64 matrix: how much of value j arrives at i.

    The kernel ends at 4 sigma, rounded to pixels, and adds up to 1; sigma 0 changes nothing. With `closed`, what the
    border would cut off is shared out among the rest, so that a constant stays constant; else zeros lie beyond it.
    """
    import numpy as np

    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return np.eye(length)
    offsets = np.arange(-radius, radius + 1)
    total = np.exp(-0.5 * (offsets / sigma) ** 2).sum()
    places = np.arange(length)
    distance = places[:, None] - places
    weights = np.where(np.abs(distance) <= radius, np.exp(-0.5 * (distance / sigma) ** 2), 0)
    scaled: NDArray[np.float64] = weights / (weights.sum(1, keepdims=True) if closed else total)
    return scaled


def blur_image(picture: Tensor, down: NDArray[Any], across: NDArray[Any]) -> Tensor:
    """An image (..., H, W) with one matrix of `spread` applied along its rows' axis and one along its columns'."""
    return picture.new_tensor(down) @ picture @ picture.new_tensor(across).T
