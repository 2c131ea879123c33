"""What is painted of a network: its subjects, a recipe for each, the pictures, and how the network receives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cnnviz_cli.config.dream_fields import DreamFields, check_images, dream_fields
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.ascent import Ascent, Picture, Reached, Region
from cnnviz_cli.core.classes import TRUE
from cnnviz_cli.core.dream_facts import dream_state, rank_of, to_bytes
from cnnviz_cli.core.dream_subjects import directions_of, layer_to_dream, parse_units
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.core.file_reading import ReadOptions, open_regular
from cnnviz_cli.core.layers import LayerInfo
from cnnviz_cli.core.method import Method, MethodContext, Recipe
from cnnviz_cli.core.needs import Given, Need, Seeds
from cnnviz_cli.core.network import NetworkError, explain_memory_errors, to_memory_format
from cnnviz_cli.core.objectives import Objective
from cnnviz_cli.core.panels import Dreamed, State
from cnnviz_cli.core.records import Cost, Prediction, Subject
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.core.unit_objectives import Energy, Likeness, OfLayer
from cnnviz_cli.engine.answers import Tick, no_tick
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.files.images.decode import read_reference_image
from cnnviz_cli.run.capability_check import find_refused
from cnnviz_cli.run.image_data import read_options
from cnnviz_cli.run.session import Session

Bytes = NDArray[np.uint8]

GUIDE = "guide"
"""The name under which the engine is given the image that others are to resemble."""

MAX_DIRECTION_BYTES = 1 << 28

_BROUGHT = frozenset((Seeds().name, Picture().name, Region().name, GUIDE))
"""What the engine is given beside the network's input."""


@dataclass(frozen=True)
class Wish:
    """Something to paint: a class by its rank among the run's targets, or what an objective says."""

    subject: Subject
    of: Objective | None = None
    rank: int = 0

    @property
    def is_class(self) -> bool:
        return self.of is None


@dataclass(frozen=True)
class PaintTask:
    """One method for one wish.

    Attributes:
        of: what is climbed, or with --minimize descended.
        ascent: the need that paints.
        numbered: which of the wishes it is.
    """

    method: Method
    recipe: Recipe
    wish: Wish
    of: Objective
    ascent: Ascent
    numbered: int = 0


@dataclass(frozen=True)
class Start:
    """What pictures are painted from.

    Attributes:
        sha256: the digest that draws start from.
        inputs: (1, C, H, W) the network's input, normalised: of an image that, of noise black.
        photograph: (1, C, h, w) in [0, 1] an image at the size at which it is painted into.
        region: (1, 1, h, w) how much of it may change.
    """

    sha256: str
    inputs: Tensor
    photograph: Tensor | None = None
    region: Tensor | None = None


@dataclass(frozen=True)
class Painted:
    """A picture, and what it was started from: (h, w, C) in 8 bits, and the targets (1, R) that were chosen."""

    panel: Dreamed
    picture: Bytes
    start: Bytes
    targets: Tensor


@dataclass(frozen=True)
class Reception:
    """How the network receives a picture.

    Attributes:
        score: the objective.
        index: of the class that it was painted for, if it was one; with its probability and its rank from 1.
        predictions: what it takes it for; empty where it is no classifier.
    """

    score: float
    index: int | None = None
    probability: float | None = None
    rank: int | None = None
    predictions: tuple[Prediction, ...] = ()


