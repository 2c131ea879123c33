"""What a method's numbers mean, not how they look.

A panel holds a whole batch; `pick` takes one image out of it as numpy arrays, which is all a renderer sees.
Every tensor of a panel has the batch as its first dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, cast

from cnnviz_cli.core.attacks import format_size
from cnnviz_cli.core.text import format_percent
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Values = Tensor | np.ndarray[Any, np.dtype[Any]]

State = Literal["ok", "flat", "silent", "negative", "nonfinite", "unstable", "incomplete", "unreached", "unmoved"]
"""Whether a map, or a painted picture, can be read.

ok; flat: one value everywhere, or differences no larger than rounding; silent: the layer's maps are nowhere above zero,
so that a method that only adds them up has nothing to show; negative: nothing speaks for the target, all evidence is
against it and a ReLU left zeros; nonfinite: infinities or NaN; unstable: it was divided by next to nothing;
incomplete: the shares do not add up to the score they explain. Of a picture: flat: nothing moved it; unmoved: the
network answers it no more than what it was started from; unreached: it takes it for another class.
"""

SHARED: frozenset[State] = frozenset(("flat", "silent"))
"""States that a map made of several is in only if all of these are; in the others if any is."""

_INCOMPLETE = "do not add up to the score they explain"

ADVICE: Mapping[State, str] = {
    "ok": "",
    "flat": "every position has the same value but for rounding: nothing to see here, try another layer or target",
    "silent": "the layer answers nothing here, its maps are nowhere above zero: read the layer behind its activation",
    "negative": "nothing here speaks for it, all evidence is against it: try a likelier target, or --counterfactual",
    "nonfinite": "the numbers overflowed: check the weights, and below fp32 the precision",
    "incomplete": f"the shares {_INCOMPLETE}: take more steps, or another baseline",
    "unreached": "the network takes it for another class: more steps, another seed, or a class that is easier to paint",
    "unmoved": "the network answers it no more than what it started from: more steps, or a greater strength",
    "unstable": "what it is divided by is next to zero: read where it lies, not how strong it is",
}
"""What to tell the user about a map in each state, where the target itself is explained."""


def advice(
    state: State, *, counter: bool = False, contrast: str = "", statistics: Mapping[str, float] = MappingProxyType({})
) -> str:
    """What to tell the user about a map, if `counter` of what speaks against the target, or of it against
    `contrast`. Its `statistics` say how far it is off."""
    if state == "incomplete" and "completeness_error" in statistics:
        after = f" after {statistics['steps']:.0f} steps" if "steps" in statistics else ""
        missed = format_percent(statistics["completeness_error"])
        return ADVICE[state].replace(_INCOMPLETE, f"miss the score they explain by {missed}{after}")
    if state != "negative" or not (counter or contrast):
        return ADVICE[state]
    if not counter:
        return f"nothing here speaks for it rather than {contrast}: --counterfactual shows what speaks for {contrast}"
    if contrast:
        return f"nothing here speaks for {contrast} rather than for it: leave out --counterfactual"
    return "nothing here speaks against it, all evidence is for it: leave out --counterfactual"


ScaleKind = Literal["none", "peak", "percentile", "centred"]
"""What colours go over. none: several maps, each with a scale of its own. peak: from 0 to the highest value.
percentile: from 0 to the 99.5th percentile. centred: around zero, as far as the 99.5th percentile of magnitudes."""

Origin = Literal["zero", "none"]

_T = TypeVar("_T")


@value(kw_only=True)
class Panel:
    """One result of one method for a batch.

    Attributes:
        layer: the layer it was read from, if any.
        layers: the layers it was joined of, where there is more than one, and `joined` how: the mean or the max.
        target: the number (rank) of the target it explains, if any.
        statistics: (B,) numbers worth recording in the manifest, by name.
        warnings: (B,) whether a method's own check found the map in that state, by state.
        unsigned: whether it shows magnitudes that are the same for the target and against it.
        approximation: what it leaves out, in words for its title ("64 of 1280 channels"); empty if nothing.
        origin: whether a value of zero means no evidence; none: values are told apart by their differences alone.
    """

    part: ClassVar[str] = ""
    """What tells this kind's file from another figure of the same method and layer."""

    scale_kind: ClassVar[ScaleKind] = "none"

    in_colour: ClassVar[bool] = False
    """Whether its values are the input's own channels, which need no palette, overlay or given scale."""

    title: ClassVar[str] = ""
    """What this kind is called, where that is not its method."""

    of_layer: ClassVar[bool] = False
    """Whether it shows a layer itself, so that a title goes on with "of" and the layer's name."""

    of_network: ClassVar[bool] = False
    """Whether it shows the network itself, the same for every image."""

    layer: str | None = None
    layers: tuple[str, ...] = ()
    joined: str = ""
    target: int | None = None
    statistics: Mapping[str, Values] = field(default_factory=dict)
    warnings: Mapping[State, Values] = field(default_factory=dict)
    unsigned: bool = False
    approximation: str = ""
    origin: Origin = "zero"

    def pick(self, image: int) -> Self:
        """The panel of one image: the batch dimension dropped, tensors turned into numpy arrays."""
        return _pick_image(self, image)

    def arrays(self) -> Mapping[str, Values]:
        """The raw numbers worth keeping, by name: what ``--save-arrays`` stores."""
        raise NotImplementedError

    def parts(self) -> list[Values]:
        """The arrays that the figure of a picked panel shows, each with a scale of its own."""
        raise TypeError(f"no figure is known for {type(self).__name__}")

    def own_state(self) -> State | None:
        """What a picked panel knows of its state beside its parts."""
        return None

    def named_classes(self) -> tuple[int, ...]:
        """Of a picked panel the classes, by index, of which its figure says the names beside that of its target."""
        return ()

    def verdict(self, classes: Mapping[int, str]) -> str:
        """What came of a picked panel in one sentence, with these names of classes; empty of one that is to be seen."""
        del classes
        return ""

    @property
    def takes_scale(self) -> bool:
        """Whether it can be drawn on a scale that is not its own."""
        return self.scale_kind != "none" and not self.in_colour


