"""From settings to a loaded model and a plan: what a run needs before its first image, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial

import torch
from torch import Tensor, nn

from cnnviz_cli.config.settings import Settings, families_of
from cnnviz_cli.config.values import palette_of
from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.layers import LayerInfo, Layers, split_run
from cnnviz_cli.core.method import InputSpec, InputView, Method, MethodContext, Recipe
from cnnviz_cli.core.network import network_errors
from cnnviz_cli.core.records import Cost
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import visible
from cnnviz_cli.engine import device as devices
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.engine.targets import TargetSelector
from cnnviz_cli.models.input.input_overrides import InputOverrides
from cnnviz_cli.models.inspect.heads import find_head
from cnnviz_cli.models.inspect.outputs import ExpectedOutput
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_model
from cnnviz_cli.run.capability_check import CapabilityCheck, MethodRequest, build_recipes, select_methods
from cnnviz_cli.run.image_data import TaskName, Wording
from cnnviz_cli.run.question import Question, question_for
from cnnviz_cli.tasks.spec import default_task

_PLURAL = {"scores": "scores", "maps": "maps of scores"}


def output_notes(settings: Settings, model: LoadedModel) -> Iterator[str]:
    """One line for each thing that was told by trying and that somebody might have to correct."""
    returned, name = model.layers.returned, visible(model.name, 60)
    if returned.kind not in _PLURAL:
        return
    if len(returned.heads) > 1 and settings.head is None:
        others = ", ".join(visible(head.name, 30) for head in returned.heads if head.name != returned.head)
        yield f"of what {name} returns, '{visible(returned.head, 60)}' is explained, not {others} (--head chooses)"
    if not default_task(returned.kind, settings.task).probabilities:
        if returned.classes > 1 and "target" not in settings.model_fields_set:
            yield f"of the {returned.classes} values the largest of each image is explained (--target chooses)"
        return
    if settings.returns == "auto" and returned.values != "logits":
        shares = "" if returned.exclusive or returned.classes == 1 else ", each class by itself"
        yield f"{name} returns {returned.values}{shares}: {returned.why} (--returns logits takes them for scores)"
    elif settings.returns == "auto" and returned.why:
        regression = "; of a regression: --task regression" if _may_be_regression(settings, model) else ""
        fix = f"--returns probabilities takes them for those{regression}"
        yield f"{name} is taken to return logits: {returned.why} ({fix})"
    elif _may_be_regression(settings, model):
        yield f"{name} returns one value, taken for the logit of a yes (of a regression: --task regression)"


def _may_be_regression(settings: Settings, model: LoadedModel) -> bool:
    """Whether nothing says that one value is a class's, and it may be a regression's."""
    returned = model.layers.returned
    one = returned.classes == 1 and returned.kind == "scores"
    return settings.task == "auto" and one and model.labels == ("positive",)


def plan_recipes(recipes: Iterable[Recipe]) -> tuple[Plan, Mapping[InputView, Plan]]:
    """What is asked of each batch, and of each batch seen through a view by the recipes that average over views."""
    every = tuple(recipes)
    views = dict.fromkeys(view for recipe in every for view in recipe.views)
    return (
        Plan.of(need for recipe in every if not recipe.views for need in recipe.needs),
        {view: Plan.of(need for recipe in every if view in recipe.views for need in recipe.needs) for view in views},
    )


def total_cost(plan: Plan, views: Mapping[InputView, Plan]) -> Cost:
    """Passes for each batch, variants for each image."""
    costs = [each.cost() for each in (plan, *views.values())]
    return Cost(
        forwards=sum(cost.forwards for cost in costs),
        backwards=sum(cost.backwards for cost in costs),
        variants=sum(cost.variants for cost in costs),
    )


def describe_plans(plan: Plan, views: Mapping[InputView, Plan]) -> list[str]:
    """The passes in words, a line each; views with the same passes are told of once."""
    lines = plan.lines()
    for each in dict.fromkeys(views.values()):
        count = sum(one == each for one in views.values())
        lines.append(f"for each of {count} changed inputs:" if count > 1 else "for a changed input:")
        lines += [f"  {line}" for line in each.lines()]
    return lines


@dataclass(frozen=True, slots=True)
class LayersAtSize:
    """The layers at some size, under the selectors of the usual one; implements `core.layers.Layers`.

    What a word such as ``stages`` stands for must not depend on the photograph.

    Attributes:
        usual: what selectors are about.
        there: the layers with an input of that size.
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
        """The layers that the selectors mean at the usual size.

        Raises:
            UsageError: as at the usual size, or one of them has no maps at this.
        """
        names = self.usual.resolve(selectors)
        for name in names:
            try:
                self.there[name]
            except KeyError:
                what = f"the maps of layer '{name}' cannot be told from other tensors"
                raise UsageError(what, where="--layer") from None
        return names


LAST_CONV = "last-conv"
"""The word for the layer that captions call the last convolution."""

_BATCH = 8
_BATCH_OF_ACCELERATORS = 32
"""What `auto` is. It must not depend on what is free at the moment, since a batch's company moves last bits; one that
does not fit is halved."""


