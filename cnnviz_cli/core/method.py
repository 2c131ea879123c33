"""The registry of methods, what a method is made of (its options and its recipe), and its context."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_type_hints

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import ALL, EVERY_FAMILY, FAMILIES, SELECTOR
from cnnviz_cli.core.layers import LayerInfo, Layers
from cnnviz_cli.core.needs import Evidence, Need
from cnnviz_cli.core.objectives import Contrast, Negated, Objective, TargetLogit, TargetProbability
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.scores import Score
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor


@value
class LinearHead:
    """Global average pooling of the maps of `layer`, then a linear classifier: `weight` (K, C)."""

    layer: str
    weight: Tensor


@value
class InputSpec:
    """Height and width of the network's input in pixels, and black and white, normalised, in each colour."""

    size: tuple[int, int]
    black: tuple[float, ...]
    white: tuple[float, ...]


@value
class MethodContext:
    """What a method is asked to explain.

    Attributes:
        rank: which of the image's targets to explain, from 0.
        kernels: the first convolution that reads the input itself: its name and its (N, channels, kh, kw) weight.
        find_head: gives the network's classifier, if it is one that averages maps and weighs them; looking for it
            costs a forward.
        contrast_rank: which of the image's targets to distinguish the target from, if any (--contrast).
        counterfactual: whether to explain what speaks against the target.
        probable: whether the score explained is the class's probability (--score).
        sigmoid: whether each class has a probability by itself (--multilabel, and networks with one score).
        classes: whether scores are a classifier's, of which a softmax or sigmoids make probabilities; not so of
            regions, boxes and similarities.
        subject: what stands in the place of a class, such as a channel of a layer.
        canvas: height and width of a picture that is painted from noise, if they are not those of the input.
        region: whether a part of a photograph is named that alone may change.
        find_attention: gives how many layers of attention mix the network's tokens; looking for them costs a forward.
        spectrum: whether the caller brings the amplitudes of other pictures, see `core.ascent.Spectrum`.
        wanted_rank: which of the image's targets an attack is to reach, if it is to reach one (--to).
    """

    layers: Layers
    rank: int
    kernels: tuple[str, Tensor] | None
    input_spec: InputSpec
    find_head: Callable[[], LinearHead | None] = lambda: None
    contrast_rank: int | None = None
    counterfactual: bool = False
    probable: bool = False
    sigmoid: bool = False
    classes: bool = True
    subject: Objective | None = None
    canvas: tuple[int, int] | None = None
    region: bool = False
    spectrum: bool = False
    find_attention: Callable[[], int] = lambda: 0
    wanted_rank: int | None = None

    def find_layers(self, selectors: Sequence[str]) -> dict[str, LayerInfo]:
        """The layers that the selectors mean, low to high, by name. Raises as `Layers.resolve`."""
        return {name: self.layers[name] for name in self.layers.resolve(selectors)}

    @property
    def head(self) -> LinearHead | None:
        """The network's classifier, found on first use."""
        return self.find_head()

    @property
    def score(self) -> Score:
        """What the score of a class is, before and after softmax or sigmoid."""
        if not self.probable:
            return "logit"
        return "sigmoid" if self.sigmoid else "softmax"

    @property
    def probability(self) -> Objective:
        """The probability of the target class, whatever is to be explained; where there are no classes, the score."""
        return TargetProbability(self.rank, self.sigmoid) if self.classes else TargetLogit(self.rank)

    @property
    def target(self) -> Objective:
        """What to explain: the class score, or its difference to another class's, or the `subject`; or minus that."""
        chosen: Objective = self.subject or (self.probability if self.probable else TargetLogit(self.rank))
        if self.contrast_rank is not None and self.subject is None:
            chosen = Contrast(self.rank, self.contrast_rank, self.score)
        return Negated(chosen) if self.counterfactual else chosen

    def require_attention(self) -> int:
        """How many layers of attention there are. Raises UsageError where there are none."""
        found = self.find_attention()
        if not found:
            raise UsageError(
                "this network has no attention, which is all that the method reads",
                fix="Use a method that reads feature maps, for instance gradcam",
            )
        return found

    def require_classes(self, why: str) -> None:
        """Raise UsageError for a region, a box or a similarity: the method compares a class with others."""
        if not self.classes:
            raise UsageError(
                f"{why}, and what is explained here is no class of a classifier", fix="Use another method: gradcam"
            )

    def require_logits(self, why: str) -> None:
        """Raise UsageError for probabilities: the method has no meaning but for the scores before them."""
        if self.probable:
            raise UsageError(
                f"{why}, so it has no --score probability",
                fix="Leave out --score, or use another method, for instance gradcam or integrated-gradients",
            )


_UNSET: Any = object()


@value
class InputView:
    """A change of the input that leaves its class alone: `flipped`, left and right exchanged; `gain`, a factor."""

    flipped: bool = False
    gain: float = 1.0


AUGMENTATIONS = tuple(InputView(flipped, gain) for flipped in (False, True) for gain in (0.9, 1.0, 1.1))
"""The six views that test-time augmentation averages over."""


