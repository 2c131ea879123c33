"""What `cnnviz_cli.explain` returns, how it is shown, and how it is saved."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from io import BytesIO
from math import isfinite
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli import __version__
from cnnviz_cli.core.errors import OutputError, UsageError
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.panels import Panel, Projections, State
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.core.text import did_you_mean, visible
from cnnviz_cli.render import SUFFIXES, Caption, Style
from cnnviz_cli.render.figures import Figure, Scene, compose_figure, encode_figure, fit_width
from cnnviz_cli.render.overview import compose_overview
from cnnviz_cli.render.raster import encode, rasterize
from cnnviz_cli.render.scaling import pixels_in_box, range_of, replace_nonfinite, resample, state_of

_KINDS = {f".{suffix}": kind for kind, suffix in SUFFIXES.items()} | {".jpeg": "jpeg"}


def encode_png(picture: Image.Image) -> bytes:
    """The bytes of a PNG."""
    return encode(picture).data


@dataclass(frozen=True, slots=True)
class FigureFile:
    """A figure that may still be written in any format, and what its file says about itself."""

    figure: Figure
    facts: Mapping[str, str]
    dpi: int = 0


def write_file(path: Path, content: FigureFile | Mapping[str, NDArray[Any]]) -> Path:
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


def display(value: Any, picture: Image.Image) -> None:
    """`value` below the cell of a notebook; outside of one `picture` in the system's viewer."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None and hasattr(shell, "kernel"):
        import_module("IPython.display").display(value)
    else:
        picture.show()


def _bytes_of(path: Path, content: FigureFile | Mapping[str, NDArray[Any]]) -> bytes:
    if not isinstance(content, FigureFile):
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


Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class FigureContext:
    """What all pictures of one photograph are drawn with.

    Attributes:
        photo: upright, RGB.
        view: where the network's input lies in it.
        seen: the network's input as a picture.
    """

    image: Image.Image
    view: View
    crop: Image.Image
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
    _scene: FigureContext
    _caption: Caption

    @cached_property
    def arrays(self) -> Mapping[str, Array]:
        """The raw numbers by name, float32 where they are no indices, read-only: what ``--save-arrays`` stores."""
        return MappingProxyType({name: _read_only(values) for name, values in self._panel.arrays().items()})

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
        whole = np.full((scene.image.height, scene.image.width), np.nan, np.float32)
        left, top, right, bottom = pixels_in_box(scene.view.box, scene.image.size)
        whole[top:bottom, left:right] = resample(replace_nonfinite(self.map), scene.view.box, scene.image.size)
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
        return self._caption.counterfactual

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
        of = self._scene
        return fit_width(
            partial(compose_figure, self._panel), Scene(of.image, of.view, of.crop, self._caption, of.style)
        )

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the picture as .png, .webp, .jpg, .svg or .pdf, or the raw numbers as .npz, and return the path.

        Raises:
            UsageError: another suffix.
            OutputError: it cannot be written.
        """
        target = Path(path)
        if target.suffix.lower() == ".npz":
            return write_file(target, self.arrays)
        named = self.target.title if self.target else ""
        facts = {"Method": self.method, "Layer": self.layer or "", "Target": named, "Model": self._scene.model}
        return write_file(target, FigureFile(self._figure(), facts, self._scene.style.size.dpi))

    def show(self) -> None:
        """Show the picture: below the cell in a notebook, else in the system's viewer of pictures."""
        display(self, self.picture)

    def _repr_png_(self) -> bytes:
        return encode_png(self.picture)

    def entry(self) -> tuple[Panel, Caption]:
        """What a sheet of several results shows of it."""
        return self._panel, self._caption

    def __repr__(self) -> str:
        about = [self.method, self.layer, self.target.title if self.target else None]
        return f"<Explanation {', '.join(filter(None, about))}: {self.state}>"


def _read_only(values: Any) -> Array:
    """A copy that nobody can write to, float32 where it holds fractions."""
    array = np.array(values, dtype=np.float32 if np.asarray(values).dtype.kind == "f" else None)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False, repr=False)
