"""Runs that really ran, in each format: several methods, layers and targets, a broken image, shards, no end."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run.resuming import BROKEN, photographs

from cnnviz_cli.cli.main import main
from cnnviz_cli.exports.api import Exported, Wishes, export_run

pytestmark = pytest.mark.usefixtures("tiny_network")

ASKED = [
    "all",
    "--gradcam-method",
    "gradcam,layercam",
    "--gradcam-layer",
    "conv1,conv2",
    "--saliency-method",
    "gradient",
]
COMPUTED = ["--target", "top2", "--save-arrays", "--device", "cpu", "--workers", "0", "--batch-size", "2", "-q"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    photographs(tmp_path / "photos", 5)
    return tmp_path / "photos"


@pytest.fixture
def finished(tmp_path: Path, photos: Path) -> Path:
    assert main([*ASKED, str(photos), *COMPUTED, "-o", str(tmp_path / "out")]) == 3
    return tmp_path / "out"


def table(out: Path) -> list[dict[str, str]]:
    place = out.with_name(f"{out.name}.table.csv")
    export_run(out, "csv", place, overwrite=True)
    with place.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def coco(out: Path) -> tuple[Exported, dict[str, Any]]:
    found = export_run(out, "coco", out.with_name(f"{out.name}.regions.json"), overwrite=True)
    return found, json.loads(found.place.read_text(encoding="utf-8"))


def test_every_figure_has_its_line(finished: Path) -> None:
    rows = table(finished)
    manifest = json.loads((finished / "manifest.json").read_text(encoding="utf-8"))
    figures = [one["path"] for image in manifest["images"] for one in image["outputs"]]
    assert [row["path"] for row in rows if row["path"]] == figures
    assert [row["source"] for row in rows if not row["path"]] == [BROKEN]
    with np.load(finished / rows[-1]["arrays"]) as arrays:
        assert {row["array"] for row in rows if row["source"] == rows[-1]["source"]} - {""} <= set(arrays.files)


def test_every_map_of_a_class_has_its_region(finished: Path) -> None:
    found, regions = coco(finished)
    rows = [row for row in table(finished) if row["array"].endswith(".map") and row["target"]]
    assert found.told.left_out == []
    empty = sum(int(note.split(" of ")[0]) for note in found.told.notes)
    assert len(regions["annotations"]) + empty == len(rows) == 4 * 2 * (2 * 2 + 1)
    assert {one["figure"] for one in regions["annotations"]} <= {row["path"] for row in rows}
    sizes = {one["id"]: (one["width"], one["height"]) for one in regions["images"]}
    for one in regions["annotations"]:
        left, top, width, height = one["bbox"]
        assert 0 <= left < left + width <= sizes[one["image_id"]][0]
        assert 0 <= top < top + height <= sizes[one["image_id"]][1]
        assert sum(one["segmentation"]["counts"][1::2]) == one["area"]


def test_every_map_has_its_heat_map_of_the_image_s_size(finished: Path, photos: Path) -> None:
    found = export_run(finished, "fiftyone", wishes=Wishes(photos=photos))
    samples = json.loads((found.place / "samples.json").read_text(encoding="utf-8"))["samples"]
    assert [one["source"] for one in samples] == ["0.png", "1.png", "2.png", BROKEN, "4.png"]
    maps = [one for sample in samples for one in sample.values() if isinstance(one, dict) and one["_cls"] == "Heatmap"]
    assert len(maps) == found.told.counts["heat map"] > 0
    for one in maps:
        with Image.open(found.place / one["map_path"]) as picture:
            assert picture.size == (16, 14)


def test_merged_shards_are_one_run(tmp_path: Path, photos: Path, finished: Path) -> None:
    out = tmp_path / "shards"
    for shard in ("0/2", "1/2"):
        assert main([*ASKED, str(photos), *COMPUTED, "--shard", shard, "-o", str(out)]) in (0, 3)
    assert [line["source"] for line in table(out) if not line["path"]] == [BROKEN]
    found = export_run(out, "csv", tmp_path / "x.csv")
    assert any("not merged" in note for note in found.told.notes)
    assert main(["merge", str(out)]) == 3
    assert table(out) == table(finished)
    assert export_run(out, "csv", tmp_path / "y.csv").told.notes == []


def test_of_an_unfinished_run_what_is_there_is_written_and_told(tmp_path: Path, finished: Path) -> None:
    whole = table(finished)
    (finished / "manifest.json").unlink()
    journal = finished / "manifest.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:50])
    found = export_run(finished, "csv", tmp_path / "x.csv")
    assert found.told.notes == ["The run is not finished. What it has finished so far is here."]
    part = table(finished)
    assert 0 < len(part) < len(whole)
    assert all(row in whole for row in part)


def test_a_run_that_is_judged_has_its_measures(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "judged"
    asked = ["evaluate", str(photos), "--method", "gradcam", "--measure", "sparseness", "--device", "cpu"]
    assert main([*asked, "--workers", "0", "-q", "--gradcam-layer", "conv2", "-o", str(out)]) == 3
    judged = [row for row in table(out) if row["method"] == "gradcam"]
    with (out / "evaluation.csv").open(encoding="utf-8", newline="") as file:
        expected = {
            (one["source"], one["measure"]): one["value"] for one in csv.DictReader(file) if one["method"] == "gradcam"
        }
    found = {
        (row["source"], name.removeprefix("measure.")): value
        for row in judged for name, value in row.items() if name.startswith("measure.") and value
    }  # fmt: skip
    assert found == expected != {}
