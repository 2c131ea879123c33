"""What is asked of a network: what is explained, called what, told apart from what, and what is known to be true."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cnnviz_cli.config.attack_fields import wanted_class
from cnnviz_cli.config.evaluate_fields import annotations_of
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.classes import TRUE, Labels, Rank, missing_truth, wanted_of
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.method import MethodContext
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.observe import Observation
from cnnviz_cli.engine.targets import TargetSelector
from cnnviz_cli.files.annotations.folders import Annotations, open_annotations
from cnnviz_cli.files.images.decode import read_reference_image
from cnnviz_cli.files.images.region_masks import MaskSource, open_masks
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.tables.labels import WHERE, read_labels
from cnnviz_cli.models.load.built_model import set_score_threshold
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.run.annotations import RunAnnotations
from cnnviz_cli.run.ground_truth import GroundTruth
from cnnviz_cli.run.image_data import read_options
from cnnviz_cli.tasks.description import Describer, ImageDescription, TargetDescription
from cnnviz_cli.tasks.spec import TaskSpec, check_settings, parse_objective

if TYPE_CHECKING:
    from cnnviz_cli.tasks.description import Numbers

NOT_FINITE = "the network's scores are not finite"

UNKNOWN = "its true class is unknown, and without that there is nothing to explain"
"""Why an image fails, if only its true class is to be explained or all is told apart from that."""


@dataclass(frozen=True)
class Question:
    """What is asked of a network.

    Attributes:
        labels: the name of each class; of a network with one score two, for no and for yes.
        describer: how scores are read and put into words.
        sigmoid: whether each class has a probability by itself.
        probable: whether probabilities are explained.
        truths: what is known to be true; None if that was not asked for.
        digest: of the file that the objective names, if it names one.
        annotations: what people have marked in the images; None if no measure is to read it.
    """

    task: TaskSpec
    labels: Labels
    targets: TargetSelector
    describer: Describer
    sigmoid: bool = False
    probable: bool = False
    counterfactual: bool = False
    truths: GroundTruth | None = None
    digest: str | None = None
    masks: MaskSource | None = None
    annotations: RunAnnotations | None = None

    def add_to(self, scope: MethodContext) -> MethodContext:
        """The context with this question in it."""
        return replace(
            scope,
            contrast_rank=self.targets.contrast_rank,
            wanted_rank=self.targets.wanted_rank,
            counterfactual=self.counterfactual,
            probable=self.probable,
            sigmoid=self.sigmoid,
            classes=self.task.classes,
        )

    def describe(
        self,
        observation: Observation,
        size: tuple[int, int],
        truths: Sequence[int | None] = (),
        *,
        require_target: bool = True,
    ) -> list[ImageDescription | str]:
        """Of each image of a batch what the network says of it, or why there is nothing to explain.

        Args:
            size: height and width of the network's input.
            truths: the class that is true of each image, None if unknown.
            wanted: whether an image in which nothing of what is to be explained is there has failed.
        """
        numbers, order = self.describer.numbers(observation.logits, observation.anchor), observation.order.cpu().numpy()
        anchor = [None] * len(order) if observation.anchor is None else observation.anchor.cpu().numpy()
        rows = zip(numbers, order, anchor, observation.targets.tolist(), truths or [None] * len(order), strict=True)
        return [self._describe_image(*row, size, require_target=require_target) for row in rows]

    def _describe_image(
        self,
        numbers: Numbers,
        order: Numbers,
        anchor: Numbers | None,
        chosen: Sequence[int],
        truth: int | None,
        size: tuple[int, int],
        *,
        require_target: bool,
    ) -> ImageDescription | str:
        if not np.isfinite(numbers).all():
            return NOT_FINITE

        def describe(index: int) -> TargetDescription:
            return self.describer.describe(index, float(numbers[index]), anchor, size)

        targets, ranks = self.targets, len(self.targets.ranks)
        drawn = [rank for rank in targets.drawn_ranks(chosen) if order[chosen[rank]] > -np.inf]
        if require_target and not drawn and (why := self.describer.missing(chosen[:ranks])):
            return why
        return ImageDescription(
            predictions=[describe(index).prediction for index in self.describer.foremost(numbers, order)],
            targets=[describe(chosen[rank]) if rank in drawn else None for rank in range(ranks)],
            contrast=None if targets.contrast_rank is None else describe(chosen[targets.contrast_rank]).prediction,
            truth=None if truth is None else describe(truth).prediction,
        )

    def truth_of(self, source: Source) -> int | None:
        """The class that is true of an image; None if unknown."""
        return None if self.truths is None else self.truths.class_of(source)

    def unanswerable(self, source: Source) -> str:
        """Why there is nothing to explain of an image; empty if there is."""
        return UNKNOWN if self.targets.needs_truth and self.truth_of(source) is None else ""


def question_for(
    settings: Settings, model: LoadedModel, device: torch.device, annotations: Annotations | None = None
) -> tuple[Question, LoadedModel]:
    """The settings' question to a network, and the network it is put to, maybe without its classifier. `annotations`
    are there already; without them those of the settings are opened.

    Raises:
        UsageError: an objective that does not fit the network, a setting that does not fit the objective, a file that
            it names and that cannot be read, labels or truths that do not fit, or a class that the network lacks.
    """
    request = parse_objective(settings.objective)
    task = request.task_for(model.returns, model.name, settings.task)
    check_settings(settings, task)
    context = _Context(settings, model, device)
    asked = task.ask(settings, request.what, context)
    labels = asked.labels
    question = Question(
        task=task,
        labels=labels,
        targets=TargetSelector(asked.ranks, asked.contrast, _wanted(settings, labels)),
        describer=asked.describer,
        sigmoid=asked.sigmoid,
        probable=settings.score == "probability",
        counterfactual=settings.counterfactual,
        truths=None if settings.truth is None else GroundTruth(settings.truth, labels),
        digest=context.digest,
        masks=context.masks,
        annotations=_annotations_of(settings, labels, context.model, annotations),
    )
    # Nothing is read any more, and half of the weights are those of the text.
    return question, replace(context.model, text=None)


def _wanted(settings: Settings, labels: Labels) -> Rank | None:
    """The class that an attack is to reach. Raises UsageError if there is no such class."""
    named = wanted_class(settings)
    if named is None:
        return None
    found = wanted_of(named, labels)
    if found == TRUE and settings.truth is None:
        raise missing_truth("--to")
    return found


def _annotations_of(
    settings: Settings, labels: Labels, model: LoadedModel, given: Annotations | None
) -> RunAnnotations | None:
    path = annotations_of(settings)
    if path is None:
        return None
    found = given or open_annotations(path, read_options(settings, model.preprocessing))
    return RunAnnotations(found, labels)


class _Context:
    """`tasks.spec.TaskContext`: what a task reads and changes while its question is asked."""

    def __init__(self, settings: Settings, model: LoadedModel, device: torch.device) -> None:
        self._settings = settings
        self._device = device
        self.model = model
        self.name, self.output, self.own_labels = model.name, model.layers.returned, model.labels
        self.embeds = model.embeds
        self.digest: str | None = model.prompts_sha256
        self.masks: MaskSource | None = None

    def given_labels(self) -> Labels | None:
        return None if self._settings.labels is None else read_labels(self._settings.labels)

    def labels(self) -> Labels:
        names, found = self.own_labels, self.given_labels()
        if found is None:
            return Labels((f"not {names[0]}", names[0]) if len(names) == 1 else tuple(names))
        if len(names) == 1 and len(found.names) in (1, 2):
            given = found.names if len(found.names) == 2 else (f"not {found.names[0]}", found.names[0])
            return replace(found, names=given)
        if len(found.names) != len(names):
            what = (
                f"{escape_text(found.file, 100)} has {len(found.names)} names, and the network has {len(names)} classes"
            )
            raise UsageError(what, where=WHERE, fix="Are these the labels of the data that it was trained with?")
        return found

    def read_masks(self, path: Path) -> None:
        self.masks = open_masks(path, read_options(self._settings, self.model.preprocessing))
        self.digest = self.masks.sha256

    def read_image(self, path: Path) -> Tensor:
        preprocessing = self.model.preprocessing
        image = read_reference_image(path, read_options(self._settings, preprocessing))
        self.digest = image.sha256
        return preprocessing.prepare(image.image, image.planes)[0].unsqueeze(0).to(self._device)

    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        assert self.model.text is not None
        return self.model.text(sentences)

    def embedding_network(self, what: Any) -> Callable[[Tensor], Any]:
        from cnnviz_cli.models.inspect.embedding import embedding_network

        model = self.model
        shape = (model.preprocessing.channels, *model.preprocessing.size)
        net, _ = embedding_network(model.net, shape, what=what, classifier=model.classifier, head=self.output.head)
        self.model = replace(model, net=net)
        return net.to(self._device)

    def autocast(self) -> AbstractContextManager[Any]:
        return Execution(self._settings.precision).autocast(self._device)

    def set_min_score(self, value: float) -> bool:
        return set_score_threshold(self.model.net, value) > 0
