"""The registry of measures, and what a measure is made of: its columns, its trial of a map, and its verdict.

A measure judges maps as a method explains: from its options and what it is told of the run it makes a `Trial`, which
says what is needed of the network and has a pure function from the answers to numbers. Equal needs of several measures,
or of one measure for several maps, are answered once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, get_args

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.evaluation import Better
from cnnviz_cli.core.method import MethodContext, check_options
from cnnviz_cli.core.needs import Evidence, Given, Need
from cnnviz_cli.core.objectives import Objective
from cnnviz_cli.core.readings import Reading, cell_sums, cells_of, ranks
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor

Group = Literal["faithful", "class-wise", "sanity", "robust", "people", "description", "papers"]
"""What a measure is about. faithful: how the network reacts where the map says that it should. class-wise: whether the
map is about its class. sanity: whether it is about the network. robust: whether it stays where the input hardly
changes. people: whether it lies where people point. description: what it looks like. papers: for comparison with papers
alone."""


@value
class Column:
    """One number that a measure gives of a map.

    Attributes:
        name: ``gain`` of ``removal.gain``; empty for the measure's own name.
        better: which end is good.
        chance: what a map that says nothing gets, if that is known.
        chance_in: the name of the measure's column that says so of each image; empty if none.
        ranked: whether it may order maps and be held against the controls.
        curve: what the measure's curve of the same name is called in a chart: "most important first".
        limit: a method whose mean over images is not on the good side of it is marked; on it counts as bad only where
            more is better.
        mark: what the mark says.
        error: the name of the measure's column that says how far off this number may be of one image; empty if none.
        note: half a sentence that a leaderboard has of it, where its ends want to be explained.
    """

    name: str
    title: str
    better: Better = "high"
    chance: float | None = None
    ranked: bool = True
    curve: str = ""
    limit: float | None = None
    mark: str = ""
    chance_in: str = ""
    error: str = ""
    note: str = ""

    def full_name(self, measure: str) -> str:
        """The name under which the number is recorded: ``removal.gain``, or ``subsets``."""
        return f"{measure}.{self.name}" if self.name else measure


@value
class Verdict:
    """What a trial found of one image's map, by column.

    Attributes:
        numbers: finite ones alone.
        curves: by name what is drawn.
        undone: why a column has no number.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    undone: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        numbers: Mapping[str, float],
        curves: Mapping[str, Sequence[float]] = MappingProxyType({}),
        *,
        why: str = "it cannot be worked out from these numbers",
        undone: Mapping[str, str] = MappingProxyType({}),
    ) -> Verdict:
        """The verdict of some numbers; one that is not finite is undone, for the reason `why`."""
        finite = {name: float(number) for name, number in numbers.items() if isfinite(number)}
        missing = {name: why for name in numbers if name not in finite}
        drawn = {name: tuple(map(float, points)) for name, points in curves.items()}
        return cls(
            finite, {name: each for name, each in drawn.items() if all(map(isfinite, each))}, {**missing, **undone}
        )


@value
class Again:
    """A way to run the methods once more: on the same images, altered. A measure's own is a value that derives from
    it, and so equal ones of several measures run once; `run` says how each is carried out."""

    words: ClassVar[str] = ""
    """What stands before the reason why a map that it gave cannot be judged."""

    target_alone: ClassVar[bool] = False
    """Whether it changes nothing but the target, so that a map that depends on none stays as it is."""

    def label(self) -> str:
        """In words, for ``--dry-run``."""
        raise NotImplementedError


@value
class OtherTarget(Again):
    """With another class in the target's place: the least likely of the `among` likeliest."""

    words: ClassVar[str] = "of the other class"
    target_alone: ClassVar[bool] = True

    among: int = 100

    def label(self) -> str:
        return f"the methods once more, of the least likely of {self.among} classes"


@value
class Scrambled(Again):
    """With the weights of the network's layers shuffled, from the top down to stage number `stage` of `stages`."""

    words: ClassVar[str] = "with shuffled weights"

    stage: int
    stages: int

    def label(self) -> str:
        return f"the methods once more, with shuffled weights, stage {self.stage + 1} of {self.stages}"


