"""Inputs of which a part is taken away, and what stands in its place: the Variants that measures are made of."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar

from cnnviz_cli.core.draws import generator, normal
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.imputation import impute
from cnnviz_cli.core.measures import Order, PositiveMap
from cnnviz_cli.core.method import InputSpec
from cnnviz_cli.core.needs import INPUT, Evidence, Input, Need, Seeds
from cnnviz_cli.core.readings import cells_of
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

GRAIN = 1 << 43
SUBSETS = 1 << 44
JOLTS = 1 << 45
"""Where the numbers of draws begin: of the noise in a fill, of random subsets, of random changes."""

RISE_SIDE, RISE_SIGMA = 11, 5.0
"""The blur from which RISE's code starts an insertion: a Gaussian cut at 11 x 11 pixels."""


@value
class Fill:
    """What stands in the place of a pixel that is taken away."""

    needs: ClassVar[tuple[Need, ...]] = (Input(), Seeds())

    @property
    def two_ended(self) -> bool:
        """Whether a picture of which all is taken away depends on the end from which that was begun."""
        return False

    def cover(self, evidence: Evidence, image: int, *, least: bool = False) -> Tensor:
        """(C, H, W) what stands in the place of everything; `least`: where the least important went first."""
        raise NotImplementedError

    def filled(
        self,
        evidence: Evidence,
        image: int,
        hidden: Tensor,
        numbers: Sequence[int],  # noqa: ARG002  (nothing is drawn here)
        *,
        least: Sequence[bool] = (),
    ) -> Tensor:
        """(n, C, H, W) the image without what (n, H, W) masks hide.

        Args:
            numbers: of what is drawn for each mask.
            least: for each mask whether the least important was taken away first.
        """
        import torch

        picture = evidence[Input()][image]
        hides = hidden.to(picture.device).unsqueeze(1)
        most = torch.where(hides, self.cover(evidence, image), picture)
        if not self.two_ended or not any(least):
            return most
        back = torch.tensor(least, dtype=torch.bool, device=picture.device).view(-1, 1, 1, 1)
        return torch.where(back, torch.where(hides, self.cover(evidence, image, least=True), picture), most)

    def label(self) -> str:
        """In words, after "filled with"."""
        raise NotImplementedError


@value
class Mean(Fill):
    """The image's mean colour."""

    def cover(self, evidence: Evidence, image: int, *, least: bool = False) -> Tensor:  # noqa: ARG002
        picture = evidence[Input()][image]
        return picture.mean((1, 2), keepdim=True).expand_as(picture)

    def label(self) -> str:
        return "its mean colour"


@value
class Black(Fill):
    """Black, normalised."""

    black: tuple[float, ...]

    def cover(self, evidence: Evidence, image: int, *, least: bool = False) -> Tensor:  # noqa: ARG002
        picture = evidence[Input()][image]
        return picture.new_tensor(self.black).view(-1, 1, 1).expand_as(picture)

    def label(self) -> str:
        return "black"


@value
class Blur(Fill):
    """The image blurred by a Gaussian with a standard deviation of `sigma` pixels; at the border, of what is there."""

    sigma: float

    def cover(self, evidence: Evidence, image: int, *, least: bool = False) -> Tensor:  # noqa: ARG002
        picture = evidence[Input()][image]
        down, across = (_gaussian(length, self.sigma) for length in picture.shape[1:])
        return picture.new_tensor(down) @ picture @ picture.new_tensor(across).T

    def label(self) -> str:
        return f"the image blurred by {self.sigma:g} pixels"


