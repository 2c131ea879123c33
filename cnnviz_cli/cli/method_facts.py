"""What can be said of a method without a network, and so without torch."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.layers import LayerInfo
from cnnviz_cli.core.method import Frame, Head, Method, Scope


def paper_in_short(method: Method) -> str:
    """``Selvaraju et al. 2017``: who and when, of the first of its papers."""
    first = method.paper.split(";")[0]
    years = re.findall(r"\b(?:19|20)[0-9]{2}\b", first.split("http")[0])
    return " ".join([first.split(",")[0].strip(), *years[-1:]])


def formula(method: Method) -> str:
    """Its docstring without the first line, which is the summary."""
    text = (inspect.getdoc(method.build) or "").replace("``", "`")
    return text.partition("\n")[2].strip()


def class_discriminative(method: Method) -> bool | None:
    """Whether the picture tells one class from another, with the method's default options.

    What reaches the picture through bent rectifiers alone does not count: it depends on the class, and hardly shows it
    (Nie et al. 2018, https://arxiv.org/abs/1805.07039). None where the method does not apply to the plainest network.
    """
    try:
        recipe = method.build(method.options(), _plainest())
    except UsageError:
        return None
    return any(need.follows_target and need.rule == "exact" for need in recipe.needs)


@dataclass(frozen=True, slots=True)
class _OneLayer:
    """The layers of a network that has one."""

    info: LayerInfo
    max_pooled: bool = False

    def __iter__(self) -> Iterator[LayerInfo]:
        return iter((self.info,))

    def __getitem__(self, _name: str) -> LayerInfo:
        return self.info

    def resolve(self, _selectors: Sequence[str]) -> tuple[str, ...]:
        return (self.info.name,)


@dataclass(frozen=True, slots=True)
class _Shape:
    """A tensor of which only the shape is known."""

    shape: tuple[int, ...]


def _plainest() -> Scope:
    """One convolution, an average of its maps, one linear layer: no method needs more."""
    layers = _OneLayer(LayerInfo("conv", "Conv2d", (8, 7, 7), 0, None))
    head = Head("conv", cast("Any", _Shape((10, 8))))
    return Scope(layers, 0, None, Frame((224, 224), (-1.0,) * 3, (1.0,) * 3), lambda: head)
