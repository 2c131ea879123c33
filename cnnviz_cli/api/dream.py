"""The same pictures from Python as of the command ``dream``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import Any, Literal
from warnings import warn

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from cnnviz_cli.api.arguments import INPUT, NETWORK, OUTPUT, PIXELS, rephrase_for_python
from cnnviz_cli.api.explain import Networks, WarningCollector, open_session
from cnnviz_cli.api.images import ImageLike, as_image_list, read_input_image
from cnnviz_cli.api.network import load_twin, network_device
from cnnviz_cli.api.objectives import Objective, as_settings
from cnnviz_cli.config.dream_fields import EXAMPLES, check_images, dream_fields, names_targets, without_single_term
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import CnnvizError, UsageError
from cnnviz_cli.core.families import DREAM, SELECTOR
from cnnviz_cli.core.method import methods
from cnnviz_cli.core.panels import State
from cnnviz_cli.core.records import DreamRecord, ExamplePatch, Judgement, Prediction
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.files.images.region_masks import open_masks
from cnnviz_cli.models.input.input_overrides import InputOverrides
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.inspect.outputs import NOTHING_EXPECTED
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.models.spec.judges import JudgeSpec
from cnnviz_cli.render.dreamed import DreamTile
from cnnviz_cli.render.raster import rasterize
from cnnviz_cli.run.against import Comparison, Folder, asked_of, compare
from cnnviz_cli.run.dream_files import numbered, start_of
from cnnviz_cli.run.dream_judges import load_judge
from cnnviz_cli.run.dream_painter import load_start, longest_side
from cnnviz_cli.run.dream_pictures import as_image, black_input
from cnnviz_cli.run.dream_sheets import facts_of_record, note_of
from cnnviz_cli.run.dreams import Dreamer, PaintTask, Start
from cnnviz_cli.run.image_data import read_options
from cnnviz_cli.run.present import finite_statistics
from cnnviz_cli.run.unit_sheets import UnitComposer

SETTINGS = (
    *NETWORK,
    *INPUT,
    *PIXELS,
    *OUTPUT,
    "contrast",
    "score",
    "multilabel",
    "objective",
    "min_score",
    "max_memory",
)

SHEET_WIDTH = 1600
"""The widest that the sheet of a unit is laid out, in pixels."""


Judges = str | nn.Module | tuple[str, nn.Module]


@dataclass(frozen=True, eq=False)
class Dream:
    """One painted picture, and how the network receives it in 8 bits.

    Attributes:
        subject: what was painted: a class, a layer, or a unit of it.
        method: by which method.
        source: the image that it was painted into, empty where it is from noise.
        number: of several pictures of one subject, from 1.
        values: (h, w, C) in [0, 1].
        scores: the objective in what the network saw at each step.
        score, start_score: the objective in the picture and in what it was started from.
        probability, rank: of the class that it was painted for; None where it was no class.
        predictions: what the network takes it for.
        judged: what each judge makes of it, in the order in which they were named.
        statistics: what it looks like in numbers: slope of the spectrum, saturated share, share that was changed.
        percentile: the share of the images of `against` that the score exceeds, of 100.
        patches: of a channel, the parts of these images that excite it most, the strongest first.
        sheet: of a channel painted from noise, the picture beside these patches and what they project to.
    """

    subject: str
    method: str
    source: str
    number: int
    values: NDArray[np.float32]
    scores: NDArray[np.float32]
    picture: Image.Image
    score: float
    start_score: float
    probability: float | None
    rank: int | None
    predictions: tuple[Prediction, ...]
    judged: tuple[Judgement, ...]
    state: State
    statistics: dict[str, float]
    percentile: float | None = None
    patches: tuple[ExamplePatch, ...] = ()
    sheet: Image.Image | None = None

    def _repr_png_(self) -> bytes:
        from cnnviz_cli.render.raster import encode_png

        return encode_png(self.picture)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the picture as it is; the suffix says in which format. Returns the path."""
        place = Path(path)
        self.picture.save(place)
        return place


