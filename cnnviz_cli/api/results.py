"""What `cnnviz_cli.explain` returns, how it is shown, and how it is saved."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from html import escape
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.errors import OutputError, UsageError
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.judgements import JudgedImage, Judgement
from cnnviz_cli.core.panels import Panel, Projections, State
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.core.text import did_you_mean
from cnnviz_cli.files.output.sink import replace_file
from cnnviz_cli.render import SUFFIXES, Caption, Style
from cnnviz_cli.render.figures import Figure, Scene, compose_figure, fit_width
from cnnviz_cli.render.overview import compose_overview
from cnnviz_cli.render.raster import encode, rasterize
from cnnviz_cli.render.scaling import pixels_in_box, range_of, replace_nonfinite, resample, state_of
from cnnviz_cli.run.judged_records import judged_fields
from cnnviz_cli.run.present import PanelFigure, encode_arrays, encode_with_facts, finite_statistics, plain_array

_KINDS = {f".{suffix}": kind for kind, suffix in SUFFIXES.items()} | {".jpeg": "jpeg"}

Array = NDArray[Any]


def write_file(path: Path, data: bytes) -> Path:
    """Write a file, whole or not at all; raises OutputError if it cannot be written."""
    try:
        with replace_file(path, path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")) as file:
            file.write(data)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}", where=str(path)) from error
    return path


@dataclass(frozen=True, eq=False)
class FigureContext:
    """What all figures of one image are drawn with: it and the network's input, which is the `crop` at `view`."""

    image: Image.Image
    view: View
    crop: Image.Image
    style: Style
    model: str
    name: str


