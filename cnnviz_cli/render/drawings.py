"""Which functions draw a kind of panel. The file that draws a kind registers it here, and nothing else knows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from PIL import Image

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.render.block import Block
from cnnviz_cli.render.style import Caption, Style


@dataclass(frozen=True, slots=True)
class Scene:
    """What a figure is made of, its panel aside.

    Attributes:
        photo: the upright photograph, RGB, at its own resolution; `view` says where the input lies in it.
        seen: what the network was shown, RGB, at the input's size.
    """

    photo: Image.Image
    view: View
    seen: Image.Image
    caption: Caption
    style: Style


Draw = Callable[[Any, Scene], Block]
Section = Callable[[Sequence[tuple[Any, Caption]], Image.Image, Style, int], list[Block]]

_DRAWN: dict[type[Panel], Draw] = {}
_SECTIONS: dict[type[Panel], Section] = {}


def draws(kind: type[Panel], draw: Draw) -> None:
    """Have the figures of a kind of panel, and of those derived from it, drawn by a function."""
    _DRAWN[kind] = draw


def draws_section(kind: type[Panel], section: Section) -> None:
    """Have the panels of a kind stand on the overview in rows that a function makes of (panels, seen, look, width)."""
    _SECTIONS[kind] = section


def drawing_of(panel: Panel) -> Draw:
    """The function that draws a panel.

    Raises:
        TypeError: no file of this package draws panels of its kind.
    """
    for load in (False, True):
        if load:
            package = __name__.rpartition(".")[0]
            for module in iter_modules(import_module(package).__path__):
                import_module(f"{package}.{module.name}")
        for kind in type(panel).__mro__:
            if kind in _DRAWN:
                return _DRAWN[kind]
    raise TypeError(f"no picture is known for {type(panel).__name__}")


def sections() -> Mapping[type[Panel], Section]:
    """The kinds that have rows of their own on the overview, in the order of these."""
    return _SECTIONS