@dataclass(frozen=True)
class Task:
    """One method, for one target if it depends on one."""

    method: Method
    recipe: Recipe


@dataclass(frozen=True)
class Prepared:
    """Everything a run needs before it sees a picture.

    Attributes:
        settings: with the names of the methods that are run, in the place of a word for all of them.
        plan: what is asked of each batch.
        views: what is asked of each batch seen through a view, by tasks that average over views.
        scope: what methods are told of the network, for the first target.
        asked: the methods that are run, in the order of their tasks.
    """

    command: str
    settings: Settings
    model: LoadedModel
    net: nn.Module
    device: torch.device
    targets: TargetSelector
    tasks: tuple[Task, ...]
    plan: Plan
    views: Mapping[InputView, Plan]
    context: MethodContext
    requests: tuple[MethodRequest, ...]
    question: Question
    _others: dict[tuple[int, int], Prepared] = field(default_factory=dict, repr=False, compare=False)

    def at_size(self, size: tuple[int, int]) -> Prepared:
        """The same for inputs of another height and width, with the same tasks in the same order.

        Layers have other sizes there, and methods are built from them. Kept, since photographs mostly are of a few
        sizes, and sides are multiples of 32.

        Raises:
            ImageError: a method does not apply at that size.
        """
        if size == self.context.input_spec.size:
            return self
        if size not in self._others:
            try:
                self._others[size] = self._build_for(size)
            except UsageError as error:
                raise ImageError(f"at {size[0]} x {size[1]} pixels: {error.what}") from error
        return self._others[size]

    def _build_for(self, size: tuple[int, int]) -> Prepared:
        frame = replace(self.context.input_spec, size=size)
        there = probe_layers(
            self.net, (len(frame.black), *size), self.model.name, self.model.layers.returned.head or None
        )
        scope = replace(self.context, input_spec=frame, layers=LayersAtSize(self.context.layers, there))
        tasks = _build_tasks((one, build_recipes(one, scope, len(self.targets.ranks))) for one in self.requests)
        plan, views = plan_recipes(task.recipe for task in tasks)
        return replace(self, tasks=tasks, plan=plan, views=views, context=scope, _others={})

    @property
    def task_names(self) -> list[TaskName]:
        """The tasks by their names."""
        return [self.task_name(task) for task in self.tasks]

    def task_name(self, task: Task) -> TaskName:
        """What drawing has to know of a task."""
        family = task.method.family
        return TaskName(family, task.method.name, palette_of(self.settings.palette, family), task.method.title)

    @property
    def wording(self) -> Wording:
        """What captions and file names say."""
        layers = self.context.layers
        names = [info.name for info in layers]
        width = max(2, len(str(len(names))))
        called = {
            f"{name}@{run}": f"{name}, run {run} of {len(runs)}"
            for name, runs in self.model.layers.runs.items()
            for run in range(1, len(runs) + 1)
        }
        with suppress(UsageError):
            for name in layers.resolve((LAST_CONV,)):
                path = split_run(name)[0]
                convolves = any(f"{one}.".startswith(f"{path}.") for one in self.model.layers.convolutions)
                what = "last convolution" if convolves else "last layer with maps"
                called[name] = f"{what} ({called.get(name, name)})"
        return Wording(
            model=f"{self.model.name} ({self.model.weights})",
            layers=called,
            depths={name: f"{number:0{width}}" for number, name in enumerate(names, 1)},
            counterfactual=self.question.counter,
        )

    @property
    def explains_targets(self) -> bool:
        """Whether any task depends on a target."""
        return any(task.recipe.follows_target for task in self.tasks)

    @property
    def batch_size(self) -> int:
        """How many pictures pass the network together, if memory allows."""
        asked = 1 if self.model.facts.one_at_a_time else self.settings.batch_size
        return asked if asked != "auto" else _BATCH if self.device.type == "cpu" else _BATCH_OF_ACCELERATORS

    @property
    def cost(self) -> Cost:
        """Passes for each batch, variants for each image."""
        return total_cost(self.plan, self.views)

    @property
    def target_names(self) -> list[str]:
        """Each target as file names say it; ``top-K`` and ``true`` where only an image can tell the class."""
        return self.targets.names(self.model.labels)


def load_model_for(settings: Settings, reporter: Reporter) -> LoadedModel:
    """The model that the settings name; raises what `load_model` does."""
    return load_model(
        settings.model,
        settings.weights,
        arch=settings.arch,
        key=settings.weights_key,
        allow_code=settings.allow_code,
        overrides=input_settings(settings),
        expected=output_settings(settings),
        memory_format=None if settings.memory_format == "auto" else settings.memory_format,
        offline=settings.offline,
        mirror=settings.weights_mirror,
        reporter=reporter,
    )


def input_settings(settings: Settings) -> InputOverrides:
    """What the settings want of the network's input."""
    height, width = settings.input_size or (0, 0)
    return InputOverrides(
        mode=settings.resize,
        size=(height, width) if settings.input_size else None,
        mean=settings.mean,
        std=settings.std,
        interpolation=settings.interpolation,
        most=settings.max_side,
        cover=settings.resize_to,
        bands=settings.bands,
    )