@dataclass(frozen=True)
class Dreamer:
    """A session, and what it paints.

    Attributes:
        tasks: by wish, and within a wish by method.
        guide: (1, C, h, w) the image that others are to resemble, if one is named.
    """

    session: Session
    tasks: tuple[PaintTask, ...]
    guide: Tensor | None = None

    @classmethod
    def of(
        cls, session: Session, reporter: Reporter, *, images: bool, direction: NDArray[Any] | None = None
    ) -> Dreamer:
        """Find the subjects, build a recipe for each, and try what the engine may refuse; `direction` stands for the
        numbers in a file.

        Raises:
            UsageError: there is nothing to paint, or the network has no such thing, or a method paints from something
                else, or the network does not take pictures of that size.
        """
        settings = session.settings
        fields = dream_fields(settings)
        check_images(fields, targets=names_targets(settings), images=images)
        context = replace(
            session.context,
            counterfactual=fields.minimize,
            canvas=(fields.size[0], fields.size[1]) if fields.size and not images else None,
            region=fields.region is not None,
        )
        wishes = tuple(_wishes(session, fields, direction, images=images))
        tasks: list[PaintTask] = []
        for number, wish in enumerate(wishes):
            own = replace(context, subject=wish.of, rank=wish.rank)
            plain = replace(own, counterfactual=False).target
            for method, options in settings.selected_methods(DREAM.name):
                found = _recipe(method, options, own, named=settings.is_named(method), images=images, reporter=reporter)
                if found is not None:
                    recipe, ascent = found
                    tasks.append(PaintTask(method, recipe, wish, plain, ascent, number))
        if not tasks:
            raise UsageError(
                "none of these methods can paint that", where="--method", fix=f"See: cnnviz {DREAM.name} -h"
            )
        refused = find_refused(session, {str(at): task.recipe for at, task in enumerate(tasks)})
        if refused:
            raise next(iter(refused.values()))
        guide = None if fields.like is None else _read_guide(fields.like, session)
        dreamer = cls(session, tuple(tasks), guide)
        if fields.size and not images:
            dreamer.try_size()
        return dreamer

    @property
    def wishes(self) -> tuple[Wish, ...]:
        return tuple(dict.fromkeys(task.wish for task in self.tasks))

    @cached_property
    def several_methods(self) -> bool:
        return len({task.method.name for task in self.tasks}) > 1

    @property
    def cost(self) -> Cost:
        return Plan.of(need for task in self.tasks for need in task.recipe.needs).cost()

    def try_size(self) -> None:
        """Paint one step at each size; UsageError if the network does not take pictures so large or small."""
        for task in {task.method.name: task for task in reversed(self.tasks)}.values():
            short = replace(task.ascent, course=replace(task.ascent.course, steps=1))
            try:
                with explain_picture_memory():
                    self._observe(black_input(self.session), [short], "")
            except NetworkError as error:
                height, width = task.ascent.canvas.size or (0, 0)
                what = f"{self.session.model.name} does not take pictures of {height} x {width} pixels: {error.what}"
                raise UsageError(what, where="--size", fix="Choose another: --size 224") from error

    def paint(self, task: PaintTask, start: Start, tick: Tick = no_tick) -> Painted:
        """One picture. Raises what `Session.observe` does, and MemoryShortError."""
        needs: list[Need] = [*task.recipe.needs]
        before = replace(task.ascent, course=replace(task.ascent.course, steps=0))
        from_photograph = Picture() in task.recipe.needs
        with explain_picture_memory():
            seen = self._observe(
                start.inputs, needs if from_photograph else [*needs, before], start.sha256, start, tick=tick
            )
        (panel,) = task.recipe.explain(seen.evidence.only(task.recipe.needs))
        assert isinstance(panel, Dreamed)
        panel = panel.pick(0)
        first = panel.start if from_photograph else seen.evidence[before][0].cpu().numpy()
        assert first is not None
        return Painted(panel, to_bytes(np.asarray(panel.values)), to_bytes(np.asarray(first)), seen.targets)

    def receive(self, task: PaintTask, picture: Bytes, targets: Tensor) -> Reception:
        """How the network receives an (h, w, C) picture under the run's preprocessing; `targets` as of `Painted`."""
        session = self.session
        inputs = input_of(session, picture)
        need = Reached(task.of)
        guide = {} if self.guide is None else {GUIDE: _normalized(self.guide, session)}
        with explain_picture_memory():
            seen = self._observe(inputs, [need], "", given=guide, choose=lambda _order: targets)
        score = round_number(float(seen.evidence[need][0]))
        question = session.question
        if not (question.task.classes and question.task.probabilities and isfinite(score)):
            # Regions are of classes, too, though an image has no probability of one.
            regions = task.wish.is_class and question.task.probabilities and not question.task.classes
            return Reception(score, int(targets[0, task.wish.rank]) if regions else None)
        numbers = question.describer.numbers(seen.logits, seen.anchor)[0]
        order = seen.order[0].cpu().numpy()
        predictions = tuple(
            question.describer.describe(index, float(numbers[index]), None, session.context.input_spec.size).prediction
            for index in question.describer.foremost(numbers, order)
        )
        if not task.wish.is_class:
            return Reception(score, predictions=predictions)
        index = int(targets[0, task.wish.rank])
        own = question.describer.describe(index, float(numbers[index]), None, session.context.input_spec.size)
        return Reception(score, index, own.prediction.probability, rank_of(order, index), predictions)

    def state(self, painted: Painted, written: Bytes, after: Reception, before: Reception) -> State:
        """What to say of a picture."""
        sign = -1 if dream_fields(self.session.settings).minimize else 1
        return dream_state(
            sign * after.score,
            sign * before.score,
            moved=not np.array_equal(written, painted.start) if written.shape == painted.start.shape else True,
            finite=bool(np.isfinite(np.asarray(painted.panel.values)).all()),
            rank=after.rank if sign > 0 else None,
        )

    def _observe(
        self,
        inputs: Tensor,
        needs: Sequence[Need],
        digest: str,
        start: Start | None = None,
        *,
        given: Mapping[str, Tensor] = MappingProxyType({}),
        choose: Callable[[Tensor], Tensor] | None = None,
        tick: Tick = no_tick,
    ) -> Any:
        brought = {GUIDE: self.guide, **given}
        if start is not None:
            brought |= {"photograph": start.photograph, "region": start.region}
        known = {name: one.to(self.session.device) for name, one in brought.items() if one is not None}
        chosen = choose or (self.session.targets.with_truths([None]) if self.session.targets.uses_truth else None)
        return self.session.observe(inputs, needs, known, digests=[digest], choose=chosen, tick=tick)