class Drawn:
    """What shows itself in a notebook, in a viewer and as a file."""

    _scene: FigureContext

    @cached_property
    def picture(self) -> Image.Image:
        """The figure with its captions and its legend, drawn on first use and kept."""
        return rasterize(*self._figure())

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the figure as .png, .webp, .jpg, .svg or .pdf, or the numbers of one result as .npz; returns the path.

        Raises:
            UsageError: another suffix, or the format cannot hold so large a figure.
            OutputError: it cannot be written.
        """
        target = Path(path)
        kind = _KINDS.get(target.suffix.lower())
        if kind is None:
            what = f"'{target.name}': figures are written as {', '.join(_KINDS)}"
            raise UsageError(what, where="path", fix="The raw numbers of one explanation are written as .npz.")
        facts = {**self._facts(), "Model": self._scene.model}
        made, _ = encode_with_facts(self._figure(), kind, facts, self._scene.style.size.dpi)
        if made.note:
            raise UsageError(f"'{target.name}' cannot hold it: {made.note}", where="path", fix="Save it as .png.")
        return write_file(target, made.data)

    def show(self) -> None:
        """Show the figure: below the cell in a notebook, else in the system's viewer of images."""
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if shell is not None and hasattr(shell, "kernel"):
            import_module("IPython.display").display(self)
        else:
            self.picture.show()

    def _repr_png_(self) -> bytes:
        return encode(self.picture).data

    def _figure(self) -> Figure:
        raise NotImplementedError

    def _facts(self) -> dict[str, str]:
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Drawn):
    """One result of one method for one image: of one layer, if it reads a layer, and one class, if it explains one.

    In a notebook it shows itself.

    Attributes:
        method: its name, as ``cnnviz methods`` lists it.
        family: the kind of method: features, saliency, deconv or gradcam.
        layer: the layer that was read; None where none or several were.
        target: what was explained, and its probability, its share of the image or how similar it is; of a box also
            where it is in the image. None for methods that explain nothing.
        contrast: the class that it was told apart from, if any.
    """

    method: str
    family: str
    layer: str | None
    target: Prediction | None
    contrast: Prediction | None
    _scene: FigureContext
    _drawn: PanelFigure

    @cached_property
    def arrays(self) -> Mapping[str, Array]:
        """The raw numbers by name, float32 where they are no indices, read-only: what ``--save-arrays`` stores."""
        return MappingProxyType({name: _read_only(values) for name, values in self._drawn.panel.arrays().items()})

    @property
    def map(self) -> Array:
        """The raw numbers of the result, read-only.

        (h, w) of a map, at the resolution of its layer or of the input; (C, H, W) of a projection into colours, around
        zero; (N, h, w) of N feature maps; (N, C, kh, kw) of N kernels.

        Raises:
            UsageError: there are several arrays of different shapes; they are in `arrays`.
        """
        if isinstance(self._drawn.panel, Projections):
            names = ", ".join(self.arrays)
            raise UsageError(f"{self.method} gives no single map", fix=f"See .arrays, which holds {names}.")
        values = next(iter(self.arrays.values()))
        return values[0] if self._drawn.panel.takes_scale else values

    def map_on_photo(self) -> Array:
        """(H, W) float32: the map at the image's own resolution, NaN where the network saw nothing of it.

        Interpolated bilinearly between the centres of the map's cells, whatever figures are drawn with.

        Raises:
            UsageError: the result is no map of the image.
        """
        if not self._drawn.panel.takes_scale:
            raise UsageError(f"{self.method} gives no single map of the image", fix="See .arrays.")
        scene = self._scene
        whole = np.full((scene.image.height, scene.image.width), np.nan, np.float32)
        left, top, right, bottom = pixels_in_box(scene.view.box, scene.image.size)
        whole[top:bottom, left:right] = resample(replace_nonfinite(self.map), scene.view.box, scene.image.size)
        return whole

    @property
    def state(self) -> State:
        """``ok``, or why the map cannot be read: see `advice`."""
        return state_of(self._drawn.panel)

    @property
    def advice(self) -> str:
        """One sentence on what to do about a map that cannot be read; empty where it can."""
        return self._drawn.caption.note

    @property
    def counterfactual(self) -> bool:
        """Whether it shows what speaks against the target."""
        return self._drawn.caption.counterfactual

    @property
    def range(self) -> tuple[float, float] | None:
        """The lowest and the highest raw value; None where there are several maps or numbers are not finite."""
        return range_of(self._drawn.panel)

    @cached_property
    def statistics(self) -> Mapping[str, float]:
        """Numbers that the method reports beside its map, by name; those that overflowed are left out."""
        return MappingProxyType(finite_statistics(self._drawn.panel))

    @property
    def measures(self) -> Mapping[str, float]:
        """What measures say of the map, by column, to six digits; empty but for `evaluate`."""
        found: Mapping[str, float] = judged_fields(self._drawn.judgement or Judgement())["measures"]
        return MappingProxyType(dict(found))

    @property
    def undone(self) -> Mapping[str, str]:
        """Why a column, or a measure, has no number."""
        return MappingProxyType(dict(self._drawn.judgement.undone if self._drawn.judgement else {}))

    @property
    def drawn(self) -> PanelFigure:
        """What the figure is drawn of."""
        return self._drawn

    def _figure(self) -> Figure:
        of = self._scene
        return fit_width(
            partial(compose_figure, self._drawn.panel), Scene(of.image, of.view, of.crop, self._drawn.caption, of.style)
        )

    def _facts(self) -> dict[str, str]:
        return self._drawn.facts

    def save(self, path: str | PathLike[str]) -> Path:
        """See `Drawn.save`; the raw numbers are written as .npz."""
        target = Path(path)
        return write_file(target, encode_arrays(self.arrays)) if target.suffix.lower() == ".npz" else super().save(path)

    def entry(self) -> tuple[Panel, Caption]:
        return self._drawn.panel, self._drawn.caption

    def __repr__(self) -> str:
        about = [self.method, self.layer, self.target.title if self.target else None]
        return f"<Explanation {', '.join(filter(None, about))}: {self.state}>"


