"""Kinds of things: one score for each label of a detector, that of the likeliest box with this label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.classes import Labels
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.scores import Readout, round_score
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.core.value import value
from cnnviz_cli.tasks.description import Describer, TargetDescription
from cnnviz_cli.tasks.detection import box_rows, images_of
from cnnviz_cli.tasks.spec import Check, TaskContext, TaskQuestion, TaskSettings, TaskSpec, ranks_of_parts, register

if TYPE_CHECKING:
    from torch import Tensor

    from cnnviz_cli.tasks.description import Numbers


@value
class Kinds(Readout):
    """The score of the likeliest box of each label, wherever in the image it lies; zero of a label without a box.

    Nothing is held of an image, so that pictures may be of any size, rolled and turned.

    Attributes:
        count: how many labels there are; at least 2, since a single score would be one of yes or no.
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError("scores are read of at least 2 labels")

    def scores(self, output: Any, _anchor: Tensor | None, /) -> Tensor:
        import torch

        return torch.stack([self._likeliest(one["scores"], box_rows(one)) for one in images_of(output)])

    def _likeliest(self, scores: Tensor, rows: Tensor) -> Tensor:
        """(count,) attached; of equal scores the network's first counts."""
        import torch

        order = rows[:, 5].sort(descending=True, stable=True).indices
        labels = torch.arange(self.count, dtype=rows.dtype, device=rows.device)
        same = labels[:, None] == rows[order, 4]
        gone = same.new_ones(self.count, 1)
        which = torch.cat([same, gone], 1).float().argmax(1)
        # Also an empty list of scores is followed down to the input, so that what is not there has a gradient of zeros.
        return torch.cat([scores[order], scores.new_zeros(1)]).index_select(0, which)


@value
class KindDescriber(Describer):
    """Labels, and how likely the likeliest box of each is."""

    readout: Kinds
    labels: Sequence[str]

    def describe(
        self, index: int, number: float, _anchor: Numbers | None, _size: tuple[int, int], /
    ) -> TargetDescription:
        from cnnviz_cli.core.records import Prediction

        label = self.labels[index]
        return TargetDescription(
            Prediction(index=index, label=label, probability=round_score(number)), f"{index}-{label}"
        )


@register
class Things(TaskSpec):
    """The score of the likeliest box of a label."""

    name = "things"
    word = "thing"
    usage = "thing[:LABEL] (its likeliest box)"
    example = "thing:LABEL"
    sample = "thing:person"
    place = 3
    reads = ("boxes",)
    output = "boxes"

    def ask(self, settings: TaskSettings, what: str, context: TaskContext, /) -> TaskQuestion:
        if settings.min_score is not None and not context.set_min_score(settings.min_score):
            problem = f"{escape_text(context.name, 100)} has no limit that could be set"
            raise UsageError(problem, where="--min-score", fix="Leave it out.")
        labels = context.labels() if context.own_labels else context.given_labels() or Labels(())
        if len(labels.names) < 2:
            problem = f"what the labels of {escape_text(context.name, 100)} are is not known"
            raise UsageError(problem, where="--objective", fix="Name them: --labels FILE")
        return TaskQuestion(
            labels, _ranks(settings, what, labels), KindDescriber(Kinds(len(labels.names)), labels.names)
        )

    def checks(self, settings: TaskSettings, what: str, labels: Labels, /) -> Iterator[Check]:
        if labels.names:
            yield "target", partial(_ranks, settings, what, labels)

    def check_objective(self, what: str, text: str, /) -> None:
        """Any label may follow."""


_ranks = partial(ranks_of_parts, parts="what is in them", one="a label")
"""The labels that are explained."""
