"""Run one registered method on a tiny network, the way a run does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from types import MappingProxyType, SimpleNamespace
from typing import Any

import tiny
import torch
from torch import Tensor, nn

import cnnviz_cli.methods  # noqa: F401
from cnnviz_cli.core.method import InputSpec, Recipe, every_method
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.scores import CLASSES
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.models.inspect.facts import STANDARD_FACTS
from cnnviz_cli.models.inspect.layers import ModelLayers
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.session import Session, method_context

Runner = Callable[..., Sequence[Panel]]


def layers_of(net: nn.Module, size: int) -> ModelLayers:
    """The layers of a network; of those of `tiny` they are found once for each architecture."""
    if type(net) not in tiny.NETS:
        return probe_layers(net, (3, size, size), "tiny")
    key = (type(net), repr(net), size)
    if key not in _LAYERS:
        _LAYERS[key] = probe_layers(net, (3, size, size), "tiny")
    return _LAYERS[key]


_LAYERS: dict[tuple[type[nn.Module], str, int], ModelLayers] = {}


def recipe_of(
    name: str, net: nn.Module, rank: int = 0, size: int = tiny.SIZE, *, counterfactual: bool = False, **options: Any
) -> Recipe:
    """The recipe of a method with these options, for a network whose input has `size` rows and columns."""
    layers = layers_of(net, size)
    method = next(one for one in every_method() if one.name == name)
    scope = method_context(net, layers, InputSpec((size, size), (-1.0,) * 3, (1.0,) * 3))
    return method.build(method.options(**options), replace(scope, rank=rank, counterfactual=counterfactual))


def run_method(
    name: str,
    net: nn.Module,
    batch: Tensor,
    *,
    choose: Callable[[Tensor], Tensor] = tiny.first_class,
    rank: int = 0,
    size: int = tiny.SIZE,
    how: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> Sequence[Panel]:
    """The panels of one method for one batch; `how` goes to the engine."""
    recipe = recipe_of(name, net, rank, size, **options)
    seen = observe(net, batch, Plan.of(recipe.needs), choose, given=given_for(batch), **how)
    return recipe.explain(seen.evidence.only(recipe.needs))


def seeds_of(batch: Tensor) -> list[int]:
    """For each image the number its random draws start from: of its own pixels, as a run takes it from the file."""
    return [int.from_bytes(sha256(image.numpy().tobytes()).digest()[:7], "big") for image in batch]


def given_for(batch: Tensor) -> dict[str, Tensor]:
    """What the engine is given for a batch."""
    return {"seeds": torch.tensor(seeds_of(batch))}


def numbers(panel: Panel) -> dict[str, Tensor]:
    """The raw tensors of a panel, and its statistics, by name."""
    return {name: torch.as_tensor(values) for name, values in {**panel.arrays(), **panel.statistics}.items()}


def averaging(net: nn.Module, recipes: Sequence[Recipe], targets: Any) -> Explainer:
    """Recipes of one method each, explained without a model's file: their plan of views, and the session."""
    views = {view: Plan.of(need for recipe in recipes for need in recipe.needs) for view in recipes[0].views}
    question: Any = SimpleNamespace(targets=targets, describer=SimpleNamespace(readout=CLASSES))
    settings: Any = SimpleNamespace(seed=0, max_memory=None, precision="fp32", fold=True, compile=False)
    model: Any = SimpleNamespace(facts=STANDARD_FACTS)
    context: Any = SimpleNamespace(input_spec=SimpleNamespace(size=(tiny.SIZE, tiny.SIZE)))
    session = Session("gradcam", settings, model, net, torch.device("cpu"), question, context)
    tasks: Any = [SimpleNamespace(recipe=recipe) for recipe in recipes]
    return Explainer(session, (), tasks, Plan.of([]), views)
