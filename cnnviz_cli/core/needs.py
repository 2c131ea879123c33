"""What a method may ask of a network, and how it is answered.

A need is a frozen value: the same object is the request in a recipe and the key to the answer in the evidence.
Two methods that ask for equal needs share one computation. A need also says what every stage of a run has to know of
it: what it is made from, what to try of it on a network, what stands in for its answer in a dry run. How it is answered
is the engine's: a gradient or a score joins the shared passes of `engine.plan`; a `SeparatePass` has a function of its
own, registered with `engine.answers`. A method that alters the input many times states how as `Variants`; the engine
streams them through the network in chunks that fit into memory. No torch is imported at the top; tensors pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from cnnviz_cli.core.objectives import Objective, TargetLogit
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor


class Variants(Protocol):
    """A list of alterations of each image's input, or of its activation at a layer. Frozen and hashable.

    Equal variants are made and run once. A variant must depend on the evidence of its own image, on its
    number and on nothing else: never on the chunk in which it is made, and never on a global random state.
    """

    @property
    def at(self) -> str:
        """INPUT, or the layer whose output is replaced; then only what comes after the layer runs."""

    @property
    def needs(self) -> tuple[Need, ...]:
        """The evidence it is made from: activations, gradients, the input, the seeds; no other variants."""

    @property
    def count(self) -> int:
        """How many there are for each image."""

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        """Variants `start` to `stop` (excluded) of the batch's image `image`: (n, 3, H, W), or (n, C, h, w) of the
        layer."""

    def label(self) -> str:
        """In words, for ``--dry-run``: "25 noisy inputs"."""


class WeightedVariants(Variants, Protocol):
    """Variants whose gradients are weighted before they are summed."""

    def weight(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        """(stop - start, ...) what each gradient is multiplied by, of a shape that broadcasts with the gradients."""


@runtime_checkable
class KeyedVariants(Variants, Protocol):
    """Variants of which some may be equal; those pass the network once."""

    def keys(self, evidence: Evidence, image: int) -> Sequence[Hashable]:
        """A value for each of the `count` variants of an image: variants with the same value are equal."""


class GradientPath(Protocol):
    """A walk through input space whose every step depends on the gradient at the step before. Frozen and hashable."""

    @property
    def needs(self) -> tuple[Need, ...]:
        """The evidence it starts from."""

    @property
    def count(self) -> int:
        """How many gradients it takes."""

    def begin(self, evidence: Evidence) -> Tensor:
        """(B, 3, H, W) where it starts."""

    def advance(self, evidence: Evidence, step: int, point: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """One step, `step` from 0 to `count` - 1, from `point` (B, 3, H, W) with the gradient of the objective there.

        Returns:
            Where it goes, and what this step attributes; the answer is the sum of the latter. Both (B, 3, H, W).
        """

    def label(self) -> str:
        """In words, for ``--dry-run``."""


INPUT = "<input>"
"""The network's input, where a need would otherwise name a layer."""

TARGETS = "<targets>"
"""The targets of each image, where a need would otherwise name a layer."""

ReluRule = Literal["exact", "rectify", "guide", "guide-on", "open"]
"""How a gradient passes a rectifier. exact: times the derivative. rectify: the incoming gradient clamped at zero, the
derivative ignored. guide: the clamped incoming gradient times the derivative, where positive; guide-on: one at its
ceiling, as ReLU6 has, counts as on. open: times the derivative; where nothing passes so, what would switch it on."""

Composite = Literal["epsilon", "epsilon-plus-flat", "epsilon-gamma-box"]
"""Which rule of layer-wise relevance propagation each kind of layer follows, see engine.relevance."""


Change = Literal["unknown", "none", "values", "shares", "slopes"]
"""How an answer tells that a target's score changed, see engine.observe. values: they differ. shares: they add up to
the change. slopes: times what they are slopes by. none: what it tells is no part of the image."""


