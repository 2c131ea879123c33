"""Climbing an objective: the need for a picture that the network answers strongly, and what it is made of.

A `Canvas` is what is painted on: which numbers are moved, and the picture they make. `Views` are how the network gets
to see the picture at each step. A `Course` is how long and by which rule the numbers move. All three are frozen values
whose draws depend on an image's seed and a number alone, so that batch, order and shard change nothing. No torch is
imported here; tensors pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, Protocol

from cnnviz_cli.core.needs import Activation, Change, Evidence, Given, Gradient, Need, SeparatePass
from cnnviz_cli.core.objectives import Objective
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor


@value
class Picture(Given):
    """(B, C, h, w) in [0, 1] a picture that the caller brings, of any size, the same for the batch."""

    name: str = "photograph"


@value
class Region(Given):
    """(B, 1, h, w) in [0, 1] how much of a photograph may change at each pixel; of the photograph's size."""

    name: str = "region"


@value
class Spectrum(Given):
    """(B, C, h, w // 2 + 1) the amplitudes of other pictures, the mean of what `amplitudes` gives for each.

    Attributes:
        colours: what a pixel's numbers are that much of; taken apart where there are as many.
    """

    name: str = "spectrum"
    colours: tuple[tuple[float, ...], ...] = ()

    def amplitudes(self, picture: Tensor) -> Tensor:
        """(1, C, h, w // 2 + 1) float64 of a (1, C, h, w) picture in [0, 1]."""
        import torch

        waves = picture.double()
        if picture.shape[1] == len(self.colours):
            waves = (torch.linalg.inv(waves.new_tensor(self.colours)) @ waves.flatten(2)).view_as(waves)
        found: Tensor = torch.fft.rfft2(waves).abs()
        return found


class Painting(Protocol):
    """One picture while it is painted."""

    numbers: Tensor
    """What the gradient is taken of and what is moved; detached."""

    @property
    def octaves(self) -> int:
        """How many sizes it is painted at, one after the other."""

    def enter(self, octave: int) -> None:
        """Go on to the next size; called for each in turn, from 0, before its first step."""

    def draw(self, numbers: Tensor) -> Tensor:
        """(1, C, h, w) in [0, 1] the picture that the numbers make, differentiable; the numbers themselves if they are
        the picture."""

    def put(self, numbers: Tensor) -> None:
        """Take what a step has made of the numbers, within the bounds that they have."""


class Canvas(Protocol):
    """What is painted on. Frozen and hashable."""

    @property
    def needs(self) -> tuple[Need, ...]:
        """The evidence it starts from: seeds, a photograph."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the finished picture; None for those of the photograph."""

    @property
    def octaves(self) -> int:
        """How many sizes it is painted at, at the most."""

    @property
    def exact(self) -> bool:
        """Whether so many sizes were asked for, and fewer are worth a word."""

    def begin(self, evidence: Evidence, image: int, like: Tensor) -> Painting:
        """A picture of the batch's image number `image`, before its first step.

        Args:
            like: (1, C, H, W) an input of the network, whose colours, precision and device it has.
        """

    def label(self) -> str:
        """In words, for ``--dry-run``."""