@value
class SingleMap(Panel):
    """One map (B, C, h, w) with one scale, over the image or beside it."""

    legend_title: ClassVar[str]
    """What a legend calls it."""

    bar_words: ClassVar[tuple[str, ...]]
    """What a legend writes below its colours, evenly spaced from low to high."""

    values: Values

    def arrays(self) -> Mapping[str, Values]:
        return {"map": self.values}

    def parts(self) -> list[Values]:
        return [self.values]

    @property
    def sides(self) -> tuple[str, str]:
        """What its hues `above` and `below` zero mean, in words that go on a title; and what under --counterfactual."""
        return "", ""

    def made_how(self) -> str:
        """How it was made, in a few words for the legend."""
        return ""


@value
class Heatmap(SingleMap):
    """Evidence at coarse resolution, to lay over the image.

    Attributes:
        values: (B, 1, h, w), >= 0.
        raw_max: (B,) highest value before the ReLU that made `values` non-negative, where there was one.
        raw_min: (B,) lowest value before it, which tells evidence against the target from none at all.
    """

    scale_kind: ClassVar[ScaleKind] = "peak"
    legend_title: ClassVar[str] = "evidence"
    bar_words: ClassVar[tuple[str, ...]] = ("no evidence", "strongest evidence")

    raw_max: Values | None = None
    raw_min: Values | None = None

    def own_state(self) -> State | None:
        if self.raw_max is None or float(self.raw_max) > 0:
            return None
        # Nothing speaks for the target; if nothing speaks against it either, as in a dead layer, the map says nothing.
        return "negative" if self.raw_min is None or float(self.raw_min) < 0 else "flat"


@value
class PixelMap(SingleMap):
    """Evidence per input pixel, too fine to lay over an image: (B, 1, H, W) at the input's size, >= 0."""

    scale_kind: ClassVar[ScaleKind] = "percentile"
    legend_title: ClassVar[str] = "evidence at each pixel"
    bar_words: ClassVar[tuple[str, ...]] = ("none", "strongest")


@value
class SignedMap(SingleMap):
    """Evidence (B, 1, h, w) for (> 0) and against (< 0); `slope`: it says how the score changes as a pixel's value
    grows, not what the pixel adds to it."""

    scale_kind: ClassVar[ScaleKind] = "centred"
    legend_title: ClassVar[str] = "for and against"
    bar_words: ClassVar[tuple[str, ...]] = ("against", "0", "for")

    slope: bool = False

    @property
    def sides(self) -> tuple[str, str]:
        if self.slope:
            return (": {above} raises the score, {below} lowers it",) * 2
        return ": {above} speaks for, {below} against", ": {above} speaks against, {below} for"