@value
class Recipe:
    """What a method needs from the model, and the pure function from the answers to panels.

    With `views` the needs are answered for each view of the input, `explain` is called on each, and the panels, which
    must be Heatmaps or InputProjections, are turned back and averaged.
    """

    needs: tuple[Need, ...]
    explain: Callable[[Evidence], Sequence[Panel]]
    views: tuple[InputView, ...] = ()

    @cached_property
    def follows_target(self) -> bool:
        """Whether another target would give another result."""
        return any(need.follows_target for need in self.needs)


@value
class Method:
    """A registered method, see `method`; `build` makes its recipe, `summary` is the first line of its docstring.

    Attributes:
        of_class: whether of a classifier's image it wants a class where nothing is named to paint, not a layer.
    """

    name: str
    family: str
    options: type[Any]
    build: Callable[[Any, MethodContext], Recipe]
    summary: str
    paper: str
    title: str
    of_class: bool = False


_METHODS: dict[str, Method] = {}


def option(default: Any, text: str, *, in_all: Any = _UNSET, at_least: int | None = None) -> Any:
    """One setting of a method: the flag, the YAML key, the environment variable and the manifest's record.

    Args:
        default: the default; the annotation gives the type (a Literal gives the choices, a tuple repeats).
        text: one line of help.
        in_all: the default under ``cnnviz all`` where it differs, which prints the sum of all families.
        at_least: the smallest value allowed.
    """
    metadata = {"help": text, "at_least": at_least}
    if in_all is not _UNSET:
        metadata["in_all"] = in_all
    return field(default=default, metadata=metadata)


@value
class NoOptions:
    """Of a method or a measure that has none."""


_TYPES: dict[type[Any], dict[str, Any]] = {}


def option_types(options: type[Any]) -> dict[str, Any]:
    if options not in _TYPES:
        _TYPES[options] = get_type_hints(options)
    return _TYPES[options]


def check_options(name: str, options: type[Any], others: Mapping[str, type[Any]]) -> None:
    """Raise ValueError if an option has no help, or differs in default, type or help from one of the same name in
    `others`, by the names of those that have them: one flag serves them all."""
    for item in fields(options):
        if not item.metadata.get("help"):
            raise ValueError(f"{name}: option {item.name!r} has no help")
        for other, theirs in others.items():
            twin = next((one for one in fields(theirs) if one.name == item.name), None)
            if twin and (twin.default, twin.metadata, option_types(theirs)[item.name]) != (
                item.default,
                item.metadata,
                option_types(options)[item.name],
            ):
                raise ValueError(f"{name}: option {item.name!r} differs from that of {other}")


def method(
    name: str, *, family: str, options: type[Any], paper: str, title: str = "", of_class: bool = False
) -> Callable[[Callable[[Any, MethodContext], Recipe]], Callable[[Any, MethodContext], Recipe]]:
    """Register a method under a name.

    Args:
        name: what the user types.
        family: the name of its family.
        options: a `value` whose fields were made by `option`.
        paper: the reference, with its address.
        title: its name in figures, for instance "Grad-CAM"; `name` if empty.
        of_class: see `Method`.

    Raises:
        ValueError: the name is taken or not possible, the family unknown, an option has no help, or an option of the
            same name in the family differs from it in default, type or help (one flag serves the whole family).
    """

    def register(build: Callable[[Any, MethodContext], Recipe]) -> Callable[[Any, MethodContext], Recipe]:
        if name == ALL or "," in name:
            raise ValueError(f"no method can be called {name!r}: commas list names, and {ALL} is every one")
        if name in _METHODS:
            raise ValueError(f"the method name {name!r} is taken")
        if family not in EVERY_FAMILY:
            raise ValueError(f"{name}: unknown family {family!r}")
        check_options(name, options, {other.name: other.options for other in methods(family)})
        # Under -OO there are no docstrings; what it shows is then said by its title alone.
        summary = (build.__doc__ or (title or name if sys.flags.optimize > 1 else "")).strip().splitlines()
        if not summary:
            raise ValueError(f"{name}: a docstring's first line says what one sees")
        _METHODS[name] = Method(name, family, options, build, summary[0], paper, title or name, of_class)
        return build

    return register


def methods(family: str | None = None) -> Iterator[Method]:
    """The registered methods of a family, or of all that ``all`` runs, in the order of registration."""
    return (m for m in tuple(_METHODS.values()) if m.family == family or (family is None and m.family in FAMILIES))


def every_method() -> Iterator[Method]:
    """The registered methods of all families, those that ``all`` leaves out among them."""
    return (m for m in tuple(_METHODS.values()))


def find_method(name: str, family: str | None = None) -> Method:
    """The method of that name. Raises UsageError if the family has none."""
    for candidate in methods(family):
        if candidate.name == name:
            return candidate
    what, fix = unknown_method_message(name, family)
    raise UsageError(what, fix=fix)


def unknown_method_message(name: str, family: str | None = None) -> tuple[str, str]:
    """What to say of a method that `family`, or any of them, does not have, and how to mend it."""
    other = next((m for m in methods() if m.name == name), None)
    if other is not None:
        what = f"'{name}' is a method of {other.family}, not of {family}"
        return what, f"Run it with: cnnviz {other.family} IMAGE --{SELECTOR} {name}"
    what = f"there is no {family or ''} method '{escape_text(name, 60)}'".replace("  ", " ")
    near = did_you_mean(name, [ALL, *(m.name for m in methods(family))])
    return what, near or f"See: cnnviz methods{f' --family {family}' if family else ''}"
