"""Classification: the score of a class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.classes import TRUE, Labels, Rank, contrast_of, missing_truth, ranks_of
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.scores import Classes, highest, probabilities, round_score
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.core.value import value
from cnnviz_cli.tasks.description import PREDICTIONS, Describer, TargetDescription
from cnnviz_cli.tasks.spec import Check, TaskContext, TaskQuestion, TaskSettings, TaskSpec, register

if TYPE_CHECKING:
    from torch import Tensor

    from cnnviz_cli.tasks.description import PREDICTIONS, Numbers


@value
class ClassDescriber(Describer):
    """Classes and their probabilities; `sigmoid`: each class has one by itself."""

    labels: Sequence[str]
    sigmoid: bool

    def numbers(self, scores: Tensor, _anchor: Tensor | None, /) -> Numbers:
        found: Numbers = probabilities(scores, sigmoid=self.sigmoid).numpy()
        return found

    def describe(self, index: int, number: float, _anchor: Any, _size: Any, /) -> TargetDescription:
        from cnnviz_cli.core.records import Prediction

        label = self.labels[index]
        prediction = Prediction(index=index, label=label, probability=round_score(number))
        return TargetDescription(prediction, f"{index}-{label}")

    def foremost(self, numbers: Numbers, _order: Numbers, /) -> list[int]:
        return highest(numbers, PREDICTIONS)


@register
class Classification(TaskSpec):
    """The score of a class of a classifier."""

    name = "classification"
    word = "class"
    usage = "the score of a class"
    example = "class"
    place = 1
    reads = ("scores",)
    returns = "scores"
    output = "class scores"
    classes = True
    probabilities = True

    def ask(self, settings: TaskSettings, _what: str, context: TaskContext, /) -> TaskQuestion:
        if context.embeds:
            fix = 'Name a sentence: --objective text:"a photo of a cat"; or classes: --prompts FILE'
            raise UsageError(f"{escape_text(context.name, 60)} knows no classes", where="--objective", fix=fix)
        labels, output = context.labels(), context.output
        ranks, contrast = choose_ranks(settings, labels)
        if TRUE in (*ranks, contrast) and settings.truth is None:
            raise missing_truth("--contrast" if contrast == TRUE else "--target")
        # Probabilities that do not add up to 1 say themselves that classes do not exclude each other.
        exclusive = output.exclusive and not settings.multilabel
        sigmoid = not exclusive or len(context.own_labels) == 1
        readout = Classes(output.head, output.values, exclusive)
        return TaskQuestion(labels, ranks, ClassDescriber(readout, labels.names, sigmoid), contrast, sigmoid)

    def checks(self, settings: TaskSettings, _what: str, labels: Labels, /) -> Iterator[Check]:
        if not labels.names:
            return
        known = settings.truth is not None
        for target in settings.target:
            yield "target", partial(_check_target, target, labels, truth=known)
        if settings.contrast is not None:
            yield "contrast", partial(_check_contrast, settings.contrast, labels, truth=known)

    def check_settings(self, settings: TaskSettings) -> None:
        """Whatever is of no other task goes."""


def choose_ranks(settings: TaskSettings, labels: Labels) -> tuple[tuple[Rank, ...], Rank | None]:
    """The classes that ``--target`` and ``--contrast`` name. Raises UsageError: no such class, or several."""
    contrast = None if settings.contrast is None else contrast_of(settings.contrast, labels)
    return ranks_of(settings.target, labels), contrast


def _check_target(target: str | int, labels: Labels, *, truth: bool) -> None:
    if TRUE in ranks_of([target], labels) and not truth:
        raise missing_truth("--target")


def _check_contrast(contrast: str | int, labels: Labels, *, truth: bool) -> None:
    if contrast_of(contrast, labels) == TRUE and not truth:
        raise missing_truth("--contrast")