@value
class InputProjection(SingleMap):
    """A projection into input space, (B, C, H, W), around zero in each colour; `note` is for the legend."""

    scale_kind: ClassVar[ScaleKind] = "centred"
    in_colour: ClassVar[bool] = True
    legend_title: ClassVar[str] = "red, green and blue, each around zero"
    bar_words: ClassVar[tuple[str, ...]] = ("negative", "0", "positive")

    note: str = ""

    def arrays(self) -> Mapping[str, Values]:
        return {"picture": self.values}

    def made_how(self) -> str:
        return self.note


@value
class FeatureMapGrid(Panel):
    """Many maps of one layer, each to be scaled by itself.

    Attributes:
        values: (B, N, h, w) the chosen maps, best first.
        channels: (B, N) the channel index of each.
        strengths: (B, N) the number by which they were ranked.
        average: (B, 1, h, w) the mean over all channels of the layer.
        total: how many channels the layer has; N of them are here.
        ranked_by: what `strengths` holds, in words.
        every: (B, total, h, w) all channels in the layer's order, where they are to be kept; not drawn.
    """

    of_layer: ClassVar[bool] = True

    values: Values
    channels: Values
    strengths: Values
    average: Values
    total: int
    ranked_by: str
    every: Values | None = None

    def arrays(self) -> Mapping[str, Values]:
        kept: dict[str, Values] = {"maps": self.values, "channels": self.channels, "mean": self.average}
        return kept if self.every is None else {**kept, "all": self.every}

    def parts(self) -> list[Values]:
        return [*self.values, self.average]


@value
class Filters(Panel):
    """The kernels (B, N, 3 or 1, kh, kw) of a first layer, which are images themselves; the same for every image."""

    part: ClassVar[str] = "filters"
    title: ClassVar[str] = "Kernels"
    of_layer: ClassVar[bool] = True
    of_network: ClassVar[bool] = True

    values: Values

    def arrays(self) -> Mapping[str, Values]:
        return {"filters": self.values}

    def parts(self) -> list[Values]:
        return list(self.values)


@value
class Dreamed(Panel):
    """A picture that was painted for the network to answer it, to be drawn as it is.

    Attributes:
        values: (B, C, h, w) in [0, 1].
        scores: (B, n) the objective in what the network saw at each step.
        start: (B, C, h, w) the photograph that it was started from, if it was one.
        transparency: (B, 1, h, w) how much was asked for at each pixel, >= 0, where that is part of the picture.
    """

    in_colour: ClassVar[bool] = True

    values: Values
    scores: Values
    start: Values | None = None
    transparency: Values | None = None

    def arrays(self) -> Mapping[str, Values]:
        kept: dict[str, Values] = {"picture": self.values, "scores": self.scores}
        return kept if self.transparency is None else {**kept, "transparency": self.transparency}

    def parts(self) -> list[Values]:
        return [self.values]