def dream(
    model: Networks,
    images: ImageLike | Sequence[ImageLike] | None = None,
    *,
    target: str | int | Sequence[str | int] | None = None,
    layer: str | Sequence[str] | None = None,
    unit: str | int | Sequence[str | int] | None = None,
    direction: Any = None,
    like: str | PathLike[str] | None = None,
    of: Objective | None = None,
    against: str | PathLike[str] | None = None,
    region: str | PathLike[str] | None = None,
    minimize: bool = False,
    size: int | tuple[int, int] | None = None,
    spectrum: str | PathLike[str] | None = None,
    number: int = 1,
    method: str | Sequence[str] | None = None,
    judge: Judges | Sequence[Judges] = (),
    preprocessing: Preprocessing | Any | None = None,
    labels: Sequence[str] | Literal["imagenet"] | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    seed: int = 0,
    **options: Any,
) -> tuple[Dream, ...]:
    """Paint what a network has learnt, or what it sees in images. Nothing is written, and nothing of the caller's is
    changed, as by `explain`.

    Args:
        model: as of `explain`.
        images: paths, images of Pillow's or arrays to paint into; from noise without any.
        target: classes, by index or name.
        layer: layers: ``low``, ``mid``, ``high``, names or patterns; with `unit` or `direction` whose these are.
        unit: channels, or positions of them: ``12``, ``"12@centre"``, ``"12@3,4"``.
        direction: a number for each channel of the layer, or an array of several.
        like: an image whose likeness is painted.
        of: a sum: ``channel("high", 12) - 0.5 * target("espresso")``, in the place of the five before.
        against: a folder of images, with all below it: how many of them the picture exceeds, and which of their parts
            excite a channel most.
        region: a mask, or a folder of masks: only what lies within changes.
        minimize: paint what lowers the answer.
        size: height and width in pixels; with images their longer side.
        spectrum: with ``method="maco"`` a folder of images whose mean spectrum the picture gets.
        number: how many pictures of each subject.
        method: names of ``cnnviz methods --family dream``; by default the one that suits.
        judge: other classifiers that are shown each picture: names as for `model`, ``"NAME=WEIGHTS"``, networks in
            memory, or ``(name, network)``. A network in memory gets its input as `explain` gives it without
            `preprocessing`.
        preprocessing, labels, device, precision, seed: as of `explain`.
        options: every option of the methods, by its flag's name with underscores (``steps=50``), and those settings of
            `explain` that are about the network and its input.

    Returns:
        The pictures, by image, subject, method and number.

    Raises:
        UsageError: nothing is named to paint, or it is not there, or an argument does not fit.
        ModelError: the network or its weights cannot be had, or cannot be copied.
        ImageError: an image cannot be read, or has no mask that fits it.
        DeviceError: the device is not there, or its memory does not suffice.
    """
    collector = WarningCollector()
    try:
        given: dict[str, Any] = {
            "layer": layer, "unit": unit, "like": like and Path(like), "region": region and Path(region),
            "against": against and Path(against),
            "minimize": minimize, "size": size, "number": number, SELECTOR: method,
            "spectrum": spectrum and Path(spectrum),
            "direction": None if direction is None else Path("direction"),
        }  # fmt: skip
        plain = {"target": target, "device": device, "precision": precision, "seed": seed}
        vectors = {} if direction is None else {Path("direction"): np.asarray(direction)}
        if of is not None:
            given["term"], named = as_settings(of)
            vectors |= {path: np.asarray(vector) for path, vector in named.items()}
        settings = _settings(model, given, plain, options, images=images is not None)
        with open_session(DREAM.name, model, settings, preprocessing, labels, collector) as session:
            judges = [_judge(one, settings, session.device, collector) for one in _listed_judges(judge)]
            dreamer = Dreamer.of(session, collector, images=images is not None, vectors=vectors, judges=judges)
            beside = _beside(dreamer, collector)
            made = _from_noise(dreamer, beside) if images is None else _into_images(dreamer, images, beside)
            found = tuple(made)
    except CnnvizError as error:
        if error.fix == EXAMPLES:
            error.fix = "Name a class or a layer, or pass images: dream(model, target=0)"
        rephrase_for_python(error, {})
        raise
    for text in collector.warnings:
        warn(text, stacklevel=2)
    return found


def _listed_judges(judge: Any) -> Sequence[Any]:
    pair = isinstance(judge, tuple) and len(judge) == 2 and isinstance(judge[1], nn.Module)
    single = isinstance(judge, str | nn.Module) or (pair and isinstance(judge[0], str))
    return judge if isinstance(judge, list | tuple) and not single else (judge,)


def _judge(judge: Any, settings: Settings, device: torch.device, reporter: Reporter) -> LoadedModel:
    if isinstance(judge, str):
        spec = JudgeSpec.parse(judge)
        spec.check(allow_code=settings.allow_code)
        with torch.device("cpu"):
            return load_judge(settings, spec, reporter)
    name, net = judge if isinstance(judge, tuple) else ("", judge)
    if not isinstance(net, nn.Module):
        what = f"a judge is a name, an nn.Module or (name, nn.Module), not a {type(judge).__name__}"
        raise UsageError(what, where="judge", fix="See: cnnviz models")
    loaded = load_twin(net, None, InputOverrides(), NOTHING_EXPECTED, device)
    return replace(loaded, name=name or loaded.name)


_FRAMES = "The command line alone paints frames, see: cnnviz dream -h"
_ELSEWHERE = {
    "term": 'A sum is of=: of=channel("high", 12) - 0.5 * target("espresso").',
    "frames": _FRAMES,
    "animate": _FRAMES,
}
"""Options of the command line that are written otherwise here, or are not here."""


