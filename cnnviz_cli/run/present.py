"""From one image's results to its files, their names and its record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from itertools import count
from math import isfinite
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from cnnviz_cli import __version__
from cnnviz_cli.core.figure_settings import Scale
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.layers import split_run
from cnnviz_cli.core.panels import Panel, advice
from cnnviz_cli.core.records import Arrays, ImageRecord, Output, Prediction, Subject, Window
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.file_names import file_name
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.render import SUFFIXES, Caption
from cnnviz_cli.render.compare import compose_comparison
from cnnviz_cli.render.figures import Figure, Scene, compose_figure, encode_figure, fit_width, fit_widths
from cnnviz_cli.render.overview import compose_overview
from cnnviz_cli.render.raster import Encoded
from cnnviz_cli.render.scaling import color_limits, range_of, state_of
from cnnviz_cli.run.image_data import ImageResult, LoadedImage, RenderSpec, TaskName, Wording
from cnnviz_cli.tasks.description import TargetDescription

OVERVIEW = "overview"
ARRAYS = file_name("arrays", "npz")


COUNTERFACTUAL = "counterfactual"


def shows_counterfactual(panel: Panel, wording: Wording) -> bool:
    """Whether a panel shows what speaks against its target; magnitudes are the same for and against."""
    return wording.counterfactual and panel.target is not None and not panel.unsigned


class FigureNames:
    """`<family>[.<method>][.counterfactual][.<part>][.<depth>.<layer>][.<target>].<suffix>`.

    Without what a run has only one of. The depth is the layer's number from the input up.
    """

    def __init__(self, works: Sequence[TaskName], wording: Wording, *, several_targets: bool) -> None:
        self._wording = wording
        families = [work.family for work in dict.fromkeys(works)]
        self._several_methods = {family for family in families if families.count(family) > 1}
        self._several_targets = several_targets
        self.with_overview = len(set(families)) > 1

    def stem(self, work: TaskName, panel: Panel, panels: Sequence[Panel], target: str) -> list[str]:
        """The parts of one figure's name.

        Args:
            panels: all that the method gave, `panel` among them.
            target: the class explained, with its index, for methods that explain one.
        """
        parts = [work.family]
        if work.family in self._several_methods:
            parts.append(work.method)
        if shows_counterfactual(panel, self._wording):
            parts.append(COUNTERFACTUAL)
        if panel.part:
            parts.append(panel.part)
        # A sheet of maps is about a layer and nothing else, so it always says which.
        if panel.layer and (panel.of_layer or len({p.layer for p in panels}) > 1):
            # Of several layers as one there is no number.
            path, run = split_run(panel.layer)
            # No other layer can be called so, since its name is a module path without a dash.
            parts += filter(None, (self._wording.depths.get(path), path if run is None else f"{path}-run{run}"))
        if panel.target is not None and self._several_targets:
            parts.append(target)
        return parts


def comparison_names(family: str, taken: Collection[str], suffix: str = "png") -> Iterator[str]:
    """The names of a family's comparison sheets: ``<family>.compare.png``, ``<family>.compare-2.png`` and so on.

    Names in `taken`, of the image's figures, are passed over: a layer may be called ``compare``.
    """
    barred = {name.casefold() for name in taken}
    for number in count(1):
        name = file_name(family, "compare" if number == 1 else f"compare-{number}", suffix)
        if name.casefold() not in barred:
            yield name


MAX_NAMED_LAYERS = 3


class Presenter:
    """Draws and writes what a run found for its images."""

    def __init__(self, spec: RenderSpec, sink: Sink, warn: Callable[[str], None]) -> None:
        self._drawing = spec
        self._sink = sink
        self._warn = warn
        self._style = spec.style
        self._suffix = SUFFIXES[spec.format]
        self._naming = FigureNames(spec.tasks, spec.wording, several_targets=spec.several_targets)

    def present(self, loaded: LoadedImage, result: ImageResult) -> ImageRecord:
        description = result.description
        view = loaded.view.for_image_size(
            loaded.original.size
        )  # in the file's own pixels, of which fast decoding leaves fewer
        predictions = [box_in_image_pixels(one, view) for one in description.predictions]
        outputs: list[Output] = []
        shown: dict[str, list[tuple[Panel, Caption]]] = {}
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        for one in panel_figures(result, self._drawing.tasks, self._drawing.wording, loaded.source.name, view):
            panel, caption = one.panel, one.caption
            stem = self._naming.stem(one.task, panel, one.siblings, one.shown.name if one.shown else "")
            if loaded.original.shown:
                caption = replace(caption, values=loaded.original.shown.words)
            shown.setdefault(one.task.family, []).append((panel, caption))
            figure = fit_width(partial(compose_figure, panel), self._scene(loaded, caption))
            path = f"{loaded.folder}/{file_name(*stem, self._suffix)}"
            outputs.append(self._write_figure(one, path, figure, caption))
            arrays.update({file_name(*stem, name): plain_array(values) for name, values in panel.arrays().items()})
        sheets = self._sheets(loaded, predictions, shown, {PurePosixPath(output.path).name for output in outputs})
        width, height = loaded.original.size
        return ImageRecord(
            source=loaded.source.name,
            sha256=loaded.original.sha256,
            width=width,
            height=height,
            status="ok",
            error=None,
            predictions=predictions,
            truth=description.truth,
            seen=_window(view),
            mask_sha256=loaded.mask_sha256,
            value_range=(loaded.original.shown.low, loaded.original.shown.high) if loaded.original.shown else None,
            outputs=[*sheets, *outputs],
            arrays=self._save_arrays(loaded, arrays) if self._drawing.save_arrays else None,
        )

    def _sheets(
        self,
        seen: LoadedImage,
        predictions: Sequence[Prediction],
        shown: Mapping[str, Sequence[tuple[Panel, Caption]]],
        taken: Collection[str],
    ) -> Iterator[Output]:
        model, source = self._drawing.wording.model, seen.source.name
        if self._naming.with_overview:
            scene = self._scene(seen, Caption(title="overview", model=model, source=source))
            every = [entry for entries in shown.values() for entry in entries]
            sheet = fit_width(partial(compose_overview, predictions, every), scene)
            path = f"{seen.folder}/{file_name(OVERVIEW, self._suffix)}"
            yield self._write_sheet("overview", path, sheet, scene.caption.title)
        for family, entries in shown.items():
            if len(entries) > 1:
                scene = self._scene(seen, Caption(title=f"{family} compared", model=model, source=source))
                sheets = fit_widths(partial(compose_comparison, entries), scene)
                for name, sheet in zip(comparison_names(family, taken, self._suffix), sheets, strict=False):
                    yield self._write_sheet(family, f"{seen.folder}/{name}", sheet, scene.caption.title)

    def _scene(self, seen: LoadedImage, caption: Caption) -> Scene:
        return Scene(seen.original.image, seen.view, seen.crop, caption, self._style)

    def _write_figure(self, one: PanelFigure, path: str, figure: Figure, caption: Caption) -> Output:
        panel, state = one.panel, state_of(one.panel)
        if state != "ok":
            self._warn(f"{escape_text(path)} is {state}: {escape_text(caption.note)}")
        return Output(
            family=one.task.family,
            method=one.task.method,
            layer=panel.layer,
            subject=Subject(layer=panel.layer) if panel.of_network else None,
            target=one.target,
            contrast=one.contrast,
            counterfactual=caption.counterfactual,
            **self._store(path, figure, one.facts),
            range=range_of(panel),
            scale=color_limits(panel, caption.scale),
            state=state,
            statistics=finite_statistics(panel),
        )

    def _write_sheet(self, family: str, path: str, sheet: Figure, title: str) -> Output:
        stored = self._store(path, sheet, {"Method": title})
        return Output(family=family, method=None, layer=None, target=None, **stored, range=None, state="ok")

    def _store(self, path: str, figure: Figure, about: Mapping[str, str]) -> dict[str, Any]:
        """Write a figure, under another suffix if its format cannot hold it; what its `Output` says of the file."""
        facts = {**about, "Model": self._drawing.wording.model, "Settings": self._drawing.settings_sha256}
        file, (width, height) = encode_with_facts(figure, self._drawing.format, facts, self._style.size.dpi)
        if file.note:
            path = str(PurePosixPath(path).with_suffix(f".{file.suffix}"))
            self._warn(f"{escape_text(path)}: {file.note}")
        sha256 = self._sink.write_figure(path, file.data)
        return {"path": path, "sha256": sha256, "width": width, "height": height}

    def _save_arrays(self, seen: LoadedImage, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
        path = f"{seen.folder}/{ARRAYS}"
        return Arrays(path=path, sha256=self._sink.write(path, encode_arrays(arrays)))


@dataclass(frozen=True)
class PanelFigure:
    """One panel of an image that is to be drawn.

    Attributes:
        siblings: all panels that its task gave, itself among them.
        shown: what it explains; None if it explains nothing.
        target: that, its box in pixels of the image.
        contrast: what that is told apart from.
    """

    task: TaskName
    panel: Panel
    siblings: Sequence[Panel]
    shown: TargetDescription | None
    target: Prediction | None
    contrast: Prediction | None
    caption: Caption

    @property
    def facts(self) -> dict[str, str]:
        """What the file says of it."""
        target = self.target.title if self.target else ""
        return {"Method": self.task.method, "Layer": self.panel.layer or "", "Target": target}


def panel_figures(
    result: ImageResult, tasks: Sequence[TaskName], wording: Wording, source: str, view: View
) -> Iterator[PanelFigure]:
    """What is drawn of an image: every panel but those of targets that are not there, or are drawn already.

    `view` is where the network's input lies in the image, and `source` the image's name.
    """
    description = result.description
    for task, panels, scales in zip(tasks, result.panels, result.scales, strict=True):
        for panel, scale in zip(panels, scales, strict=True):
            shown = None if panel.target is None else description.targets[panel.target]
            if panel.target is not None and shown is None:
                continue
            contrast = description.contrast if shown else None
            target = box_in_image_pixels(shown.prediction, view) if shown else None
            caption = build_caption(task, panel, shown, contrast, wording, source, scale)
            yield PanelFigure(task, panel, panels, shown, target, contrast, caption)


def encode_with_facts(figure: Figure, kind: str, facts: Mapping[str, str], dpi: int) -> tuple[Encoded, tuple[int, int]]:
    """A figure as a file that says what it is; see `render.figures.encode_figure`."""
    block, scale = figure
    about = {"Software": f"cnnviz {__version__}", **facts}
    return encode_figure(block, kind, scale, {name: escape_text(value) for name, value in about.items() if value}, dpi)


def encode_arrays(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # names come from panels, never `file`
    return buffer.getvalue()


def finite_statistics(panel: Panel) -> dict[str, float]:
    """The numbers that a method reports beside its map, without those that overflowed."""
    return {name: float(value) for name, value in panel.statistics.items() if isfinite(value)}


def build_caption(
    work: TaskName,
    panel: Panel,
    shown: TargetDescription | None,
    contrast: Prediction | None,
    wording: Wording,
    source: str,
    scale: Scale | None,
) -> Caption:
    """What is written beside a panel."""
    counter = shows_counterfactual(panel, wording)
    apart = contrast.label if contrast else ""
    title = panel.title or work.title or work.method
    if counter:
        title += f", {COUNTERFACTUAL}"
    elif wording.counterfactual and panel.unsigned:
        title += " (the same for and against)"
    return Caption(
        title=title,
        layer=_layer_text(panel, wording.layers),
        target=shown.prediction.title if shown else "",
        detail=(shown.where or shown.prediction.figure) if shown else "",
        model=wording.model,
        source=source,
        contrast=apart,
        note=advice(state_of(panel), counter=counter, contrast=apart),
        scale=scale,
        mark=shown.mark if shown else None,
        palette=work.palette,
        counterfactual=counter,
        against=shown.against if shown else "",
        joint=" of " if panel.of_layer else ", ",
    )


def _layer_text(panel: Panel, called: Mapping[str, str]) -> str:
    if panel.layers:
        names = [called.get(name, name) for name in panel.layers]
        if len(names) > MAX_NAMED_LAYERS:
            names[MAX_NAMED_LAYERS - 1 :] = [f"{len(names) - MAX_NAMED_LAYERS + 1} more layers"]
        return f"{panel.joined} of {', '.join(names[:-1])} and {names[-1]}, rescaled"
    name = panel.layer or ""
    return name if panel.of_layer else called.get(name, name)


def box_in_image_pixels(prediction: Prediction, view: View) -> Prediction:
    """A prediction whose box, given as shares of the network's input, is in pixels of the image."""
    if prediction.box is None:
        return prediction
    box = view.fractions_to_image(prediction.box)
    return prediction.model_copy(update={"box": tuple(round(side, 2) for side in box)})


def _window(view: View) -> Window:
    left, top, right, bottom = (round(side, 4) for side in view.box)
    return Window(size=view.size, box=(left, top, right, bottom))


def plain_array(values: Any) -> np.ndarray[Any, Any]:
    """An array, float32 where it holds fractions."""
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype.kind == "f" else array
