"""Where the results of `cnnviz_cli.explain` go: a file, a notebook, a screen."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli import __version__
from cnnviz_cli.core.errors import OutputError, UsageError
from cnnviz_cli.core.text import visible
from cnnviz_cli.render import SUFFIXES, encode
from cnnviz_cli.render.pictures import Figure, encode_figure

_KINDS = {f".{suffix}": kind for kind, suffix in SUFFIXES.items()} | {".jpeg": "jpeg"}


def encoded(picture: Image.Image) -> bytes:
    """The bytes of a PNG."""
    return encode(picture).data


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure that may still be written in any format, and what its file says about itself."""

    figure: Figure
    facts: Mapping[str, str]
    dpi: int = 0


def written(path: Path, content: Drawn | Mapping[str, NDArray[Any]]) -> Path:
    """Write a figure in the format of the path's suffix, or arrays as .npz, whole or not at all.

    Raises:
        UsageError: there is no such format, or it cannot hold so large a picture.
        OutputError: the file cannot be written.
    """
    data = _bytes_of(path, content)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        try:
            aside.write_bytes(data)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}", where=str(path)) from error
    return path


def shown(value: Any, picture: Image.Image) -> None:
    """`value` below the cell of a notebook; outside of one `picture` in the system's viewer."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None and hasattr(shell, "kernel"):
        import_module("IPython.display").display(value)
    else:
        picture.show()


def _bytes_of(path: Path, content: Drawn | Mapping[str, NDArray[Any]]) -> bytes:
    if not isinstance(content, Drawn):
        buffer = BytesIO()
        np.savez_compressed(buffer, **content)  # type: ignore[arg-type]  # names come from panels, never `file`
        return buffer.getvalue()
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        what = f"'{path.name}': pictures are written as {', '.join(_KINDS)}"
        raise UsageError(what, where="path", fix="The raw numbers of one explanation are written as .npz.")
    (block, scale), about = content.figure, {"Software": f"cnnviz {__version__}", **content.facts}
    facts = {name: visible(value) for name, value in about.items() if value}
    made, _ = encode_figure(block, kind, scale, facts, content.dpi)
    if made.note:
        raise UsageError(f"'{path.name}' cannot hold it: {made.note}", where="path", fix="Save it as .png.")
    return made.data
