"""FiftyOne: a folder that ``fiftyone.Dataset.from_dir`` loads as a FiftyOneDataset, written without that library.

It is the form without a version of theirs, which every FiftyOne from 0.8 on recognises and brings up to date:
https://docs.voxel51.com/user_guide/import_datasets.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnviz_cli import __version__
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.file_reading import read_regular
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.exports.api import Format, Told, Wishes, export_format, new_file, records_of
from cnnviz_cli.exports.common.columns import is_right, multilabel, text
from cnnviz_cli.exports.common.copies import copy_file, says_more, write_pixels
from cnnviz_cli.exports.common.maps import UNREADABLE, Floats, KeptMaps, Size, place_map, size_of
from cnnviz_cli.files.output.file_names import FolderNames, folder_name
from cnnviz_cli.files.output.saved_run import SavedRun

LONGEST_SIDE = 512
"""Pixels of a heat map's longer side: enough for the 224 cells of a map of pixels in the middle of a photograph. The
app stretches it over the image."""

TOP = 65535
_CHUNK = 1 << 20
_SHOWN = (".png", ".webp", ".jpg")
"""Suffixes of figures that the app shows."""

Sample = dict[str, Any]


@export_format
class FiftyOne(Format):
    """Images with what is true and what is said of them, and each map as a heat map over the whole image."""

    name = "fiftyone"
    summary = "A folder that FiftyOne loads: images, truths, predictions, and each map as a heat map."
    suffix = ".fiftyone"
    takes = frozenset(("photos",))
    folder = True

    def is_own(self, place: Path) -> bool:
        try:
            told = json.loads(read_regular(place / "metadata.json", _CHUNK))
        except (OSError, ValueError):
            return False
        return isinstance(told, dict) and isinstance(told.get("info"), dict) and "cnnviz" in told["info"]

    def write(self, run: SavedRun, place: Path, wishes: Wishes, told: Told) -> None:
        place.mkdir()
        about = {
            "cnnviz": __version__, "model": text(run.facts, "model", "name"),
            "weights": text(run.facts, "model", "weights"), "manifest_sha256": run.digest,
        }  # fmt: skip
        with new_file(place / "metadata.json") as file:
            file.write(_json({"name": run.root.resolve().name, "media_type": "image", "info": about}) + b"\n")
        writer = _Writer(run, place, wishes.photos, told)
        with new_file(place / "samples.json") as file:
            file.write(b'{"samples": [')
            for number, sample in enumerate(writer.samples()):
                file.write((b",\n" if number else b"\n") + _json(sample))
            file.write(b"\n]}\n")
        if writer.bare:
            of = "1 image" if writer.bare == 1 else f"{writer.bare:,} images"
            told.notes.append(f"of {of} the pixels are copied alone, since the files say of whom or where they are")
        if not writer.maps.any:
            told.notes.append("the run has kept no maps (--save-arrays), so there are no heat maps")


class _Writer:
    """Copies pictures, draws heat maps, and makes the samples that name them."""

    def __init__(self, run: SavedRun, place: Path, photos: Path | None, told: Told) -> None:
        self._run, self._place, self._photos, self._told = run, place, photos, told
        self.maps = KeptMaps(run, told)
        self._multilabel = multilabel(run)
        self._folders = FolderNames()
        self.bare = 0
        self._fields: dict[tuple[str, ...], str] = {}
        told.counts = {"sample": 0, "heat map": 0}

    def samples(self) -> Iterator[Sample]:
        for record in records_of(self._run):
            painted = [output for output in record["outputs"] if output.get("dream")]
            if painted or record.get("subject"):
                yield from self._painted(record, painted)
            elif sample := self._image(record):
                self._told.counts["sample"] += 1
                yield sample

    def _image(self, record: Mapping[str, Any]) -> Sample | None:
        if self._photos is None:
            raise UsageError(
                "images are not in a run's folder, and FiftyOne shows them",
                where=escape_text(str(self._run.root)),
                fix="Name the folder of those that were explained: --photos DIR",
            )
        name = self._folders.folder_for(record["source"])
        path = self._picture(self._photos, record, name)
        if path is None:
            return None
        right = is_right(record, multilabel=self._multilabel)
        outcome = "failed" if record["status"] == "failed" else {True: "right", False: "wrong", None: "unknown"}[right]
        sample: Sample = {
            "filepath": path, "tags": [], "_media_type": "image", "source": record["source"], "outcome": outcome,
        }  # fmt: skip
        if record["error"]:
            sample["error"] = record["error"]
        if record.get("truth"):
            sample["ground_truth"] = _classification(record["truth"])
        return {**sample, **_predictions(record), **dict(self._heatmaps(record, name))}

    def _picture(self, photos: Path, record: Mapping[str, Any], name: str) -> str | None:
        """Copy an image; where the copy is, or None where there is none, which is told."""
        place, pixels = f"data/{name}", f"data/{name}/pixels.png"
        if not copy_file(photos, record["source"], record["sha256"], self._place / place):
            self._told.leave_out("images that are not below --photos, or are not those of the run,", record["source"])
            return None
        if not says_more(self._place / place):
            return place
        file = self._place / "whole.tmp"
        (self._place / place).rename(file)
        written = write_pixels(file, self._place / pixels, self._run.setting("value_range"))
        file.unlink()
        if written:
            self.bare += 1
            return pixels
        self._told.leave_out(
            "images whose files say of whom or where they are, and whose pixels cannot be read,", record["source"]
        )
        return None

    def _new(self, path: str) -> Path:
        """The place of a file, with the folders above it."""
        target = self._place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _heatmaps(self, record: Mapping[str, Any], name: str) -> Iterator[tuple[str, Sample]]:
        """The heat maps of an image by their fields. A signed map gives two: no evidence is transparent in the app."""
        size = _drawn_size(record)
        taken: dict[tuple[str, ...], int] = {}
        for output, values in self.maps.of(record):
            if size is None or output["state"] in UNREADABLE or not output.get("scale"):
                continue
            placed = place_map(values, record, size)
            if placed is None:
                self._told.leave_out("maps of which the record does not say where they lie", record["source"])
                continue
            for side, shares, ends in _sides(placed, output):
                against = "counterfactual" if output.get("counterfactual") else ""
                plain = (output["method"], output["layer"] or "", against, side)
                taken[plain] = number = taken.get(plain, 0) + 1
                field = self._field((*plain, str(number) if number > 1 else ""))
                path = f"fields/{field}/{name}.png"
                Image.fromarray(np.rint(shares * TOP).astype(np.uint16)).save(self._new(path))
                self._told.counts["heat map"] += 1
                yield field, {"_cls": "Heatmap", "tags": [], "map_path": path, "range": [0, TOP], **ends, **_of(output)}

    def _field(self, key: tuple[str, ...]) -> str:
        """The name of a field, which FiftyOne wants without dots and dollars; different ones for different keys."""
        if key not in self._fields:
            plain = "_".join(filter(None, (_slug(part) for part in key))) or "map"
            names = set(self._fields.values())
            at = next(at for at in range(len(names) + 1) if (plain if not at else f"{plain}_{at}x") not in names)
            self._fields[key] = plain if not at else f"{plain}_{at}x"
        return self._fields[key]

    def _painted(self, record: Mapping[str, Any], painted: list[Mapping[str, Any]]) -> Iterator[Sample]:
        """Pictures that were painted are samples themselves; they are in the run's folder."""
        for output in painted:
            path, dream = output["path"], output["dream"]
            name = folder_name(path)
            if not path.endswith(_SHOWN) or not copy_file(
                self._run.root, path, output["sha256"], self._place / f"data/{name}"
            ):
                self._told.leave_out(
                    "painted pictures that are gone or changed, or no PNG, WebP or JPEG,", record["source"]
                )
                continue
            self._told.counts["sample"] += 1
            numbers = {f"dream_{name}": dream.get(name) for name in ("score", "start_score", "probability")}
            yield {
                "filepath": f"data/{name}", "tags": [], "_media_type": "image", "source": record["source"],
                "outcome": "painted", "objective": dream["objective"], "method": output["method"],
                "state": output["state"], **_floats(numbers),
            }  # fmt: skip


