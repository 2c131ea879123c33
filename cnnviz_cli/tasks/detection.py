"""Detection: one score for each of the likeliest boxes that a detector found in an image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.classes import PREDICTED, Labels, top_count
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.geometry import BoxAnnotation
from cnnviz_cli.core.scores import Readout, round_score
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.core.value import value
from cnnviz_cli.tasks.description import PREDICTIONS, Describer, TargetDescription
from cnnviz_cli.tasks.spec import Check, TaskContext, TaskQuestion, TaskSettings, TaskSpec, objective_specs, register

if TYPE_CHECKING:
    from torch import Tensor

    from cnnviz_cli.tasks.description import Numbers

LEAST_OVERLAP = 0.5
"""Intersection over union from which two boxes count as one thing; what Pascal VOC and COCO count as a hit."""

Found = tuple[int, int, float, tuple[float, float, float, float]]
"""Rank from 0, label, score, and (left, top, right, bottom) in pixels of the network's input."""

_ENTRIES = ("boxes", "scores", "labels")
_MOST_BOXES = 9999


@value
class Boxes(Readout):
    """The scores of the likeliest boxes of each image, as torchvision's detectors return them in eval mode.

    Each image's output is a mapping of ``boxes`` (n, 4) as left, top, right, bottom in pixels of the input, ``scores``
    (n,) above zero, and ``labels`` (n,). Held are (B, most, 6) left, top, right, bottom, label and score of those that
    have an area, the highest score first and of equal ones in the network's order; rows of zeros where no more was
    found. Score r of an altered image is that of what box r has become: of the boxes with its label the one that
    overlaps it most, by an intersection over union of at least a half, and zero if there is none. Which one that is, is
    not differentiated, and neither is where it lies. Of the image as it is, it is box r's own score.

    A detector in two stages looks again at some places that it found first. Gradients take these for fixed, since
    torchvision's detectors record nothing of how the image moves them.

    Attributes:
        most: how many boxes an image has scores for; at least 2, since a single score would be one of yes or no, see
            `core.scores.to_two_classes`.
    """

    most: int = 5

    def __post_init__(self) -> None:
        if self.most < 2:
            raise ValueError("scores are read of at least 2 boxes")

    def hold(self, output: Any, _masks: Tensor | None, /) -> Tensor:
        import torch

        anchor = []
        with torch.no_grad():
            for one in images_of(output):
                rows = box_rows(one)
                # A label below 0 is how networks fill up a list of fixed length.
                rows = rows[(rows[:, 5] > 0) & (rows[:, 4] >= 0) & (rows[:, :2] < rows[:, 2:4]).all(1)]
                rows = rows[rows[:, 5].sort(descending=True, stable=True).indices[: self.most]]
                anchor.append(torch.cat([rows, rows.new_zeros((self.most - len(rows), 6))]))
        return torch.stack(anchor)

    def scores(self, output: Any, anchor: Tensor | None, /) -> Tensor:
        import torch

        assert anchor is not None  # `hold` gives something for every output that it accepts
        return torch.stack([_scores(one, rows) for one, rows in zip(images_of(output), anchor, strict=True)])

    def order(self, _scores: Tensor, anchor: Tensor | None, /) -> Tensor:
        assert anchor is not None
        likely = anchor[..., 5]
        return likely.where(likely > 0, -float("inf"))


def found(anchor: Iterable[Sequence[float]]) -> list[Found]:
    """The boxes of one image, the likeliest first, as numbers without a tensor; `anchor` is what `Boxes.hold` gave."""
    rows = [[float(number) for number in row] for row in anchor]
    return [
        (rank, round(label), score, (left, top, right, bottom))
        for rank, (left, top, right, bottom, label, score) in enumerate(rows)
        if score > 0
    ]


def images_of(output: Any) -> Sequence[Mapping[str, Tensor]]:
    if not isinstance(output, list | tuple) or not all(
        isinstance(one, Mapping) and all(name in one for name in _ENTRIES) for one in output
    ):
        raise UsageError("the network does not return boxes, scores and labels for each image, so it is no detector")
    return output


def box_rows(one: Mapping[str, Tensor]) -> Tensor:
    """(n, 6) what an image's boxes are held as, detached."""
    import torch

    boxes, scores, labels = (one[name].detach() for name in _ENTRIES)
    if boxes.shape != (len(boxes), 4) or not scores.shape == labels.shape == boxes.shape[:1]:
        seen = ", ".join(f"{name} of shape {tuple(one[name].shape)}" for name in _ENTRIES)
        raise UsageError(
            f"the network returns {seen} for an image, where (n, 4), (n,) and (n,) are expected of a detector"
        )
    dtype = torch.promote_types(torch.promote_types(boxes.dtype, scores.dtype), torch.float32)
    return torch.cat([boxes.to(dtype), labels[:, None].to(dtype), scores[:, None].to(dtype)], 1)