def _settings(
    model: Networks, given: dict[str, Any], plain: dict[str, Any], options: dict[str, Any], *, images: bool
) -> Settings:
    lists = ("layer", "unit", SELECTOR)
    flags: dict[tuple[str, ...], Any] = {
        (DREAM.name, name): _listed(value) if name in lists else value
        for name, value in given.items()
        if value is not None and value is not False
    }
    flags |= {(name,): value for name, value in plain.items() if value is not None and name != "target"}
    if plain["target"] is not None:
        flags[("target",)] = _listed(plain["target"])
    if isinstance(model, str):
        flags[("model",)] = model
    elif plain["device"] is None:
        flags[("device",)] = network_device(model)
    if images and not given[SELECTOR]:
        flags[DREAM.name, SELECTOR] = (DREAM.with_images,)
    known = {item.name for method in methods(DREAM.name) for item in fields(method.options)}
    for name, value in options.items():
        if name not in known and name not in SETTINGS:
            shown = escape_text(name, 60)
            fix = _ELSEWHERE.get(name) or did_you_mean(name, [*known, *SETTINGS]) or "See: help(cnnviz_cli.dream)"
            raise UsageError(f"there is no option '{shown}'", where=shown, fix=fix)
        path = (DREAM.name, name) if name in known else (name,)
        flags[path] = tuple(value) if isinstance(value, list) else value
    settings = load_settings(DREAM.name, flags, None, {})
    check_images(dream_fields(settings), targets=names_targets(settings), images=images)
    return without_single_term(settings)


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str | int) and not isinstance(value, bool) else value


@dataclass(frozen=True)
class _Beside:
    """A folder that pictures are compared with, and what composes the sheets of units."""

    against: Comparison
    composer: UnitComposer


def _beside(dreamer: Dreamer, reporter: Reporter) -> _Beside | None:
    session, chosen = dreamer.session, dream_fields(dreamer.session.settings)
    if chosen.against is None:
        return None
    folder = Folder.open(chosen.against, session.settings)
    asked = asked_of(dreamer.asked, weakest=chosen.minimize)
    return _Beside(compare(session, folder, asked, reporter), UnitComposer(session, folder, reporter.warn))


def _from_noise(dreamer: Dreamer, beside: _Beside | None) -> Iterator[Dream]:
    for task in dreamer.tasks:
        for number in range(1, dream_fields(dreamer.session.settings).number + 1):
            start = Start(numbered(task.wish.subject, number).sha256, black_input(dreamer.session))
            yield _dream(dreamer, task, start, "", number, beside)


def _into_images(dreamer: Dreamer, images: Any, beside: _Beside | None) -> Iterator[Dream]:
    session = dreamer.session
    settings, preprocessing = session.settings, session.model.preprocessing
    listed = as_image_list(images)
    if isinstance(listed, torch.Tensor):
        what = "pictures are painted into images, and a tensor is a network's input"
        raise UsageError(what, where="images", fix="Pass paths, images or arrays.")
    reading, chosen = read_options(settings, preprocessing), dream_fields(settings)
    masks = None if chosen.region is None else open_masks(chosen.region)
    for at, image in enumerate(listed):
        loaded = read_input_image(image, at, preprocessing, reading)
        longest = longest_side(settings, loaded.original.image.size)
        start, _ = load_start(session, loaded.source, loaded.original, masks, longest)
        for task in dreamer.tasks:
            for number in range(1, chosen.number + 1):
                yield _dream(dreamer, task, start_of(start, number), loaded.source.name, number, beside)


def _dream(dreamer: Dreamer, task: PaintTask, start: Start, source: str, number: int, beside: _Beside | None) -> Dream:
    painted = dreamer.paint(task, start)
    picture = as_image(painted.picture, dreamer.session.settings.show_bands)
    after = dreamer.receive(task, painted.picture, painted.targets)
    before = dreamer.receive(task, painted.begun, painted.targets)
    made = Dream(
        subject=task.wish.subject.title,
        method=task.method.name,
        source=source,
        number=number,
        values=np.asarray(painted.panel.values, np.float32).transpose(1, 2, 0),
        scores=np.asarray(painted.panel.scores, np.float32),
        picture=picture,
        score=after.score,
        start_score=before.score,
        probability=after.probability,
        rank=after.rank,
        predictions=after.predictions,
        judged=tuple(dreamer.judge(picture, task.class_of(painted.targets))),
        state=dreamer.state(painted, painted.picture, after, before),
        statistics=finite_statistics(painted.panel),
    )
    return made if beside is None else _compared(made, task, beside)


def _compared(made: Dream, task: PaintTask, beside: _Beside) -> Dream:
    """The same beside a folder of images."""
    against, subject = beside.against, task.wish.subject
    if not isfinite(made.score):
        return made
    made = replace(made, percentile=against.percentile(task.of, made.score))
    if subject.channel is None or made.source:
        return made
    told = DreamRecord(
        objective=task.of.label(),
        start="noise",
        number=made.number,
        steps=task.ascent.steps,
        score=made.score,
        start_score=made.start_score if isfinite(made.start_score) else None,
        judged=list(made.judged),
        **against.fields(task.of, made.score),
    )
    tile = DreamTile(made.picture, "", facts_of_record(told), note_of(made.state))
    compose, patches = beside.composer.compose(subject, against, [tile])
    return replace(made, patches=tuple(patches), sheet=rasterize(compose(SHEET_WIDTH)))
