"""Judges: other networks that are shown what was painted, each under its own preprocessing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from cnnviz_cli.config.dream_fields import dream_fields
from cnnviz_cli.config.settings import Settings, settings_type
from cnnviz_cli.core.classes import Labels, find_named
from cnnviz_cli.core.dream_facts import rank_of
from cnnviz_cli.core.errors import CnnvizError, UsageError
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.core.network import explain_memory_errors
from cnnviz_cli.core.records import Judgement
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.models.spec.judges import JUDGE, JudgeSpec, not_a_classifier
from cnnviz_cli.run.dream_pictures import input_of, picture_of
from cnnviz_cli.run.session import Session, load_model_for


@dataclass(frozen=True)
class Judge:
    """A classifier, and where the classes of the network stand among its own.

    Attributes:
        session: the judge's, with nothing of the run but device and seed.
        places: for each class of the network its index among the judge's; None where the judge has no such class.
    """

    session: Session
    places: tuple[int | None, ...]

    @property
    def name(self) -> str:
        return self.session.model.name

    @property
    def identity(self) -> tuple[str, str, str]:
        """Its name, its weights, and their digest."""
        model = self.session.model
        return model.name, model.weights, model.weights_sha256

    def look(self, image: Image.Image, index: int | None) -> Judgement:
        """What it makes of an RGB image that was painted for the network's class `index`, or for none. Raises what
        `Session.observe` does, and MemoryShortError."""
        session = self.session
        model, question = session.model, session.question
        inputs = input_of(session, picture_of(session, image))
        with explain_memory_errors(1, where=JUDGE, fix="Leave the judge out, or choose a smaller one."):
            seen = session.observe(inputs, (), digests=[""])
        told: dict[str, Any] = {
            "model": model.name, "weights": model.weights, "weights_sha256": model.weights_sha256, "prediction": None,
        }  # fmt: skip
        numbers, order = question.describer.numbers(seen.logits, seen.anchor)[0], seen.order[0].cpu().numpy()
        if not np.isfinite(numbers).all():
            return Judgement(**told)

        def describe(one: int) -> Any:
            size = session.context.input_spec.size
            return question.describer.describe(one, float(numbers[one]), None, size).prediction

        told["prediction"] = describe(question.describer.foremost(numbers, order)[0])
        place = None if index is None else self.places[index]
        if place is not None:
            told |= {"index": place, "probability": describe(place).probability, "rank": rank_of(order, place)}
        return Judgement(**told)


def load_judges(session: Session, reporter: Reporter) -> tuple[LoadedModel, ...]:
    """The networks that the settings name as judges; raises what `load_model` does."""
    names = dream_fields(session.settings).judge
    return tuple(load_judge(session.settings, JudgeSpec.parse(name), reporter) for name in names)


def load_judge(settings: Settings, spec: JudgeSpec, reporter: Reporter) -> LoadedModel:
    """A judge's network; `settings` say what may be loaded, and from where. Raises what `load_model` does."""
    names = ("allow_code", "offline", "weights_mirror", "memory_format")
    kept = {name: getattr(settings, name) for name in names}
    own = settings_type(DREAM.name).model_validate({"model": spec.model, "weights": spec.weights, **kept})
    try:
        return load_model_for(own, reporter)
    except CnnvizError as error:
        error.where = JUDGE
        raise


def judge_of(session: Session, model: LoadedModel, classes: Sequence[int], reporter: Reporter) -> Judge:
    """A network as a judge of what the session's paints, on the session's device.

    Args:
        classes: of the session's network, those that are to be painted; the judge must have them.

    Raises:
        UsageError: it is no classifier, reads other bands than a picture has, or lacks a class.
    """
    settings = session.settings
    plain: dict[str, Any] = {"device": settings.device, "seed": settings.seed, "fold": settings.fold}
    names, shown = session.question.labels.names, escape_text(model.name, 100)
    if _is_nameless(model.labels) and len(model.labels) == len(names):
        if not _is_nameless(names):
            reporter.say(f"{shown} has no names of classes: they are taken to be counted as the network's")
        model = replace(model, labels=names)
    if len(model.labels) == len(session.model.labels):
        plain["multilabel"] = settings.multilabel
    try:
        own = Session.of(DREAM.name, settings_type(DREAM.name).model_validate(plain), model, session.device, reporter)
    except CnnvizError as error:
        error.where = JUDGE
        raise
    if not (own.question.task.classes and own.question.task.probabilities):
        raise not_a_classifier(model.name, f"it returns {own.question.task.output}")
    if model.preprocessing.reads_bands:
        raise UsageError(f"{shown} reads other bands than a picture has", where=JUDGE)
    judge = Judge(own, tuple(_places(names, own.question.labels)))
    _require(judge, session, classes)
    return judge


def _is_nameless(labels: Sequence[str]) -> bool:
    return list(labels) == [str(number) for number in range(len(labels))]


def _places(names: Sequence[str], others: Labels) -> Iterator[int | None]:
    if list(names) == list(others.names):
        yield from range(len(names))
        return
    for name in names:
        found = [] if _is_nameless(others.names) else find_named(name, others)
        yield found[0] if len(found) == 1 else None


def _require(judge: Judge, session: Session, classes: Sequence[int]) -> None:
    missing = [index for index in classes if judge.places[index] is None]
    if not missing:
        return
    names, shown = session.question.labels.names, escape_text(judge.name, 100)
    own = judge.session.question.labels.names
    if _is_nameless(own) and not _is_nameless(names):
        what = f"{shown} has {len(own)} classes without names, and the network {len(names)} others"
        raise UsageError(what, where=JUDGE, fix="Choose one whose classes have names, or as many.")
    listed = list_some([f"'{escape_text(names[index], 60)}'" for index in missing], 3)
    fix = "Leave it out, or paint a class that both have: cnnviz classes --model NAME"
    if _is_nameless(names):
        fix = "Name the network's classes, which its judges are asked for: --labels FILE"
    raise UsageError(f"{shown} has no class {listed}", where=JUDGE, fix=fix)
