"""From settings to a loaded model and a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cnnviz_cli.config.settings import Settings, families_of
from cnnviz_cli.core.classes import class_index
from cnnviz_cli.core.layers import Layers
from cnnviz_cli.core.method import Frame, InputView, Method, Recipe, Scope
from cnnviz_cli.core.records import Cost
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine import device as devices
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.engine.targets import Targets
from cnnviz_cli.models.heads import find_head
from cnnviz_cli.models.load import LoadedModel, load_model
from cnnviz_cli.run.applicable import Asked, applicable
from cnnviz_cli.run.costs import cost_of, planned
from cnnviz_cli.run.drawing import Work

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
    """

    command: str
    settings: Settings
    model: LoadedModel
    net: nn.Module
    device: torch.device
    targets: Targets
    tasks: tuple[Task, ...]
    plan: Plan
    views: Mapping[InputView, Plan]

    @property
    def works(self) -> list[Work]:
        """The tasks by their names."""
        return [Work(task.method.family, task.method.name) for task in self.tasks]

    @property
    def batch_size(self) -> int:
        """How many pictures pass the network together, if memory allows."""
        asked = self.settings.batch_size
        return asked if asked != "auto" else _BATCH if self.device.type == "cpu" else _BATCH_OF_ACCELERATORS

    @property
    def cost(self) -> Cost:
        """Passes for each batch, variants for each image."""
        return cost_of(self.plan, self.views)

    @property
    def target_names(self) -> list[str]:
        """Each target as file names say it; ``top-K`` where only an image can tell the class."""
        labels = self.model.labels
        return [f"top-{rank + 1}" if rank >= 0 else f"{-1 - rank}-{labels[-1 - rank]}" for rank in self.targets.ranks]


def model_of(settings: Settings, reporter: Reporter) -> LoadedModel:
    """The model that the settings name; raises what `load_model` does."""
    return load_model(
        settings.model,
        settings.weights,
        offline=settings.offline,
        mirror=settings.weights_mirror,
        reporter=reporter,
    )


def prepare(command: str, settings: Settings, reporter: Reporter, local_rank: int | None = None) -> Prepared:
    """Load the model and work out the plan.

    Of the methods that were not named but are among all of a family, those that the model does not let run are left
    out, with a warning each.

    Raises:
        ModelError: the model or its weights cannot be had.
        DeviceError: the device is not there.
        UsageError: a layer or a class that the model does not have, a method that was named and does not apply,
            or no method at all does.
    """
    device = devices.pick(settings.device, local_rank)
    devices.repeatable()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    model = model_of(settings, reporter)
    targets = Targets.parse(settings.target, model.labels)
    net = devices.place(model.net, device)
    scope = replace(
        scope_of(model.net, model.layers, model.preprocessing.frame),
        against=None if settings.contrast is None else class_index(settings.contrast, model.labels),
        counter=settings.counterfactual,
    )
    families = families_of(command)
    asked = [
        Asked(method, options, settings.by_name(method) and (len(families) == 1 or settings.chooses(family)))
        for family in families
        for method, options in settings.chosen(family)
    ]
    found = applicable(asked, scope, targets, net, device, settings.precision)
    if not found.built:
        raise next(iter(found.refused.values()))
    for name, error in found.refused.items():
        reporter.warn(f"{name} is left out: {error.what}")
    names = {family: [m.name for m, _ in found.built if m.family == family] for family in families}
    settings = settings.choosing(names)
    tasks = tuple(Task(method, recipe) for method, recipes in found.built for recipe in recipes)
    plan, views = planned(task.recipe for task in tasks)
    return Prepared(command, settings, model, net, device, targets, tasks, plan, views)


def scope_of(net: nn.Module, layers: Layers, frame: Frame) -> Scope:
    """What methods are told of a network, for its first target."""
    return Scope(layers, 0, first_kernels(net), frame, find_head(net, layers, (len(frame.black), *frame.size)))


def first_kernels(net: nn.Module) -> tuple[str, Tensor] | None:
    """The name and weight of the first convolution of 1 or 3 channels, whose kernels can be drawn as pictures."""
    for name, module in net.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() == 4 and weight.shape[1] in (1, 3):
            return name, weight.detach()
    return None
