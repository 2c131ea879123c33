"""Regression: each number that a network returns is a value by itself, and no class has a probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.classes import TRUE, Labels
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.scores import Readout, highest, rank_second_first, rows_of
from cnnviz_cli.core.value import value
from cnnviz_cli.tasks.classification import Classification, choose_ranks
from cnnviz_cli.tasks.description import PREDICTIONS, Describer, TargetDescription
from cnnviz_cli.tasks.spec import TaskContext, TaskQuestion, TaskSettings, TaskSpec, register

if TYPE_CHECKING:
    from torch import Tensor

    from cnnviz_cli.tasks.description import Numbers


@value
class OutputValues(Readout):
    """The (B, K) numbers as the network returns them, of one number also (B,). One value z alone (`single`) is read as
    the two -z and z, see `core.scores.to_two_classes`, and z always ranks first; several rank by their size."""

    head: str | None = None
    single: bool = False

    def scores(self, output: Any, _anchor: Tensor | None, /) -> Tensor:
        found = rows_of(output, self.head)
        if found is None:
            raise UsageError("the network does not return one (batch, values) tensor, so there is no value to explain")
        return found

    def order(self, scores: Tensor, _anchor: Tensor | None, /) -> Tensor:
        return rank_second_first(scores) if self.single else scores


@value
class ValueDescriber(Describer):
    """What a regression returns, with its unit; of one value there are two labels, that of minus the value first."""

    readout: OutputValues
    labels: Sequence[str]
    unit: str = ""

    def describe(self, index: int, number: float, _anchor: Any, _size: Any, /) -> TargetDescription:
        from cnnviz_cli.core.records import Prediction

        label = self.labels[index]
        # Six digits, as of probabilities: more would make the manifest depend on the last bit of a sum.
        found, unit = float(f"{number:.6g}"), self.unit or None
        prediction = Prediction(index=index, label=label, probability=None, value=found, unit=unit)
        return TargetDescription(prediction, f"{index}-{label}")

    def foremost(self, numbers: Numbers, _order: Numbers, /) -> list[int]:
        return [1] if self.readout.single else highest(numbers, PREDICTIONS)


@register
class Regression(Classification):
    """A number that the network returns, chosen as a class is, but without probabilities and truth."""

    name = "regression"
    usage = ""
    place = 4
    classes = False
    probabilities = False

    def ask(self, settings: TaskSettings, _what: str, context: TaskContext, /) -> TaskQuestion:
        single = context.output.classes == 1
        if single:
            given = context.given_labels() or Labels(context.own_labels)
            name = "value" if given.names in (("positive",), ()) else given.names[-1]
            labels = replace(given, names=(f"minus {name}", name))
        else:
            labels = context.labels()
        ranks, contrast = choose_ranks(settings, labels)
        if single and contrast is not None:
            raise UsageError("one value has no other to be told apart from", where="--contrast", fix="Leave it out.")
        if TRUE in (*ranks, contrast):
            raise UsageError("a regression has no true class", where="--target", fix="Name an output.")
        readout = OutputValues(context.output.head, single)
        return TaskQuestion(labels, ranks, ValueDescriber(readout, labels.names, settings.unit), contrast)

    def check_settings(self, settings: TaskSettings) -> None:
        of_classes = {
            "--truth": settings.truth is not None,
            "--score": settings.score != "logit",
            "--multilabel": settings.multilabel,
            "--returns": settings.returns not in ("auto", "logits"),
        }
        for flag, given in of_classes.items():
            if given:
                raise UsageError(f"{flag} is for classes, and a regression has none", where=flag, fix="Leave it out.")

    def check_unused(self, settings: TaskSettings, explained: TaskSpec, /) -> None:
        if settings.task == self.name:
            what = "--task regression is for networks that return (batch, values), and what is explained is a "
            raise UsageError(f"{what}{explained.word}", where="--task", fix="Leave it out.")
        if settings.unit:
            raise UsageError("only values have a unit", where="--unit", fix="Add --task regression")