@value
class RiseFills(Fill):
    """RISE's: zeros after normalisation; and for the insertion, which is read from its end, a blur of 11 x 11."""

    @property
    def two_ended(self) -> bool:
        return True

    def cover(self, evidence: Evidence, image: int, *, least: bool = False) -> Tensor:
        import torch
        from torch.nn.functional import conv2d

        picture = evidence[Input()][image]
        if not least:
            return torch.zeros_like(picture)
        # The kernel of RISE's code: scipy's Gaussian filter of a dot, which reflects what leaves the square.
        line = picture.new_tensor(_reflected(RISE_SIDE, RISE_SIGMA))
        kernel = (line[:, None] * line).expand(len(picture), 1, -1, -1)
        return conv2d(picture[None], kernel, padding=RISE_SIDE // 2, groups=len(picture))[0]

    def label(self) -> str:
        return "zeros, or a blur of 11 x 11 pixels (RISE)"


@value
class Around(Fill):
    """What the pixels around it let expect (ROAD), and noise upon it, so that a hole is not smoother than an image.

    Attributes:
        noise: its standard deviation, in each colour, normalised.
        tolerance: to which the system is solved, see `core.imputation`.
    """

    noise: tuple[float, ...] = ()
    tolerance: float = 1e-2

    def cover(self, evidence: Evidence, image: int, *, least: bool = False) -> Tensor:  # noqa: ARG002
        return Mean().cover(evidence, image)

    def filled(
        self,
        evidence: Evidence,
        image: int,
        hidden: Tensor,
        numbers: Sequence[int],
        *,
        least: Sequence[bool] = (),  # noqa: ARG002
    ) -> Tensor:
        import torch

        picture, hides = evidence[Input()][image], hidden.to(evidence[Input()].device)
        made = impute(picture, hides, self.tolerance)
        if not any(self.noise):
            return made
        seed, spread = int(evidence[Seeds()][image]), picture.new_tensor(self.noise).view(-1, 1, 1)
        drawn = torch.stack([normal(seed, GRAIN + number, tuple(picture.shape)) for number in numbers]).to(picture)
        return torch.where(hides.unsqueeze(1), made + spread * drawn, made)

    def label(self) -> str:
        return "what the pixels around it let expect"


def parse_fill(text: str, frame: InputSpec, *, noise: float = 0.0, auto: str = "mean") -> Fill:
    """The fill that a text means: ``around``, ``mean``, ``black``, ``blur:SIGMA`` or ``rise``; ``auto`` for `auto`.

    Args:
        noise: standard deviation of the noise of ``around``, in shares of white less black.

    Raises:
        UsageError: it means none.
    """
    name, _, number = (auto if text == "auto" else text).partition(":")
    if name == "blur":
        try:
            sigma = float(number)
        except ValueError:
            sigma = 0.0
        if isfinite(sigma) and sigma > 0:
            return Blur(sigma)
    elif not number:
        if name == "around":
            spread = tuple(noise * (high - low) for low, high in zip(frame.black, frame.white, strict=True))
            return Around(spread if noise else ())
        plain: dict[str, Fill] = {"mean": Mean(), "black": Black(frame.black), "rise": RiseFills()}
        if name in plain:
            return plain[name]
    what = f"there is no fill '{escape_text(text, 40)}'"
    raise UsageError(what, where="--fill", fix="Use around, mean, black, blur:SIGMA (in pixels), or rise.")


@value
class Removed:
    """The input with more and more taken away: first the most important parts, then, from the start, the least.

    Number s - 1, for s from 1 to `steps` - 1, lacks the share s / steps that is most important; number
    steps - 1 + s - 1 that which is least.
    """

    at: ClassVar[str] = INPUT

    ends: ClassVar[tuple[str, str]] = ("most", "least")
    """What the curves of both are called."""

    order: Order
    fill: Fill
    steps: int

    @property
    def needs(self) -> tuple[Need, ...]:
        return (*self.fill.needs, self.order)

    @property
    def count(self) -> int:
        return 2 * (self.steps - 1)

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        import torch

        places = evidence[self.order][image]
        total = self.order.parts_of((places.shape[0], places.shape[1]))
        masks, least = [], []
        for number in range(start, stop):
            back, step = divmod(number, self.steps - 1)
            count = round(total * (step + 1) / self.steps)
            masks.append(places >= total - count if back else places < count)
            least.append(bool(back))
        return self.fill.filled(evidence, image, torch.stack(masks), range(start, stop), least=least)

    def label(self) -> str:
        return f"the input without its most and least important parts, filled with {self.fill.label()}"


@value
class Whole:
    """The input as it is."""

    at: ClassVar[str] = INPUT
    needs: ClassVar[tuple[Need, ...]] = (Input(),)
    count: ClassVar[int] = 1

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        return evidence[Input()][image].expand(stop - start, -1, -1, -1)

    def label(self) -> str:
        return "the input as it is"


@value
class Emptied:
    """What is left where everything was taken away: one picture, or one for each end from which that was begun."""

    at: ClassVar[str] = INPUT

    fill: Fill

    @property
    def needs(self) -> tuple[Need, ...]:
        return self.fill.needs

    @property
    def count(self) -> int:
        return 2 if self.fill.two_ended else 1

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        import torch

        picture, count = evidence[Input()][image], stop - start
        everything = torch.ones(count, *picture.shape[1:], dtype=torch.bool, device=picture.device)
        numbers = range(start, stop)
        return self.fill.filled(
            evidence, image, everything, [-1 - number for number in numbers], least=[number == 1 for number in numbers]
        )

    def label(self) -> str:
        return f"all of the input replaced by {self.fill.label()}"


@value
class Cells:
    """The input with some cells of a grid of `side` x `side` taken away; see `hidden`."""

    at: ClassVar[str] = INPUT

    side: int
    fill: Fill

    @property
    def needs(self) -> tuple[Need, ...]:
        return self.fill.needs

    @property
    def count(self) -> int:
        raise NotImplementedError

    def hidden(self, seed: int, start: int, stop: int) -> NDArray[Any]:
        """(stop - start, side * side) bool which cells each variant of an image lacks, row by row."""
        raise NotImplementedError

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        import torch

        height, width = evidence[Input()].shape[2:]
        cells = self.hidden(int(evidence[Seeds()][image]), start, stop).reshape(-1, self.side, self.side)
        rows, columns = cells_of(height, self.side), cells_of(width, self.side)
        masks = torch.from_numpy(cells[:, rows][:, :, columns])
        return self.fill.filled(evidence, image, masks, range(start, stop))

    def label(self) -> str:
        raise NotImplementedError


@value
class RandomCells(Cells):
    """`draws` random subsets of exactly so many `cells`, the same for every map of an image."""

    cells: int
    draws: int

    @property
    def count(self) -> int:
        return self.draws

    def hidden(self, seed: int, start: int, stop: int) -> NDArray[Any]:
        import numpy as np
        import torch

        found = np.zeros((stop - start, self.side**2), dtype=bool)
        for row, number in enumerate(range(start, stop)):
            drawn = generator(seed, SUBSETS + number)
            order = torch.randperm(self.side**2, generator=drawn, dtype=torch.int64, device="cpu")
            chosen = order[: self.cells]
            found[row, chosen.numpy()] = True
        return found

    def label(self) -> str:
        return f"the input without {self.cells} random cells of {self.side} x {self.side}: {self.fill.label()}"


@value
class EachCell(Cells):
    """Each cell of the grid by itself, row by row."""

    @property
    def count(self) -> int:
        return self.side**2

    def hidden(self, seed: int, start: int, stop: int) -> NDArray[Any]:  # noqa: ARG002  (nothing is drawn)
        import numpy as np

        found: NDArray[Any] = np.eye(self.count, dtype=bool)[start:stop]
        return found

    def label(self) -> str:
        return f"the input without each cell of {self.side} x {self.side}: {self.fill.label()}"


@value
class SeenThrough:
    """The normalised input multiplied by a map's positive evidence, whose highest value is 1."""

    at: ClassVar[str] = INPUT
    count: ClassVar[int] = 1

    map: PositiveMap

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Input(), self.map)

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        picture = evidence[Input()][image]
        return (picture * evidence[self.map][image].to(picture)).expand(stop - start, -1, -1, -1)

    def label(self) -> str:
        return "the input seen through a map"


