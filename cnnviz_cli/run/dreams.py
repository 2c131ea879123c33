"""What is painted of a network: its subjects, a recipe for each, the pictures, and how the network receives them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from cnnviz_cli.config.dream_fields import check_images, dream_fields, names_targets
from cnnviz_cli.core.ascent import Ascent, Picture, Reached, Region, Spectrum
from cnnviz_cli.core.dream_facts import dream_state, rank_of, to_bytes
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.core.method import Method, MethodContext, Recipe
from cnnviz_cli.core.needs import Given, Need, Seeds
from cnnviz_cli.core.network import NetworkError, explain_memory_errors
from cnnviz_cli.core.objectives import Objective
from cnnviz_cli.core.panels import Dreamed, State
from cnnviz_cli.core.records import Cost, Judgement, Prediction, Subject
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine.answers import Tick, no_tick
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.run.capability_check import find_refused
from cnnviz_cli.run.dream_judges import Judge, judge_of, load_judges
from cnnviz_cli.run.dream_pictures import (
    Bytes,
    black_input,
    input_of,
    normalized_picture,
    round_number,
)
from cnnviz_cli.run.dream_spectrum import MeanSpectrum, read_spectrum, spectrum_need
from cnnviz_cli.run.dream_wishes import Vectors, Wish, find_wishes, read_guides
from cnnviz_cli.run.session import Session

_BROUGHT = frozenset((Seeds().name, Picture().name, Region().name, Spectrum().name))
"""What the engine is given beside the network's input."""


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

    def class_of(self, targets: Tensor) -> int | None:
        """The class that was painted, of the targets (1, R) that were chosen; None if it was none."""
        return int(targets[0, self.wish.rank]) if self.wish.is_class else None


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
    """A picture, (h, w, C) in 8 bits as the others are.

    Attributes:
        start: the photograph that it is of, or the noise where there is none.
        begun: what climbing began from: the photograph, or noise.
        targets: (1, R) that were chosen.
    """

    panel: Dreamed
    picture: Bytes
    start: Bytes
    begun: Bytes
    targets: Tensor

    @property
    def from_image(self) -> bool:
        """Whether climbing began from the photograph."""
        return self.panel.start is not None


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
        guides: by name (1, C, h, w) the images that others are to resemble.
        spectrum: of other images, which pictures from noise get, if any are named.
        judges: who else is shown what was painted.
    """

    session: Session
    tasks: tuple[PaintTask, ...]
    guides: Mapping[str, Tensor] = field(default_factory=dict)
    spectrum: MeanSpectrum | None = None
    judges: tuple[Judge, ...] = ()

    @classmethod
    def of(
        cls,
        session: Session,
        reporter: Reporter,
        *,
        images: bool,
        vectors: Vectors = MappingProxyType({}),
        judges: Sequence[LoadedModel] | None = None,
    ) -> Dreamer:
        """Find the subjects, build a recipe for each, and try what the engine may refuse.

        Args:
            judges: stand for those that the settings name.

        Raises:
            UsageError: there is nothing to paint, or the network has no such thing, or a method paints from something
                else, or the network does not take pictures of that size, or a judge cannot be one.
            ModelError: a judge cannot be had.
        """
        settings = session.settings
        fields = dream_fields(settings)
        check_images(fields, targets=names_targets(settings), images=images)
        context = replace(
            session.context,
            counterfactual=fields.minimize,
            canvas=(fields.size[0], fields.size[1]) if fields.size and not images else None,
            region=fields.region is not None,
            spectrum=fields.spectrum is not None,
        )
        guides = read_guides(session, fields)
        known = _BROUGHT | guides.keys()
        wishes = tuple(find_wishes(session, fields, vectors, images=images))
        tasks: list[PaintTask] = []
        left_out: dict[str, None] = {}
        for number, wish in enumerate(wishes):
            own = replace(context, subject=wish.of, rank=wish.rank)
            plain = replace(own, counterfactual=False).target
            for method, options in settings.selected_methods(DREAM.name):
                if wish.for_class not in (None, method.of_class):
                    continue
                try:
                    recipe, ascent = _recipe(method, options, own, known, images=images)
                except UsageError as error:
                    if settings.is_named(method):
                        error.where = error.where or method.name
                        raise
                    left_out[f"{method.name} is left out: {error.what}"] = None
                    continue
                tasks.append(PaintTask(method, recipe, wish, plain, ascent, number))
        for line in left_out:  # once, however many subjects there are
            reporter.say(line)
        if not tasks:
            raise UsageError(
                "none of these methods can paint that", where="--method", fix=f"See: cnnviz {DREAM.name} -h"
            )
        refused = find_refused(session, {str(at): task.recipe for at, task in enumerate(tasks)})
        if refused:
            raise next(iter(refused.values()))
        spectrum = None if fields.spectrum is None else _spectrum(session, tasks, fields.spectrum, reporter)
        classes = [wish.subject.class_index for wish in wishes if wish.subject.class_index is not None]
        if judges is None:
            judges = load_judges(session, reporter)
        found = tuple(judge_of(session, one, classes, reporter) for one in judges)
        dreamer = cls(session, tuple(tasks), guides, spectrum, found)
        if fields.size and not images:
            dreamer.try_size()
        return dreamer

    @property
    def wishes(self) -> tuple[Wish, ...]:
        return tuple(dict.fromkeys(task.wish for task in self.tasks))

    @property
    def asked(self) -> list[tuple[Subject, Objective]]:
        """Each subject, and what is climbed or descended for it."""
        return list(dict.fromkeys((task.wish.subject, task.of) for task in self.tasks))

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
        picture = to_bytes(np.asarray(panel.values))
        if panel.start is not None:
            first = to_bytes(np.asarray(panel.start))
            return Painted(panel, picture, first, first, seen.targets)
        evidence = seen.evidence
        if from_photograph:
            with explain_picture_memory():
                evidence = self._observe(start.inputs, [before], start.sha256, start).evidence
        first = begun = to_bytes(evidence[before][0].cpu().numpy())
        if start.photograph is not None:
            first = to_bytes(start.photograph[0].cpu().numpy())
        return Painted(panel, picture, first, begun, seen.targets)

    def receive(self, task: PaintTask, picture: Bytes, targets: Tensor) -> Reception:
        """How the network receives an (h, w, C) picture under the run's preprocessing; `targets` as of `Painted`."""
        session = self.session
        inputs = input_of(session, picture)
        need = Reached(task.of)
        guides = {name: normalized_picture(session, one) for name, one in self.guides.items()}
        with explain_picture_memory():
            seen = self._observe(inputs, [need], "", given=guides, choose=lambda _order: targets)
        score = round_number(float(seen.evidence[need][0]))
        question = session.question
        index = int(targets[0, task.wish.rank]) if task.wish.is_class else None
        if not isfinite(score):
            return Reception(score, index)
        numbers = question.describer.numbers(seen.logits, seen.anchor)[0]
        anchor = None if seen.anchor is None else seen.anchor[0].cpu().numpy()
        order = seen.order[0].cpu().numpy()

        def describe(which: int) -> Prediction:
            size = session.context.input_spec.size
            return question.describer.describe(which, float(numbers[which]), anchor, size).prediction

        predictions = tuple(map(describe, question.describer.foremost(numbers, order)))
        probability = None if index is None else describe(index).probability
        # Of shares and values no class is the first.
        rank = None if index is None or probability is None else rank_of(order, index)
        return Reception(score, index, probability, rank, predictions)

    def judge(self, image: Image.Image, index: int | None) -> list[Judgement]:
        """What the judges make of an RGB image that was painted for the class `index`, or for none."""
        return [judge.look(image, index) for judge in self.judges]

    def state(self, painted: Painted, written: Bytes, after: Reception, before: Reception) -> State:
        """What to say of a picture."""
        sign = -1 if dream_fields(self.session.settings).minimize else 1
        return dream_state(
            sign * after.score,
            sign * before.score,
            moved=not np.array_equal(written, painted.begun) if written.shape == painted.begun.shape else True,
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
        brought: dict[str, Tensor | None] = {**self.guides, **given}
        if self.spectrum is not None:
            brought[Spectrum().name] = self.spectrum.amplitudes
        if start is not None:
            brought |= {"photograph": start.photograph, "region": start.region}
        known = {name: one.to(self.session.device) for name, one in brought.items() if one is not None}
        chosen = choose or (self.session.targets.with_truths([None]) if self.session.targets.uses_truth else None)
        return self.session.observe(inputs, needs, known, digests=[digest], choose=chosen, tick=tick)


def explain_picture_memory() -> AbstractContextManager[None]:
    """Of a picture that is too large, what to do."""
    return explain_memory_errors(1, where="--size", fix="Paint a smaller one, or use a smaller model or --device cpu.")


def _spectrum(session: Session, tasks: Sequence[PaintTask], path: Path, reporter: Reporter) -> MeanSpectrum:
    """The spectrum that tasks ask for, which paint pictures of one size."""
    asked = ((spectrum_need(task.ascent), task.ascent.canvas.size) for task in tasks)
    need, size = next(((need, size) for need, size in asked if need and size), (None, None))
    if need is None or size is None:
        what = "no chosen method paints with a given spectrum"
        raise UsageError(what, where="--spectrum", fix="Choose one that does: --method maco")
    return read_spectrum(session, path, need, size, reporter.warn)


def _recipe(
    method: Method, options: Any, context: MethodContext, known: Collection[str], *, images: bool
) -> tuple[Recipe, Ascent]:
    """A method's recipe and what it paints by; `known` is what the engine is given. Raises UsageError where it does not
    suit."""
    recipe = method.build(options, context)
    ascent = next(need for need in recipe.needs if isinstance(need, Ascent))
    asked = {need.name for need in (*recipe.needs, *ascent.sources) if isinstance(need, Given)}
    if unknown := sorted(asked.difference(known)):
        raise UsageError(f"{method.name} wants what no file gives: {', '.join(unknown)}", where=method.name)
    if (Picture() in recipe.needs) != images:
        source = "an image" if not images else "noise"
        fix = "Name an image." if not images else "Leave the images out, or --method."
        raise UsageError(f"{method.name} paints from {source}", where="--method", fix=fix)
    return recipe, ascent
