"""From one image's results to its files, their names and its record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from itertools import count
from math import isfinite
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np

from cnnviz_cli import __version__
from cnnviz_cli.core.figure_settings import Scale
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.judgements import JudgedImage, Judgement
from cnnviz_cli.core.layers import split_run
from cnnviz_cli.core.panels import Panel, SingleMap, advice
from cnnviz_cli.core.records import Arrays, ImageRecord, Output, Picture, Prediction, Subject, Window
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.files.output.file_names import THUMBNAIL, file_name
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.small_pictures import write_grey, write_thumbnail
from cnnviz_cli.render import SUFFIXES, Caption
from cnnviz_cli.render.compare import compose_comparison
from cnnviz_cli.render.figures import Figure, Scene, compose_figure, encode_figure, fit_width, fit_widths
from cnnviz_cli.render.overview import compose_overview
from cnnviz_cli.render.raster import MAX_SIDE, Encoded
from cnnviz_cli.render.scaling import color_limits, range_of, state_of
from cnnviz_cli.run.image_data import ImageResult, LoadedImage, RenderSpec, TaskName, Wording
from cnnviz_cli.run.judged_records import (
    agreement_record,
    control_records,
    findings_of,
    judged_fields,
    judged_sheet,
    marked_records,
)
from cnnviz_cli.tasks.description import ImageDescription, TargetDescription

OVERVIEW = "overview"
EVALUATION = "evaluation"
"""The family of figures about what measures say."""
EVALUATED = "evaluate"
"""What such a figure of one image is called."""
ARRAYS = file_name("arrays", "npz")
GREY = "grey-map.webp"
"""What the name of a map in grey ends in; no layer is called so, since its name is a module path without a dash."""
MOST_VALUES = 64 * 64
"""Of a map whose numbers the report holds; of a larger one it shows the picture in grey."""

COUNTERFACTUAL = "counterfactual"


def shows_counterfactual(panel: Panel, wording: Wording) -> bool:
    """Whether a panel shows what speaks against its target; magnitudes are the same for and against."""
    return wording.counterfactual and panel.target is not None and not panel.unsigned


class FigureNames:
    """`<family>[.<method>][.counterfactual][.<part>][.<depth>.<layer>][.<target>].<suffix>`.

    Parts of which a run has only one are left out. The depth is the layer's number from the input up.
    """

    def __init__(self, tasks: Sequence[TaskName], wording: Wording, *, several_targets: bool) -> None:
        self._wording = wording
        families = [task.family for task in dict.fromkeys(tasks)]
        self._several_methods = {family for family in families if families.count(family) > 1}
        self._several_targets = several_targets
        self.with_overview = len(set(families)) > 1

    def stem(self, task: TaskName, panel: Panel, panels: Sequence[Panel], target: str) -> list[str]:
        """The parts of one figure's name.

        Args:
            panels: all that the method gave, `panel` among them.
            target: the class explained, with its index, for methods that explain one.
        """
        parts = [task.family]
        if task.family in self._several_methods:
            parts.append(task.method)
        if shows_counterfactual(panel, self._wording):
            parts.append(COUNTERFACTUAL)
        if panel.part:
            parts.append(panel.part)
        # A sheet of maps is about a layer and nothing else, so it always says which.
        if panel.layer and (panel.of_layer or len({p.layer for p in panels}) > 1):
            # Of several layers as one there is no number.
            path, repeat = split_run(panel.layer)
            # No other layer can be called so, since its name is a module path without a dash.
            parts += filter(None, (self._wording.depths.get(path), path if repeat is None else f"{path}-run{repeat}"))
        if panel.target is not None and self._several_targets:
            parts.append(target)
        return parts


def comparison_names(family: str, taken: Collection[str], suffix: str = "png") -> Iterator[str]:
    """The names of a family's comparison sheets: ``<family>.compare.png``, ``<family>.compare-2.png`` and so on.

    Names in `taken`, of the image's figures, are passed over: a layer may be called ``compare``.
    """
    taken_folded = {name.casefold() for name in taken}
    for number in count(1):
        name = file_name(family, "compare" if number == 1 else f"compare-{number}", suffix)
        if name.casefold() not in taken_folded:
            yield name


MAX_NAMED_LAYERS = 3


class Presenter:
    """Draws and writes what a run found for its images."""

    def __init__(self, spec: RenderSpec, sink: Sink, warn: Callable[[str], None]) -> None:
        self._spec = spec
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
        predictions = [box_in_image_pixels(prediction, view) for prediction in description.predictions]
        outputs: list[Output] = []
        panels_by_family: dict[str, list[tuple[Panel, Caption]]] = {}
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        head, judged = self._spec.evaluation, result.judged
        controls = judged.controls if judged else ()
        paths: dict[tuple[int, int], str] = {}
        captions: dict[tuple[int, int], Caption] = {}
        maps: dict[str, list[tuple[int, Judgement | None]]] = {}
        for drawn in panel_figures(result, self._spec.tasks, self._spec.wording, loaded.source.name, view):
            panel, caption = drawn.panel, drawn.caption
            if head and drawn.judgement:
                one = (panel.target or 0, drawn.judgement)
                maps.setdefault(drawn.task.family, []).append(one)
                caption = replace(caption, findings=findings_of([one], head, controls)[0])
            stem = self._naming.stem(
                drawn.task, panel, drawn.siblings, drawn.target_description.name if drawn.target_description else ""
            )
            if loaded.original.shown:
                caption = replace(caption, values=loaded.original.shown.words)
            panels_by_family.setdefault(drawn.task.family, []).append((panel, caption))
            figure = fit_width(partial(compose_figure, panel), self._scene(loaded, caption))
            path = f"{loaded.folder}/{file_name(*stem, self._suffix)}"
            kept = self._kept_arrays(stem, panel)
            arrays.update({name: plain_array(panel.arrays()[part]) for part, name in kept.items()})
            output = self._write_figure(drawn, path, figure, caption)
            grey = self._write_grey(f"{loaded.folder}/{file_name(*stem, GREY)}", panel, output.scale)
            outputs.append(output.model_copy(update={**_array_fields(panel, kept), "grey": grey}))
            paths[drawn.place], captions[drawn.place] = outputs[-1].path, caption
        if head:
            for family, several in maps.items():
                words = findings_of(several, head, controls)
                panels_by_family[family] = [
                    (panel, replace(caption, findings=found))
                    for (panel, caption), found in zip(panels_by_family[family], words, strict=True)
                ]
        sheets = self._sheets(
            loaded, predictions, panels_by_family, {PurePosixPath(output.path).name for output in outputs}
        )
        width, height = loaded.original.size
        record = ImageRecord(
            source=loaded.source.name,
            sha256=loaded.original.sha256,
            width=width,
            height=height,
            status="ok",
            error=None,
            predictions=predictions,
            truth=description.truth,
            seen=window_of(view),
            mask_sha256=loaded.mask_sha256,
            value_range=(loaded.original.shown.low, loaded.original.shown.high) if loaded.original.shown else None,
            outputs=[*sheets, *outputs],
            thumbnail=self._write_thumbnail(loaded) if self._spec.report else None,
            arrays=self._save_arrays(loaded, arrays) if self._spec.save_arrays or arrays else None,
            **({} if judged is None else _judged_fields(judged, description, paths)),
        )
        if head is None or judged is None or not judged.remains:
            return record
        block = judged_sheet(
            record,
            result,
            head,
            captions,
            self._scene(loaded, Caption(title=EVALUATION, model=self._spec.wording.model, source=loaded.source.name)),
        )
        if block is None:
            return record
        path = f"{loaded.folder}/{file_name(EVALUATED, self._suffix)}"
        sheet = self._write_sheet(EVALUATION, path, block, EVALUATED)
        return record.model_copy(update={"outputs": [sheet, *record.outputs]})

    def _sheets(
        self,
        loaded: LoadedImage,
        predictions: Sequence[Prediction],
        panels_by_family: Mapping[str, Sequence[tuple[Panel, Caption]]],
        taken: Collection[str],
    ) -> Iterator[Output]:
        model, source = self._spec.wording.model, loaded.source.name
        if self._naming.with_overview:
            scene = self._scene(loaded, Caption(title="overview", model=model, source=source))
            all_entries = [entry for entries in panels_by_family.values() for entry in entries]
            sheet = fit_width(partial(compose_overview, predictions, all_entries), scene)
            path = f"{loaded.folder}/{file_name(OVERVIEW, self._suffix)}"
            yield self._write_sheet("overview", path, sheet, scene.caption.title)
        for family, entries in panels_by_family.items():
            if len(entries) > 1:
                scene = self._scene(loaded, Caption(title=f"{family} compared", model=model, source=source))
                sheets = fit_widths(partial(compose_comparison, entries), scene)
                for name, sheet in zip(comparison_names(family, taken, self._suffix), sheets, strict=False):
                    yield self._write_sheet(family, f"{loaded.folder}/{name}", sheet, scene.caption.title)

    def _scene(self, loaded: LoadedImage, caption: Caption) -> Scene:
        return Scene(loaded.original.image, loaded.view, loaded.crop, caption, self._style)

    def _write_figure(self, drawn: PanelFigure, path: str, figure: Figure, caption: Caption) -> Output:
        panel, state = drawn.panel, state_of(drawn.panel)
        if state != "ok":
            self._warn(f"{escape_text(path)} is {state}: {escape_text(caption.note)}")
        return Output(
            family=drawn.task.family,
            method=drawn.task.method,
            layer=panel.layer,
            subject=Subject(layer=panel.layer) if panel.of_network else None,
            target=drawn.target,
            contrast=drawn.contrast,
            counterfactual=caption.counterfactual,
            **self._store(path, figure, drawn.facts),
            range=range_of(panel),
            scale=color_limits(panel, caption.scale),
            state=state,
            statistics=finite_statistics(panel),
            verdict=panel.verdict(caption.classes) or None,
            **({} if drawn.judgement is None else judged_fields(drawn.judgement)),
        )

    def _write_sheet(self, family: str, path: str, sheet: Figure, title: str) -> Output:
        stored = self._store(path, sheet, {"Method": title})
        return Output(family=family, method=None, layer=None, target=None, **stored, range=None, state="ok")

    def _store(self, path: str, figure: Figure, about: Mapping[str, str]) -> dict[str, Any]:
        """Write a figure, under another suffix if its format cannot hold it; what its `Output` says of the file."""
        facts = {**about, "Model": self._spec.wording.model, "Settings": self._spec.settings_sha256}
        file, (width, height) = encode_with_facts(figure, self._spec.format, facts, self._style.size.dpi)
        if file.note:
            path = str(PurePosixPath(path).with_suffix(f".{file.suffix}"))
            self._warn(f"{escape_text(path)}: {file.note}")
        sha256 = self._sink.write_figure(path, file.data)
        return {"path": path, "sha256": sha256, "width": width, "height": height}

    def _kept_arrays(self, stem: Sequence[str], panel: Panel) -> dict[str, str]:
        """By what they hold the names of a panel's arrays that are kept: all, or for the report of a map with few
        values."""
        wanted = self._spec.save_arrays or (self._spec.report and reported_as(panel) == "numbers")
        return {part: file_name(*stem, part) for part in panel.arrays()} if wanted else {}

    def _write_grey(self, path: str, panel: Panel, scale: tuple[float, float] | None) -> Picture | None:
        """For the report a large map in grey; None of others, and where no colour stands for a number."""
        if scale is None or not self._spec.report or reported_as(panel) != "grey":
            return None
        return write_grey(self._sink, path, np.asarray(panel.parts()[0])[0], scale)

    def _write_thumbnail(self, loaded: LoadedImage) -> Picture:
        return write_thumbnail(self._sink, f"{loaded.folder}/{THUMBNAIL}", loaded.original.image)

    def _save_arrays(self, loaded: LoadedImage, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
        path = f"{loaded.folder}/{ARRAYS}"
        return Arrays(path=path, sha256=self._sink.write(path, encode_arrays(arrays)))


@dataclass(frozen=True)
class PanelFigure:
    """One panel of an image that is to be drawn.

    Attributes:
        siblings: all panels that its task gave, itself among them.
        target_description: what it explains; None if it explains nothing.
        target: the same as a prediction, its box in pixels of the image.
        contrast: what the target is told apart from.
        place: the number of the task, and of the panel among those that it gave.
        judgement: what measures say of it, if any do.
    """

    task: TaskName
    panel: Panel
    siblings: Sequence[Panel]
    target_description: TargetDescription | None
    target: Prediction | None
    contrast: Prediction | None
    caption: Caption
    place: tuple[int, int] = (0, 0)
    judgement: Judgement | None = None

    @property
    def facts(self) -> dict[str, str]:
        """What the figure's file says of itself, by key."""
        target = self.target.title if self.target else ""
        return {"Method": self.task.method, "Layer": self.panel.layer or "", "Target": target}