def explain_picture_memory() -> AbstractContextManager[None]:
    """Of a picture that is too large, what to do."""
    return explain_memory_errors(1, where="--size", fix="Paint a smaller one, or use a smaller model or --device cpu.")


def names_targets(settings: Settings) -> bool:
    """Whether classes are named that are to be painted."""
    return "target" in settings.model_fields_set


def black_input(session: Session) -> Tensor:
    """(1, C, H, W) black, on the device."""
    spec = session.context.input_spec
    black = torch.tensor(spec.black, dtype=torch.float32, device=session.device).view(1, -1, 1, 1)
    return to_memory_format(black.expand(-1, -1, *spec.size).clone(), session.model.facts.memory_format)


def input_of(session: Session, picture: Bytes) -> Tensor:
    """(1, C, H, W) what the network gets of an (h, w, C) picture, on the device."""
    preprocessing = session.model.preprocessing
    if preprocessing.reads_bands:
        pixels = preprocessing.crop_bands(picture)
    else:
        pixels = np.asarray(preprocessing.crop_image(as_image(picture))[0])
    inputs = preprocessing.normalize([pixels]).to(session.device)
    return to_memory_format(inputs, session.model.facts.memory_format)


def as_image(picture: Bytes, shown: Sequence[int] = ()) -> Image.Image:
    """The RGB image that an (h, w, C) picture is written as; of other channels than colours the `shown` bands, counted
    from 1, or the first."""
    count = picture.shape[2]
    if count == 1:
        return Image.fromarray(picture[:, :, 0]).convert("RGB")
    chosen = [band - 1 for band in shown] or [0, 1, 2][: min(3, count)]
    if len(chosen) != 3:
        return Image.fromarray(np.ascontiguousarray(picture[:, :, chosen[0]])).convert("RGB")
    return Image.fromarray(np.ascontiguousarray(picture[:, :, chosen]))


def picture_of(session: Session, image: Image.Image) -> Bytes:
    """The (h, w, C) picture that an RGB image is to the network: grey, or with an alpha that is opaque, where it reads
    that."""
    channels = session.model.preprocessing.channels
    if channels == 1:
        return np.asarray(image.convert("L"))[:, :, None]
    found: Bytes = np.asarray(image.convert("RGB"))
    return found if channels == 3 else np.concatenate([found, np.full_like(found[:, :, :1], 255)], 2)


