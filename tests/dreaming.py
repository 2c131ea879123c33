"""Paint with one registered dream method on a tiny network, the way a run does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tiny
import torch
from torch import Tensor, nn

import cnnviz_cli.methods  # noqa: F401
from cnnviz_cli.core.ascent import Ascent, Course, Mover, Tile
from cnnviz_cli.core.method import InputSpec, Recipe, find_method
from cnnviz_cli.core.needs import Need
from cnnviz_cli.core.objectives import Objective
from cnnviz_cli.core.panels import Dreamed
from cnnviz_cli.core.value import value
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.run.session import method_context

Colour = tuple[float, ...]

BLACK, WHITE = (-1.0,) * 3, (1.0,) * 3


def dream_recipe_of(
    name: str,
    net: nn.Module,
    subject: Objective | None = None,
    size: int = tiny.SIZE,
    canvas: tuple[int, int] | None = None,
    region: bool = False,
    ends: tuple[Colour, Colour] = (BLACK, WHITE),
    **options: Any,
) -> Recipe:
    """The recipe of a dream method with these options, for a network whose input has `size` rows and columns and lies
    between black and white, the `ends`."""
    layers = probe_layers(net, (len(ends[0]), size, size), "tiny")
    method = find_method(name, "dream")
    context = method_context(net, layers, InputSpec((size, size), *ends))
    return method.build(method.options(**options), replace(context, subject=subject, canvas=canvas, region=region))


def dream(
    name: str,
    net: nn.Module,
    *,
    seeds: Sequence[int] = (0,),
    classes: Sequence[int] = (),
    subject: Objective | None = None,
    size: int = tiny.SIZE,
    canvas: tuple[int, int] | None = None,
    ends: tuple[Colour, Colour] = (BLACK, WHITE),
    **given_and_options: Any,
) -> Dreamed:
    """The panel of one method for as many pictures as there are seeds; tensors among the rest are what it is given."""
    given = {key: one for key, one in given_and_options.items() if isinstance(one, Tensor)}
    options = {key: one for key, one in given_and_options.items() if key not in given}
    recipe = dream_recipe_of(name, net, subject, size, canvas, "region" in given, ends, **options)
    evidence = answers_of(net, recipe.needs, seeds=seeds, classes=classes, size=size, **given)
    (panel,) = recipe.explain(evidence.only(recipe.needs))
    assert isinstance(panel, Dreamed)
    return panel


def answers_of(
    net: nn.Module,
    needs: Sequence[Need],
    *,
    seeds: Sequence[int] = (0,),
    classes: Sequence[int] = (),
    size: int = tiny.SIZE,
    batch: Tensor | None = None,
    **given: Tensor,
) -> Any:
    """The evidence of needs on a black input for each seed, or on `batch`."""
    kind = next(net.parameters())
    inputs = kind.new_zeros(len(seeds), kind.shape[1], size, size) if batch is None else batch
    chosen = torch.tensor([[one] for one in classes or [0] * len(inputs)])
    brought = {"seeds": torch.tensor(list(seeds)), **given}
    return observe(net, inputs, Plan.of(needs), lambda _order: chosen, given=brought).evidence


@value
class AsItIs:
    """Views: the picture itself; in `tiles` if there are any."""

    parts: tuple[Tile, ...] = ()

    def tiles(self, _height: int, _width: int, _seed: int, _draw: int) -> tuple[Tile, ...]:
        return self.parts

    def look(self, picture: Tensor, _seed: int, _draw: int, _progress: float) -> Tensor:
        return picture

    def label(self) -> str:
        return "as it is"


@value
class Plainly:
    """A rule: the gradient times a number."""

    rate: float = 1.0

    def begin(self) -> Mover:
        return self

    def move(self, numbers: Tensor, gradient: Tensor, _progress: float) -> Tensor:
        return numbers + self.rate * gradient

    def label(self) -> str:
        return "plainly"


def ascent(canvas: Any, of: Objective, *, steps: int, views: Any = None, rule: Any = None, **more: Any) -> Ascent:
    """The need, with views and a rule that hide nothing."""
    course = Course(steps, rule or Plainly(), **more)
    return Ascent(canvas, views or AsItIs(), course, of, BLACK, WHITE)
