"""What `cnnviz_cli.explain` returns: the pictures, and of each what the methods gave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import overload

from PIL import Image

from cnnviz_cli.api_explanation import Explanation, Scene
from cnnviz_cli.api_output import Drawn, encoded, shown, written
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.core.suggest import did_you_mean
from cnnviz_cli.render import Caption
from cnnviz_cli.render.overview_sheet import compose_overview
from cnnviz_cli.render.pictures import Figure, sized
from cnnviz_cli.render.raster import rasterize


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
    _scene: Scene

    @property
    def photo(self) -> Image.Image:
        """The upright photograph; of a tensor the picture that was normalised, or a grey ground if it was none."""
        return self._scene.photo

    @property
    def seen(self) -> Image.Image:
        """What the network saw of it, at the size of its input."""
        return self._scene.seen

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
        scene = self._scene
        caption = Caption(title="overview", model=scene.model, source=self.name)
        given = (scene.photo, scene.view, scene.seen, self.predictions, [one.entry() for one in self.explanations])
        return sized(partial(compose_overview, *given, caption), scene.style)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the sheet in one of the formats of `Explanation.save`, and return the path; raises as that does."""
        facts = {"Method": "overview", "Model": self._scene.model}
        return written(Path(path), Drawn(self._figure(), facts, self._scene.style.size.dpi))

    def show(self) -> None:
        """Show the sheet: below the cell in a notebook, else in the system's viewer of pictures."""
        shown(self, self.picture)

    def _repr_png_(self) -> bytes:
        return encoded(self.picture)

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