def _read_only(values: Any) -> Array:
    array = np.array(plain_array(values))
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False, repr=False)
class ExplainedImage(Drawn):
    """One image with its predictions and everything that the methods gave. Iterating gives the `Explanation`s.

    Attributes:
        name: the path as it was given, or ``image 0`` for an image without a name.
        predictions: what the network says, at most five, the foremost first: classes, regions, boxes, or a similarity.
        explanations: family by family, each in the order of the methods, targets and layers.
        judged: what measures say of the maps; of `evaluate` alone.
    """

    name: str
    predictions: tuple[Prediction, ...]
    explanations: tuple[Explanation, ...]
    _scene: FigureContext
    judged: JudgedImage | None = None
    _sha256: str = ""

    @property
    def photo(self) -> Image.Image:
        """The upright image; of a tensor what was normalised, or a grey ground if that is no image."""
        return self._scene.image

    @property
    def context(self) -> FigureContext:
        """What its figures are drawn with."""
        return self._scene

    @property
    def sha256(self) -> str:
        """Of the image's file, or of its pixels where it has none."""
        return self._sha256

    @property
    def seen(self) -> Image.Image:
        """What the network saw of it, at the size of its input."""
        return self._scene.crop

    def select(
        self, method: str | None = None, *, layer: str | None = None, target: str | int | None = None
    ) -> tuple[Explanation, ...]:
        """The results of a method, a layer and a class; what is not given may be anything.

        `target` is a label or an index; of one box of several ``"cat, box 2"``.
        """
        return tuple(
            one
            for one in self.explanations
            if method in (None, one.method)
            and layer in (None, one.layer)
            and (target is None or (one.target and target in (one.target.index, one.target.label, one.target.title)))
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

    def _figure(self) -> Figure:
        of = self._scene
        caption = Caption(title="overview", model=of.model, source=self.name)
        entries = [one.entry() for one in self.explanations]
        scene = Scene(of.image, of.view, of.crop, caption, of.style)
        return fit_width(partial(compose_overview, self.predictions, entries), scene)

    def _facts(self) -> dict[str, str]:
        return {"Method": "overview"}

    def __repr__(self) -> str:
        top = self.predictions[0].brief if self.predictions else "nothing found"
        return f"<ExplainedImage {self.name}: {top}, {len(self)} explanations>"


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """A page of explanations that any browser opens. In a notebook it shows itself, and asks the network for nothing.

    Attributes:
        path: of the page; None where it was not written.
        html: the page, where it is one file; else empty.
    """

    path: Path | None
    html: str
    images: int

    def _repr_html_(self) -> str:
        """The page in a frame that may run its own scripts and nothing else."""
        if not self.html:
            return f"<p>The page is <code>{escape(str(self.path))}</code>.</p>"
        style = "width: 100%; height: 720px; border: 1px solid #8888; border-radius: 4px"
        frame = f'sandbox="allow-scripts allow-downloads" style="{style}" title="cnnviz report"'
        return f'<iframe {frame} srcdoc="{escape(self.html)}"></iframe>'

    def __repr__(self) -> str:
        return f"<Report of {self.images} images{f', {self.path}' if self.path else ''}>"


@dataclass(frozen=True, eq=False, repr=False)
class Explanations(Sequence[ExplainedImage]):
    """The images in the order in which they were given: ``found[0]``, and ``found[0, "gradcam"]`` for one result."""

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

    def report(self, path: str | PathLike[str] | None = None, *, single_file: bool = True, title: str = "") -> Report:
        """All images as one page for any browser: side by side, filtered, with palette and values at hand.

        In a notebook it shows itself below the cell. Nothing of it comes from a network.

        Args:
            path: the page to write, ``report.html``; None to keep it in memory. An earlier one is replaced.
            single_file: whether all is in the one file, which one can send. Else `path` is a folder, for the page,
                its data, and the figures, arrays and manifest that a run of the command would leave.
            title: of the page.

        Raises:
            UsageError: there are no images, or nowhere to write several files to.
            OutputError: it cannot be written, or is larger than 500 MB.
        """
        from cnnviz_cli.api.export import make_report

        model = self.images[0].context.model if self.images else ""
        return make_report(self.images, path, single_file=single_file, title=title, model=model)

    def __repr__(self) -> str:
        return f"<Explanations of {len(self)} images>"
