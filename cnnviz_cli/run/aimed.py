"""The question of a run that is not about the classes of a classifier: regions, boxes, or another picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.aims import AIM_OF, BOX, CLASS, SEGMENT, SIMILARITY, Aim, Kind, parse_aim
from cnnviz_cli.core.boxes import Boxes
from cnnviz_cli.core.classes import is_background, top_count
from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.regions import Regions
from cnnviz_cli.core.text import visible
from cnnviz_cli.engine.targets import Targets
from cnnviz_cli.files.labels import Labels, read_labels
from cnnviz_cli.files.masks import masks_at
from cnnviz_cli.files.photo import read_photo
from cnnviz_cli.models.load import LoadedModel
from cnnviz_cli.models.thresholds import set_least_score
from cnnviz_cli.run.question import Question, labels_of
from cnnviz_cli.run.tellers import PREDICTIONS, BoxTeller, RegionTeller, SimilarityTeller

_WHERE = "--objective"


@dataclass(frozen=True)
class Asked:
    """A question, and the network it is put to: of a classifier it may be what comes before the classes."""

    question: Question
    model: LoadedModel


def asked_of(settings: Settings, model: LoadedModel, device: torch.device) -> Asked:
    """The settings' question to a network.

    Raises:
        UsageError: an objective that does not fit the network, a setting that does not fit the objective, or what
            `Question.of` raises.
        ImageError: the picture that the objective names cannot be read.
    """
    aim = parse_aim(settings.objective)
    kind = aim.kind or AIM_OF[model.returns]
    if kind != SIMILARITY and kind != AIM_OF[model.returns]:
        fitting = AIM_OF[model.returns]
        what = f"{visible(model.name, 100)} returns {_RETURNED[model.returns]}, so there is no {kind} to explain"
        raise UsageError(what, where=_WHERE, fix=f"Leave it out, or: --objective {_EXAMPLES[fitting]}")
    _refuse_strangers(settings, kind)
    if kind == CLASS:
        return Asked(Question.of(settings, model.labels), model)
    if kind == SEGMENT:
        return Asked(_about_regions(settings, aim, model), model)
    if kind == BOX:
        return Asked(_about_boxes(settings, aim, model), model)
    return _about_similarity(settings, aim, model, device)


_RETURNED = {"scores": "class scores", "maps": "maps of class scores", "boxes": "boxes"}
_EXAMPLES = {CLASS: CLASS, SEGMENT: "segment:CLASS", BOX: "box:RANK"}


def _refuse_strangers(settings: Settings, kind: Kind) -> None:
    """Raise UsageError for a setting that another kind of objective has."""
    own = {"region": SEGMENT, "min_score": BOX}
    for name, home in own.items():
        if getattr(settings, name) is not None and kind != home:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} is for {home}, and what is explained is a {kind}", where=flag, fix="Leave it out."
            )
    if settings.embedding != "auto" and kind != SIMILARITY:
        raise UsageError("nothing is compared", where="--embedding", fix="Add --objective similarity:other.jpg")
    if kind == CLASS:
        return
    classes_only = {"--contrast": settings.contrast, "--truth": settings.truth, "--multilabel": settings.multilabel}
    for flag, value in (*classes_only.items(), ("--score", settings.score != "logit")):
        if value:
            raise UsageError(f"{flag} is for the classes of a classifier", where=flag, fix="Leave it out.")


def _targets(settings: Settings, aim: Aim) -> tuple[str | int, ...]:
    """What is to be explained, which may be said in two places, but not twice."""
    if not aim.what:
        return tuple(settings.target)
    if "target" in settings.model_fields_set and settings.target != (aim.what,):
        what = f"'{visible(settings.objective, 60)}' says what is explained already"
        raise UsageError(what, where="--target", fix="Leave --target out.")
    return (aim.what,)


def _about_regions(settings: Settings, aim: Aim, model: LoadedModel) -> Question:
    labels = labels_of(settings, model.labels)
    background = next((index for index, name in enumerate(labels.names) if is_background(name)), None)
    targets = Targets.parse(_targets(settings, aim), labels.names, also=labels.also)
    teller = RegionTeller(labels.names, Regions(background=background))
    masks = None if settings.region is None else masks_at(settings.region)
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
    ranks = (aim.rank,) if aim.what else tuple(dict.fromkeys(rank for spec in settings.target for rank in _ranks(spec)))
    readout = Boxes(most=max(PREDICTIONS, *(rank + 1 for rank in ranks)))
    return Question(labels, Targets(ranks), BoxTeller(labels.names, readout), counter=settings.counterfactual)


def _ranks(spec: str | int) -> range:
    count = 1 if spec == "predicted" else top_count(spec, range(10_000))
    if count is None:
        what = f"'{visible(str(spec), 60)}': boxes are told by their rank"
        raise UsageError(what, where="--target", fix="For instance: --objective box:2, or --target top3")
    return range(count)


def _about_similarity(settings: Settings, aim: Aim, model: LoadedModel, device: torch.device) -> Asked:
    if model.returns != "scores":
        what = f"{visible(model.name, 100)} returns {_RETURNED[model.returns]}, and pictures are compared by vectors"
        raise UsageError(what, where=_WHERE, fix="Use a classifier, or a network that returns (batch, numbers).")
    if "target" in settings.model_fields_set:
        raise UsageError("there is one thing to explain, the similarity", where="--target", fix="Leave it out.")
    # Imported where they are needed: a run of one kind reads the code of no other.
    from cnnviz_cli.core.similarity import Similarity, reference_of
    from cnnviz_cli.models.embedding import embedding_of

    preprocessing = model.preprocessing
    shape = (preprocessing.channels, *preprocessing.size)
    net, _ = embedding_of(model.net, shape, what=settings.embedding, classifier=model.classifier)
    path = Path(aim.what)
    try:
        photo = read_photo(path)
    except ImageError as error:
        raise UsageError(f"'{visible(aim.what, 200)}': {error.what}", where=_WHERE, fix=error.fix) from error
    pixels = preprocessing.prepare(photo.image)[0]
    reference = reference_of(net.to(device), pixels.unsqueeze(0).to(device))
    other = visible(path.name, 80)
    teller = SimilarityTeller(other, Similarity(reference))
    labels = Labels((f"not similar to {other}", f"similar to {other}"))
    question = Question(labels, Targets((0,)), teller, counter=settings.counterfactual, digest=photo.sha256)
    return Asked(question, replace(model, net=net))