def _scores(one: Mapping[str, Tensor], anchor: Tensor) -> Tensor:
    """(most,) the score of what has become of each box, attached."""
    import torch

    scores = one["scores"]
    # Also an empty list of scores is followed down to the input, so that what is gone has a gradient of zeros.
    return torch.cat([scores, scores.new_zeros(1)]).index_select(0, _became(anchor, box_rows(one)))


def _became(anchor: Tensor, rows: Tensor) -> Tensor:
    """(most,) which of n rows each held box has become; n where it is gone."""
    import torch
    from torchvision.ops import box_iou

    # The highest score first, so that it is the first of equal overlaps.
    order = rows[:, 5].sort(descending=True, stable=True).indices
    rows = rows[order].to(anchor)
    overlap = box_iou(anchor[:, :4], rows[:, :4])
    overlap = overlap.where((overlap >= LEAST_OVERLAP) & (anchor[:, None, 4] == rows[:, 4]), 0)
    # A box is itself, also where another lies exactly over it.
    itself = (anchor[:, None] == rows).all(2) & (anchor[:, 5:] > 0)
    gone = overlap.new_full((len(anchor), 1), LEAST_OVERLAP)
    which = torch.cat([overlap.masked_fill(itself, 2.0), gone], 1).argmax(1)
    return torch.cat([order, order.new_full((1,), len(order))])[which]


@value
class BoxDescriber(Describer):
    """What was found, the likeliest first; `labels` are by the number that a box is labelled with, or empty."""

    readout: Boxes
    labels: Sequence[str]

    def numbers(self, _scores: Tensor, anchor: Tensor | None, /) -> Numbers:
        assert anchor is not None
        found: Numbers = anchor[:, :, 5].cpu().double().numpy()
        return found

    def describe(
        self, index: int, number: float, anchor: Numbers | None, size: tuple[int, int], /
    ) -> TargetDescription:
        from cnnviz_cli.core.records import Prediction

        assert anchor is not None
        _, kind, _, (left, top, right, bottom) = found(anchor)[index]
        label = self.labels[kind] if kind < len(self.labels) else str(kind)
        height, width = size
        box = (left / width, top / height, right / width, bottom / height)
        prediction = Prediction(index=kind, label=label, probability=round_score(number), box=box, rank=index + 1)
        return TargetDescription(prediction, f"box-{index + 1}-{label}", BoxAnnotation(box))

    def missing(self, indices: Sequence[int], /) -> str:
        lower = " that is likely enough (of torchvision's detectors --min-score says how likely)"
        if 0 in indices:
            return f"the network finds nothing in it{lower}"
        return f"the network finds fewer than {min(indices) + 1} things in it{lower}"


@register
class Detection(TaskSpec):
    """The score of a box."""

    name = "detection"
    word = "box"
    usage = "box[:RANK] (of what was found)"
    example = "box:RANK"
    sample = "box:2"
    place = 3
    reads = ("boxes",)
    returns = "boxes"
    output = "boxes"
    located = True
    own_settings = ("min_score",)

    def ask(self, settings: TaskSettings, what: str, context: TaskContext, /) -> TaskQuestion:
        if settings.min_score is not None and not context.set_min_score(settings.min_score):
            problem = f"{escape_text(context.name, 100)} has no limit that could be set"
            raise UsageError(problem, where="--min-score", fix="Leave it out.")
        own = context.own_labels
        labels = context.labels() if own else context.given_labels() or Labels(())
        ranks = _ranks(settings, what)
        readout = Boxes(most=max(PREDICTIONS, *(rank + 1 for rank in ranks)))
        return TaskQuestion(labels, ranks, BoxDescriber(readout, labels.names))

    def checks(self, settings: TaskSettings, what: str, _labels: Labels, /) -> Iterator[Check]:
        yield "target", partial(_ranks, settings, what)

    def check_unused(self, settings: TaskSettings, explained: TaskSpec, /) -> None:
        if explained.reads != self.reads:  # the other has boxes, too, and so has the limit
            super().check_unused(settings, explained)

    def check_objective(self, what: str, text: str, /) -> None:
        if what and not re.fullmatch(r"[1-9][0-9]{0,3}", what):
            problem = f"'{escape_text(text, 60)}': boxes are told by their rank, the likeliest being 1"
            fix = "For instance: box:2\nThe likeliest box of a label is: thing:LABEL"
            raise UsageError(problem, where="--objective", fix=fix)


def _ranks(settings: TaskSettings, what: str) -> tuple[int, ...]:
    specs = objective_specs(settings, what)
    if what:
        return (int(what) - 1,)
    return tuple(dict.fromkeys(rank for spec in specs for part in str(spec).split(",") for rank in _first(part)))


def _first(spec: str) -> range:
    word = spec.strip()
    try:
        count = 1 if word.casefold() == PREDICTED else top_count(word, range(_MOST_BOXES))
    except UsageError:
        count = None
    if count is None:
        what = f"'{escape_text(spec, 60)}': boxes are told by their rank"
        fix = "For instance: --objective box:2, or --target top3\nThe likeliest box of a label: --objective thing:LABEL"
        raise UsageError(what, where="--target", fix=fix)
    return range(count)