def output_settings(settings: Settings) -> ExpectedOutput:
    """What the settings say of the network's output."""
    return ExpectedOutput(settings.head, settings.returns)


@network_errors()
def prepare(command: str, settings: Settings, reporter: Reporter, local_rank: int | None = None) -> Prepared:
    """Load the model and work out the plan.

    Of the methods that were not named but are among all of a family, those that the model does not let run are left
    out, with a warning each.

    Raises:
        ModelError: the model or its weights cannot be had.
        DeviceError: the device is not there.
        UsageError: labels or truths that do not fit, a layer or a class that the model does not have, an input that it
            does not take, a method that was named and does not apply, or no method at all does.
    """
    device = devices.select_device(settings.device, local_rank)
    devices.use_deterministic_kernels()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    return prepare_loaded(command, families_of(command), settings, load_model_for(settings, reporter), device, reporter)


@network_errors()
def prepare_loaded(
    command: str,
    families: Sequence[str],
    settings: Settings,
    model: LoadedModel,
    device: torch.device,
    reporter: Reporter,
) -> Prepared:
    """`prepare` for a model that is loaded, and the methods of some families; raises the same UsageErrors."""
    question, model = question_for(settings, model, device)
    targets = question.targets
    for note in output_notes(settings, model):
        reporter.say(note)
    model = replace(model, labels=question.labels.names)
    facts = model.facts
    for line in facts.warnings():
        reporter.warn(f"{visible(model.name, 100)}: {line}")
    for line in facts.notes():
        reporter.say(f"{visible(model.name, 100)}: {line}")
    net = devices.move_to_device(model.net, device, facts.memory_format)
    scope = question.put_to(
        method_context(model.net, model.layers, model.preprocessing.input_spec, model.layers.returned.head)
    )
    asked = [
        MethodRequest(
            method, options, settings.is_named(method) and (len(families) == 1 or settings.has_selection(family))
        )
        for family in families
        for method, options in settings.selected_methods(family)
    ]
    check = CapabilityCheck(
        net, device, scope.input_spec, targets, settings.precision, question.describer.readout, facts
    )
    found = select_methods(asked, scope, check)
    if not found.built:
        raise next(iter(found.refused.values()))
    for name, error in found.refused.items():
        reporter.warn(f"{name} is left out: {error.what}")
    names = {family: [m.name for m, _ in found.built if m.family == family] for family in families}
    settings = settings.with_methods(names)
    left = {method.name: recipes for method, recipes in found.built}
    kept = tuple(one for one in asked if one.method.name in left)
    tasks = _build_tasks((one, left[one.method.name]) for one in kept)
    plan, views = plan_recipes(task.recipe for task in tasks)
    lines, warnings = model.layers.notes(
        list(dict.fromkeys(name for one in (plan, *views.values()) for name in one.all_layers))
    )
    for line in lines:
        reporter.say(line)
    for line in warnings:
        reporter.warn(line)
    if views and question.task.located:
        raise UsageError(
            "what is explained has a place in the image, which is not looked for in a flipped one",
            where="--smooth",
            fix="Leave it out.",
        )
    prepared = Prepared(command, settings, model, net, device, targets, tasks, plan, views, scope, kept, question)
    if model.preprocessing.mode == "full":
        _check_another_size(prepared, reporter)
    return prepared


def _check_another_size(prepared: Prepared, reporter: Reporter) -> None:
    """Say what sizes there may be, and raise UsageError if what was asked for cannot be read at another."""
    preprocessing = prepared.model.preprocessing
    try:
        prepared.at_size(preprocessing.trial_size)
    except ImageError as error:
        what = f"{prepared.model.name} is read at one size only: {error.what}"
        raise UsageError(what, where="--resize full", fix="Show it the whole image: --resize pad") from error
    if preprocessing.side is None:  # as somebody has asked for, and not as the network was trained
        reporter.say(f"images keep their own size, up to {preprocessing.most} pixels a side (--max-side)")


def _build_tasks(built: Iterable[tuple[MethodRequest, Sequence[Recipe]]]) -> tuple[Task, ...]:
    return tuple(Task(one.method, recipe) for one, recipes in built for recipe in recipes)


def method_context(net: nn.Module, layers: Layers, frame: InputSpec, part: str | None = None) -> MethodContext:
    """What methods are told of a network, for its first target; `part` names what of its output is explained."""
    channels = len(frame.black)
    head = cache(partial(find_head, net, layers, (channels, *frame.size), part))
    return MethodContext(layers, 0, first_kernels(net, channels), frame, head)


def first_kernels(net: nn.Module, channels: int) -> tuple[str, Tensor] | None:
    """The name and weight of the first convolution of so many channels, if its kernels can be drawn as pictures."""
    for name, module in net.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() == 4 and weight.shape[1] == channels in (1, 3):
            return name, weight.detach()
    return None
