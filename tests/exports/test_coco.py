"""Regions of maps as COCO annotations, by hand and by another reader of COCO's masks."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports.saved import CAT, DOG, failed, image, keep, output, save
from numpy.typing import NDArray

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.records import Prediction, Subject, Window
from cnnviz_cli.exports.api import Wishes, export_run
from cnnviz_cli.exports.coco import region_of, run_lengths

HAND = np.array(
    [
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0],
        [0.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 2.0, 9.9, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 1.9, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [4.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ]
)
"""8 by 6 cells, each a pixel. A fifth of the peak is 2: the region is the five pixels about the peak, one of which
touches it by a corner; 1.9 is below, and 3.0 and the two 4.0 are parts by themselves."""


def mask_of(segmentation: dict[str, Any]) -> NDArray[Any]:
    """The mask of run lengths as the COCO API's own documentation defines it, pixel by pixel."""
    height, width = segmentation["size"]
    mask = np.zeros((height, width), int)
    at = 0
    for number, length in enumerate(segmentation["counts"]):
        for place in range(at, at + length):
            mask[place % height, place // height] = number % 2
        at += length
    assert at == height * width
    return mask


def exported(out: Path, **how: Any) -> dict[str, Any]:
    place = out.with_name(f"{out.name}-{len(list(out.parent.iterdir()))}.json")
    export_run(out, "coco", place, Wishes(**how))
    found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return found


def test_the_region_of_a_map_worked_out_by_hand(tmp_path: Path) -> None:
    root = tmp_path / "out"
    out = save(root, keep(root, image("a.png", output("a.png/x.png", array="x.map")), {"x.map": HAND[None]}))
    found = exported(out)
    assert found["images"] == [{"id": 1, "file_name": "a.png", "width": 8, "height": 6}]
    assert found["categories"] == [{"id": 283, "name": "tiger cat"}]
    assert found["annotations"] == [
        {
            "id": 1, "image_id": 1, "category_id": 283, "score": 0.625, "bbox": [1, 1, 3, 3], "area": 5,
            "segmentation": {"size": [6, 8], "counts": [7, 2, 4, 2, 6, 1, 26]}, "iscrowd": 0, "family": "gradcam",
            "method": "gradcam", "layer": "conv", "state": "ok", "counterfactual": False, "figure": "a.png/x.png",
        }
    ]  # fmt: skip
    mask = mask_of(found["annotations"][0]["segmentation"])
    np.testing.assert_array_equal(mask, np.array([
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]))  # fmt: skip
    assert found["info"]["share"] == 0.2
    assert found["info"]["manifest_sha256"] == json.loads((out / "manifest.json").read_text())["sha256"]


def test_a_higher_share_leaves_less(tmp_path: Path) -> None:
    root = tmp_path / "out"
    out = save(root, keep(root, image("a.png", output("a.png/x.png", array="x.map")), {"x.map": HAND[None]}))
    (one,) = exported(out, share=0.99)["annotations"]
    assert (one["bbox"], one["area"]) == ([2, 2, 2, 2], 2)
    (all_there_is,) = exported(out, share=1.0)["annotations"]
    assert (all_there_is["bbox"], all_there_is["area"]) == ([3, 3, 1, 1], 1)


def test_of_parts_that_are_equally_large_the_first_counts() -> None:
    region = region_of(np.array([[0, 0, 1], [1, 0, 0]], np.float32), 0.5)
    assert region is not None
    assert region.box == (2, 0, 1, 1)


def test_nothing_above_zero_is_no_region() -> None:
    assert region_of(np.zeros((2, 2), np.float32), 0.2) is None
    assert region_of(-np.ones((2, 2), np.float32), 0.2) is None


def test_run_lengths_begin_outside_even_where_the_first_pixel_is_inside() -> None:
    assert run_lengths(np.array([[True, False], [True, True]])) == [0, 2, 1, 1]
    assert run_lengths(np.ones((2, 3), bool)) == [0, 6]
    assert run_lengths(np.zeros((2, 3), bool)) == [6]


def test_masks_are_those_of_the_coco_api() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(3).random((7, 11)) < 0.4
    theirs = coco.frPyObjects({"size": [7, 11], "counts": run_lengths(mask)}, 7, 11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of numpy 2, which it meets by half
        np.testing.assert_array_equal(coco.decode(theirs), mask)
        assert coco.area(theirs) == mask.sum()


def test_every_target_and_layer_of_every_image_has_its_region(tmp_path: Path) -> None:
    """And outside of what the network saw there is none; what failed, was painted or explains no class has none."""
    root = tmp_path / "out"
    similar = Prediction(index=0, label="reference", probability=None, similarity=0.5)
    several = image(
        "b.png",
        output("b/1.png", array="1.map"),
        output("b/2.png", array="2.map", target=DOG, layer="deep", counterfactual=True),
        output("b/3.png", array="3.map", target=None),
        output("b/4.png", array="4.map", state="flat"),
        output("b/5.png", array="5.map", target=similar),
        output("b/6.png", method=None),
        width=12, seen=Window(size=(8, 6), box=(2, 0, 10, 6)),
    )  # fmt: skip
    arrays = {f"{number}.map": np.ones((1, 1, 1)) for number in range(1, 6)}
    unit = Subject(layer="conv", channel=1)
    out = save(
        root, failed("a.png"), keep(root, several, arrays), image("c", output("c/d.png"), subject=unit), image("d.png")
    )
    place = tmp_path / "x.json"
    told = export_run(out, "coco", place).told
    found = json.loads(place.read_text(encoding="utf-8"))
    assert [one["id"] for one in found["images"]] == [2, 4]
    facts = [
        (one["id"], one["image_id"], one["category_id"], one["layer"], one.get("score")) for one in found["annotations"]
    ]
    assert facts == [(1, 2, 283, "conv", 0.625), (2, 2, 1, "deep", 0.25), (3, 2, 1, "conv", None)]
    assert [one["bbox"] for one in found["annotations"]] == [[2, 0, 8, 6]] * 3
    assert [one["counterfactual"] for one in found["annotations"]] == [False, True, False]
    assert found["categories"] == [{"id": 1, "name": "tench"}, {"id": 283, "name": "tiger cat"}]
    assert told.counts == {"image": 2, "region": 3}
    assert [note.split(" of ")[0] for note in told.notes] == ["1", "1"]
    assert told.left_out == []


def test_a_run_without_maps_is_one_sentence(tmp_path: Path) -> None:
    out = save(tmp_path / "out", image("a.png", output("a.png/x.png")))
    with pytest.raises(UsageError, match="kept no maps") as error:
        export_run(out, "coco")
    assert "--save-arrays" in error.value.fix
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_a_share_is_above_0_and_at_most_1(tmp_path: Path, share: float) -> None:
    out = save(tmp_path / "out", image("a.png", truth=CAT))
    with pytest.raises(UsageError, match="no share above 0"):
        export_run(out, "coco", wishes=Wishes(share=share))