@value
class Noisy(Again):
    """With noise added to the input: uniform, up to `share` of white less black. Draw number `draw`; whatever a method
    draws itself is as without the noise.

    Attributes:
        normalized: the noise is up to `share` itself, added to the normalised input.
    """

    words: ClassVar[str] = "with noise"

    draw: int
    share: float
    normalized: bool = False

    def label(self) -> str:
        how = f"up to {self.share:g}" if self.normalized else f"of {self.share:.0%}"
        return f"the methods once more, draw {self.draw + 1} of noise {how}"


@value
class OfMap(Given):
    """What is made of a finished map before it is judged, at the input's size; `key` names the map."""

    key: str = ""

    def made_of(self, reading: Reading, seed: int) -> Tensor:
        """(H, W) of one image's reading; `seed` is the image's own."""
        raise NotImplementedError

    def zeros(self, shape_of: Callable[[str], tuple[int, ...]]) -> Tensor:
        import torch

        kind = torch.int64 if self.integer else torch.float32
        return torch.zeros(1, *shape_of(self.place)[1:], dtype=kind, device="cpu")


@value
class Order(OfMap):
    """(B, H, W) int64 the place of each pixel in a map's order, the most important first, from 0.

    What is equal is in an order that is drawn from the image's seed.

    Attributes:
        cells: of a grid with so many cells a side the pixels of a cell share a place; 0: each pixel has its own.
    """

    integer: ClassVar[bool] = True

    cells: int = 0

    @classmethod
    def of_map(cls, key: str, cells: int = 0) -> Order:
        """The order of the map that is called `key`."""
        return cls(f"order{cells or ''}:{key}", key, cells)

    def parts_of(self, size: tuple[int, int]) -> int:
        """How many places there are in the order of an image of a size."""
        return self.cells**2 if self.cells else size[0] * size[1]

    def made_of(self, reading: Reading, seed: int) -> Tensor:
        import torch

        if not self.cells:
            return torch.from_numpy(ranks(reading.order, seed)).view(reading.order.shape)
        places = ranks(cell_sums(reading.order, self.cells, mean=True), seed).reshape(self.cells, self.cells)
        rows, columns = (cells_of(length, self.cells) for length in reading.order.shape)
        return torch.from_numpy(places[rows][:, columns])


@value
class PositiveMap(OfMap):
    """(B, H, W) float32 a map's positive evidence, its highest value 1."""

    @classmethod
    def of_map(cls, key: str) -> PositiveMap:
        """The positive evidence of the map that is called `key`."""
        return cls(f"positive:{key}", key)

    def made_of(self, reading: Reading, seed: int) -> Tensor:  # noqa: ARG002  (nothing is drawn)
        import torch

        top = float(reading.positive.max())
        return torch.from_numpy(reading.positive / top if top > 0 else reading.positive)


@value
class Marked(Given):
    """(B, H, W) bool which pixels of the input are within what people have marked in each image, for one target."""

    @classmethod
    def for_target(cls, rank: int) -> Marked:
        """Of the target number `rank`."""
        return cls(f"marked:{rank}")


@value
class Scope:
    """What a measure is told of the map that it judges.

    Attributes:
        context: of the target that the map explains; of a map without one, of the first target.
        key: the map's name, unique among those of a run: ``gradcam/head/0``.
        images: how many the run has.
        regions: whether people have marked in the images what they show, so that `Marked` is answered.
    """

    context: MethodContext
    key: str = ""
    images: int = 1
    regions: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.context.input_spec.size

    @property
    def plain(self) -> bool:
        """Whether the score is that of one target, neither a difference to another's nor turned round."""
        return self.context.contrast_rank is None and not self.context.counterfactual

    @property
    def probable(self) -> bool:
        """Whether the score is a probability, of which differences and ratios mean something by themselves."""
        return self.plain and self.context.classes

    @property
    def objective(self) -> Objective:
        """The score of altered images: the target's probability; of what is no class, or under --contrast and
        --counterfactual, what is explained."""
        return self.context.probability if self.plain else self.context.target


class JudgeMap(Protocol):
    """How a trial judges the map of one image."""

    def __call__(self, evidence: Evidence, image: int, reading: Reading, again: Mapping[Again, Reading]) -> Verdict:
        """The verdict.

        Args:
            evidence: the batch's answers to the trial's needs.
            image: its number in the batch.
            reading: of the map; one that has no `undone`.
            again: of the map that the same method gave, altered, by each of the trial's; with the reason in
                `undone` where there is none, or none that can be judged.
        """


