"""Which training images helped a network with each image, and which harmed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli.config.influence_fields import INFLUENCE, influence_fields
from cnnviz_cli.core.classes import TRUE, Rank
from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.findings import ImageFindings
from cnnviz_cli.core.influence_records import InfluenceRecord, InfluentialImage, SuspectImage
from cnnviz_cli.core.records import Cost, ImageRecord, Json, Output, Prediction
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.scores import Classes, highest, round_score
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.engine.targets import TargetSelector
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.feature_store import FeatureStore
from cnnviz_cli.files.output.resume import Input
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.study_kit import Kit
from cnnviz_cli.models.inspect.linear_end import LinearEnd, find_linear_end
from cnnviz_cli.render.figures import fit_block
from cnnviz_cli.run.feature_pass import FeaturePass, SeenBatch
from cnnviz_cli.run.looking import Looking
from cnnviz_cli.run.question import UNKNOWN
from cnnviz_cli.run.session import Session
from cnnviz_cli.run.study import Study
from cnnviz_cli.run.study_files import figure_size
from cnnviz_cli.studies.influence.figures import InfluenceWords, compose, shown_picture, tile_picture
from cnnviz_cli.studies.influence.tracin import (
    Found,
    Head,
    Neighbour,
    Training,
    find_influential,
    survey_training,
)
from cnnviz_cli.studies.influence.training import open_training
from cnnviz_cli.tasks.description import PREDICTIONS, Describer

TABLE = "features"
"""Of both stores: what the last layer is given."""

BLOCK = 256
"""Images that are held against all training images together."""

Asked = Literal["likeliest", "true", "chosen"]


class InfluenceStudy(Study):
    """Influence on the last layer, of each training image on each image."""

    name = INFLUENCE

    def __init__(self, session: Session, sources: Sequence[Source], sink: Sink, reporter: Reporter) -> None:
        super().__init__(session, sources, sink, reporter)
        self._section = influence_fields(self.settings)
        self._end = linear_end_of(session)
        self._head = head_of(self._end, sigmoid=session.question.sigmoid)
        self._images = open_training(self._section, self.settings, session.question.labels, reporter)
        self._block: tuple[int, dict[int, list[_Answer]]] = (-1, {})

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"the training images": self._images.sha256}

    @property
    def cost(self) -> Cost:
        return Cost(forwards=1, backwards=0, variants=0)

    @property
    def lines(self) -> list[str]:
        count, number = len(self._images.sources), self._section.neighbours
        classes = len(set(self._images.classes))
        found = [
            f"{count} training images of {classes} classes, and {len(self.sources)} to be explained: one forward each, "
            f"of which what '{self._end.name}' is given is kept ({self._head.weight.shape[1]} numbers)",
            f"influence of each training image on each image by the gradients of '{self._end.name}', in closed form",
            f"of each image a figure with the {number} most helpful and the {number} most harmful training images",
        ]
        if self._section.suspects:
            found.append(f"a sheet of the {self._section.suspects} training images with the highest own influence")
        return found

    def look(self, looking: Looking) -> None:
        shown = FeaturePass(feature_session(self.session, self._end), (), scores=True)
        width = {TABLE: self._head.weight.shape[1]}
        self._shown = looking.gather("images", shown, self.sources, width, _features_of)
        name = self._images.name
        self._trained = looking.gather("train", shown, self._images.sources, width, _features_of, called=name)
        if not len(self._trained.seen):
            what = f"no image of '{escape_text(name, 60)}' could be shown to the network"
            raise UsageError(what, where="--train", fix="Name a folder of images that the network can be shown.")
        self._survey = survey_training(self._head, self._chunks(), self._training, self._section.suspects)

    def _chunks(self) -> Any:
        return self._trained.rows(TABLE).chunks(self._head.rows)

    @cached_property
    def _training(self) -> Training:
        digests = [about.sha256 for _, about in self._trained.all_about() if not about.why]
        return Training.of([self._images.classes[at] for at in self._trained.seen], digests)

    def kit(self) -> Kit:
        training = self._training
        suspects: list[Any] = []
        pictures = {}
        for number, one in enumerate(self._survey.suspects):
            suspects.append(self._suspect(one).model_dump(mode="json"))
            if (shown := self._tile(one.row)) is not None:
                pictures[f"picture-{number:04}"] = np.asarray(shown)
        several = {digest for digest, twice in zip(training.digests, training.contradicted, strict=True) if twice}
        values: Json = {
            "name": self._images.name,
            "images": len(training.digests),
            "unlabelled": self._images.unlabelled,
            "copies": int((~training.first).sum()),
            "contradicted": len(several),
            "classes": len(np.unique(training.classes)),
            "right": self._survey.right,
            "layer": self._end.name,
            "bias": self._head.bias is not None,
            "loss": "binary cross-entropy" if self._head.sigmoid else "cross-entropy",
            "suspects": suspects,
        }
        return Kit(values, pictures)

    def _suspect(self, one: Neighbour) -> SuspectImage:
        labels = self.session.question.labels.names
        (own,) = self._head.class_probabilities(self._row(self._trained, int(self._trained.seen[one.row])))
        index, likeliest = int(self._training.classes[one.row]), int(own.argmax())
        return SuspectImage(
            **self._named(one.row),
            probability=round_score(float(own[index])),
            likeliest_index=likeliest,
            likeliest=labels[likeliest],
            likeliest_probability=round_score(float(own[likeliest])),
            value=one.parts.value,
        )

    def _named(self, row: int) -> dict[str, Any]:
        """What a manifest says of a training image, whatever else is said of it."""
        training, index = self._training, int(self._training.classes[row])
        return {
            "source": escape_text(self._images.sources[int(self._trained.seen[row])].name),
            "sha256": training.digests[row],
            "class_index": index,
            "label": self.session.question.labels.names[index],
            "copies": int(training.copies[row]) if training.copies[row] > 1 else None,
            "contradicted": bool(training.contradicted[row]),
        }

    def _row(self, store: FeatureStore, at: int) -> NDArray[np.float64]:
        """(1, C) features of an image."""
        return store.values(TABLE, at).astype(np.float64)

    def _tile(self, row: int) -> Any:
        """What the network saw of a training image, or None where its file has gone since."""
        source = self._images.sources[int(self._trained.seen[row])]
        try:
            loaded = self.read(source, "")
        except ImageError:
            return None
        return tile_picture(loaded.original.image, loaded.view)

    def record(self, source: Input, folder: str) -> ImageRecord:
        assert isinstance(source, Source)
        at = self.number_of(source)
        answers = self._answers_of(at)
        if not answers:
            raise ImageError(UNKNOWN, sha256=self._shown.about(at).sha256)
        loaded = self.read(source, folder)
        (probabilities,) = self._head.class_probabilities(self._row(self._shown, at))
        labels, truth = self.session.question.labels.names, self.session.question.truth_of(source)

        def describe(index: int) -> Prediction:
            return Prediction(index=index, label=labels[index], probability=round_score(float(probabilities[index])))

        predictions = [describe(index) for index in highest(probabilities, PREDICTIONS)]
        found: list[InfluenceRecord] = []
        outputs: list[Output] = []
        for answer in answers:
            record, tiles = self._told(answer, describe(answer.target), loaded.original.sha256)
            found.append(record)
            outputs.append(self._draw(record, tiles, loaded, predictions, folder))
        told = None if truth is None else describe(truth)
        return self.image_record(
            source, loaded, outputs, predictions, truth=told, findings=ImageFindings(influence=found)
        )

    def _draw(
        self,
        record: InfluenceRecord,
        tiles: Sequence[Any],
        loaded: Any,
        predictions: Sequence[Prediction],
        folder: str,
    ) -> Output:
        run, model = self._about
        words = InfluenceWords(
            source=loaded.source.name,
            model=f"{model.name} ({model.weights})",
            train=self._images.name,
            images=len(self._training.digests),
            of_class=int((self._training.classes == record.class_index).sum()),
            layer=self._end.name,
            bias=self._head.bias is not None,
            alone=self._head.sigmoid and not self._head.scores_one,
        )
        size = figure_size(run.config)
        picture = shown_picture(loaded.original.image, size.density)
        figure = fit_block(lambda room: compose(record, words, picture, tiles, predictions, room), size)
        target = Prediction(index=record.class_index, label=record.label, probability=record.probability)
        stem = f"{INFLUENCE}.{record.class_index}-{record.label}"
        return self.write_figure(folder, stem, figure, target=target)

    def _told(self, answer: _Answer, target: Prediction, digest: str) -> tuple[InfluenceRecord, list[Any]]:
        found = answer.found
        rows = [*found.helpful, *found.harmful]
        told = [self._neighbour(one, found, digest) for one in rows]
        record = InfluenceRecord(
            class_index=target.index,
            label=target.label,
            probability=target.probability or 0.0,
            asked=answer.asked,
            helping=found.helping,
            harming=found.harming,
            help=_six(found.help),
            harm=_six(found.harm),
            helpful=told[: len(found.helpful)],
            harmful=told[len(found.helpful) :],
        )
        return record, [self._tile(one.row) for one in rows]

    def _neighbour(self, one: Neighbour, found: Found, digest: str) -> InfluentialImage:
        parts = one.parts
        whole = found.help if parts.value > 0 else found.harm
        return InfluentialImage(
            **self._named(one.row),
            value=parts.value,
            share=_six(min(1.0, parts.value / whole)),
            residuals=parts.residuals,
            features=parts.features,
            pull=parts.pull,
            likeness=parts.likeness,
            same=one.digest == digest,
        )

    def _answers_of(self, at: int) -> list[_Answer]:
        """What was found of an image, with that of its neighbours on the list, all of which are looked at together."""
        block = at // BLOCK
        if self._block[0] != block:
            self._block = (block, self._answer_block(range(block * BLOCK, (block + 1) * BLOCK)))
        return self._block[1].get(at, [])

    def _answer_block(self, numbers: range) -> dict[int, list[_Answer]]:
        seen = [at for at in self._shown.seen.tolist() if at in numbers]
        asked: list[tuple[int, int, Asked]] = []
        for at in seen:
            (probabilities,) = self._head.class_probabilities(self._row(self._shown, at))
            asked += [(at, *one) for one in self._targets(self.sources[at], probabilities)]
        if not asked:
            return {}
        features = np.concatenate([self._row(self._shown, at) for at, _, _ in asked])
        targets = np.array([target for _, target, _ in asked], np.int64)
        found = find_influential(
            self._head, self._chunks(), self._training, features, targets, self._section.neighbours
        )
        answers: dict[int, list[_Answer]] = {}
        for (at, target, why), one in zip(asked, found, strict=True):
            answers.setdefault(at, []).append(_Answer(target, why, one))
        return answers

    def _targets(self, source: Source, probabilities: NDArray[np.float64]) -> list[tuple[int, Asked]]:
        """The classes that an image is asked for, each once. Without a target the true one where that is known, else
        the likeliest."""
        question, truth = self.session.question, self.session.question.truth_of(source)
        ranks: Sequence[Rank] = question.targets.ranks
        if "target" not in self.settings.model_fields_set:
            ranks = (TRUE if truth is not None else 0,)
        order = np.argsort(-probabilities, kind="stable")
        found: dict[int, Asked] = {}
        for rank in ranks:
            if rank == TRUE:
                if truth is not None:
                    found.setdefault(truth, "true")
            elif rank >= 0:
                found.setdefault(int(order[rank]), "chosen" if rank else "likeliest")
            else:
                found.setdefault(-1 - rank, "chosen")
        return list(found.items())


@dataclass(frozen=True)
class _Answer:
    target: int
    asked: Asked
    found: Found


def linear_end_of(session: Session) -> LinearEnd:
    """The last layer of the session's network. Raises UsageError where its scores are not those of a linear layer."""
    name = escape_text(session.model.name, 60)
    size = session.context.input_spec.size
    shape = (len(session.context.input_spec.black), *size)
    found = None
    if session.question.task.classes and session.question.task.reads == ("scores",):
        found = find_linear_end(session.net, shape, session.model.layers.returned.head)
    if found is None:
        raise UsageError(
            f"the class scores of {name} are not what one linear layer returns, so that influence has no closed form",
            where="--model",
            fix="Choose a classifier that ends in a linear layer, such as resnet50, convnext_tiny or vit_b_16.",
        )
    return found


def head_of(end: LinearEnd, *, sigmoid: bool) -> Head:
    """The last layer in double precision."""
    bias = None if end.bias is None else end.bias.double().cpu().numpy()
    return Head(end.weight.double().cpu().numpy(), bias, sigmoid)


def feature_session(session: Session, end: LinearEnd) -> Session:
    """The session with a network that returns what the last layer is given, and nothing asked of it."""
    question = replace(session.question, describer=Describer(Classes()), targets=TargetSelector((0,)))
    return replace(session, net=end.features, question=question)


def _features_of(seen: SeenBatch) -> list[dict[str, NDArray[Any]]]:
    assert seen.scores is not None
    return [{TABLE: row} for row in seen.scores.float().cpu().numpy()]


def _six(number: float) -> float:
    return float(f"{number:.6g}") + 0.0
