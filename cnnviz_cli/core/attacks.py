"""Attacks: the need for the smallest change of an input that flips its label, and what is told of it.

Sizes of changes are in units of pixel values from 0 to 1, whatever the network's preprocessing makes of these: the ends
of that range, black and white, say for each channel how much of the input that is. No torch is imported here; tensors
pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from cnnviz_cli.core.needs import Change, Given, Gradient, GradientOver, Need, Scores, Seeds, SeparatePass
from cnnviz_cli.core.objectives import Forward, Objective
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor

Norm = Literal["linf", "l2"]
"""How a change is measured. linf: the largest change of any channel of any pixel. l2: the Euclidean length of all."""

PARTS = 8
"""Into how many parts the way to a flip is cut at a time, where one direction is followed."""

CUTS, CUT_FINE = 8, 2.0**-10
"""How often at the most, and as what share of the eps that is found the last part is short enough."""

HALVINGS, HALF_FINE = 16, 2.0**-6
"""The same where each eps has a walk of its own, and a part is halved."""

AFTERWARDS = 1
"""Forwards beside the search: of what was found, in 8 bits."""

Fact = Literal[
    "flipped", "eps", "linf", "l2", "changed", "in_8_bits",
    "label", "probability", "label_after", "probability_after", "score_before", "score_after",
]  # fmt: skip
"""What is told of an attack by a number, see `AttackFact`."""

FACTS: tuple[Fact, ...] = get_args(Fact)

Moment = Literal["before", "after", "still"]
"""When an image is explained: before the attack, for the class that is attacked; after it, for the class that the
network then takes it for; and after it still for the class that was attacked."""

MOMENTS: tuple[Moment, ...] = get_args(Moment)

LEVELS = 255
"""Of a pixel of 8 bits, from black to white."""


def format_size(size: float, norm: str) -> str:
    """A size in pixel values: of one pixel in levels of 8 bits, ``0.31/255``; of all as it is."""
    return f"{LEVELS * size:.3g}/255" if norm == "linf" else f"{size:.3g}"


@value
class LogOdds(Objective):
    """The logarithm of a class's odds: of p / (1 - p) for its probability p.

    z_t - log sum_{j not t} exp z_j under a softmax, z_t by a sigmoid. The cross-entropy is log (1 + exp -odds): its
    gradient is this one's times a negative number, so that sign and direction are the same, but this one does not
    vanish where the network is sure.
    """

    rank: int = 0
    sigmoid: bool = False

    def value(self, forward: Forward) -> Tensor:
        chosen = forward.targets[:, self.rank : self.rank + 1]
        score = forward.logits.gather(1, chosen).squeeze(1)
        if self.sigmoid:
            return score
        return score - forward.logits.scatter(1, chosen, float("-inf")).logsumexp(1)

    def label(self) -> str:
        return f"the odds of target {self.rank + 1}"


@value
class Attack(SeparatePass):
    """(B, C, H, W) the input with the smallest change found that flips its label; where none does, with that of all the
    walks within the whole budget which came nearest.

    The label is flipped if another class than the target has the highest score, or if the wanted one has; where each
    class has a probability by itself, if the target's is below one half, or the wanted one's above it. What is no more
    than rounding does not count.

    Attributes:
        rank: which of the image's targets is attacked.
        wanted: which of them is to be reached; None if any other class will do.
        sigmoid: whether each class has a probability by itself.
        eps: the largest change allowed, in units of pixel values from 0 to 1.
        length: steps of each walk.
        step: how far one goes, as a share of the eps that is tried.
        starts: how many walks begin at random within that eps; with none, one begins at the image.
        black, white: the ends of the range of pixel values, normalised, in each channel.
        explained: what is asked of the image before and after.
    """

    change: ClassVar[Change] = "none"

    rank: int
    wanted: int | None
    sigmoid: bool
    norm: Norm
    eps: float
    length: int
    step: float
    starts: int
    black: tuple[float, ...]
    white: tuple[float, ...]
    explained: tuple[Need, ...] = ()

    @property
    def objective(self) -> Objective:
        """What the walk follows: away from the target, or towards the wanted class."""
        return LogOdds(self.rank if self.wanted is None else self.wanted, self.sigmoid)

    @property
    def is_straight(self) -> bool:
        """Whether one direction serves every eps, so that one gradient is all that it takes."""
        return self.length == 1 and not self.starts

    @property
    def sources(self) -> tuple[Need, ...]:
        given = (one for need in self.explained for one in (need, *need.sources) if isinstance(one, Given))
        return tuple(dict.fromkeys((*([Seeds()] if self.starts else []), *given)))

    @property
    def steps(self) -> int:
        return 0  # passes of the whole batch: here each image walks by itself

    @property
    def passes(self) -> int:
        """Forwards at the most until it is found."""
        if self.is_straight:
            return 2 + PARTS + (CUTS - 1) * (PARTS - 1)
        return 1 + (HALVINGS + 1) * max(self.starts, 1) * (self.length + 1)

    @property
    def variants(self) -> int:
        streams = {need.on if isinstance(need, Scores) else need.over for need in self._streamed}
        return self.passes + AFTERWARDS + len(MOMENTS) * (1 + sum(variants.count for variants in streams))

    @property
    def _streamed(self) -> tuple[Scores | GradientOver, ...]:
        return tuple(need for need in self.explained if isinstance(need, Scores | GradientOver))

    def trial(self) -> Iterator[Need]:
        yield Gradient(of=self.objective)
        for need in self.explained:
            yield from need.trial()

    def label(self) -> str:
        others = self.variants - self.passes
        passes = f"for each image at most {self.passes} forwards, besides {others} of the image before and after it"
        if self.is_straight:
            return f"{passes} and 1 backward of {self.objective.label()}: sizes of one step"
        walks = f"up to {HALVINGS + 1} sizes of {self.length} step{'s' * (self.length != 1)}"
        random = f", each from {self.starts} random start{'s' * (self.starts != 1)}" if self.starts else ""
        return f"{passes}, most with a backward of {self.objective.label()}: {walks}{random}"


@value
class OfAttack(Need):
    """What is told of an `Attack` in passing; the recipe has to need that, too."""

    change: ClassVar[Change] = "none"

    by: Attack

    @property
    def follows_target(self) -> bool:
        return True


@value
class AttackFact(OfAttack):
    """(B,) float64 one number about each attack.

    flipped: 1 if the label is, else 0. eps: within which it was found; the budget where it was not. linf, l2: of the
    change that was made, in pixel values. changed: the share of pixels of which any channel differs. in_8_bits: 1 if
    the label is flipped also when the attacked image is rounded to 8 bits. label, probability: of the class that the
    image is taken for, and label_after, probability_after once it is attacked. score_before, score_after: the
    probability of the class that counts, which is the wanted one, or else the one that is attacked.
    """

    fact: Fact

    @property
    def shape(self) -> tuple[int, ...]:
        return ()


@value
class SeenByAttack(OfAttack):
    """The answer to another need on the input before or after the attack."""

    need: Need
    moment: Moment

    def zeros(self, shape_of: Callable[[str], tuple[int, ...]]) -> Tensor:
        return self.need.zeros(shape_of)
