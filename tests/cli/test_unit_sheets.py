"""cnnviz dream --against: a folder of images, percentiles, sheets of units and pages of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from run.test_folder_pass import COUNT, SIDE, place_of, planted

import cnnviz_cli
from cnnviz_cli.core.records import ImageRecord, Manifest, Output

from .conftest import Command, Result

HOW = (
    "--model", "nets:templates", "--allow-code", "--input-size", "32", "--resize", "squash", "--mean", "0,0,0",
    "--std", "1,1,1", "--threads", "1", "--device", "cpu", "--steps", "3",
)  # fmt: skip
SHOWN = "shown to the network"


@pytest.fixture
def dream(cnnviz: Command) -> Command:
    def run(*arguments: str | Path) -> Result:
        return cnnviz("dream", *arguments, *HOW)

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(COUNT):
        Image.fromarray(planted(number)).save(folder / f"{number}.png")
    return folder


def manifest(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / "manifest.json").read_bytes())


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "run.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if path.suffix != ".jsonl"}


def sheet_of(record: ImageRecord) -> Output:
    (sheet,) = (output for output in record.outputs if output.examples is not None)
    return sheet


def test_a_unit_has_a_sheet_with_the_planted_patches(
    dream: Command, cnnviz: Command, photos: Path, tmp_path: Path
) -> None:
    done = dream("--layer", "relu", "--unit", "0,3@centre", "--against", photos, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    assert f"{COUNT} images of photos: {SHOWN}" in done.err
    first, second = manifest(tmp_path / "o").images
    assert [output.path.rpartition("/")[2] for output in first.outputs] == ["dream.png", "dream.unit.png"]
    painted, sheet = first.outputs
    assert sheet.subject == painted.subject
    assert painted.dream is not None
    assert painted.dream.against is not None
    assert painted.dream.against.model_dump(exclude={"sha256", "best"}, exclude_none=True) == {
        "name": "photos", "images": COUNT, "unread": 0,
    }  # fmt: skip
    assert f"percentile {painted.dream.percentile:.3g} of {COUNT} images" in done.out
    examples = sheet.examples or []
    assert [one.source for one in examples] == [f"{COUNT - 1 - number}.png" for number in range(9)]
    for number, one in enumerate(examples):
        row, column = place_of(COUNT - 1 - number)
        assert one.at == (row, column)
        assert one.box == (column, row, column + 5, row + 5)
    with Image.open(tmp_path / "o" / sheet.path) as figure:
        assert figure.size == (sheet.width, sheet.height)
    assert {one.value > 0 for one in sheet_of(second).examples or []} == {True}
    assert cnnviz("verify", tmp_path / "o", "--scores", "--allow-code").code == 0


def test_what_is_done_is_not_done_again(dream: Command, photos: Path, tmp_path: Path) -> None:
    asked = ("--layer", "relu", "--unit", "0,3", "-o", tmp_path / "o")
    dream(*asked, "--against", photos)
    before = files(tmp_path / "o")
    moved = tmp_path / "elsewhere" / "photos"
    moved.parent.mkdir()
    shutil.move(photos, moved)
    again = dream(*asked, "--against", moved)
    assert SHOWN not in again.err
    assert "2 of 2" in again.err
    assert files(tmp_path / "o") == before
    # Another picture of the same folder: what the folder answers is known.
    more = dream(*asked, "--against", moved, "--number", "2")
    assert SHOWN not in more.err
    (moved / "0.png").unlink()
    refused = dream(*asked, "--against", moved)
    assert refused.code == 2
    assert "digest of --against" in refused.err
    assert SHOWN in dream(*asked, "--against", moved, "--force").err
    told = manifest(tmp_path / "o").images[0].outputs[0].dream
    assert told is not None
    assert told.against is not None
    assert told.against.images == COUNT - 1


def test_a_page_stays_where_nothing_of_it_has_changed(
    dream: Command, cnnviz: Command, photos: Path, tmp_path: Path
) -> None:
    asked = ("--layer", "relu", "--unit", "all", "--against", photos, "-o", tmp_path / "o")
    done = dream(*asked)
    assert done.code == 0, done.err
    assert "\n4 dreams\n" in done.err
    assert "page 1 of 1: the patches of 4 units" in done.err
    found = manifest(tmp_path / "o")
    assert [sheet.path for sheet in found.sheets or ()] == ["dream.compare.png", "dream.units-1.png"]
    page = tmp_path / "o" / "dream.units-1.png"
    first, written = page.stat().st_mtime_ns, page.read_bytes()
    dream(*asked)
    assert page.stat().st_mtime_ns == first
    page.write_bytes(written[: len(written) // 2])
    dream(*asked)
    assert page.read_bytes() == written
    with Image.open(page) as image:
        told = PngInfo()
        for name, value in image.info.items():
            told.add_text(name, value) if isinstance(value, str) else None
        Image.new("RGB", image.size, "red").save(page, pnginfo=told)
    dream(*asked)  # a picture that says that it was made of the same, and is not what was written
    assert page.read_bytes() == written
    assert cnnviz("verify", tmp_path / "o").out == "all listed files are unchanged\n"


def test_a_channel_that_never_answers_is_silent(dream: Command, photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    notes: list[str] = []
    compose = cnnviz_cli.run.unit_sheets.compose_unit

    def listen(unit: Any, *more: Any) -> Any:
        notes.append(f"{len(unit.patches)} {unit.note}")
        return compose(unit, *more)

    monkeypatch.setattr(cnnviz_cli.run.unit_sheets, "compose_unit", listen)
    done = dream("--layer", "relu", "--unit", "1", "--against", photos, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    assert notes == ["0 silent in these images: nowhere is it above zero"]
    assert sheet_of(manifest(tmp_path / "o").images[0]).examples == []
    dream("--layer", "relu", "--unit", "1", "--minimize", "--against", photos, "-o", tmp_path / "p")
    assert notes[1] == "0 nowhere in these images is it below zero"


def test_fewer_than_nine_images_give_as_many_patches(dream: Command, photos: Path, tmp_path: Path) -> None:
    for number in range(3, COUNT):
        (photos / f"{number}.png").unlink()
    (photos / "notes.png").write_text("no image")
    done = dream("--layer", "relu", "--unit", "0", "--against", photos, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    assert "not among the images that are compared with: notes.png" in done.err
    examples = sheet_of(manifest(tmp_path / "o").images[0]).examples or []
    assert [one.source for one in examples] == ["2.png", "1.png", "0.png"]


def test_patches_of_images_smaller_than_they_are_lie_within_their_frames(
    dream: Command, photos: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    found: list[Any] = []
    compose = cnnviz_cli.run.unit_sheets.compose_unit

    def listen(unit: Any, *more: Any) -> Any:
        found.extend(unit.patches)
        return compose(unit, *more)

    monkeypatch.setattr(cnnviz_cli.run.unit_sheets, "compose_unit", listen)
    for number in range(2, COUNT):
        (photos / f"{number}.png").unlink()
    Image.new("RGB", (1, 1), (200, 30, 30)).save(photos / "point.png")
    Image.new("RGB", (90, 2), (30, 30, 200)).save(photos / "strip.png")
    done = dream("--layer", "conv", "--unit", "2", "--against", photos, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    assert {"point.png", "strip.png"} <= {one.source for one in found}
    for one in found:
        (left, top, right, bottom), (width, height) = one.place, one.frame
        assert -1e-9 <= left < right <= width + 1e-9, one.source
        assert -1e-9 <= top < bottom <= height + 1e-9, one.source


def test_a_class_has_a_percentile_and_no_sheet(dream: Command, photos: Path, tmp_path: Path) -> None:
    done = dream("--target", "1", "--against", photos, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    (output,) = manifest(tmp_path / "o").images[0].outputs
    assert output.dream is not None
    assert 0 <= (output.dream.percentile or -1) <= 100


def test_an_image_that_is_painted_into_has_a_percentile(dream: Command, photos: Path, tmp_path: Path) -> None:
    done = dream(photos / "3.png", "--layer", "relu", "--unit", "0", "--against", photos, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    outputs = manifest(tmp_path / "o").images[0].outputs
    assert [output.dream is not None and output.dream.percentile is not None for output in outputs] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--layer", "relu", "--unit", "0", "--against", "photo"), "there is no folder 'photo'"),
        (("--layer", "relu", "--unit", "0", "--against", "empty"), "holds no files"),
        (("photos/1.png", "--like", "photos/2.png", "--against", "photos"), "no other image can be asked about"),
        (("photos/1.png", "--target", "top1", "--against", "photos"), "top 1 is another class in each image"),
    ],
)
def test_mistakes_are_told_in_a_sentence(dream: Command, photos: Path, arguments: tuple[str, ...], words: str) -> None:
    (photos.parent / "empty").mkdir()
    done = dream(*arguments)
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err
    assert not (photos.parent / "cnnviz-out" / "dream" / "manifest.json").exists()


def test_shards_write_what_one_run_does(dream: Command, cnnviz: Command, photos: Path, tmp_path: Path) -> None:
    asked = ("--layer", "relu", "--unit", "0,3", "--against", photos)
    dream(*asked, "-o", tmp_path / "whole")
    for shard in ("0/2", "1/2"):
        part = dream(*asked, "-o", tmp_path / "parts", "--shard", shard)
        assert (part.code, "1 of 2 records" in part.err) == (0, True), part.err
    assert cnnviz("merge", tmp_path / "parts").code == 0
    whole, parts = files(tmp_path / "whole"), files(tmp_path / "parts")
    same = [name for name in whole if "/" in name]
    assert len(same) == 4
    assert all(whole[name] == parts[name] for name in same)


def test_python_gives_the_same(dream: Command, photos: Path, tmp_path: Path) -> None:
    dream("--layer", "relu", "--unit", "0", "--against", photos, "-o", tmp_path / "o")
    record = manifest(tmp_path / "o").images[0]
    how: dict[str, Any] = {"input_size": (SIDE, SIDE), "resize": "squash", "mean": (0.0,) * 3, "std": (1.0,) * 3}
    (one,) = cnnviz_cli.dream(nets.templates(), layer="relu", unit=0, against=str(photos), steps=3, device="cpu", **how)
    assert record.outputs[0].dream is not None
    assert one.percentile == record.outputs[0].dream.percentile
    assert list(one.patches) == sheet_of(record).examples
    assert one.sheet is not None
    with Image.open(tmp_path / "o" / sheet_of(record).path) as written:
        # Of another network's name in the heading.
        assert one.sheet.size == written.size
        assert np.array_equal(np.asarray(one.sheet)[140:], np.asarray(written.convert("RGB"))[140:])
    (plain,) = cnnviz_cli.dream(nets.templates(), layer="relu", unit=0, steps=3, device="cpu", **how)
    assert (plain.percentile, plain.patches, plain.sheet) == (None, (), None)


def test_merging_says_that_it_writes_no_pages_of_units(
    dream: Command, cnnviz: Command, photos: Path, tmp_path: Path
) -> None:
    asked = ("--layer", "relu", "--unit", "0,1,2", "--against", photos, "-o", tmp_path / "o")
    for shard in ("0/2", "1/2"):
        done = dream(*asked, "--shard", shard)
        assert done.code == 0, done.err
    done = cnnviz("merge", tmp_path / "o")
    assert done.code == 0, done.err
    assert done.err.count("writes no pages of units") == 1
    found = manifest(tmp_path / "o")
    assert [sheet.path for sheet in found.sheets or ()] == ["dream.compare.png"]
    assert len([sheet_of(image) for image in found.images]) == 3


@pytest.mark.parametrize("name", ["run.against.json", "dream.compare.png", "dream.units-1.png"])
def test_files_of_others_where_results_go_are_refused_before_the_first_picture(
    dream: Command, photos: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "o"
    out.mkdir()
    (out / name).write_text("mine\n")
    done = dream("--layer", "relu", "--unit", "0,3", "--against", photos, "-o", out)
    assert done.code == 5, done.err
    assert SHOWN not in done.err
    assert {path.name: path.read_text() for path in out.iterdir()} == {name: "mine\n"}
