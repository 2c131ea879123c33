"""What answers a need that takes passes of its own: the functions by kind of need, and what each has to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

from torch import Tensor, nn

from cnnviz_cli.core.needs import Evidence, Need, SeparatePass
from cnnviz_cli.core.scores import CLASSES, Readout, to_two_classes
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.passes import Pass, run_pass
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.engine.twins import run_on_twin

Tick = Callable[[int, int], None]
"""Called with (done, total) variants of one image."""


def no_tick(_done: int, _total: int) -> None:
    """Progress that is not shown."""


@dataclass(frozen=True)
class PassContext:
    """One batch, and what its own forward gave.

    Attributes:
        batch: (B, C, H, W) normalised input, detached.
        own: what the batch's forward in the same precision gave, its backwards being over.
        evidence: the answers to the plan's needs that take no variants.
        memory: bytes that variants may take at a time; None for a share of what is free.
        anchor: what is held of each image for it, see `Readout.hold`.
        alone: whether variants pass the whole network one by one.
    """

    net: nn.Module
    batch: Tensor
    targets: Tensor
    own: Pass
    execution: Execution
    evidence: Evidence
    memory: int | None
    tick: Tick
    readout: Readout = CLASSES
    anchor: Tensor | None = None
    alone: bool = False

    @property
    def logits(self) -> Tensor:
        """(B, K) class scores, detached."""
        return self.own.logits

    @property
    def folds(self) -> bool:
        """Whether batch normalisations may be folded in what runs."""
        return self.execution.fold and not self.alone

    def run(self, batch: Tensor, plan: Plan, *, fold: bool = True) -> Pass:
        """The same network on another batch (B, C, H, W), for the same targets of the same images; without `fold` its
        own modules, where these are looked at."""

        def run(net: nn.Module) -> Pass:
            return run_pass(
                net, net, batch, plan, self.targets, self.execution, readout=self.readout, anchor=self.anchor
            )

        return run_on_twin(self.net, batch, plan.layers, run, fold=fold and self.folds)

    def targets_for(self, image: int, count: int) -> Tensor:
        """(count, R) the targets of one image, for as many variants of it."""
        return self.targets[image : image + 1].expand(count, -1)

    def anchor_of(self, image: int, count: int) -> Tensor | None:
        """(count, ...) what is held of one image, for as many variants of it."""
        return None if self.anchor is None else self.anchor[image : image + 1].expand(count, *self.anchor.shape[1:])

    def score_reader(self, image: int) -> Callable[[Any], Tensor]:
        """From what the network returns for one image to its (1, K) scores, see `to_two_classes`."""
        return lambda output: to_two_classes(self.readout.scores(output, self.anchor_of(image, 1)))


AnswerFunction = Callable[[PassContext, Any], Tensor | Mapping[Need, Tensor]]
"""Gives the answer; or the answers to several needs, of which what was asked for is one."""

_Function = TypeVar("_Function", bound=AnswerFunction)

_FUNCTIONS: dict[type[SeparatePass], AnswerFunction] = {}


def answers(kind: type[SeparatePass]) -> Callable[[_Function], _Function]:
    """Register the function below as the answer to needs of a class: one file of this package for each, or a test."""

    def register(function: _Function) -> _Function:
        _FUNCTIONS[kind] = function
        return function

    return register


def answer_to(need: SeparatePass) -> AnswerFunction:
    """The function that answers a need. Raises NotImplementedError if no file of the engine registers one."""
    if type(need) not in _FUNCTIONS:
        package = __name__.rpartition(".")[0]
        for module in iter_modules(import_module(package).__path__):
            import_module(f"{package}.{module.name}")
    try:
        return _FUNCTIONS[type(need)]
    except KeyError:
        raise NotImplementedError(f"no file of the engine answers {type(need).__name__}") from None
