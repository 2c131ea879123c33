"""COCO: the region of each map as an annotation: box, area and mask, with the class that was explained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli import __version__
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.exports.api import Format, Told, Wishes, export_format, new_file, records_of
from cnnviz_cli.exports.common.columns import text
from cnnviz_cli.exports.common.maps import UNREADABLE, Floats, KeptMaps, place_map, size_of
from cnnviz_cli.files.output.saved_run import SavedRun

SHARE = 0.2
"""Of a map's peak: Zhou et al. 2016 take what is above 20 % of it."""


class Region(NamedTuple):
    """Pixels of an image.

    Attributes:
        box: left, top, width and height.
        area: how many pixels they are.
        counts: how many pixels, column by column from the left and each from the top, are outside, then inside, then
            outside, and so on.
    """

    box: tuple[int, int, int, int]
    area: int
    counts: list[int]


def region_of(placed: Floats, share: float) -> Region | None:
    """The largest connected part of what is not below a share of the peak, diagonal neighbours included; the first, row
    by row, of several that are equally large. None where nothing is above zero.

    Zhou et al. 2016, Learning deep features for discriminative localization, section 3.2.
    """
    from skimage.measure import label

    peak = float(placed.max(initial=0))
    if not peak > 0:
        return None
    parts, count = label(placed >= np.float32(share * peak), connectivity=2, return_num=True)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    inside = parts == int(sizes.argmax())
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    left, top = int(columns[0]), int(rows[0])
    box = (left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1)
    return Region(box, int(sizes.max()), run_lengths(inside))


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """The lengths of runs of a mask (h, w) in the order of COCO, column by column, of what is outside first."""
    flat = mask.ravel(order="F")
    starts = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    ends = [0, *starts, flat.size]
    return [after - before for before, after in pairwise(ends)]


@export_format
class Coco(Format):
    """Annotations for everything that reads COCO: of each map that explains a class one region."""

    name = "coco"
    summary = "The region of each map, as COCO annotations: box, area and mask."
    suffix = ".coco.json"
    takes = frozenset(("share",))

    def write(self, run: SavedRun, place: Path, wishes: Wishes, told: Told) -> None:
        share = SHARE if wishes.share is None else wishes.share
        maps = KeptMaps(run, told)
        classes: dict[int, str] = {}
        what = f"Of each map the largest connected part of what is not below {share:g} of its peak."
        about = {
            "description": what, "version": __version__, "share": share, "model": text(run.facts, "model", "name"),
            "weights": text(run.facts, "model", "weights"), "manifest_sha256": run.digest,
        }  # fmt: skip
        with new_file(place) as file:
            file.write(b'{\n"info": ' + _json(about))
            images = _write_list(file, "images", _images(run))
            regions = _write_list(file, "annotations", _annotations(run, maps, share, classes, told))
            _write_list(file, "categories", ({"id": at + 1, "name": classes[at]} for at in sorted(classes)))
            file.write(b"\n}\n")
        if not maps.any:
            raise UsageError(
                "the run has kept no maps, of which regions are made",
                where=escape_text(str(run.root)),
                fix="Run its command again with --save-arrays; or export its table: --to csv",
            )
        told.counts = {"image": images, "region": regions}


def _images(run: SavedRun) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(records_of(run), 1):
        if (size := size_of(record)) and not record.get("subject"):
            yield {"id": number, "file_name": record["source"], "width": size[0], "height": size[1]}


def _annotations(
    run: SavedRun, maps: KeptMaps, share: float, classes: dict[int, str], told: Told
) -> Iterator[dict[str, Any]]:
    number = without = empty = 0
    for image, record in enumerate(records_of(run), 1):
        size = size_of(record)
        if size is None or record.get("subject"):
            continue
        for output, values in maps.of(record):
            target = output["target"]
            if target is None:
                without += 1
                continue
            placed = place_map(values, record, size)
            if placed is None:
                told.leave_out("maps of which the record does not say where they lie", record["source"])
                continue
            region = None if output["state"] in UNREADABLE else region_of(placed, share)
            if region is None:
                empty += 1
                continue
            number += 1
            yield {"id": number, "image_id": image, **_class_of(target, classes), **_shape(region, size), **_of(output)}
    if empty:
        told.notes.append(f"{empty} of the maps show nothing for their class, so they have no region and are left out")
    if without:
        told.notes.append(f"{without} of the maps explain no class, so they have no category and are left out")


def _class_of(target: Mapping[str, Any], classes: dict[int, str]) -> dict[str, Any]:
    """Numbers of categories begin with 1: many readers take 0 for the ground."""
    classes.setdefault(target["index"], target["label"])
    score = target.get("probability")
    return {"category_id": target["index"] + 1, **({} if score is None else {"score": score})}


def _shape(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    mask = {"size": [size[1], size[0]], "counts": region.counts}
    return {"bbox": list(region.box), "area": region.area, "segmentation": mask, "iscrowd": 0}


def _of(output: Mapping[str, Any]) -> dict[str, Any]:
    """Of which map it is."""
    about = {name: output[name] for name in ("family", "method", "layer", "state")}
    return {**about, "counterfactual": output.get("counterfactual", False), "figure": output["path"]}


def _write_list(file: BinaryIO, name: str, items: Iterator[dict[str, Any]]) -> int:
    """One item a line, one in memory at a time; returns how many there are."""
    file.write(b',\n"%s": [' % name.encode())
    count = 0
    for count, item in enumerate(items, 1):
        file.write((b"\n" if count == 1 else b",\n") + _json(item))
    file.write(b"\n]" if count else b"]")
    return count


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
