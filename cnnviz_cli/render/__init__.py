"""Panels in, pictures out. It knows kinds of panel, never a method's name.

The functions are imported when they are first asked for: names of palettes are checked at start-up, where numpy and
Pillow would be felt.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cnnviz_cli.render.style import FORMATS, PALETTES, SIGNED_PALETTES, SUFFIXES, Caption, Style

if TYPE_CHECKING:
    from cnnviz_cli.render.compare import pages
    from cnnviz_cli.render.compose import comparison, draw, overview
    from cnnviz_cli.render.raster import Encoded, encode
    from cnnviz_cli.render.scaling import color_limits, range_of, state_of

__all__ = [
    "FORMATS",
    "PALETTES",
    "SIGNED_PALETTES",
    "SUFFIXES",
    "Caption",
    "Encoded",
    "Style",
    "color_limits",
    "comparison",
    "draw",
    "encode",
    "overview",
    "pages",
    "range_of",
    "state_of",
]

_HOMES = {
    "Encoded": "raster",
    "comparison": "compose",
    "draw": "compose",
    "encode": "raster",
    "color_limits": "scaling",
    "overview": "compose",
    "pages": "compare",
    "range_of": "scaling",
    "state_of": "scaling",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
