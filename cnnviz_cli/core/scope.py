"""What a method is told: the network it is about, and the question."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.layers import Layers
from cnnviz_cli.core.objectives import Contrast, Negated, Objective, TargetLogit, TargetProbability
from cnnviz_cli.core.scores import Score
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor


@value
class Head:
    """A classifier that averages the maps of a layer and weighs the averages: global average pooling, then linear.

    Attributes:
        layer: whose maps are averaged.
        weight: (K, C) how each class weighs them.
    """

    layer: str
    weight: Tensor


@value
class Frame:
    """What is known of the network's input.

    Attributes:
        size: its height and width, in pixels.
        black: the normalised value of black, in each colour.
        white: the normalised value of white, in each colour.
    """

    size: tuple[int, int]
    black: tuple[float, ...]
    white: tuple[float, ...]


def _none() -> None:
    """No classifier is known."""


@value
class Scope:
    """What a method is asked to explain.

    Attributes:
        layers: the layers of the model.
        rank: which of the image's targets to explain, from 0.
        kernels: the first convolution that reads the input itself: its name and its (N, channels, kh, kw) weight;
            None where there is none.
        frame: the network's input.
        find_head: gives the network's classifier, if it is one that averages maps and weighs them, else None; looking
            for it costs a forward.
        against: the rank among the image's targets of the class that the target is told apart from, if any
            (--contrast).
        counter: whether to explain what speaks against the target (--counterfactual).
        probable: whether the score explained is the class's probability (--score).
        sigmoid: whether each class has a probability by itself (--multilabel, and networks with one score).
        classes: whether scores are a classifier's, of which a softmax or sigmoids make probabilities; not so of
            regions, boxes and similarities.
    """

    layers: Layers
    rank: int
    kernels: tuple[str, Tensor] | None
    frame: Frame
    find_head: Callable[[], Head | None] = _none
    against: int | None = None
    counter: bool = False
    probable: bool = False
    sigmoid: bool = False
    classes: bool = True

    @property
    def head(self) -> Head | None:
        """The network's classifier, looked for when it is asked for."""
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
        """What to explain: the class score, or its difference to another class's, or minus that."""
        chosen: Objective = self.probability if self.probable else TargetLogit(self.rank)
        if self.against is not None:
            chosen = Contrast(self.rank, self.against, self.score)
        return Negated(chosen) if self.counter else chosen

    def classes_only(self, why: str) -> None:
        """Refuse what is no classifier's class, for a method that compares one with others.

        Raises:
            UsageError: a region, a box or a similarity is to be explained.
        """
        if not self.classes:
            raise UsageError(
                f"{why}, and what is explained here is no class of a classifier", fix="Use another method: gradcam"
            )

    def logits_only(self, why: str) -> None:
        """Refuse to explain probabilities, for a method that has no meaning but for the scores before them.

        Raises:
            UsageError: probabilities are to be explained.
        """
        if self.probable:
            raise UsageError(
                f"{why}, so it has no --score probability",
                fix="Leave out --score, or use another method, for instance gradcam or integrated-gradients",
            )
