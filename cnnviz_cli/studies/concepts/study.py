"""Concepts: what recurs in a folder of images as a layer has it, where it is, and what each adds to the score of a
class (Fel et al. 2023, CRAFT; Collins et al. 2018, deep feature factorization)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnviz_cli.config.concepts_fields import CONCEPTS, concepts_fields
from cnnviz_cli.core.concept_records import DESIGNS, ConceptsOfImage
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.findings import ImageFindings
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.network import explain_memory_errors, to_memory_format
from cnnviz_cli.core.records import Cost, ImageRecord, Prediction, Subject
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.engine.tail_scores import open_tail
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.resume import Input
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.study_kit import Kit
from cnnviz_cli.files.tables.concept_file import read_concepts
from cnnviz_cli.files.tables.text_table import TextFile, read_text
from cnnviz_cli.render.concept_sheet import compose_image_concepts
from cnnviz_cli.render.figures import fit_block
from cnnviz_cli.run.concept_network import check_network_of
from cnnviz_cli.run.feature_pass import Crops, FeaturePass, SeenBatch
from cnnviz_cli.run.image_data import LoadedImage, style_of
from cnnviz_cli.run.looking import Looking
from cnnviz_cli.run.session import Session, image_seed, reproducible_forward
from cnnviz_cli.run.study import Study
from cnnviz_cli.studies.concepts.basis import (
    Found,
    classes_alone,
    dictionary_of,
    find_dictionary,
    in_order,
    linear_head_of,
    negative_error,
)
from cnnviz_cli.studies.concepts.boards import ImageMaps, Picture, density_of, image_board, model_facts
from cnnviz_cli.studies.concepts.importance import Sobol, sobol
from cnnviz_cli.studies.concepts.kit import KitMaker
from cnnviz_cli.studies.concepts.places import Frame, Places, classes_of_rows
from cnnviz_cli.studies.concepts.survey import (
    FRAME,
    MAPS,
    ROWS,
    SCORES,
    ImageSurvey,
    RowSurvey,
    maps_of,
    residual_of,
    scores_of,
    survey_images,
    survey_rows,
)


class ConceptsStudy(Study):
    """Concepts of a folder of images. Raises UsageError where the settings or the network do not allow any."""

    name: ClassVar[str] = CONCEPTS

    def __init__(self, session: Session, sources: Sequence[Source], sink: Sink, reporter: Reporter) -> None:
        super().__init__(session, sources, sink, reporter)
        self._fields = fields = concepts_fields(session.settings)
        check_question(session)
        self._file = None if fields.basis is None else read_concepts(fields.basis, "--basis")
        self._names = None if fields.concept_names is None else read_text(fields.concept_names, "--concept-names")
        self._basis = None
        if self._file is not None:
            idle = [name for name in ("concepts", "dictionary") if name in fields.model_fields_set]
            if idle:
                what = f"the concepts are those of '{escape_text(self._file.name, 60)}'"
                raise UsageError(what, where=f"--{idle[0]}", fix="Leave out one of the two.")
            check_network_of(session, self._file, "--basis")
            self._basis = dictionary_of(self._file, "--basis")
        self._layer = self._resolve()
        self._crops = self._crops_of()
        self._check_count()
        self._head = linear_head_of(session, self._layer)
        if self._names is not None and (count := self._count()) is not None:
            self._check_names(self._names, count)

    def _resolve(self) -> str:
        fields, layers = self._fields, self.session.context.layers
        if self._file is not None and "layer" not in fields.model_fields_set:
            return self._file.facts.layer
        found = layers.resolve((fields.layer,))
        if len(found) > 1:
            what = f"'{escape_text(fields.layer, 60)}' is {len(found)} layers, and concepts are of one"
            raise UsageError(what, where="--layer", fix=f"Name one of them: {list_some(list(found), 3)}.")
        if self._file is not None and found[0] != self._file.facts.layer:
            shown = escape_text(self._file.name, 60)
            what = f"the concepts in '{shown}' are of layer '{self._file.facts.layer}', not of '{found[0]}'"
            raise UsageError(what, where="--layer", fix="Leave it out.")
        return found[0]

    def _crops_of(self) -> Crops | None:
        share: float | str | None = self._fields.crops
        if self._file is not None and "crops" not in self._fields.model_fields_set:
            share = self._file.facts.share
        return Crops(share=share) if isinstance(share, float) else None

    def _count(self) -> int | None:
        """How many concepts there will be, where that is known before any image is."""
        if self._basis is not None:
            count: int = self._basis.count
            return count
        wanted = self._fields.concepts
        return None if wanted == "auto" else int(wanted)

    def _check_count(self) -> None:
        """Raise UsageError where there are more concepts than the images can have rows of numbers."""
        count, each = self._count(), self._rows_of_image()
        channels = self.session.context.layers[self._layer].shape[0]
        if self._basis is not None or count is None:
            return
        if self._fields.dictionary == "nmf" and count > channels:
            what = f"{count} concepts cannot be told apart by the {channels} channels of layer '{self._layer}'"
            raise UsageError(what, where="--concepts", fix=f"Ask for {channels} or fewer.")
        if self.session.model.preprocessing.mode == "full":
            return  # the more rows, the larger an image is
        most = each * len(self.sources)
        if count > most:
            kind = "crops" if self._crops is not None else "positions"
            images = "1 image" if len(self.sources) == 1 else f"{len(self.sources)} images"
            what = f"{count} concepts cannot be told apart by the {most} {kind} of {images}"
            raise UsageError(what, where="--concepts", fix=f"Ask for {most} or fewer, or give more images.")

    def _rows_of_image(self) -> int:
        """How many rows an image has, of the usual size."""
        height, width = self.session.context.input_spec.size
        shape = self.session.context.layers[self._layer].shape
        return shape[1] * shape[2] if self._crops is None else len(self._crops.windows(height, width))

    def _check_names(self, given: TextFile, count: int) -> list[str | None]:
        lines = [line.strip() for line in given.text.splitlines()]
        while lines and not lines[-1]:
            lines.pop()
        if len(lines) > count:
            raise given.error(f"this is a name for {len(lines)} concepts, and there are {count}", line=count + 1)
        return [*(line[:200] or None for line in lines), *[None] * (count - len(lines))]

    @property
    def identity(self) -> Mapping[str, Any]:
        """Digests of the files that are named."""
        found = {}
        if self._file is not None:
            found["digest of --basis"] = self._file.sha256
        if self._names is not None:
            found["digest of --concept-names"] = self._names.sha256
        return found

    @property
    def cost(self) -> Cost:
        """One forward for the images, and what crops and removed concepts take."""
        crops = 0 if self._crops is None else self._rows_of_image()
        designs = 0 if self._head is not None else DESIGNS * ((self._count() or 20) + 2) + 2
        return Cost(forwards=1, backwards=0, variants=crops + designs)

    @property
    def lines(self) -> list[str]:
        """For a dry run."""
        rows = f"the positions of layer {self._layer}"
        if self._crops is not None:
            rows = f"{self._rows_of_image()} crops of each image, as layer {self._layer} has them"
        what = "the number at the knee of the error" if self._count() is None else f"{self._count()} concepts"
        made = f"{what} by {'NMF' if self._fields.dictionary == 'nmf' else 'a sparse autoencoder'} of {rows}"
        if self._file is not None:
            made = f"the {self._count()} concepts of {escape_text(self._file.name, 60)}, in {rows}"
        adds = "what each adds: its exact share of the logit, since the head pools and weighs"
        if self._head is None:
            adds = f"what each adds: Sobol's indices, {DESIGNS} designs through what comes after {self._layer}"
        return [made, adds, "a sheet of all images, a sheet of each, concepts.npz and concepts.csv"]

    def look(self, looking: Looking) -> None:
        """Show the images and their crops to the network, and find the concepts."""
        channels = self.session.context.layers[self._layer].shape[0]
        columns = {MAPS: channels, SCORES: len(self.session.question.labels.names), FRAME: 4}
        if self._crops is not None:
            columns[ROWS] = channels
        shown = FeaturePass(self.session, (self._layer,), scores=True, crops=self._crops)
        self._store = looking.gather(CONCEPTS, shown, self.sources, columns, self._take)
        self._order = {int(at): number for number, at in enumerate(self._store.seen)}
        if len(self._store.seen):
            self._find()

    def _take(self, batch: SeenBatch) -> Sequence[Mapping[str, NDArray[Any]]]:
        assert batch.scores is not None
        maps = batch.maps[self._layer]
        frame = np.array([*batch.inputs.shape[2:], *maps.shape[2:]], np.float32)
        scores = batch.scores.float().cpu().numpy()
        found = []
        for image in range(len(batch.at)):
            rows: dict[str, NDArray[Any]] = {
                MAPS: maps[image].flatten(1).T.float().cpu().numpy(),
                SCORES: scores[image],
                FRAME: frame,
            }
            if self._crops is not None:
                rows[ROWS] = batch.crops_of(self._layer, image).float().mean((2, 3)).cpu().numpy()
            self._check_first(rows[self._table])
            found.append(rows)
        return found

    def _check_first(self, rows: NDArray[Any]) -> None:
        """Raise UsageError as soon as an image has values below zero, and not when all images were shown."""
        factors = self._fields.dictionary if self._file is None else self._file.facts.dictionary
        lowest = float(rows.min(initial=0.0))
        if factors == "nmf" and lowest < 0:
            raise negative_error(self.session, self._layer, lowest)

    @property
    def _table(self) -> str:
        """The table that is factorised."""
        return MAPS if self._crops is None else ROWS

    def _find(self) -> None:
        store, session = self._store, self.session
        rows = store.rows(self._table)
        self.reporter.say(
            f"{rows.shape[0]:,} {'positions' if self._crops is None else 'crops'}: looked for concepts in"
        )
        if self._basis is not None:
            self._check_values(rows)
            self._found = Found(self._basis)
        else:
            self._found = find_dictionary(session, self._layer, rows, self._fields)
        targets = self._choose_targets()
        images = survey_images(self._found.dictionary, store, targets, self._head)
        adds = images.adds
        if self._basis is None and adds is not None:
            # Numbers follow what concepts add; an old basis keeps its numbers, and where nothing adds up they follow
            # how much of each there is.
            order = sorted(range(self._found.dictionary.count), key=lambda one: (-float(adds[:, one].mean()), one))
            self._found = Found(in_order(self._found.dictionary, order), self._found.knee)
            images = images.in_order(order)
        self._images: ImageSurvey = images
        self._rows: RowSurvey = survey_rows(self._found.dictionary, rows)
        count = self._found.dictionary.count
        before = [None] * count if self._file is None else self._file.facts.names
        self._called = list(before) if self._names is None else self._check_names(self._names, count)

    def _check_values(self, rows: Any) -> None:
        """Raise UsageError where an old basis of parts meets values below zero."""
        if self._fields.dictionary == "nmf" and self._file is not None and self._file.facts.dictionary == "nmf":
            lowest = min(float(chunk.min()) for chunk in rows.chunks(4096))
            if lowest < 0:
                raise negative_error(self.session, self._layer, lowest)

    def _choose_targets(self) -> NDArray[np.int64]:
        """(N,) the class that is explained in each image that was seen."""
        targets, found = self.session.targets, []
        for at in map(int, self._store.seen):
            if targets.uses_truth:
                targets = targets.with_truths([self.session.question.truth_of(self.sources[at])])
            logits = torch.from_numpy(np.array(scores_of(self._store, at)))[None]
            found.append(int(targets(logits)[0, 0]))
        return np.array(found, np.int64)

    @property
    def _peaks(self) -> NDArray[np.float32]:
        """The most of each concept at any position, in the images that the concepts are from."""
        found: NDArray[np.float32] = self._images.peaks if self._file is None else self._file.arrays["peaks"]
        return found

    @cached_property
    def titles(self) -> list[str]:
        """What the concepts are called: as a file says, or by the classes that they stand for."""
        return [
            name or ", ".join(classes) or f"concept {number}"
            for number, (name, classes) in enumerate(zip(self._called, self._classes, strict=True), 1)
        ]

    @cached_property
    def _classes(self) -> list[list[str]]:
        if self._file is not None:
            return self._file.facts.classes
        labels = self.session.question.labels.names
        if self._head is not None:
            return classes_alone(self._found.dictionary.basis, self._head, labels)
        counts = self._store.counts(self._table)
        return classes_of_rows(self._rows.concepts, Places(self._store.seen, counts, self._crops), self._store, labels)

    def frame(self, at: int) -> Frame:
        """How the network saw an image."""
        about, sides = self._store.about(at), self._store.values(FRAME, at)[0]
        height, width, rows, columns = (int(side) for side in sides)
        return Frame(View(about.size, (width, height), about.box), (rows, columns))

    def image_maps(self, at: int) -> ImageMaps:
        """Where the concepts are in an image."""
        dictionary, images = self._found.dictionary, self._images
        maps = maps_of(self._store, at)
        codes = dictionary.encode_maps(maps)
        left = residual_of(dictionary, codes, maps)[0].square().sum(0).sqrt().numpy()
        rest = (left / images.longest if images.longest > 0 else left).astype(np.float32)
        peaks = self._peaks[:, None, None]
        own = np.divide(codes[0].numpy(), peaks, out=np.zeros_like(codes[0].numpy()), where=peaks > 0)
        most = float(self._peaks.max())
        strengths = codes[0].numpy() / most if most > 0 else own
        return ImageMaps(own, strengths.astype(np.float32), rest)

    def picture(self, loaded: LoadedImage) -> Picture:
        """An image to be drawn."""
        image = loaded.original.image.convert("RGB")
        return Picture(image, loaded.original.size, loaded.view, loaded.source.name)

    def kit(self) -> Kit:
        """What the sheet of all images and the files of concepts are made of."""
        if not len(self._store.seen):
            return Kit()
        return KitMaker(
            session=self.session,
            store=self._store,
            sources=self.sources,
            layer=self._layer,
            crops=self._crops,
            table=self._table,
            found=self._found,
            rows=self._rows,
            images=self._images,
            called=self._called,
            classes=self._classes,
            file=self._file,
            exact=self._head is not None,
            frame=self.frame,
            maps=self.image_maps,
            picture=lambda at: self.picture(self.read(self.sources[at], "")),
        ).make()

    def record(self, source: Input, folder: str) -> ImageRecord:
        """The concepts of one image, with its sheet."""
        assert not isinstance(source, Subject)
        at = self.number_of(source)
        loaded = self.read(source, folder)
        told = self._told(at, loaded)
        maps = self.image_maps(at)
        model, size = self.session.model, style_of(self.settings).size
        board = image_board(self.picture(loaded), maps, told, self.titles, model_facts(model, self._layer))
        figure = fit_block(partial(compose_image_concepts, board, density=density_of(size)), size)
        predictions, target = self._predictions(at, told.index)
        output = self.write_figure(folder, CONCEPTS, figure, layer=self._layer, target=target)
        return self.image_record(source, loaded, [output], predictions, findings=ImageFindings(concepts=told))

    def _predictions(self, at: int, target: int) -> tuple[list[Prediction], Prediction]:
        """What the network says of an image, and the class that is explained."""
        describer, size = self.session.question.describer, self.frame(at).view.size
        logits = torch.from_numpy(np.array(scores_of(self._store, at)))[None]
        numbers = describer.numbers(logits, None)[0]

        def describe(index: int) -> Prediction:
            return describer.describe(index, float(numbers[index]), None, (size[1], size[0])).prediction

        return [describe(index) for index in describer.foremost(numbers, logits[0].numpy())], describe(target)

    def _told(self, at: int, loaded: LoadedImage) -> ConceptsOfImage:
        """What concepts add to the score of an image's class."""
        images, place = self._images, self._order[at]
        target = int(images.targets[place])
        label = self.session.question.labels.names[target]
        common: dict[str, Any] = {
            "index": target,
            "label": escape_text(label),
            "score": _six(images.scores[place]),
            "error": _six(images.errors[place]),
        }
        if images.adds is not None and images.bias is not None and images.rest is not None:
            adds = list(map(_six, images.adds[place]))
            return ConceptsOfImage(**common, adds=adds, bias=_six(images.bias[place]), rest=_six(images.rest[place]))
        found = self._sobol(loaded, target)
        effects = list(map(_six, found.effects))
        return ConceptsOfImage(
            **common, adds=list(map(_six, found.total)), effects=effects, without=_six(found.without)
        )

    def _sobol(self, loaded: LoadedImage, target: int) -> Sobol:
        """The part that each concept has in what moves the score, through what comes after the layer."""
        session, model = self.session, self.session.model
        given, facts = loaded.network_input, model.facts
        seed = image_seed(session.settings.seed, given.sha256)
        with explain_memory_errors(1), reproducible_forward(session.net, facts, seed):
            pixels = model.preprocessing.normalize([given.pixels]).to(session.device)
            maps, _, scores = open_tail(
                session.net,
                to_memory_format(pixels, facts.memory_format),
                self._layer,
                session.execution,
                session.question.describer.readout,
                alone=facts.one_at_a_time,
            )
            dictionary = self._found.dictionary
            codes = dictionary.encode_maps(maps)[0]

            def tail(altered: Tensor) -> Tensor:
                return scores(altered)[:, target]

            return sobol(codes, dictionary.basis, maps[0], tail, designs=DESIGNS, seed=session.settings.seed)


def check_question(session: Session) -> None:
    """Raise UsageError unless one class of each image is explained."""
    if not session.context.classes:
        what = "concepts add to the score of a class, and what is explained here is none"
        raise UsageError(what, where="--objective", fix="Use a classifier, or leave the objective out.")
    if session.targets.width != 1:
        what = f"concepts add to one class of each image, and {session.targets.width} are named"
        raise UsageError(what, where="--target", fix="Name one of them, or top1.")


def _six(value: float) -> float:
    """To six digits."""
    return float(f"{float(value):.6g}") + 0.0
