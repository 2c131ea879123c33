"""What a dissection writes about all images, and the figure of each, from plain values alone. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.dissection_records import DissectedLabel, DissectedLayer, Dissection
from cnnviz_cli.core.figure_settings import FigureSize
from cnnviz_cli.core.records import Output
from cnnviz_cli.core.text import escape_text, harmless_cell
from cnnviz_cli.files.output.manifest import Conclusion
from cnnviz_cli.render.dissected import (
    ROWS,
    ChannelBar,
    DissectedTile,
    LabelRow,
    LayerBars,
    compose_detectors,
    compose_image,
    compose_labels,
)
from cnnviz_cli.render.figures import Figure, fit_block
from cnnviz_cli.run.study_end import Concluding

STEM = "dissection"
"""What the files about all images are called."""

TABLE = f"{STEM}.csv"
HEAD = ("layer", "unit", "threshold", "label", "iou", "detector", "intersection", "union")

LABELS, DETECTORS = "Which channel finds what is marked?", "How many channels find each label?"

TILE_PIXELS = 448
"""The longer side of what is kept of an image for the figures of all of them."""

FEW = 20
"""Annotated images below which a figure says that they are few."""


def tile_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of what is kept of an image, of which the network saw an input of that width and height."""
    scale = TILE_PIXELS / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def conclude(made: Concluding) -> Conclusion:
    """Pages of labels for each layer, how many channels find each, and a table with a row for each channel."""
    values, arrays = made.kit.values, made.kit.arrays
    dissection = Dissection.model_validate(values["dissection"])
    pages: Any = values["pages"]
    sheets = [_overview(made, dissection)]
    for number, layer in enumerate(dissection.layers):
        rows = [_row(label, tiles, arrays) for label, tiles in zip(layer.labels, pages[number], strict=False)]
        sheets += _pages(made, dissection, layer, rows)
    labels: Any = values["labels"]
    table = made.write_table(TABLE, HEAD, table_rows(dissection, labels, arrays))
    return Conclusion(sheets=sheets, tables=[table], findings=made.findings(dissect=dissection))


def _facts(made: Concluding, dissection: Dissection) -> list[str]:
    annotated, seen = dissection.annotated, made.kit.seen[0].images
    facts = [
        made.model_words,
        f"{annotated} annotated image{'s' * (annotated != 1)}",
        f"a channel's threshold: the top {100 * (1 - dissection.quantile):.3g} % of its values in {seen} images",
    ]
    if dissection.shuffles:
        facts.append(f"chance: {dissection.shuffles} shuffle{'s' * (dissection.shuffles != 1)} of the annotations")
    return facts


def _note(dissection: Dissection) -> str:
    """What has to be known before anything is read off."""
    if dissection.annotated < FEW:
        return f"{dissection.annotated} annotated images are few: hold every value against what is reached by chance"
    return ""


def _overview(made: Concluding, dissection: Dissection) -> Output:
    bars = [
        LayerBars(
            layer=layer.layer,
            channels=layer.channels,
            bars=sorted(
                ((one.label, one.detectors, one.detectors_by_chance) for one in layer.labels),
                key=lambda bar: (-bar[1], bar[0].casefold()),
            ),
            found=layer.detectors,
            by_chance=layer.detectors_by_chance,
            silent=layer.silent,
        )
        for layer in dissection.layers
    ]
    facts = [*_facts(made, dissection), f"a detector: intersection over union from {dissection.limit:g} on"]
    compose = partial(compose_detectors, bars, DETECTORS, facts, note=_note(dissection))
    return made.write_sheet(STEM, fit_block(compose, made.size))


def _pages(
    made: Concluding, dissection: Dissection, layer: DissectedLayer, rows: Sequence[LabelRow]
) -> Iterator[Output]:
    total = -(-len(rows) // ROWS)
    several = len(dissection.layers) > 1
    for page in range(total):
        place = f"page {page + 1} of {total}" if total > 1 else ""
        left_out = len(layer.labels) - len(rows)
        more = f"{left_out} labels that are found less are in {TABLE}" if left_out and page == total - 1 else ""
        facts = [f"layer {layer.layer}", *_facts(made, dissection), place, more]
        compose = partial(
            compose_labels,
            rows[page * ROWS : (page + 1) * ROWS],
            LABELS,
            [one for one in facts if one],
            dissection.limit,
            note=_note(dissection),
            density=made.size.density,
        )
        labels = f"labels-{page + 1}" if total > 1 else "labels"
        stem = ".".join([STEM, labels, *([layer.layer] if several else [])])
        yield made.write_sheet(stem, fit_block(compose, made.size), layer=layer.layer)


def _row(label: DissectedLabel, tiles: Sequence[Mapping[str, Any]], arrays: Mapping[str, NDArray[Any]]) -> LabelRow:
    return LabelRow(
        label=label.label,
        images=label.images,
        channels=[ChannelBar(f"channel {one.unit}", one.iou) for one in label.channels],
        chance=None if label.chance is None else (label.chance.lowest, label.chance.highest),
        detectors=label.detectors,
        tiles=[_tile(one, arrays) for one in tiles],
        note=_row_note(label),
    )


def _row_note(label: DissectedLabel) -> str:
    if not label.pixels:
        return "Nothing of it is within what the network sees of its images."
    if not label.channels:
        return "No channel is above its threshold where this is marked."
    return "In one image only: a channel may know the image, and not the thing." if label.images == 1 else ""


def _tile(about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> DissectedTile:
    return DissectedTile(
        picture=Image.fromarray(arrays[about["picture"]]),
        excited=arrays[f"{about['masks']} excited"],
        marked=arrays[f"{about['masks']} marked"],
        name=about["name"],
        iou=about["iou"],
        labelled=about["labelled"],
    )


def table_rows(
    dissection: Dissection, labels: Sequence[str], arrays: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[str, ...]]:
    """A row for each channel: its threshold, the label that it overlaps with most, and how far."""
    for number, layer in enumerate(dissection.layers):
        columns = (
            arrays[f"layer {number} {name}"] for name in ("units", "thresholds", "labels", "detectors", "counts")
        )
        for unit, threshold, label, detector, (both, union) in zip(*columns, strict=True):
            named = harmless_cell(labels[label]) if label >= 0 else ""
            iou = f"{int(both) / max(int(union), 1):.6g}" if label >= 0 else "0"
            of = "yes" if detector else "no"
            yield harmless_cell(layer.layer), str(unit), f"{threshold:.9g}", named, iou, of, str(both), str(union)


@dataclass(frozen=True)
class ImageTile:
    """A channel in one image, for a label; see `DissectedTile`."""

    label: str
    channel: str
    detector: bool
    excited: NDArray[np.bool_]
    marked: NDArray[np.bool_]
    iou: float
    labelled: bool


def draw_image(tiles: Sequence[ImageTile], picture: Image.Image, name: str, model: str, size: FigureSize) -> Figure:
    """The figure of one image; `picture` is what the network saw of it, `model` the network and its weights."""
    drawn = [
        (
            one.label,
            f"{one.channel}{'' if one.detector else ': no detector'}",
            DissectedTile(picture, one.excited, one.marked, "", one.iou, one.labelled),
        )
        for one in tiles
    ]
    return fit_block(partial(compose_image, drawn, escape_text(name), [model], picture), size)