def _drawn_size(record: Mapping[str, Any]) -> Size | None:
    """Width and height of the heat maps of an image."""
    size = size_of(record)
    if size is None:
        return None
    factor = min(1.0, LONGEST_SIDE / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _sides(placed: Floats, output: Mapping[str, Any]) -> Iterator[tuple[str, Floats, Sample]]:
    """What a heat map holds: shares of the ends of the figure's colours, and these ends; of a signed map twice."""
    low, high = output["scale"]
    signed = low < 0 and (output["range"] or (0, 0))[0] < 0
    sides = [("for", 0.0, high), ("against", 0.0, low)] if signed else [("", low, high)]
    for side, start, end in sides:
        if start != end:
            shares = (placed.astype(np.float64) - start) / (end - start)
            yield side, shares.clip(0, 1).astype(np.float32), _floats({"low": start, "high": end})


def _predictions(record: Mapping[str, Any]) -> Sample:
    found = record["predictions"]
    size = size_of(record)
    if not found:
        return {}
    if any(one.get("box") for one in found):
        boxes = [_detection(one, size) for one in found if one.get("box") and size]
        return {"detections": {"_cls": "Detections", "detections": boxes}}
    if found[0].get("value") is not None:
        return {"prediction_value": float(found[0]["value"])}
    if found[0].get("similarity") is not None:
        return {"similarity": float(found[0]["similarity"])}
    several = [_classification(one) for one in found]
    return {"prediction": several[0], "predictions": {"_cls": "Classifications", "classifications": several}}


def _classification(one: Mapping[str, Any]) -> Sample:
    numbers = _floats({"confidence": one.get("probability"), "share": one.get("share")})
    return {"_cls": "Classification", "tags": [], "label": one["label"], "index": one["index"], **numbers}


def _detection(one: Mapping[str, Any], size: Size | None) -> Sample:
    """The box as left, top, width and height, as shares of the image."""
    assert size is not None
    (left, top, right, bottom), (width, height) = one["box"], size
    box = [left / width, top / height, (right - left) / width, (bottom - top) / height]
    facts = {"_cls": "Detection", "tags": [], "attributes": {}, "label": one["label"], "index": one["index"]}
    return {**facts, "bounding_box": box, **_floats({"confidence": one.get("probability")})}


def _of(output: Mapping[str, Any]) -> Sample:
    """Of which map a heat map is."""
    target = output["target"] or {}
    about = {name: output[name] for name in ("family", "method", "layer", "state") if output[name] is not None}
    about |= {"label": target["label"], "index": target["index"]} if target else {}
    judged = {_slug(f"measure.{name}"): number for name, number in (output.get("measures") or {}).items()}
    return {**about, "figure": output["path"], **_floats({"confidence": target.get("probability"), **judged})}


def _floats(numbers: Mapping[str, Any]) -> Sample:
    """Fractions, also where JSON has a whole number: FiftyOne gives a field one kind; what is not known is left out."""
    return {name: float(number) for name, number in numbers.items() if number is not None}


def _slug(name: str) -> str:
    return re.sub(r"\W+", "_", name.replace("+", "plus"), flags=re.ASCII).strip("_").lower()


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
