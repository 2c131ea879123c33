"""Panels in, pictures out. It knows kinds of panel, never a method's name.

The functions are imported when they are first asked for: names of palettes are checked at start-up, where numpy and
Pillow would be felt.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cnnviz_cli.render.look import PALETTES, SIGNED_PALETTES, Caption, Look

if TYPE_CHECKING:
    from cnnviz_cli.render.overview_sheet import overview
    from cnnviz_cli.render.pictures import draw
    from cnnviz_cli.render.png import encode_png
    from cnnviz_cli.render.scaling import range_of, state_of

__all__ = [
    "PALETTES",
    "SIGNED_PALETTES",
    "Caption",
    "Look",
    "draw",
    "encode_png",
    "overview",
    "range_of",
    "state_of",
]

_HOMES = {
    "draw": "pictures",
    "encode_png": "png",
    "overview": "overview_sheet",
    "range_of": "scaling",
    "state_of": "scaling",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
