"""Where a map lies on the upright image, and which arrays of a run are maps."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports.saved import image, keep, output, save
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.records import Output, Picture, Window
from cnnviz_cli.exports.api import Told
from cnnviz_cli.exports.common.maps import KeptMaps, place_map
from cnnviz_cli.files.output.saved_run import SavedRun
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.small_pictures import write_grey

MAP = np.array([[0, 1, 4], [2, 8, 0.5]])


def record(width: int, height: int, *box: float) -> dict[str, Any]:
    seen = Window(size=(24, 16), box=(box[0], box[1], box[2], box[3]))
    return image("a.png", width=width, height=height, seen=seen).model_dump(mode="json")


def slowly(values: NDArray[Any], box: tuple[float, ...], width: int, height: int) -> NDArray[Any]:
    """The same in float64, pixel by pixel: bilinear between the centres of cells, constant beyond the outer ones."""
    left, top, right, bottom = box
    rows, columns = values.shape
    whole = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            if not (left <= x + 0.5 < right and top <= y + 0.5 < bottom):
                continue
            u = np.clip((x + 0.5 - left) / (right - left) * columns - 0.5, 0, columns - 1)
            v = np.clip((y + 0.5 - top) / (bottom - top) * rows - 0.5, 0, rows - 1)
            i, j = min(int(u), columns - 2), min(int(v), rows - 2)
            a, b = u - i, v - j
            whole[y, x] = (
                (1 - b) * ((1 - a) * values[j, i] + a * values[j, i + 1])
                + b * ((1 - a) * values[j + 1, i] + a * values[j + 1, i + 1])
            )  # fmt: skip
    return whole


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((24, 16), (0, 0, 24, 16)),
        ((40, 30), (8, 7, 32, 23)),
        ((21, 13), (-3.5, 1.25, 24.5, 11.5)),
        ((9, 40), (1, 2, 8, 38)),
    ],
)
def test_a_map_lies_where_the_network_saw_it(size: tuple[int, int], box: tuple[float, float, float, float]) -> None:
    placed = place_map(MAP.astype(np.float32), record(*size, *box), size)
    np.testing.assert_allclose(placed, slowly(MAP, box, *size), atol=2e-5)


def test_on_a_smaller_drawing_of_the_image_it_lies_at_the_same_shares() -> None:
    placed = place_map(MAP.astype(np.float32), record(80, 60, 16, 14, 64, 46), (40, 30))
    np.testing.assert_allclose(placed, slowly(MAP, (8, 7, 32, 23), 40, 30), atol=2e-5)


@pytest.mark.parametrize("box", [(9, 0, 9, 6), (0, 0, -4, 6), (8, 0, 16, 6), (0, -9, 8, -1), (5, 5, 2, 2)])
def test_a_box_without_a_pixel_of_the_image_places_nothing(box: tuple[float, float, float, float]) -> None:
    assert place_map(MAP.astype(np.float32), record(8, 6, *box), (8, 6)) is None


def test_without_a_size_or_a_window_nothing_is_placed() -> None:
    for changed in ({"seen": None}, {"width": None}, {"width": 0}, {"width": -8}, {"width": 10**9, "height": 10**9}):
        assert place_map(MAP.astype(np.float32), {**record(8, 6, 0, 0, 8, 6), **changed}, (8, 6)) is None


def of(root: Path, told: Told) -> list[tuple[str, NDArray[Any]]]:
    with SavedRun(root) as run:
        maps = KeptMaps(run, told)
        return [(one["path"], values) for each in run for one, values in maps.of(each)]


def test_maps_are_found_by_the_name_in_the_record_and_in_older_runs_by_that_of_the_figure(tmp_path: Path) -> None:
    root = tmp_path / "out"
    outputs = [
        output("a/new.png", array="of another name.map"), output("a/gradcam.tiger_cat.png"), output("a/colours.png"),
        output("a/sheet.png", method=None), output("a/lost.png", array="lost.map"), output("a/odd.png"),
        output("a/seen.png", array="seen.picture"),
    ]  # fmt: skip
    arrays = {
        "of another name.map": MAP[None], "gradcam.tiger_cat.map": 2 * MAP[None], "colours.picture": np.ones((3, 2, 2)),
        "sheet.map": MAP, "odd.map": np.ones((4, 2, 2)), "seen.picture": MAP[None],
    }  # fmt: skip
    told = Told()
    found = of(save(root, keep(root, image("a", *outputs), arrays)), told)
    assert [path for path, _ in found] == ["a/new.png", "a/gradcam.tiger_cat.png"]
    np.testing.assert_array_equal(found[0][1], MAP.astype(np.float32))
    np.testing.assert_array_equal(found[1][1], 2 * MAP.astype(np.float32))
    assert told.left_out == []


def test_of_a_map_in_grey_the_numbers_are_those_to_half_a_step(tmp_path: Path) -> None:
    root = tmp_path / "out"
    grey = write_grey(Sink(root), "a/grey.webp", MAP, (0.0, 8.0))
    ((_, values),) = of(save(root, image("a", output("a/x.png", grey=grey, scale=(0.0, 8.0)))), Told())
    np.testing.assert_allclose(values, MAP, atol=8 / 255 / 2 + 1e-6)


def with_arrays(root: Path, path: str, digest: str = "0" * 64) -> Path:
    """A run whose manifest says that the arrays of its image are at a path."""
    save(root, keep(root, image("a", output("a/x.png", array="x.map")), {"x.map": MAP[None]}))
    manifest = root / "manifest.json"
    data = json.loads(manifest.read_text(encoding="utf-8"))
    data["images"][0]["arrays"] = {"path": path, "sha256": digest}
    manifest.write_text(json.dumps(data), encoding="utf-8")
    return root


OUTSIDE = ["../outside.npz", "a/../../outside.npz", "link/x.npz", "{tmp}/outside.npz", "a\\b", "a"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_arrays_outside_of_the_folder_are_not_read(tmp_path: Path, path: str) -> None:
    """Though the manifest has their digest."""
    (tmp_path / "elsewhere").mkdir()
    for place in (tmp_path / "outside.npz", tmp_path / "elsewhere/x.npz"):
        np.savez(place, **{"x.map": MAP[None]})
    digest = hashlib.sha256((tmp_path / "outside.npz").read_bytes()).hexdigest()
    root = with_arrays(tmp_path / "out", path.format(tmp=tmp_path), digest)
    (root / "link").symlink_to(tmp_path / "elsewhere")
    told = Told()
    assert of(root, told) == []
    assert told.left_out == ["maps that cannot be read are left out: 1, of a"]


def test_arrays_that_are_not_those_of_the_record_are_not_read(tmp_path: Path) -> None:
    told = Told()
    assert of(with_arrays(tmp_path / "out", "a/arrays.npz", "1" * 64), told) == []
    assert len(told.left_out) == 1


@pytest.mark.parametrize("data", [b"no picture", b"RIFF\x04\x00\x00\x00WEBP"])
def test_a_grey_picture_that_is_none_is_left_out(tmp_path: Path, data: bytes) -> None:
    root = tmp_path / "out"
    grey = Picture(path="a/grey.webp", sha256=Sink(root).write("a/grey.webp", data), width=3, height=2)
    told = Told()
    assert of(save(root, image("a", output("a/x.png", grey=grey))), told) == []
    assert len(told.left_out) == 1


def test_a_grey_picture_outside_of_the_folder_is_not_read(tmp_path: Path) -> None:
    Image.new("L", (3, 2), 9).save(tmp_path / "outside.webp", lossless=True)
    digest = hashlib.sha256((tmp_path / "outside.webp").read_bytes()).hexdigest()
    grey = Picture(path="../outside.webp", sha256=digest, width=3, height=2)
    told = Told()
    one: Output = output("a/x.png", grey=grey)
    assert of(save(tmp_path / "out", image("a", one)), told) == []
    assert len(told.left_out) == 1