def panel_figures(
    result: ImageResult, tasks: Sequence[TaskName], wording: Wording, source: str, view: View
) -> Iterator[PanelFigure]:
    """What is drawn of an image: every panel but those of targets that are not there, or are drawn already.

    `view` is where the network's input lies in the image, and `source` the image's name.
    """
    description = result.description
    for number, (task, panels, scales) in enumerate(zip(tasks, result.panels, result.scales, strict=True)):
        for at, (panel, scale) in enumerate(zip(panels, scales, strict=True)):
            target_description = None if panel.target is None else description.targets[panel.target]
            if panel.target is not None and target_description is None:
                continue
            contrast = description.contrast if target_description else None
            target = box_in_image_pixels(target_description.prediction, view) if target_description else None
            caption = build_caption(task, panel, target_description, contrast, wording, source, scale)
            judgement = result.judged.panels[number][at] if result.judged else None
            if result.judged:
                caption = with_outline(caption, panel.target or 0, result.judged)
            place = (number, at)
            yield PanelFigure(task, panel, panels, target_description, target, contrast, caption, place, judgement)


def with_outline(caption: Caption, rank: int, judged: JudgedImage) -> Caption:
    """The caption of a map that was judged by what people have marked, with a line around that; where the target has a
    place of its own in the image, the line is around the target."""
    marked = next((one for one in judged.marked if one.rank == rank), None)
    if marked is None or caption.mark is not None:
        return caption
    names = [label.partition(",")[0] for label in marked.labels]
    words = f"what people have marked{f' ({list_some(names, 3)})' if names else ''}"
    return replace(caption, mark=marked.region, outlined=words)


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
    task: TaskName,
    panel: Panel,
    target: TargetDescription | None,
    contrast: Prediction | None,
    wording: Wording,
    source: str,
    scale: Scale | None,
) -> Caption:
    """What is written beside a panel."""
    is_counterfactual = shows_counterfactual(panel, wording)
    contrast_label = contrast.label if contrast else ""
    title = ", ".join(filter(None, [panel.title or task.title or task.method, panel.approximation]))
    if is_counterfactual:
        title += f", {COUNTERFACTUAL}"
    elif wording.counterfactual and panel.unsigned:
        title += " (the same for and against)"
    return Caption(
        title=title,
        layer=_layer_text(panel, wording.layers),
        target=target.prediction.title if target else "",
        detail=(target.where or target.prediction.figure) if target else "",
        model=wording.model,
        source=source,
        contrast=contrast_label,
        note=advice(
            state_of(panel),
            counter=is_counterfactual,
            contrast=contrast_label,
            statistics=finite_statistics(panel),
        ),
        scale=scale,
        mark=target.mark if target else None,
        palette=task.palette,
        counterfactual=is_counterfactual,
        against=target.against if target else "",
        joint=" of " if panel.of_layer else ", ",
        classes={index: wording.classes[index] for index in panel.named_classes()},
    )