class ExplainedImage:
    """One picture with its predictions and everything that the methods gave. Iterating gives the `Explanation`s.

    Attributes:
        name: the path as it was given, or ``image 0`` for a picture without a name.
        predictions: what the network says, at most five, the foremost first: classes, regions, boxes, or a similarity.
        explanations: family by family, each in the order of the methods, targets and layers.
    """

    name: str
    predictions: tuple[Prediction, ...]
    explanations: tuple[Explanation, ...]
    _scene: FigureContext

    @property
    def photo(self) -> Image.Image:
        """The upright photograph; of a tensor the picture that was normalised, or a grey ground if it was none."""
        return self._scene.image

    @property
    def seen(self) -> Image.Image:
        """What the network saw of it, at the size of its input."""
        return self._scene.crop

    def select(
        self, method: str | None = None, *, layer: str | None = None, target: str | int | None = None
    ) -> tuple[Explanation, ...]:
        """The results of a method, a layer and a class; what is not given may be anything.

        Args:
            target: a label or an index; of one box of several ``"cat, box 2"``.
        """
        return tuple(
            one
            for one in self.explanations
            if method in (None, one.method)
            and layer in (None, one.layer)
            and (target is None or (one.target is not None and target in _names(one.target)))
        )

    def __getitem__(self, method: str) -> Explanation:
        """The one result of a method.

        Raises:
            KeyError: the method was not run.
            UsageError: it gave several, for several layers or classes.
        """
        found = self.select(method)
        if not found:
            names = list(dict.fromkeys(one.method for one in self.explanations))
            raise KeyError(f"there is no '{method}' here. {did_you_mean(method, names) or f'There are {names}.'}")
        if len(found) > 1:
            raise UsageError(
                f"{method} gave {len(found)} results here, for several layers or classes",
                fix=f"Choose: .select({method!r}, layer=..., target=...)",
            )
        return found[0]

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self.explanations)

    def __len__(self) -> int:
        return len(self.explanations)

    @cached_property
    def picture(self) -> Image.Image:
        """One sheet with the photograph, the predictions and all results, drawn on first use and kept."""
        return rasterize(*self._figure())

    def _figure(self) -> Figure:
        of = self._scene
        caption = Caption(title="overview", model=of.model, source=self.name)
        entries = [one.entry() for one in self.explanations]
        scene = Scene(of.image, of.view, of.crop, caption, of.style)
        return fit_width(partial(compose_overview, self.predictions, entries), scene)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the sheet in one of the formats of `Explanation.save`, and return the path; raises as that does."""
        facts = {"Method": "overview", "Model": self._scene.model}
        return write_file(Path(path), FigureFile(self._figure(), facts, self._scene.style.size.dpi))

    def show(self) -> None:
        """Show the sheet: below the cell in a notebook, else in the system's viewer of pictures."""
        display(self, self.picture)

    def _repr_png_(self) -> bytes:
        return encode_png(self.picture)

    def __repr__(self) -> str:
        top = self.predictions[0].brief if self.predictions else "nothing found"
        return f"<ExplainedImage {self.name}: {top}, {len(self)} explanations>"


def _names(target: Prediction) -> tuple[str | int, ...]:
    return target.index, target.label, target.title


@dataclass(frozen=True, eq=False, repr=False)
class Explanations(Sequence[ExplainedImage]):
    """The pictures in the order in which they were given: ``found[0]``, and ``found[0, "gradcam"]`` for one result."""

    images: tuple[ExplainedImage, ...]

    @overload
    def __getitem__(self, key: int) -> ExplainedImage: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[ExplainedImage, ...]: ...
    @overload
    def __getitem__(self, key: tuple[int, str]) -> Explanation: ...
    def __getitem__(
        self, key: int | slice | tuple[int, str]
    ) -> ExplainedImage | tuple[ExplainedImage, ...] | Explanation:
        if isinstance(key, tuple):
            image, method = key
            return self.images[image][method]
        return self.images[key]

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"<Explanations of {len(self)} images>"