@value
class Need:
    """Anything that a recipe may ask for."""

    change: ClassVar[Change] = "unknown"

    demanding: ClassVar[bool] = False
    """Whether it asks more of a network than maps, scores and true gradients, which hardly any network refuses."""

    derived: ClassVar[bool] = False
    """Whether it takes variants, or passes of its own, so that no variants can be made from it."""

    integer: ClassVar[bool] = False
    """Whether its answer holds whole numbers."""

    @property
    def objective(self) -> Objective | None:
        """What is differentiated or compared, if anything is."""
        return getattr(self, "of", None)

    @property
    def place(self) -> str:
        """INPUT, TARGETS, or the layer whose maps it is about."""
        return getattr(self, "at", INPUT)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of the answer for one image; None where it is that of `place`."""
        return None

    @property
    def rule(self) -> ReluRule:
        """How its gradient passes rectifiers."""
        return getattr(self, "through", "exact")

    @property
    def follows_target(self) -> bool:
        """Whether another target would give another answer."""
        return self.objective is not None and self.objective.follows_target

    @property
    def full_precision(self) -> bool:
        """Whether it is answered in full precision even where the network runs in a lower one."""
        return bool(getattr(self, "full", False))

    @property
    def measures_change(self) -> bool:
        """Whether it asks how the score of a target changes; biases move that too, but are no part of the image."""
        of = self.objective
        return self.change != "none" and of is not None and of.follows_target and not of.layers()

    @property
    def sources(self) -> tuple[Need, ...]:
        """The evidence it is made from, which has to be there first."""
        return ()

    @property
    def kind(self) -> tuple[Any, ...]:
        """Needs of one kind are all refused by a network, or none is."""
        objective = self.objective
        return (type(self), type(objective), objective.layers() if objective else (), self.place)

    def trial(self) -> Iterator[Need]:
        """What to try in its place before a run: as little as a network may refuse for the same reasons."""
        yield from ()

    def zeros(self, shape_of: Callable[[str], tuple[int, ...]]) -> Tensor:
        """Zeros in the shape of the answer for one image, for a dry run; `shape_of` gives (C, h, w) of INPUT or a
        layer, and of TARGETS how many an image has."""
        import torch

        shape = shape_of(self.place) if self.shape is None else self.shape
        return torch.zeros(1, *shape, dtype=torch.int64 if self.integer else torch.float32, device="cpu")


@value
class SeparatePass(Need):
    """A need that takes forwards and backwards of its own; a function registered with `engine.answers` takes them."""

    demanding: ClassVar[bool] = True
    derived: ClassVar[bool] = True
    full: ClassVar[bool] = True

    looks_at: ClassVar[str] = ""
    """What of a network's inside has to be visible before anything runs; empty if nothing has."""

    words: ClassVar[str] = "a pass of its own"
    """How it is answered, for ``--dry-run``."""

    @property
    def steps(self) -> int:
        """How many forwards it takes, each with a backward."""
        return 1

    @property
    def variants(self) -> int:
        """How many altered inputs of each image it takes at the most, each with a forward and a backward."""
        return 0

    def trial(self) -> Iterator[Need]:
        yield self

    def label(self) -> str:
        """Its passes in words, for ``--dry-run``."""
        of = f" of {self.objective.label()}" if self.objective else ""
        return f"1 forward and 1 backward{of}: {self.words}"


def _of_variants(variants: Variants) -> tuple[Need, ...]:
    return (*variants.needs, Input() if variants.at == INPUT else Activation(variants.at))


@value
class Activation(Need):
    """(B, C, h, w) float32 output of `layer`, before any later in-place operation; the last run of a module counts.

    Attributes:
        full: whether they have to be the maps that gradients at the input start from, which are in full precision.
    """

    layer: str
    full: bool = False

    @property
    def place(self) -> str:
        return self.layer

    def trial(self) -> Iterator[Need]:
        yield self


@value
class Gradient(Need):
    """The gradient of an objective, float32, with the shape of the input or of the layer's maps."""

    change: ClassVar[Change] = "slopes"

    at: str = INPUT
    of: Objective = TargetLogit()
    through: ReluRule = "exact"

    @property
    def full_precision(self) -> bool:
        return self.at == INPUT

    def trial(self) -> Iterator[Need]:
        yield from _gradient_trial(self)


@value
class Curvature(Need):
    """(B, C, h, w) the Hessian of an objective by the maps of `at`, times those maps: H A."""

    change: ClassVar[Change] = "slopes"
    demanding: ClassVar[bool] = True

    at: str
    of: Objective = TargetLogit()

    def trial(self) -> Iterator[Need]:
        yield self


@value
class Input(Need):
    """(B, 3, H, W) the normalised input itself, float32."""


@value
class Targets(Need):
    """(B, R) int64 class indices: the R targets of each image."""

    integer: ClassVar[bool] = True

    @property
    def follows_target(self) -> bool:
        return True

    @property
    def place(self) -> str:
        return TARGETS


@value
class Given(Need):
    """What the caller of `engine.observe` brings under a name, such as a finished map, the batch first."""

    name: str


@value
class Seeds(Given):
    """(B,) int64, on the CPU: what all random draws of an image start from. It comes from the run's seed and the
    image's bytes, so that order, batch and shard change nothing."""

    integer: ClassVar[bool] = True

    name: str = "seeds"

    @property
    def shape(self) -> tuple[int, ...]:
        return ()