@value
class Attacked(Panel):
    """An image that was changed until the network took it for something else, and the explanation before and after.

    Attributes:
        values: (B, C, H, W) what the network was given in the end, normalised.
        original: (B, C, H, W) what it was given of the image.
        black, white: the ends of the range of pixel values, normalised, in each channel.
        norm: how the change was measured, in words.
        budget: how large it was allowed to be, in pixel values.
        before, after: the explanation for the class that was attacked, and for that which the network then says.
        explained_by: what made both.
        classes: (B, 3) indices: what the image was taken for, what it is after the attack, and the class that was
            attacked.
        wanted: (B,) the class that was to be reached, if one was.
    """

    values: Values
    original: Values
    black: tuple[float, ...]
    white: tuple[float, ...]
    norm: str
    budget: float
    before: SingleMap
    after: SingleMap
    explained_by: str
    classes: Values
    wanted: Values | None = None

    def arrays(self) -> Mapping[str, Values]:
        return {"attacked": self.values, "change": self.change()}

    def change(self) -> Values:
        """(B, C, H, W) in pixel values from 0 to 1, or (C, H, W) of a picked panel."""
        from cnnviz_cli.core.layers import as_tensor

        old, new = as_tensor(self.original), as_tensor(self.values)
        span = (new.new_tensor(self.white) - new.new_tensor(self.black)).view(-1, 1, 1)
        found = (new - old) / span.where(span != 0, span.new_ones(()))
        return found if hasattr(self.values, "detach") else found.numpy()

    def parts(self) -> list[Values]:
        return [self.values]

    def own_state(self) -> State | None:
        return "ok"  # a label that stays is a result, and one of a picture without contrast, too

    def named_classes(self) -> tuple[int, ...]:
        found = [int(index) for index in self.classes]
        return tuple(dict.fromkeys([*found, *([] if self.wanted is None else [int(self.wanted)])]))

    @property
    def had_nothing_to_flip(self) -> bool:
        """Whether a picked panel's image was taken for the wanted class, or for another than the attacked one, as it
        was."""
        return float(self.statistics["flipped"]) == 1 and float(self.statistics["eps"]) == 0

    def verdict(self, classes: Mapping[int, str]) -> str:
        now, attacked = (short_class(int(self.classes[place]), classes) for place in (1, 2))
        wanted = "" if self.wanted is None else short_class(int(self.wanted), classes)
        if float(self.statistics["flipped"]) != 1:
            to = f" to {wanted}" if wanted else ""
            # All scores alike, or a probability of 1 in every digit: no slope leads anywhere, and that is not strength.
            still = float(self.statistics["score_before"]) == float(self.statistics["score_after"])
            stuck = ", and no change that was tried moves its probability" * still
            return f"{attacked} is not flipped{to} within {format_size(self.budget, self.norm)}{stuck}"
        if self.had_nothing_to_flip:
            if wanted:
                return f"{wanted} is what the network says already"
            return f"{attacked} is not what the network says, so there is nothing to flip"
        by = "a change of" if self.norm == "linf" else "a change of length"
        return f"{attacked} becomes {now} by {by} {format_size(float(self.statistics['eps']), self.norm)}"


@value
class ProjectionRow:
    """The strongest feature maps of one layer, each projected back to the input.

    Attributes:
        values: (B, k, C, H, W) the projections, signed, at the input's size.
        channels: (B, k) channel indices, highest peak first.
        peaks: (B, k) the peak activation of each.
        boxes: (B, k, 4) left, top, right, bottom in input pixels of the patch that caused the peak: the
            receptive field of its position, cut at the input's border.
        field: height and width of a position's receptive field, not cut; None where it is the whole input.
        means: (B, k) the mean activation of each, by which maps with one and the same peak are ranked.
    """

    layer: str
    values: Values
    channels: Values
    peaks: Values
    boxes: Values
    field: tuple[float, float] | None
    means: Values | None = None


@value
class Projections(Panel):
    """One row a layer, low to high: projections beside the patches that caused them (Zeiler & Fergus, figure 2)."""

    rows: tuple[ProjectionRow, ...]
    note: str = ""

    def arrays(self) -> Mapping[str, Values]:
        named: dict[str, Values] = {}
        for row in self.rows:
            named[f"{row.layer}.projections"] = row.values
            named[f"{row.layer}.channels"] = row.channels
            named[f"{row.layer}.boxes"] = row.boxes
        return named

    def parts(self) -> list[Values]:
        return [projection for row in self.rows for projection in row.values]


def short_class(index: int, classes: Mapping[int, str]) -> str:
    """The first name of a class, or what it is called without one."""
    name = classes.get(index, "").partition(",")[0]
    return name if name not in ("", str(index)) else f"class {index}"


def _pick_image(value: _T, image: int) -> _T:
    picked: Any = value  # the type does not change, which no checker can follow through `replace`
    if hasattr(value, "detach"):
        picked = value.detach()[image].cpu().numpy()
    elif is_dataclass(value) and not isinstance(value, type):
        picked = replace(value, **{f.name: _pick_image(getattr(value, f.name), image) for f in fields(value)})
    elif isinstance(value, tuple):
        picked = tuple(_pick_image(item, image) for item in value)
    elif isinstance(value, Mapping):
        picked = {key: _pick_image(item, image) for key, item in value.items()}
    return cast("_T", picked)
