"""What may be differentiated, or compared between altered inputs: one scalar for each image of a forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.scores import Score, class_scores, rounding_magnitudes, score_name
from cnnviz_cli.core.text import join_terms
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor


class Forward(Protocol):
    """One forward pass, still attached to autograd where a gradient was asked for."""

    logits: Tensor
    """(B, K) class scores before softmax or sigmoid, float32."""
    targets: Tensor
    """(B, R) class indices: the R targets chosen for each image; where there is a contrast, its class comes last."""

    def maps(self, layer: str) -> Tensor:
        """(B, C, h, w) output of `layer`."""


@value
class Objective:
    """A scalar per image to differentiate. Frozen and hashable, so that equal objectives share a backward."""

    @property
    def follows_target(self) -> bool:
        """Whether another target would give another value."""
        return True

    def layers(self) -> tuple[str, ...]:
        """Layers whose maps `value` reads; empty if it reads the class scores alone."""
        return ()

    def value(self, forward: Forward) -> Tensor:
        """(B,) the scalar of each image; image i's must depend on image i alone."""
        raise NotImplementedError

    def terms(self, forward: Forward) -> Tensor:
        """(B,) how large the terms are that a rounding error is relative to, of any sign: a difference of two scores is
        as exact as the scores, not as their difference."""
        return self.value(forward)

    def label(self) -> str:
        """In words, for ``--dry-run``."""
        raise NotImplementedError

    @property
    def compares_with(self) -> tuple[str, ...]:
        """The names of the pictures beside the one that is looked at, whose maps `value` reads, see `maps_beside`."""
        return ()


def _of_rank(scores: Tensor, forward: Forward, rank: int) -> Tensor:
    return scores.gather(1, forward.targets[:, rank : rank + 1]).squeeze(1)


@value
class TargetLogit(Objective):
    """The score, before softmax, of the image's target number `rank`."""

    rank: int = 0

    def value(self, forward: Forward) -> Tensor:
        return _of_rank(forward.logits, forward, self.rank)

    def label(self) -> str:
        return f"the score of target {self.rank + 1}"


@value
class ClassScore(Objective):
    """The score of one class, whatever is chosen for an image: a term of a sum. Like a target's it is read behind all
    layers.

    Attributes:
        index: of the class.
        score: what is read: what the network says, or what a softmax or a sigmoid makes of it.
    """

    index: int
    score: Score = "logit"

    def value(self, forward: Forward) -> Tensor:
        return class_scores(forward.logits, self.score)[:, self.index]

    def terms(self, forward: Forward) -> Tensor:
        return rounding_magnitudes(forward.logits, self.score)[:, self.index]

    def label(self) -> str:
        return f"the {score_name(self.score)} of class {self.index}"


@value
class TargetProbability(Objective):
    """The probability of the image's target number `rank`: by softmax, or by a `sigmoid` of its own score."""

    rank: int = 0
    sigmoid: bool = False

    def value(self, forward: Forward) -> Tensor:
        return _of_rank(class_scores(forward.logits, self._score), forward, self.rank)

    def terms(self, forward: Forward) -> Tensor:
        return _of_rank(rounding_magnitudes(forward.logits, self._score), forward, self.rank)

    @property
    def _score(self) -> Score:
        return "sigmoid" if self.sigmoid else "softmax"

    def label(self) -> str:
        return f"the probability of target {self.rank + 1}"


@value
class Contrast(Objective):
    """The score of the image's target `rank` less that of its target `contrast_rank`: why this class, not that one."""

    rank: int
    contrast_rank: int
    score: Score = "logit"

    def value(self, forward: Forward) -> Tensor:
        pair = forward.targets[:, [self.rank, self.contrast_rank]]
        target, other = class_scores(forward.logits, self.score).gather(1, pair).unbind(1)
        return target - other

    def terms(self, forward: Forward) -> Tensor:
        pair = forward.targets[:, [self.rank, self.contrast_rank]]
        return rounding_magnitudes(forward.logits, self.score).gather(1, pair).sum(1)

    def label(self) -> str:
        return f"the {score_name(self.score)} of target {self.rank + 1} less that of the contrast"