@value
class Scores(Need):
    """(B, n) an objective on each of n variants of each image. The objective reads class scores alone.

    Attributes:
        full: whether they are compared with answers in full precision, and so have to be in it, too.
    """

    change: ClassVar[Change] = "values"
    derived: ClassVar[bool] = True

    on: Variants
    of: Objective = TargetLogit()
    full: bool = False

    @property
    def place(self) -> str:
        return self.on.at

    @property
    def sources(self) -> tuple[Need, ...]:
        return _of_variants(self.on)

    def trial(self) -> Iterator[Need]:
        # Altered inputs take a forward like any other; an altered layer takes the network apart.
        if self.on.at != INPUT:
            yield Scores(Unaltered(self.on.at), self.of)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.on.count,)


@value
class Unaltered:
    """Variants: the maps of a layer as they are, two at a time."""

    at: str
    count: ClassVar[int] = 2

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Activation(self.at),)

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
        maps = evidence[Activation(self.at)][image : image + 1]
        return maps.expand(stop - start, -1, -1, -1).clone()

    def label(self) -> str:
        return f"the maps of {self.at} as they are"


@value
class GradientOver(Need):
    """Gradients at many altered inputs, streamed into one: the mean over i of g_i ** moment.

    The answer has the shape of the input, or of the maps of `at`.

    Attributes:
        moment: 1, 2 or 3.
        weighted: give the sum over i of weight_i * g_i ** moment instead of the mean; `over` is WeightedVariants.
    """

    change: ClassVar[Change] = "slopes"
    derived: ClassVar[bool] = True

    over: Variants
    of: Objective = TargetLogit()
    at: str = INPUT
    through: ReluRule = "exact"
    moment: int = 1
    weighted: bool = False

    @property
    def full_precision(self) -> bool:
        return self.at == INPUT

    @property
    def sources(self) -> tuple[Need, ...]:
        return _of_variants(self.over)

    def trial(self) -> Iterator[Need]:
        yield from _gradient_trial(self)


def _gradient_trial(need: Gradient | GradientOver) -> Iterator[Need]:
    if need.through != "exact":
        yield Gradient(need.at, need.of, need.through)
    # That a layer depends on the input need not be tried: the way from the objective to the layer is enough.
    layers = need.of.layers() if need.at == INPUT else ()
    yield Gradient(layers[-1] if layers else need.at, need.of)


@value
class PathIntegral(SeparatePass):
    """(B, 3, H, W) what a path that follows the gradient has attributed at its end."""

    change: ClassVar[Change] = "shares"
    demanding: ClassVar[bool] = False

    along: GradientPath
    of: Objective = TargetLogit()

    @property
    def sources(self) -> tuple[Need, ...]:
        return self.along.needs

    @property
    def steps(self) -> int:
        return self.along.count

    def trial(self) -> Iterator[Need]:
        yield Gradient(of=self.of)

    def label(self) -> str:
        return f"{self.steps} forwards and backwards of {self.of.label()}: {self.along.label()}"


@value
class Relevance(SeparatePass):
    """(B, 3, H, W) relevance of the input, propagated layer by layer from the objective by a composite of rules.

    Attributes:
        low, high: the ends of the possible input in each colour, which the box rule of the first layer needs.
        biases: whether a bias takes its share of what it had a part in; if not, the inputs get all of it.
    """

    change: ClassVar[Change] = "shares"
    words: ClassVar[str] = "relevance by a rule for each layer"

    composite: Composite
    of: Objective = TargetLogit()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    biases: bool = True

    @property
    def kind(self) -> tuple[Any, ...]:
        return (*super().kind, self.composite)


@value
class Multipliers(SeparatePass):
    """(B, 3, H, W) slopes between the input and a reference, one variant of it, by the rescale rule."""

    change: ClassVar[Change] = "slopes"
    words: ClassVar[str] = "differences to a reference"

    reference: Variants
    of: Objective = TargetLogit()

    @property
    def sources(self) -> tuple[Need, ...]:
        return _of_variants(self.reference)


@value
class BiasGradients(SeparatePass):
    """(B, L, H, W) for each of the L runs of layers that add a bias, sum over channels of normalised |b dy/db|."""

    change: ClassVar[Change] = "none"
    looks_at: ClassVar[str] = "biases"
    words: ClassVar[str] = "gradients at every bias"
    full: ClassVar[bool] = False  # sums over channels, on which rounding leaves no trace

    of: Objective = TargetLogit()


class UndeclaredError(KeyError):
    """A method read evidence that its recipe does not declare."""


class Evidence:
    """The answers to one recipe's needs, for one batch."""

    def __init__(self, answers: Mapping[Need, Tensor]) -> None:
        self._answers = dict(answers)

    def __getitem__(self, need: Need) -> Tensor:
        try:
            return self._answers[need]
        except KeyError:
            raise UndeclaredError(f"{need!r} is not among the recipe's needs") from None

    def only(self, needs: Iterable[Need]) -> Evidence:
        """The same evidence narrowed to `needs`, so that a method cannot lean on another's."""
        return Evidence({need: self[need] for need in needs})
