"""The explanations of a session: its methods and their passes, and from a batch of inputs to every image's panels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cnnviz_cli.config.settings import Settings, families_of
from cnnviz_cli.config.values import palette_of
from cnnviz_cli.core.errors import CnnvizError, ImageError, MemoryShortError, ModelError, UsageError
from cnnviz_cli.core.evaluation_records import EvaluationHead
from cnnviz_cli.core.judgements import JudgedImage
from cnnviz_cli.core.layers import LayerInfo, Layers, as_tensor
from cnnviz_cli.core.method import InputView, Method, Recipe
from cnnviz_cli.core.network import (
    NetworkError,
    explain_memory_errors,
    network_errors,
    to_memory_format,
)
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.records import Cost
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import list_all
from cnnviz_cli.engine.execution import take_notes
from cnnviz_cli.engine.observe import Choose, Observation
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.engine.targets import TargetSelector
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.run.capability_check import MethodRequest, build_recipes, select_methods
from cnnviz_cli.run.image_data import ImageResult, NetworkInput, TaskName
from cnnviz_cli.run.question import NOT_FINITE
from cnnviz_cli.run.recipe_plans import apply_view, average_views, plan_recipes, total_cost, undo_view
from cnnviz_cli.run.session import Session


@dataclass(frozen=True, slots=True)
class LayersAtSize:
    """The layers `there`, at some size, under the selectors of the `usual` one; implements `core.layers.Layers`.

    What a word such as ``stages`` stands for must not depend on the image.
    """

    usual: Layers
    there: Layers

    @property
    def max_pooled(self) -> bool:
        return self.usual.max_pooled

    def __iter__(self) -> Iterator[LayerInfo]:
        return iter(self.there)

    def __getitem__(self, name: str) -> LayerInfo:
        return self.there[name]

    def resolve(self, selectors: Sequence[str]) -> tuple[str, ...]:
        """The layers that the selectors mean at the usual size; raises UsageError as there, or for one without maps."""
        names = self.usual.resolve(selectors)
        for name in names:
            try:
                self.there[name]
            except KeyError:
                what = f"the maps of layer '{name}' cannot be told from other tensors"
                raise UsageError(what, where="--layer") from None
        return names


@dataclass(frozen=True)
class Task:
    """One method, for one target if it depends on one."""

    method: Method
    recipe: Recipe


class MapJudge(Protocol):
    """What judges the maps of an explainer, see `run.judging`."""

    @property
    def cost(self) -> Cost:
        """What judging adds to the passes of a batch."""

    def judge_inputs(
        self,
        inputs: Sequence[NetworkInput],
        batch: Tensor,
        observation: Observation,
        panels: Sequence[Sequence[Panel]],
        masks: Tensor | None,
        reporter: Reporter,
    ) -> Sequence[JudgedImage]:
        """What all measures say of each image of a batch (B, C, H, W)."""

    def head(self) -> EvaluationHead:
        """What is known before the first image."""

    @property
    def draws_images(self) -> bool:
        """Whether what is left of each image as it is removed is drawn."""

    def lines(self) -> list[str]:
        """What judging costs, in words."""


@dataclass(frozen=True)
class Explainer:
    """What a session explains, and how.

    Attributes:
        session: its settings have the names of the methods that are run, in the place of a word for all of them.
        requests: the methods that are run, in the order of their tasks.
        tasks: one for each method, or for each method and target.
        plan: the passes of each batch.
        views: by view, the passes of each batch seen through it, for tasks that average over views.
        judge: what judges the maps, if anything does.
    """

    session: Session
    requests: tuple[MethodRequest, ...]
    tasks: tuple[Task, ...]
    plan: Plan
    views: Mapping[InputView, Plan]
    judge: MapJudge | None = field(default=None, repr=False, compare=False)
    _others: dict[tuple[int, int], Explainer] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    @network_errors()
    def of(cls, session: Session, families: Sequence[str], reporter: Reporter) -> Explainer:
        """The methods of some families, and the passes that they take.

        Methods that were not named but are among all of a family are left out with a warning if they do not apply.

        Raises:
            UsageError: a layer that the model does not have, an input that it does not take, a method that was named
                and does not apply, or no method at all does.
        """
        settings, model = session.settings, session.model
        requests = [
            MethodRequest(
                method, options, settings.is_named(method) and (len(families) == 1 or settings.has_selection(family))
            )
            for family in families
            for method, options in settings.selected_methods(family)
        ]
        found = select_methods(requests, session)
        if not found.built:
            raise next(iter(found.refused.values()))
        for line in _left_out(found.refused):
            reporter.warn(line)
        names = {family: [m.name for m, _ in found.built if m.family == family] for family in families}
        built = {method.name: recipes for method, recipes in found.built}
        kept = tuple(one for one in requests if one.method.name in built)
        session = replace(session, settings=settings.with_methods(names))
        explainer = cls._with_plan(session, kept, [built[one.method.name] for one in kept])
        plans = (explainer.plan, *explainer.views.values())
        lines, warnings = model.layers.notes(list(dict.fromkeys(name for one in plans for name in one.all_layers)))
        for line in lines:
            reporter.say(line)
        for line in warnings:
            reporter.warn(line)
        if explainer.views and session.question.task.located:
            raise UsageError(
                "what is explained has a place in the image, which is not looked for in a flipped one",
                where="--smooth",
                fix="Leave it out.",
            )
        if model.preprocessing.mode == "full":
            _check_another_size(explainer, reporter)
        return explainer

    @classmethod
    def _with_plan(
        cls, session: Session, requests: tuple[MethodRequest, ...], recipes: Iterable[Sequence[Recipe]]
    ) -> Explainer:
        tasks = tuple(
            Task(one.method, recipe) for one, found in zip(requests, recipes, strict=True) for recipe in found
        )
        return cls(session, requests, tasks, *plan_recipes(task.recipe for task in tasks))

    def at_size(self, size: tuple[int, int]) -> Explainer:
        """The same tasks for inputs of another height and width; raises ImageError if a method does not apply there.

        Layers have other sizes there, and methods are built from them. Kept, since images mostly are of a few sizes.
        """
        if size == self.session.context.input_spec.size:
            return self
        if size not in self._others:
            try:
                self._others[size] = self._build_for(size)
            except UsageError as error:
                raise ImageError(f"at {size[0]} x {size[1]} pixels: {error.what}") from error
        return self._others[size]

    def _build_for(self, size: tuple[int, int]) -> Explainer:
        session = self.session
        context, model = session.context, session.model
        spec = replace(context.input_spec, size=size)
        layers = probe_layers(session.net, (len(spec.black), *size), model.name, model.layers.returned.head or None)
        context = replace(context, input_spec=spec, layers=LayersAtSize(context.layers, layers))
        recipes = [build_recipes(one, context, len(session.targets.ranks)) for one in self.requests]
        return self._with_plan(replace(session, context=context), self.requests, recipes)

    def with_net(self, net: nn.Module) -> Explainer:
        """The same methods of an altered twin of the network; raises UsageError if one does not apply to it."""
        session = self.session.with_net(net)
        recipes = [build_recipes(one, session.context, len(session.targets.ranks)) for one in self.requests]
        return self._with_plan(session, self.requests, recipes)

    def for_targets(self, count: int) -> Explainer:
        """The same methods for so many targets, which are said of each batch."""
        session = self.session
        question = replace(session.question, targets=TargetSelector(tuple(range(count))))
        recipes = [build_recipes(one, session.context, count) for one in self.requests]
        return self._with_plan(replace(session, question=question), self.requests, recipes)

    def batch_size_for(self, one: NetworkInput) -> int:
        """How many inputs of the size of one pass together, which are fewer the larger they are; raises ImageError if a
        method does not apply there."""
        height, width = one.pixels.shape[1:] if isinstance(one.pixels, Tensor) else one.pixels.shape[:2]
        with explain_memory_errors(1):
            return self.at_size((height, width)).session.batch_size

    def only(self, names: Sequence[str]) -> Explainer:
        """The same with some of the methods alone."""
        requests = tuple(one for one in self.requests if one.method.name in names)
        families = dict.fromkeys(one.method.family for one in self.requests)
        chosen = {family: [one.method.name for one in requests if one.method.family == family] for family in families}
        session = replace(self.session, settings=self.session.settings.with_methods(chosen))
        recipes = [[task.recipe for task in self.tasks if task.method is one.method] for one in requests]
        return self._with_plan(session, requests, recipes)

    @property
    def task_names(self) -> list[TaskName]:
        palette = self.session.settings.palette
        return [
            TaskName(method.family, method.name, palette_of(palette, method.family), method.title)
            for method in (task.method for task in self.tasks)
        ]

    @property
    def runs_methods(self) -> bool:
        """Whether the methods' maps are made, and not kept from another run."""
        return True

    @property
    def cost(self) -> Cost:
        """Of explaining, without judging."""
        return total_cost(self.plan, self.views, self.session.execution.precision)

    @property
    def whole_cost(self) -> Cost:
        """Of explaining and judging."""
        own, more = self.cost, self.judge.cost if self.judge else None
        if more is None:
            return own
        return Cost(
            forwards=own.forwards + more.forwards,
            backwards=own.backwards + more.backwards,
            variants=own.variants + more.variants,
            at_most=own.at_most or more.at_most,
        )

    def explain_batch(
        self,
        batch: Tensor,
        digests: Sequence[str],
        reporter: Reporter,
        truths: Sequence[int | None] = (),
        masks: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> tuple[Observation, list[Sequence[Panel]]]:
        """Carry out the plan for a batch, and what its views add.

        Args:
            batch: (B, C, H, W) normalised, on the device.
            digests: of each image's file, for its random draws.
            truths: the class that is true of each image, None if unknown; may be left out if no target depends on it.
            masks: (B, ...) where the region to be explained is in each image, see `Readout.hold`.
            targets: (B, R) what is explained, if not what the session chooses.

        Returns:
            What the unchanged inputs gave, and the panels of each task.

        Raises:
            ImageError: a method does not apply to inputs of that size.
        """
        explainer = self.at_size((batch.shape[2], batch.shape[3]))
        session = explainer.session

        def observe(inputs: Tensor, plan: Plan, choose: Callable[[Tensor], Tensor]) -> Observation:
            found = session.observe(inputs, plan, digests=digests, choose=choose, masks=masks, tick=reporter.tick)
            for note in take_notes():
                (reporter.warn if note.is_warning else reporter.say)(note.text)
            return found

        choose: Choose = session.targets.with_truths(truths) if truths else session.targets
        if targets is not None:
            choose = lambda _scores: targets  # noqa: E731
        observation = observe(batch, explainer.plan, choose)
        viewed = {
            view: observe(apply_view(view, batch), plan, lambda _logits: observation.targets)
            for view, plan in explainer.views.items()
        }
        panels: list[Sequence[Panel]] = []
        for recipe in (task.recipe for task in explainer.tasks):
            if not recipe.views:
                panels.append(
                    _mark_flat(recipe.explain(observation.evidence.only(recipe.needs)), recipe, [observation])
                )
                continue
            several = [
                [undo_view(view, panel) for panel in recipe.explain(viewed[view].evidence.only(recipe.needs))]
                for view in recipe.views
            ]
            means = [average_views(same) for same in zip(*several, strict=True)]
            panels.append(_mark_flat(means, recipe, [viewed[view] for view in recipe.views]))
        return observation, panels

    def explain_inputs(
        self, inputs: Sequence[NetworkInput], truths: Sequence[int | None], reporter: Reporter
    ) -> Iterator[ImageResult | CnnvizError]:
        """The result of each of some inputs of one size, or why it has none.

        Raises:
            MemoryShortError: memory does not suffice for all of them at once.
            ImageError: a method does not apply to inputs of that size.
            NetworkError: the network does not take them.
        """
        session = self.session
        ready = isinstance(inputs[0].pixels, Tensor)
        with explain_memory_errors(len(inputs)):
            pixels = [one.pixels for one in inputs]
            batch = torch.stack(pixels) if ready else session.model.preprocessing.normalize(pixels)
            batch = to_memory_format(batch.to(session.device), session.model.facts.memory_format)
            given_masks = [one.mask for one in inputs if one.mask is not None]
            masks = torch.from_numpy(np.stack(given_masks)).to(session.device) if given_masks else None
            observation, panels = self.explain_batch(batch, [one.sha256 for one in inputs], reporter, truths, masks)
            follows_target = any(task.recipe.follows_target for task in self.tasks)
            descriptions = session.question.describe(
                observation, (batch.shape[2], batch.shape[3]), truths, require_target=follows_target
            )
            judged: Sequence[JudgedImage | None] = [None] * len(inputs)
            if self.judge is not None:
                judged = self.judge.judge_inputs(inputs, batch, observation, panels, masks, reporter)
        return (
            self._failure(one)
            if isinstance(one, str)
            else ImageResult(
                given.sha256, one, [[panel.pick(at) for panel in found] for found in panels], judged=judged[at]
            )
            for at, (given, one) in enumerate(zip(inputs, descriptions, strict=True))
        )

    def _failure(self, why: str) -> CnnvizError:
        if why != NOT_FINITE:
            return ImageError(why)
        what = f"{why} in {self.session.settings.precision}; check the weights"
        return ModelError(what, where="model", fix="Are the images normalised as the network expects it?")


class BatchExplainer:
    """Passes inputs through an explainer, `size` at a time; halves `size` when memory does not suffice."""

    def __init__(self, explainer: Explainer, reporter: Reporter) -> None:
        self.size = explainer.session.batch_size
        self._explainer = explainer
        self._reporter = reporter

    def results(
        self, inputs: Sequence[NetworkInput], truths: Sequence[int | None]
    ) -> Iterator[ImageResult | CnnvizError]:
        """The result of each image, in order, or why it has none; raises MemoryShortError if not even one image fits.

        Images of one size pass together.
        """
        start = 0
        while start < len(inputs):
            _, same_size = next(groupby(inputs[start : start + self.size], key=lambda one: one.pixels.shape))
            part = list(same_size)
            out_of_memory = False
            try:
                part = part[: self._explainer.batch_size_for(part[0])]
                known_truths = truths[start : start + len(part)]
                found = self._explainer.explain_inputs(part, known_truths, self._reporter)
            except ImageError as error:
                found = iter([error] * len(part))
            except NetworkError as error:
                # Of an image that its code does not take; the others of the batch are asked one by one.
                known_truths = truths[start : start + len(part)]
                alone = (
                    one for at in range(len(part)) for one in self.results(part[at : at + 1], known_truths[at : at + 1])
                )
                found = iter([error]) if len(part) == 1 else alone
            except MemoryShortError:
                if len(part) == 1:
                    raise
                out_of_memory = True
            if out_of_memory:
                # Outside of the handler, whose traceback would hold on to the tensors that did not fit.
                self.size = len(part) // 2
                self._reporter.warn(
                    f"out of memory with a batch of {len(part)}; continuing with batches of {self.size}"
                )
                continue
            start += len(part)
            yield from found


def prepare(
    command: str,
    settings: Settings,
    reporter: Reporter,
    local_rank: int | None = None,
    threads: int | None = None,
) -> Explainer:
    """Load the model and work out the plan; arguments and errors are those of `Session.load`, and of `Explainer.of`."""
    session = Session.load(command, settings, reporter, local_rank, threads)
    return Explainer.of(session, families_of(command), reporter)


def _check_another_size(explainer: Explainer, reporter: Reporter) -> None:
    """Say which sizes images may have; raises UsageError if a method or layer works at one size only."""
    model = explainer.session.model
    preprocessing = model.preprocessing
    try:
        explainer.at_size(preprocessing.trial_size)
    except ImageError as error:
        what = f"{model.name} is read at one size only: {error.what}"
        raise UsageError(what, where="--resize full", fix="Show it the whole image: --resize pad") from error
    if preprocessing.side is None:  # as was asked for, and not as the network was trained
        reporter.say(f"images keep their own size, up to {preprocessing.most} pixels a side (--max-side)")


def _mark_flat(panels: Sequence[Panel], recipe: Recipe, observations: Sequence[Observation]) -> Sequence[Panel]:
    """The panels, with the warning `flat` for images where no need shows a change of the target's score."""
    change_needs = [need for need in recipe.needs if need.measures_change]
    if not change_needs or any(need not in one.unchanged for one in observations for need in change_needs):
        return panels
    unchanged = torch.stack([one.unchanged[need] for one in observations for need in change_needs]).all(0)
    return [
        panel
        if panel.target is None
        else replace(panel, warnings={**panel.warnings, "flat": _merge_flat(panel, unchanged)})
        for panel in panels
    ]


def _merge_flat(panel: Panel, unchanged: Tensor) -> Tensor:
    known = panel.warnings.get("flat")
    return unchanged if known is None else unchanged | as_tensor(known)


def _left_out(refused: Mapping[str, UsageError]) -> Iterator[str]:
    """A line for each reason why methods do not apply."""
    reasons: dict[str, list[str]] = {}
    for name, error in refused.items():
        reasons.setdefault(error.what, []).append(name)
    for what, names in reasons.items():
        yield f"{list_all(names)} {'is' if len(names) == 1 else 'are'} left out: {what}"
