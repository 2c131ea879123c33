"""One result of one method for one picture: arrays, numbers, and a picture that is drawn when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from math import isfinite
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.api_output import Drawn, encoded, shown, written
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import Panel, Projections, State
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.render import Caption, Style, range_of, state_of
from cnnviz_cli.render.pictures import Figure, compose, sized
from cnnviz_cli.render.raster import rasterize
from cnnviz_cli.render.scaling import finite, pixels_of, place

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Scene:
    """What all pictures of one photograph are drawn with.

    Attributes:
        photo: upright, RGB.
        view: where the network's input lies in it.
        seen: the network's input as a picture.
    """

    photo: Image.Image
    view: View
    seen: Image.Image
    style: Style
    model: str
    name: str


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """One result of one method for one picture: of one layer, if it reads a layer, and one class, if it explains one.

    In a notebook it shows itself.

    Attributes:
        method: its name, as ``cnnviz methods`` lists it.
        family: the kind of method: features, saliency, deconv or gradcam.
        layer: the layer that was read; None where none or several were.
        target: what was explained, and its probability, its share of the picture or how similar it is; of a box also
            where it is in the photograph. None for methods that explain nothing.
        contrast: the class that it was told apart from, if any.
    """

    method: str
    family: str
    layer: str | None
    target: Prediction | None
    contrast: Prediction | None
    _panel: Panel
    _scene: Scene
    _caption: Caption

    @cached_property
    def arrays(self) -> Mapping[str, Array]:
        """The raw numbers by name, float32 where they are no indices, read-only: what ``--save-arrays`` stores."""
        return MappingProxyType({name: _fixed(values) for name, values in self._panel.arrays().items()})

    @property
    def map(self) -> Array:
        """The raw numbers of the result, read-only.

        (h, w) of a map, at the resolution of its layer or of the input; (C, H, W) of a projection into colours, around
        zero; (N, h, w) of N feature maps; (N, C, kh, kw) of N kernels.

        Raises:
            UsageError: there are several arrays of different shapes; they are in `arrays`.
        """
        if isinstance(self._panel, Projections):
            names = ", ".join(self.arrays)
            raise UsageError(f"{self.method} gives no single map", fix=f"See .arrays, which holds {names}.")
        values = next(iter(self.arrays.values()))
        return values[0] if self._panel.takes_scale else values

    def map_on_photo(self) -> Array:
        """(H, W) float32: the map at the photograph's own resolution, NaN where the network saw nothing of it.

        Interpolated bilinearly between the centres of the map's cells, whatever pictures are drawn with.

        Raises:
            UsageError: the result is no map of the photograph.
        """
        if not self._panel.takes_scale:
            raise UsageError(f"what {self.method} gives is no single map of the photograph", fix="See .arrays.")
        scene = self._scene
        whole = np.full((scene.photo.height, scene.photo.width), np.nan, np.float32)
        left, top, right, bottom = pixels_of(scene.view.box, scene.photo.size)
        whole[top:bottom, left:right] = place(finite(self.map), scene.view.box, scene.photo.size)
        return whole

    @property
    def state(self) -> State:
        """``ok``, or why the map cannot be read: see `advice`."""
        return state_of(self._panel)

    @property
    def advice(self) -> str:
        """One sentence on what to do about a map that cannot be read; empty where it can."""
        return self._caption.note

    @property
    def counterfactual(self) -> bool:
        """Whether it shows what speaks against the target."""
        return self._caption.counter

    @property
    def range(self) -> tuple[float, float] | None:
        """The lowest and the highest raw value; None where there are several maps or numbers are not finite."""
        return range_of(self._panel)

    @cached_property
    def statistics(self) -> Mapping[str, float]:
        """Numbers that the method reports beside its map, by name; those that overflowed are left out."""
        numbers = {name: float(value) for name, value in self._panel.statistics.items()}
        return MappingProxyType({name: value for name, value in numbers.items() if isfinite(value)})

    @cached_property
    def picture(self) -> Image.Image:
        """The picture with its caption and its legend, drawn on first use and kept."""
        return rasterize(*self._figure())

    def _figure(self) -> Figure:
        scene = self._scene
        return sized(partial(compose, self._panel, scene.photo, scene.view, scene.seen, self._caption), scene.style)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the picture as .png, .webp, .jpg, .svg or .pdf, or the raw numbers as .npz, and return the path.

        Raises:
            UsageError: another suffix.
            OutputError: it cannot be written.
        """
        target = Path(path)
        if target.suffix.lower() == ".npz":
            return written(target, self.arrays)
        named = self.target.title if self.target else ""
        facts = {"Method": self.method, "Layer": self.layer or "", "Target": named, "Model": self._scene.model}
        return written(target, Drawn(self._figure(), facts, self._scene.style.size.dpi))

    def show(self) -> None:
        """Show the picture: below the cell in a notebook, else in the system's viewer of pictures."""
        shown(self, self.picture)

    def _repr_png_(self) -> bytes:
        return encoded(self.picture)

    def entry(self) -> tuple[Panel, Caption]:
        """What a sheet of several results shows of it."""
        return self._panel, self._caption

    def __repr__(self) -> str:
        about = [self.method, self.layer, self.target.title if self.target else None]
        return f"<Explanation {', '.join(filter(None, about))}: {self.state}>"


def _fixed(values: Any) -> Array:
    """A copy that nobody can write to, float32 where it holds fractions."""
    array = np.array(values, dtype=np.float32 if np.asarray(values).dtype.kind == "f" else None)
    array.setflags(write=False)
    return array
