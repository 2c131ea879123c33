"""Which function answers a need that takes passes of its own."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

from torch import Tensor

from cnnviz_cli.core.needs import SeparatePass
from cnnviz_cli.engine.pass_context import PassContext

AnswerFunction = Callable[[PassContext, Any], Tensor]
_Function = TypeVar("_Function", bound=AnswerFunction)

_FUNCTIONS: dict[type[SeparatePass], AnswerFunction] = {}


def answers(kind: type[SeparatePass]) -> Callable[[_Function], _Function]:
    """Register the function below as the answer to needs of a class: one file of this package for each, or a test."""

    def register(function: _Function) -> _Function:
        _FUNCTIONS[kind] = function
        return function

    return register


def answer_to(need: SeparatePass) -> AnswerFunction:
    """The function that answers a need.

    Raises:
        NotImplementedError: no file of the engine registers one.
    """
    if type(need) not in _FUNCTIONS:
        package = __name__.rpartition(".")[0]
        for module in iter_modules(import_module(package).__path__):
            import_module(f"{package}.{module.name}")
    try:
        return _FUNCTIONS[type(need)]
    except KeyError:
        raise NotImplementedError(f"no file of the engine answers {type(need).__name__}") from None