@value
class Jolted:
    """The input less random changes, normal in each colour of each pixel; see `jolt`.

    Attributes:
        spread: standard deviation in each colour, normalised.
    """

    at: ClassVar[str] = INPUT
    needs: ClassVar[tuple[Need, ...]] = (Input(), Seeds())

    spread: tuple[float, ...]
    draws: int

    @property
    def count(self) -> int:
        return self.draws

    def jolt(self, seed: int, number: int, shape: tuple[int, ...]) -> Tensor:
        """(C, H, W) what draw `number` takes from the input of the image that starts from `seed`."""
        drawn = normal(seed, JOLTS + number, shape)
        return drawn * drawn.new_tensor(self.spread).view(-1, 1, 1)

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        import torch

        picture, seed = evidence[Input()][image], int(evidence[Seeds()][image])
        drawn = [self.jolt(seed, number, tuple(picture.shape)) for number in range(start, stop)]
        return picture - torch.stack(drawn).to(picture)

    def label(self) -> str:
        return f"the input with {self.draws} random changes"


def _gaussian(length: int, sigma: float) -> NDArray[Any]:
    """(length, length) how much of value j arrives at i: a Gaussian cut at 4 sigma and at the border, rows of sum 1."""
    import numpy as np

    distance = np.arange(length)[:, None] - np.arange(length)
    weights = np.where(np.abs(distance) <= int(4 * sigma + 0.5), np.exp(-0.5 * (distance / sigma) ** 2), 0.0)
    scaled: NDArray[Any] = weights / weights.sum(1, keepdims=True)
    return scaled


def _reflected(side: int, sigma: float) -> NDArray[Any]:
    """(side,) what a Gaussian filter makes of a dot in the middle of a line that is reflected at its ends."""
    import numpy as np

    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    line = np.zeros(side)
    for place in range(side):
        seen = (place + offsets) % (2 * side)
        line[place] = weights[np.where(seen < side, seen, 2 * side - 1 - seen) == side // 2].sum()
    return line