JudgeCell = Callable[[Reading, slice, slice], Verdict]
"""How the map of one image's class over a mosaic is judged, of which the image fills these rows and columns."""


@value
class Mosaics:
    """Four images of different classes as one input, in which methods are asked for the class of each.

    They are made once all images have passed, by `run`; of a measure that reads them nothing is said of an image alone.

    Attributes:
        most: sets of four, at most; each is seen in four arrangements, so that every image is once in every place.
        sure: how probable its class has to be in an image by itself.
        small: whether an image is halved, so that a mosaic has the size of an input, or keeps its size.
        undone: why there are none, whatever the images are; empty if there may be some.
    """

    most: int
    sure: float
    small: bool
    judge: JudgeCell
    undone: str = ""


@value
class Trial:
    """What a measure needs to judge one map, and the pure function from the answers to a verdict.

    Attributes:
        mosaics: what is judged in the place of each image's map, by a measure that reads mosaics.
        cascade: the names of two curves along stages of shuffled weights, if it has such: of magnitudes, with signs.
    """

    judge: JudgeMap
    needs: tuple[Need, ...] = ()
    again: tuple[Again, ...] = ()
    mosaics: Mosaics | None = None
    cascade: tuple[str, str] | None = None


Build = Callable[[Any, Scope], Trial]


@value
class Measure:
    """A registered measure, see `measure`; `summary` is the first line of its docstring."""

    name: str
    title: str
    group: Group
    options: type[Any]
    columns: tuple[Column, ...]
    build: Build
    summary: str
    paper: str
    quick: bool

    @property
    def by_people(self) -> bool:
        """Whether it judges by what people have marked in the images."""
        return self.group == "people"

    @property
    def column_names(self) -> tuple[str, ...]:
        """The full names of its columns."""
        return tuple(column.full_name(self.name) for column in self.columns)


_MEASURES: dict[str, Measure] = {}

_GROUPS = get_args(Group)


def measure(
    name: str,
    *,
    title: str,
    group: Group,
    options: type[Any],
    columns: Sequence[Column],
    paper: str = "",
    quick: bool = False,
) -> Callable[[Build], Build]:
    """Register a measure under a name.

    Args:
        options: a `value` whose fields were made by `core.method.option`.
        columns: the numbers that it gives, the one that ranks first.
        paper: the reference, with its address.
        quick: whether it is among those that are judged by default.

    Raises:
        ValueError: the name is taken or not possible, two columns have one name, there is no docstring, or an option
            has no help or differs from another measure's of the same name (one flag serves them all).
    """

    def register(build: Build) -> Build:
        if name in ("all", "quick") or not name or set(",. ") & set(name):
            raise ValueError(f"no measure can be called {name!r}")
        if name in _MEASURES:
            raise ValueError(f"the measure {name!r} is taken")
        if not columns or len({column.name for column in columns}) < len(columns):
            raise ValueError(f"{name}: each of its columns needs a name of its own")
        check_options(name, options, {other.name: other.options for other in _MEASURES.values()})
        summary = (build.__doc__ or (title if sys.flags.optimize > 1 else "")).strip().splitlines()
        if not summary:
            raise ValueError(f"{name}: a docstring's first line says what it measures")
        _MEASURES[name] = Measure(name, title, group, options, tuple(columns), build, summary[0], paper, quick)
        return build

    return register


def measures() -> Iterator[Measure]:
    """The registered measures by group, those that are judged by default first, then by name.

    The first of them that ranks orders a leaderboard; that must not depend on which file was imported first.
    """
    return iter(sorted(_MEASURES.values(), key=lambda one: (_GROUPS.index(one.group), not one.quick, one.name)))


def find_measure(name: str) -> Measure:
    """The measure of that name. Raises UsageError if there is none."""
    found = _MEASURES.get(name)
    if found is None:
        near = did_you_mean(name, ["all", "quick", *_MEASURES])
        raise UsageError(f"there is no measure '{escape_text(name, 60)}'", fix=near or "See: cnnviz measures")
    return found
