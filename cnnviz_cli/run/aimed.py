"""The question of a run that is not about the classes of a classifier: regions, boxes, or another picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cnnviz_cli.config.aiming import REGRESSION, boxes_asked, kind_of, refuse_strangers, regions_asked
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.aims import BOX, CLASS, SEGMENT, Aim, parse_aim
from cnnviz_cli.core.boxes import Boxes
from cnnviz_cli.core.classes import is_background
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.regions import Regions
from cnnviz_cli.core.text import visible
from cnnviz_cli.engine.passes import lowered
from cnnviz_cli.engine.targets import Targets
from cnnviz_cli.files.labels import Labels, read_labels
from cnnviz_cli.files.masks import masks_at
from cnnviz_cli.files.other import read_other
from cnnviz_cli.models.load import LoadedModel
from cnnviz_cli.models.thresholds import set_least_score
from cnnviz_cli.run.question import Question, labels_of
from cnnviz_cli.run.reading import reading_of
from cnnviz_cli.run.tellers import PREDICTIONS, BoxTeller, RegionTeller, SimilarityTeller, ValueTeller


@dataclass(frozen=True)
class Asked:
    """A question, and the network it is put to: of a classifier it may be what comes before the classes."""

    question: Question
    model: LoadedModel


def asked_of(settings: Settings, model: LoadedModel, device: torch.device) -> Asked:
    """The settings' question to a network.

    Raises:
        UsageError: an objective that does not fit the network, a setting that does not fit the objective, a picture
            or a mask that it names and that cannot be read, or what `Question.of` raises.
    """
    aim = parse_aim(settings.objective)
    kind = kind_of(aim, model.returns, model.name)
    refuse_strangers(settings, kind)
    if kind == CLASS and settings.task == REGRESSION:
        return Asked(_about_values(settings, model), model)
    if kind == CLASS:
        return Asked(Question.of(settings, model.labels, model.layers.returned), model)
    if kind == SEGMENT:
        return Asked(_about_regions(settings, aim, model), model)
    if kind == BOX:
        return Asked(_about_boxes(settings, aim, model), model)
    return _about_similarity(settings, aim, model, device)


def _about_values(settings: Settings, model: LoadedModel) -> Question:
    # Imported where they are needed: a run of one kind reads the code of no other.
    from cnnviz_cli.core.values import OutputValues

    returned = model.layers.returned
    single = returned.classes == 1
    if single:
        given = read_labels(settings.labels) if settings.labels else Labels(model.labels)
        name = "value" if given.names in (("positive",), ()) else given.names[-1]
        labels = replace(given, names=(f"minus {name}", name))
    else:
        labels = labels_of(settings, model.labels)
    targets = Targets.parse(settings.target, labels.names, contrast=settings.contrast, also=labels.also)
    if single and targets.contrast is not None:
        raise UsageError("one value has no other to be told apart from", where="--contrast", fix="Leave it out.")
    if targets.asks_truth:
        raise UsageError("a regression has no true class", where="--target", fix="Name an output.")
    teller = ValueTeller(labels.names, OutputValues(returned.head, single), settings.unit)
    return Question(labels, targets, teller, counter=settings.counterfactual)


def _about_regions(settings: Settings, aim: Aim, model: LoadedModel) -> Question:
    labels = labels_of(settings, model.labels)
    background = next((index for index, name in enumerate(labels.names) if is_background(name)), None)
    targets = Targets(regions_asked(settings, aim, labels.names, labels.also))
    returned = model.layers.returned
    readout = Regions(background, returned.head, returned.values, returned.exclusive)
    teller = RegionTeller(labels.names, readout)
    masks = None if settings.region is None else masks_at(settings.region, reading_of(settings, model.preprocessing))
    return Question(
        labels,
        targets,
        teller,
        counter=settings.counterfactual,
        digest=masks.sha256 if masks else None,
        masks=masks,
    )


def _about_boxes(settings: Settings, aim: Aim, model: LoadedModel) -> Question:
    if settings.min_score is not None and not set_least_score(model.net, settings.min_score):
        what = f"{visible(model.name, 100)} has no limit that could be set"
        raise UsageError(what, where="--min-score", fix="Leave it out.")
    if settings.labels is not None and not model.labels:
        labels = read_labels(settings.labels)
    else:
        labels = labels_of(settings, model.labels) if model.labels else Labels(())
    ranks = boxes_asked(settings, aim)
    readout = Boxes(most=max(PREDICTIONS, *(rank + 1 for rank in ranks)))
    return Question(labels, Targets(ranks), BoxTeller(labels.names, readout), counter=settings.counterfactual)


def _about_similarity(settings: Settings, aim: Aim, model: LoadedModel, device: torch.device) -> Asked:
    # Imported where they are needed: a run of one kind reads the code of no other.
    from cnnviz_cli.core.similarity import Similarity, reference_of
    from cnnviz_cli.models.embedding import embedding_of

    preprocessing = model.preprocessing
    shape = (preprocessing.channels, *preprocessing.size)
    head = model.layers.returned.head
    net, _ = embedding_of(model.net, shape, what=settings.embedding, classifier=model.classifier, head=head)
    path = Path(aim.what)
    photo = read_other(path, reading_of(settings, preprocessing))
    pixels = preprocessing.prepare(photo.image, photo.planes)[0]
    with lowered(device, settings.precision):  # or a picture would not be the same as itself
        reference = reference_of(net.to(device), pixels.unsqueeze(0).to(device), head)
    other = visible(path.name, 80)
    teller = SimilarityTeller(other, Similarity(reference, head))
    labels = Labels((f"not similar to {other}", f"similar to {other}"))
    question = Question(labels, Targets((0,)), teller, counter=settings.counterfactual, digest=photo.sha256)
    return Asked(question, replace(model, net=net))