@value
class Tile:
    """A rectangle of a picture that goes on at the other side where it crosses a border."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, picture: Tensor) -> Tensor:
        """(1, C, height, width) a copy of it."""
        rows, columns = self._places(picture)
        return picture[:, :, rows][:, :, :, columns]

    def paste(self, picture: Tensor, part: Tensor) -> None:
        """Put what belongs there into a picture."""
        rows, columns = self._places(picture)
        picture[:, :, rows[:, None], columns] = part

    def _places(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        height, width = picture.shape[2:]
        rows = torch.arange(self.top, self.top + self.height, dtype=torch.int64, device=picture.device) % height
        columns = torch.arange(self.left, self.left + self.width, dtype=torch.int64, device=picture.device) % width
        return rows, columns


class Views(Protocol):
    """How the network gets to see a picture. Frozen and hashable."""

    def tiles(self, height: int, width: int, seed: int, draw: int) -> tuple[Tile, ...]:
        """The parts that pass the network one by one, which cover the picture once; none if it passes as a whole."""

    def look(self, picture: Tensor, seed: int, draw: int, progress: float) -> Tensor:
        """(n, C, H, W) of a (1, C, h, w) picture, differentiable.

        Args:
            seed: of the image.
            draw: the number of the step, which tells its draws from others.
            progress: from 0, the first step of a size, to 1, the last.
        """

    def label(self) -> str:
        """In words, for ``--dry-run``."""


class Mover(Protocol):
    """Moves the numbers of one picture, with what it remembers of earlier steps."""

    def move(self, numbers: Tensor, gradient: Tensor, progress: float) -> Tensor:
        """Where the numbers go, for more of the objective. The gradient may be written over: nobody reads it again."""


class Rule(Protocol):
    """How numbers move along a gradient. Frozen and hashable."""

    def begin(self) -> Mover:
        """At the first step of a size."""

    def label(self) -> str:
        """In words, for ``--dry-run``."""


OPEN_STEPS = 16
"""Steps with open rectifiers at the most: lucid's number; with more no unit ended higher."""


@value
class Course:
    """How far a picture goes.

    Attributes:
        steps: at each size.
        open_steps: in how many steps of a picture rectifiers may be opened, where its gradient is exactly zero.
    """

    steps: int
    rule: Rule
    open_steps: int = OPEN_STEPS


@value
class Ascent(SeparatePass):
    """(B, C, h, w) float32 in [0, 1]: a picture painted for an objective to be high.

    Attributes:
        black, white: the ends of the picture's range, normalised, in each colour of the network's input.
        mapped: whether `Asked` is asked for, too.
    """

    change: ClassVar[Change] = "none"

    canvas: Canvas
    views: Views
    course: Course
    of: Objective
    black: tuple[float, ...]
    white: tuple[float, ...]
    mapped: bool = False

    @property
    def sources(self) -> tuple[Need, ...]:
        beside = tuple(Picture(name) for name in self.of.compares_with)
        return tuple(dict.fromkeys((*self.canvas.needs, *beside)))

    @property
    def shape(self) -> tuple[int, ...] | None:
        return None if self.canvas.size is None else (len(self.black), *self.canvas.size)

    @property
    def steps(self) -> int:
        return self.canvas.octaves * self.course.steps

    def trial(self) -> Iterator[Need]:
        layers = self.of.layers()
        if self.of.compares_with:
            yield from (Activation(layer) for layer in layers)
        else:
            yield Gradient(layers[-1], self.of) if layers else Gradient(of=self.of)

    def label(self) -> str:
        parts = self.canvas.label(), self.views.label(), self.course.rule.label()
        return f"{self.steps} forwards and backwards of {self.of.label()}: {', '.join(parts)}"


@value
class OfAscent(Need):
    """What is told of an `Ascent` in passing; the recipe has to need that, too."""

    change: ClassVar[Change] = "none"

    by: Ascent

    @property
    def follows_target(self) -> bool:
        return self.by.follows_target


@value
class StepScores(OfAscent):
    """(B, n) the objective in what the network saw at each step; the last of the picture as it was before that step."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.by.steps,)


@value
class Opened(OfAscent):
    """(B,) int64 in how many steps rectifiers were opened."""

    integer: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        return ()


@value
class Asked(OfAscent):
    """(B, 1, h, w) how much the objective has asked for at each pixel of the last size: the sum over steps and colours
    of the gradient's magnitude, each step's divided by its mean (MACO's transparency)."""

    def zeros(self, shape_of: Callable[[str], tuple[int, ...]]) -> Tensor:
        return self.by.zeros(shape_of)[:, :1]


@value
class Reached(SeparatePass):
    """(B,) an objective in the input as it is, without a gradient."""

    change: ClassVar[Change] = "none"

    of: Objective

    @property
    def sources(self) -> tuple[Need, ...]:
        return tuple(Picture(name) for name in self.of.compares_with)

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    def label(self) -> str:
        return f"1 forward for {self.of.label()}"
