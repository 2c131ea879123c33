"""Network dissection from Python."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from csv import DictReader
from dataclasses import dataclass, fields
from functools import cached_property
from io import StringIO
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from cnnviz_cli.api.explain import Networks
from cnnviz_cli.api.images import ImageLike, as_image_list
from cnnviz_cli.api.study import StudyResult, carry_out_study
from cnnviz_cli.config.dissect_fields import DISSECT
from cnnviz_cli.core.dissection_records import DissectedLabel, Dissection
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.files.annotations.given import annotations_given
from cnnviz_cli.files.annotations.shapes import Box, Drawn, ImageAnnotation, Shape
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.studies.dissection.sheets import TABLE

Annotations = str | PathLike[str] | Mapping[str | int, Any]


@dataclass(frozen=True, eq=False, repr=False)
class Dissected(StudyResult):
    """Which channel of a network finds which annotated thing."""

    @property
    def dissection(self) -> Dissection:
        """What was found over all images, as the manifest has it."""
        assert self.findings.dissect is not None
        return self.findings.dissect

    @property
    def labels(self) -> Mapping[str, DissectedLabel]:
        """The labels of the first layer, best found first: ``found.labels["cat"].channels[0].iou``."""
        return self.labels_of(self.dissection.layers[0].layer)

    def labels_of(self, layer: str) -> Mapping[str, DissectedLabel]:
        """The labels of a layer, best found first; KeyError for a layer that was not looked at."""
        layers = {one.layer: one for one in self.dissection.layers}
        return {one.label: one for one in layers[layer].labels}

    @cached_property
    def channels(self) -> Sequence[Mapping[str, str]]:
        """A row for each channel: layer, unit, threshold, label, iou, detector, intersection and union, as texts."""
        return list(DictReader(StringIO(self.files[TABLE].decode("utf-8"))))


def dissect(
    model: Networks,
    images: ImageLike | Sequence[ImageLike],
    annotations: Annotations,
    *,
    layer: str | Sequence[str] | None = None,
    units: int | Sequence[int] | None = None,
    quantile: float = 0.995,
    iou: float = 0.04,
    shuffles: int = 10,
    preprocessing: Preprocessing | Any | None = None,
    labels: Sequence[str] | Literal["imagenet"] | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    seed: int = 0,
    **options: Any,
) -> Dissected:
    """Find the channels of a network that find what people have marked in images (network dissection, Bau et al. 2017).
    Nothing is kept on the disk, and nothing of the caller's is changed.

    Args:
        model: as of `explain`.
        images: files, folders, images of Pillow's or arrays; one or several.
        annotations: a file or a folder, as of the command; or for each image, by its path or its number among `images`,
            a mask (H, W), or a list of boxes (left, top, right, bottom) and dicts with a `box` or a `mask` and a
            `label`, in pixels of the upright image.
        layer: layers whose channels are looked at, by name, pattern or word; by default the last with maps.
        units: channels by their numbers; by default all.
        quantile: the share of a channel's values that its threshold is not exceeded by.
        iou: the intersection over union from which on a channel is a detector of its best label.
        shuffles: how often images get each other's annotations, which says what is reached by chance.
        preprocessing, labels, device, precision, seed: as of `explain`.
        options: further settings of the command by their flags' names with underscores (``batch_size=1``).

    Raises:
        UsageError: the annotations are about none of the images, nothing is marked in them, a layer has no maps or no
            such channel, or an argument does not fit.
        ModelError, DeviceError: as of `explain`. An image that cannot be read is left out with a warning.
    """
    with TemporaryDirectory(prefix="cnnviz-") as folder:
        section = {
            "annotations": _as_file(annotations, images, Path(folder)),
            "layer": (layer,) if isinstance(layer, str) else layer and tuple(layer),
            "units": None if units is None else tuple(map(str, [units] if isinstance(units, int) else units)),
            "quantile": quantile,
            "iou": iou,
            "shuffles": shuffles,
        }
        found = carry_out_study(
            DISSECT, DISSECT, model, images, section, options, preprocessing=preprocessing, labels=labels,
            device=device, precision=precision, seed=seed,
        )  # fmt: skip
    return Dissected(**{item.name: getattr(found, item.name) for item in fields(found)})


def _as_file(given: Annotations, images: Any, folder: Path) -> Path:
    """Where annotations lie; those in memory are written into a folder, as instances of COCO."""
    if isinstance(given, str | PathLike):
        return Path(given)
    if not isinstance(given, Mapping):
        what = f"this is a {type(given).__name__}, and no file, folder, or dict with what is marked in each image"
        raise UsageError(what, where="annotations")
    listed = as_image_list(images)
    # As `api.study` calls images that are in memory.
    names = [
        str(one) if isinstance(one, str | PathLike) else f"image-{number:06d}.png" for number, one in enumerate(listed)
    ]
    table = annotations_given(given, names)
    about: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    categories = {label: number for number, label in enumerate(sorted(table.labels), 1)}
    for number, (path, one) in enumerate(table.entries.items()):
        size = {"width": one.size[0], "height": one.size[1]} if one.size else {}
        about.append({"id": number, "file_name": path, **size})
        for marked in one.objects:
            named = categories.setdefault(marked.label, len(categories) + 1)
            shape = {"image_id": number, "category_id": named, **_as_instance(one, marked.shapes[0])}
            objects.append({"id": len(objects), **shape})
    named_categories = [{"id": number, "name": label} for label, number in categories.items()]
    file = folder / "annotations.json"
    whole = {"images": about, "annotations": objects, "categories": named_categories}
    file.write_text(json.dumps(whole), encoding="utf-8")
    return file


def _as_instance(one: ImageAnnotation, shape: Shape) -> dict[str, Any]:
    """A box, or a mask as run lengths, column by column."""
    if isinstance(shape, Box):
        return {"bbox": [shape.left, shape.top, shape.right - shape.left, shape.bottom - shape.top]}
    assert isinstance(shape, Drawn)
    assert one.size is not None
    flat = shape.inside.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *ends, len(flat)]).tolist()
    counts = runs if not flat[0] else [0, *runs]
    return {"segmentation": {"size": [one.size[1], one.size[0]], "counts": counts}}