def _layer_text(panel: Panel, layer_names: Mapping[str, str]) -> str:
    if panel.layers:
        names = [layer_names.get(name, name) for name in panel.layers]
        if len(names) > MAX_NAMED_LAYERS:
            names[MAX_NAMED_LAYERS - 1 :] = [f"{len(names) - MAX_NAMED_LAYERS + 1} more layers"]
        return f"{panel.joined} of {', '.join(names[:-1])} and {names[-1]}, rescaled"
    name = panel.layer or ""
    return name if panel.of_layer else layer_names.get(name, name)


def box_in_image_pixels(prediction: Prediction, view: View) -> Prediction:
    """A prediction whose box, given as shares of the network's input, is in pixels of the image."""
    if prediction.box is None:
        return prediction
    box = view.fractions_to_image(prediction.box)
    return prediction.model_copy(update={"box": tuple(round(side, 2) for side in box)})


def _array_fields(panel: Panel, kept: Mapping[str, str]) -> dict[str, Any]:
    """What an output says of the arrays that are kept of it, by what they hold; of one map there is one."""
    if isinstance(panel, SingleMap):
        return {"array": next(iter(kept.values()), None)}
    return {"arrays": dict(kept) or None}


def reported_as(panel: Panel) -> Literal["numbers", "grey", "figure"]:
    """How a report shows the panel of one image: a map with colours of a palette by its numbers, or in grey if they are
    many; any other panel by its figure."""
    if not isinstance(panel, SingleMap) or panel.in_colour:
        return "figure"
    height, width = panel.values.shape[-2:]
    if height * width <= MOST_VALUES:
        return "numbers"
    return "grey" if max(height, width) <= MAX_SIDE["webp"] else "figure"


def _judged_fields(
    judged: JudgedImage, description: ImageDescription, paths: Mapping[tuple[int, int], str]
) -> dict[str, Any]:
    targets = [one.prediction.title if one else None for one in description.targets]
    return {
        "controls": control_records(judged, targets),
        "agreement": agreement_record(judged, paths),
        "annotation_sha256": judged.annotation_sha256,
        "marked": marked_records(judged, targets),
    }


def window_of(view: View) -> Window:
    """What a record says of the part of its image that the network saw."""
    left, top, right, bottom = (round(side, 4) for side in view.box)
    return Window(size=view.size, box=(left, top, right, bottom))


def plain_array(values: Any) -> np.ndarray[Any, Any]:
    """An array, float32 where it holds fractions."""
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype.kind == "f" else array
