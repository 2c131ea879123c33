"""Judging explanations from Python: the maps of several methods, their numbers, and the leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal
from warnings import warn

from PIL import Image
from torch import Tensor

from cnnviz_cli.api.arguments import build_settings, rephrase_for_python
from cnnviz_cli.api.explain import (
    Networks,
    Pictures,
    WarningCollector,
    explain_or_fail,
    open_session,
    read_one,
    with_input_size,
)
from cnnviz_cli.api.images import as_image_list
from cnnviz_cli.api.network import network_device
from cnnviz_cli.api.results import ExplainedImage, Explanations
from cnnviz_cli.config.evaluate_fields import QUICK, QUICK_METHODS, evaluate_fields
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import CnnvizError, UsageError
from cnnviz_cli.core.evaluation_fold import EvaluationTally, mosaic_cases, six_digits
from cnnviz_cli.core.evaluation_records import Evaluation as EvaluationRecord
from cnnviz_cli.core.evaluation_records import MosaicsFound, RowRecord
from cnnviz_cli.core.families import EVALUATE
from cnnviz_cli.core.file_reading import MEBIBYTE, MEGAPIXEL, ReadOptions
from cnnviz_cli.core.mosaic_sets import Chosen, sets_of
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.annotations.folders import Annotations, open_annotations
from cnnviz_cli.files.annotations.given import ByPathOrName, annotations_given
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.render.raster import encode, rasterize
from cnnviz_cli.run.evaluation_files import CONTROL, draw_leaderboard
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.judged_records import agreement_record, control_records, judged_fields, marked_records
from cnnviz_cli.run.judging import RunJudge, with_judge
from cnnviz_cli.run.mosaics import MosaicImage, MosaicJudge


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Explanations):
    """Explanations that were judged: ``found[0, "gradcam"].measures`` for one, `table` for all, `figure` for a look.

    Attributes:
        images: in the order in which they were given, without those that failed.
        failed: by the number of an image, from 0 among those that were given, why it could not be read or explained.
        record: means, errors, controls and agreement over all images, as a manifest has them.
    """

    record: EvaluationRecord
    failed: Mapping[int, str]
    _rows: tuple[Mapping[str, Any], ...]
    _drawing: Mapping[str, Any]
    _model: str

    def table(self) -> list[dict[str, Any]]:
        """A dict for each number of each map and control: image, family, method, layer, target, measure, value."""
        return [dict(row) for row in self._rows]

    @property
    def leaderboard(self) -> list[RowRecord]:
        """The methods over all images, the best first: ``row.measures["removal.gain"].mean``."""
        return list(self.record.methods)

    @property
    def controls(self) -> list[RowRecord]:
        """The same of maps that have never seen the network."""
        return list(self.record.controls)

    @property
    def curves(self) -> dict[str, dict[str, list[float]]]:
        """Means of the curves at equal steps from 0 to 1: ``curves["removal.most"]["gradcam"]``; a method of several
        layers has one for each, under ``"gradcam/head"``."""
        layers: dict[str, int] = {}
        for row in self.record.methods:
            layers[row.method] = layers.get(row.method, 0) + 1
        found: dict[str, dict[str, list[float]]] = {}
        for row in (*self.record.methods, *self.record.controls):
            key = f"{row.method}/{row.layer}" if layers.get(row.method, 0) > 1 else row.method
            for name, points in row.curves.items():
                found.setdefault(name, {})[key] = list(points)
        return found

    @cached_property
    def figure(self) -> Image.Image:
        """The leaderboard as a picture; drawn on first use, and kept."""
        return rasterize(*draw_leaderboard(self.record, self._drawing, self._model))

    def _repr_png_(self) -> bytes:
        return encode(self.figure).data

    def __repr__(self) -> str:
        first = self.record.methods[0].title if self.record.methods else "nothing"
        return f"<Evaluation of {len(self)} images, {len(self.record.methods)} methods: {first} first>"


def evaluate(
    model: Networks,
    images: Pictures,
    methods: str | Sequence[str] = QUICK,
    measures: str | Sequence[str] = QUICK,
    *,
    measure_options: Mapping[str, Any] | None = None,
    controls: bool = True,
    budget: int | None = None,
    annotations: str | PathLike[str] | Mapping[str | int, Any] | None = None,
    layers: str | Sequence[str] | None = None,
    targets: str | int | Sequence[str | int] = "top1",
    preprocessing: Preprocessing | Any | None = None,
    labels: Sequence[str] | Literal["imagenet"] | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    batch_size: int | Literal["auto"] = "auto",
    seed: int = 0,
    **options: Any,
) -> Evaluation:
    """Explain what a network says of images by several methods, and judge every map.

    Nothing is written, and nothing of the caller's is changed.

    Args:
        methods: names that ``cnnviz methods`` lists, ``quick`` for eight of them, or ``all``. Those that do not
            apply to the network, or give no map, are left out where they were not named.
        measures: names that ``cnnviz measures`` lists, ``quick``, or ``all``.
        measure_options: options of the measures, by their flags' names with underscores: ``{"steps": 32}``.
        controls: whether maps that have never seen the network are judged beside.
        budget: the most passes of the network for an image; what does not fit is left out.
        annotations: what people have marked in the images: a file or a folder as ``--annotations`` takes it; or a dict
            that has, by an image's name or its number, a mask (H, W) of its pixels, or a list of boxes (left, top,
            right, bottom) or of dicts with a ``box`` or a ``mask`` and a ``label``. A file is an image's by its path,
            or by the end of its path.

    The other arguments, and what is raised, are those of `explain`; but an image that cannot be read or explained is
    left out with a warning, and stands in `Evaluation.failed`, unless all of them are.
    """
    collector = WarningCollector()
    try:
        image_batch = as_image_list(images)
        judging = {
            "measure": (measures,) if isinstance(measures, str) else tuple(measures),
            "controls": controls,
            "agreement": True,
            "budget": budget,
            "annotations": None if annotations is None else _path_of(annotations),
            **(measure_options or {}),
        }
        families, settings = build_settings(
            methods=QUICK_METHODS if methods == QUICK else methods,
            layers=layers,
            targets=targets,
            options=with_input_size(options, image_batch),
            judging=judging,
            model=model if isinstance(model, str) else None,
            device=device or ("auto" if isinstance(model, str) else network_device(model)),
            precision=precision,
            batch_size=batch_size,
            seed=seed,
        )
        if methods == QUICK:
            settings = settings.unnamed()
        sources = _sources_of(image_batch)
        marked = None if annotations is None else _annotations_of(annotations, sources, settings)
        with open_session(EVALUATE, model, settings, preprocessing, labels, collector, marked) as session:
            if session.question.annotations:
                session.question.annotations.check(sources, collector, needed=evaluate_fields(settings).by_people_alone)
            explainer = Explainer.of(session, families, collector)
            explainer = with_judge(explainer, collector, images=len(image_batch))
            results = list(explain_or_fail(explainer, image_batch, collector))
            errors = {at: one for at, one in enumerate(results) if isinstance(one, CnnvizError)}
            if len(errors) == len(results):
                raise errors[0]
            numbers = [at for at in range(len(results)) if at not in errors]
            explained = tuple(one for one in results if isinstance(one, ExplainedImage))
            assert explainer.judge is not None
            tally = EvaluationTally(explainer.judge.head())
            mosaics = _mosaics_of(explainer, image_batch, dict(zip(numbers, explained, strict=True)), collector)
        records = [_record_of(one) for one in explained]
        for record in records:
            tally.add(record)
        tally.add_mosaics(mosaics)
    except CnnvizError as error:
        rephrase_for_python(error)
        raise
    names = {at: escape_text(sources[at].name, 200) for at in errors}
    failed = {at: escape_text(one.what, 400).removeprefix(f"{names[at]}: ") for at, one in errors.items()}
    for text in [*collector.warnings, *(f"{names[at]} is left out: {why}" for at, why in failed.items())]:
        warn(text, stacklevel=2)
    drawing = {"width": settings.width, "dpi": settings.dpi, "format": "png", "target": settings.target}
    rows = (*(row for record in records for row in _rows_of(record)), *_rows_of_mosaics(mosaics))
    return Evaluation(explained, tally.evaluation, failed, rows, drawing, session.model.name)


def _path_of(annotations: str | PathLike[str] | Mapping[str | int, Any]) -> str:
    if isinstance(annotations, Mapping):
        return "annotations"  # which are at hand, and none of a file's
    if not isinstance(annotations, str | PathLike):
        what = f"what is marked cannot be of type {type(annotations).__name__}"
        raise UsageError(what, where="annotations", fix="Name a file or a folder, or give a dict.")
    return fspath(annotations)


def _sources_of(images: list[Any] | Tensor) -> list[Source]:
    """What names each image, as it is read later."""
    paths = [fspath(one) if isinstance(one, str | PathLike) else f"image {at}" for at, one in enumerate(images)]
    return [Source("", path, path) for path in paths]


def _annotations_of(annotations: Any, sources: Sequence[Source], settings: Settings) -> Annotations:
    """What is marked, read before any network is; raises UsageError if that is not to be understood."""
    if isinstance(annotations, Mapping):
        return annotations_given(annotations, [one.name for one in sources])
    pixels, size = round(settings.max_pixels * MEGAPIXEL), round(settings.max_bytes * MEBIBYTE)
    how = ReadOptions(max_pixels=pixels, max_bytes=size)
    return ByPathOrName(open_annotations(Path(fspath(annotations)), how))


def _mosaics_of(
    explainer: Explainer, images: Any, explained: Mapping[int, ExplainedImage], reporter: WarningCollector
) -> MosaicsFound | None:
    """What is found of mosaics of the images, by their numbers; None where no measure reads any."""
    judge = explainer.judge
    plan = judge.head().mosaics if judge else None
    if plan is None or not isinstance(judge, RunJudge):
        return None
    places: dict[tuple[str, str], int] = {}
    records = []
    for at, one in explained.items():
        places.setdefault((one.name, one._sha256), at)
        predictions = [prediction.model_dump(mode="json") for prediction in one.predictions]
        records.append({"source": one.name, "sha256": one._sha256, "predictions": predictions})
    wanted = sets_of(plan, explainer.session.settings.seed, records)
    if wanted.undone:
        reporter.warn(f"{plan.measure} is undone: {wanted.undone}")
        return MosaicsFound(undone=wanted.undone)

    def load(one: Chosen) -> MosaicImage:
        return MosaicImage.of(explainer, read_one(explainer, images, places[one.source, one.sha256]))

    mosaics = MosaicJudge(explainer, judge.mosaics, reporter, controls=judge.judge.controls)
    return MosaicsFound(mosaics=[mosaics.judge(one, load) for one in wanted.sets])


def _record_of(image: ExplainedImage) -> dict[str, Any]:
    """What a manifest has of an image's judged maps."""
    judged = image.judged
    if judged is None:
        return {"source": image.name, "outputs": []}
    titles: dict[int, str | None] = {}
    outputs, paths = [], {}
    for number, one in enumerate(image.explanations):
        drawn = one.drawn
        if drawn.judgement is None:
            continue
        rank = drawn.panel.target or 0
        if one.target is not None:
            titles[rank] = one.target.title
        paths[drawn.place] = str(number)
        target = None if one.target is None else {"label": one.target.title}
        outputs.append(
            {"family": one.family, "method": one.method, "layer": one.layer, "target": target, "path": str(number)}
            | judged_fields(drawn.judgement)
        )
    targets = [titles.get(rank) for rank in range(max(titles, default=0) + 1)]
    agreement = agreement_record(judged, paths)
    return {
        "source": image.name,
        "outputs": outputs,
        "controls": [one.model_dump(mode="json") for one in control_records(judged, targets) or ()],
        "marked": [one.model_dump(mode="json") for one in marked_records(judged, targets) or ()],
        "agreement": None if agreement is None else agreement.model_dump(mode="json"),
    }


def _rows_of(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for one in (*record["outputs"], *record.get("controls", ())):
        control = "method" not in one
        target = one["target"]
        for name, number in one["measures"].items():
            yield {
                "image": record["source"],
                "family": CONTROL if control else one["family"],
                "method": one["name"] if control else one["method"],
                "layer": None if control else one["layer"],
                "target": target if control or target is None else target["label"],
                "measure": name,
                "value": number,
            }


def _rows_of_mosaics(found: MosaicsFound | None) -> Iterator[dict[str, Any]]:
    mosaics = found.mosaics if found else []
    sources = [source for mosaic in mosaics for source in mosaic.of]
    for source, case in zip(sources, mosaic_cases(mosaics), strict=True):
        for (family, method, layer, _), judged in case.items():
            for name, number in judged["measures"].items():
                yield {
                    "image": source,
                    "family": family or CONTROL,
                    "method": method,
                    "layer": layer or None,
                    "target": judged["target"],
                    "measure": name,
                    "value": six_digits(number),
                }