def as_photograph(picture: Bytes) -> Tensor:
    """(1, C, h, w) in [0, 1] of an (h, w, C) picture in 8 bits."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


def round_number(number: float) -> float:
    """To six digits, which is what a manifest says."""
    return float(f"{number:.6g}") if isfinite(number) else number


def _normalized(picture: Tensor, session: Session) -> Tensor:
    spec = session.context.input_spec
    low, high = (
        torch.tensor(end, dtype=torch.float32, device="cpu").view(1, -1, 1, 1) for end in (spec.black, spec.white)
    )
    return to_memory_format(low + (high - low) * picture, session.model.facts.memory_format)


def _wishes(session: Session, fields: DreamFields, vector: NDArray[Any] | None, *, images: bool) -> Iterator[Wish]:
    if names_targets(session.settings):
        yield from _class_wishes(session, images=images)
        return
    context = session.context
    if fields.layer:
        layers = context.layers.resolve(fields.layer)
    else:
        layers = (layer_to_dream(context.layers, context.input_spec.size),)
    for layer in layers:
        info = context.layers[layer]
        if fields.unit:
            for unit in dict.fromkeys(one for text in fields.unit for one in parse_units(text, info.shape[0])):
                objective = unit.of(layer)
                _check_position(objective.at, info)
                yield Wish(Subject(layer=layer, channel=unit.channel, at=unit.at), objective)
        elif fields.direction is not None:
            numbers = _read_direction(fields.direction) if vector is None else vector
            for direction in directions_of(numbers, info, fields.direction.stem):
                yield Wish(Subject(layer=layer, direction=direction.name), direction)
        else:
            whole: OfLayer = Energy(layer) if fields.like is None else Likeness(layer, GUIDE)
            yield Wish(Subject(layer=layer), whole)


def _class_wishes(session: Session, *, images: bool) -> Iterator[Wish]:
    targets, labels = session.targets, session.question.labels.names
    for number, rank in enumerate(targets.ranks):
        if rank == TRUE or rank >= 0:
            if images and rank != TRUE:
                yield Wish(Subject(layer=None, label=f"top {rank + 1}"), None, number)
                continue
            what = f"{'the true class' if rank == TRUE else f'top{rank + 1}'} is that of an image, and none is named"
            raise UsageError(what, where="--target", fix="Name the class, or an image that has it.")
        if session.question.task.located and not images:
            what = "what is found has a place in an image, and pictures from noise have none"
            raise UsageError(
                what, where="--target", fix=f"Name an image, or a unit: cnnviz {DREAM.name} --layer high --unit 0"
            )
        index = -1 - rank
        yield Wish(Subject(class_index=index, label=labels[index] or None), None, number)


def _check_position(at: Any, info: LayerInfo) -> None:
    if not isinstance(at, tuple):
        return
    height, width = info.shape[1:]
    if at[0] >= height or at[1] >= width:
        row, column = min(at[0], height - 1), min(at[1], width - 1)
        what = f"layer '{info.name}' has {height} x {width} positions: there is none at row {at[0]}, column {at[1]}"
        raise UsageError(what, where="--unit", fix=f"The closest is {row},{column}.")


def _recipe(
    method: Method, options: Any, context: MethodContext, *, named: bool, images: bool, reporter: Reporter
) -> tuple[Recipe, Ascent] | None:
    """A method's recipe and what it paints by; None where all methods are asked for and it does not suit."""
    try:
        recipe = method.build(options, context)
        ascent = next(need for need in recipe.needs if isinstance(need, Ascent))
        brought = {need.name for need in recipe.needs if isinstance(need, Given)} | {
            need.name for need in ascent.sources if isinstance(need, Given)
        }
        if unknown := sorted(brought - _BROUGHT):
            raise UsageError(f"{method.name} wants what no file gives: {', '.join(unknown)}", where=method.name)
        if (Picture() in recipe.needs) != images:
            known = "an image" if not images else "noise"
            fix = "Name an image." if not images else "Leave the images out, or --method."
            raise UsageError(f"{method.name} paints from {known}", where="--method", fix=fix)
    except UsageError as error:
        if named:
            error.where = error.where or method.name
            raise
        reporter.say(f"{method.name} is left out: {error.what}")
        return None
    return recipe, ascent


def _read_direction(path: Path) -> NDArray[Any]:
    shown = escape_text(str(path), 200)
    try:
        with open_regular(path, MAX_DIRECTION_BYTES) as file:
            found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is no array of numpy's (.npy)"
        raise UsageError(f"'{shown}' cannot be read: {reason}", where="--direction") from error
    if not isinstance(found, np.ndarray):
        raise UsageError(f"'{shown}' holds several arrays", where="--direction", fix="Save one of them: numpy.save")
    return found


def _read_guide(path: Path, session: Session) -> Tensor:
    preprocessing = session.model.preprocessing
    reading: ReadOptions = read_options(session.settings, preprocessing)
    try:
        image = read_reference_image(path, reading)
    except UsageError as error:
        error.where = "--like"
        raise
    size = fit_within(image.image.size, max(session.context.input_spec.size))
    if image.planes is None:
        return as_photograph(picture_of(session, image.image.resize(size, Image.Resampling.LANCZOS)))
    return resize_planes(image.planes, size)


def fit_within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """A width and height in their proportions, the longer as given."""
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize_planes(planes: NDArray[Any], size: tuple[int, int]) -> Tensor:
    """(1, C, h, w) in [0, 1] of (h, w, C) bands, at another width and height."""
    shares = planes / np.float32(255) if planes.dtype == np.uint8 else planes
    bands = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(shares[:, :, band], np.float32)).resize(size, Image.Resampling.BOX)
        )
        for band in range(planes.shape[2])
    ]
    return torch.from_numpy(np.stack(bands)).clamp(0, 1)[None]