@value
class FinerContrast(Objective):
    """The score of the image's target number `rank` less that of the classes most like it, each image's own.

    y_t - alpha sum_d q_d y_d, where d runs over the `similar` classes whose scores lie nearest to y_t and q is the
    softmax of their scores among themselves; q too is differentiated. The formula of pytorch-grad-cam's
    FinerWeightedTarget, which adds 1e-9 to the sum of the d's probabilities and so loses the objective where these are
    of that order.

    Attributes:
        alpha: how much of the others' score to take off.
        similar: how many classes; all others if there are not as many.
        contrast_rank: if given, the number of the one class d, counted as `rank` is.
    """

    rank: int = 0
    alpha: float = 1.0
    similar: int = 3
    contrast_rank: int | None = None
    score: Score = "logit"

    def value(self, forward: Forward) -> Tensor:
        scores = class_scores(forward.logits, self.score)
        chosen = forward.targets[:, self.rank : self.rank + 1]
        score = scores.gather(1, chosen).squeeze(1)
        if self.contrast_rank is not None:
            return score - self.alpha * scores.gather(1, forward.targets[:, self.contrast_rank, None]).squeeze(1)
        if scores.shape[1] < 2:
            raise UsageError("the network knows one class only, so there is no other to tell it from")
        distance = (scores.detach() - score.detach()[:, None]).abs().scatter(1, chosen, float("inf"))
        nearest = distance.sort(dim=1, stable=True).indices[:, : min(self.similar, scores.shape[1] - 1)]
        others = scores.gather(1, nearest)
        return score - self.alpha * (others.softmax(1) * others).sum(1)

    def terms(self, forward: Forward) -> Tensor:
        # No less than the magnitude of the target's score and of what is taken off.
        score = _of_rank(class_scores(forward.logits, self.score), forward, self.rank)
        terms = _of_rank(rounding_magnitudes(forward.logits, self.score), forward, self.rank)
        return terms + (self.value(forward) - score).abs()

    def label(self) -> str:
        classes = f"the {self.similar} most similar classes" if self.contrast_rank is None else "the contrast"
        return f"the {score_name(self.score)} of target {self.rank + 1} less {self.alpha:g} times that of {classes}"


@value
class Negated(Objective):
    """An objective with its sign turned: what speaks against."""

    of: Objective

    def layers(self) -> tuple[str, ...]:
        return self.of.layers()

    def value(self, forward: Forward) -> Tensor:
        return -self.of.value(forward)

    def terms(self, forward: Forward) -> Tensor:
        return self.of.terms(forward)

    def label(self) -> str:
        return f"minus {self.of.label()}"

    @property
    def follows_target(self) -> bool:
        return self.of.follows_target

    @property
    def compares_with(self) -> tuple[str, ...]:
        return self.of.compares_with


@value
class Sum(Objective):
    """Several objectives, each times its weight, added up; a negative weight takes away."""

    parts: tuple[tuple[float, Objective], ...]

    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(layer for _, part in self.parts for layer in part.layers()))

    def value(self, forward: Forward) -> Tensor:
        values = [weight * part.value(forward) for weight, part in self.parts]
        return sum(values[1:], values[0])

    def terms(self, forward: Forward) -> Tensor:
        terms = [abs(weight) * part.terms(forward) for weight, part in self.parts]
        return sum(terms[1:], terms[0])

    def label(self) -> str:
        return join_terms((weight, part.label()) for weight, part in self.parts)

    @property
    def follows_target(self) -> bool:
        return any(part.follows_target for _, part in self.parts)

    @property
    def compares_with(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for _, part in self.parts for name in part.compares_with))


@value
class StrongestChannel(Objective):
    """The feature map of `layer` with the `rank`-th highest peak, in each image its own.

    Its gradient at the layer is the map itself where positive (with start=peak its highest position alone), and zero in
    every other map: the start signal of a deconvnet, which rectifies before it filters (Zeiler & Fergus, 2013, section
    2.1).
    """

    layer: str
    rank: int = 0
    start: Literal["map", "peak"] = "map"

    def layers(self) -> tuple[str, ...]:
        return (self.layer,)

    def value(self, forward: Forward) -> Tensor:
        maps = forward.maps(self.layer)
        fixed = maps.detach()
        if self.rank >= fixed.shape[1]:
            raise UsageError(f"layer '{self.layer}' has {fixed.shape[1]} maps, there is no number {self.rank + 1}")
        channel = strongest_channels(fixed, self.rank + 1)[:, self.rank].view(-1, 1, 1, 1)
        # Masks, not indexing: the gradient of an indexed map would come in another memory layout than the map itself,
        # and every convolution below would pay for it.
        chosen = fixed.new_zeros((*fixed.shape[:2], 1, 1)).scatter_(1, channel, 1)
        signal = fixed.clamp(min=0) * chosen
        if self.start == "peak":
            flat = (fixed * chosen).sum(1).flatten(1)
            # argmax names one position even when several tie, so that the patch shown is the cause.
            place = flat.new_zeros(flat.shape).scatter_(1, flat.argmax(1, keepdim=True), 1)
            signal = signal * place.view(-1, 1, *fixed.shape[2:])
        return (maps * signal).sum((1, 2, 3))

    def label(self) -> str:
        part = "" if self.start == "map" else ", its peak alone"
        return f"strongest map {self.rank + 1} of {self.layer}{part}"

    @property
    def follows_target(self) -> bool:
        return False


def strongest_channels(maps: Tensor, count: int) -> Tensor:
    """(B, count) indices of the channels of (B, C, h, w) maps with the highest peaks, highest first. Of equal peaks (a
    ReLU6 saturates) the map with the larger sum comes first, then the lower index."""
    by_sum = maps.sum((2, 3)).sort(dim=1, descending=True, stable=True).indices
    by_peak = maps.amax((2, 3)).gather(1, by_sum).sort(dim=1, descending=True, stable=True).indices
    return by_sum.gather(1, by_peak)[:, :count]
