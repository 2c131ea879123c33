"""features and deconv --top-images: sheets of channels, pages, a table and findings, of images with known patches."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from run.test_folder_pass import COUNT, SIDE, by_hand, place_of, planted

from cnnviz_cli.core.records import ImageRecord, Manifest, Output
from cnnviz_cli.methods.common.deconvolution import NOTES
from cnnviz_cli.render.top_patches import JOINT, KEPT_PATCH
from cnnviz_cli.studies.top_images import channels, sheets
from cnnviz_cli.studies.top_images.words import strongest_words

from .conftest import Command, Result

HOW = (
    "--model", "nets:templates", "--allow-code", "--input-size", str(SIDE), "--resize", "squash", "--mean", "0,0,0",
    "--std", "1,1,1", "--threads", "1", "--device", "cpu", "--layer", "relu",
)  # fmt: skip
SILENT, BRIGHT = 1, 2
"""The channel of the network that never answers; and that of what is bright, of which images differ in last bits."""


@pytest.fixture
def top(cnnviz: Command) -> Command:
    def run(family: str, *arguments: str | Path) -> Result:
        return cnnviz(family, *arguments, *HOW)

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


def found(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_bytes())["findings"]["top_images"]


def files(folder: Path) -> dict[str, bytes]:
    listed = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "run.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in listed if path.suffix != ".jsonl"}


def sheet_of(record: ImageRecord) -> Output:
    (sheet,) = (output for output in record.outputs if output.examples is not None)
    return sheet


def strongest(channel: int, wanted: int) -> list[tuple[float, str, tuple[int, int]]]:
    """Value, file and position, by loops in float64."""
    listed = []
    for number in range(COUNT):
        plane = by_hand(planted(number), channel)
        place = divmod(int(plane.argmax()), plane.shape[1])
        listed.append((float(plane[place]), f"{number}.png", place))
    return [one for one in sorted(listed, reverse=True) if one[0] > 0][:wanted]


@pytest.mark.parametrize(("family", "wanted"), [("features", 9), ("deconv", 4), ("deconv", 25)])
def test_each_channel_has_the_images_that_slow_loops_find(
    top: Command, cnnviz: Command, photos: Path, tmp_path: Path, family: str, wanted: int
) -> None:
    done = top(family, photos, "--top-images", str(wanted), "--batch-size", "3", "-o", tmp_path / "o")
    assert done.code == 0, done.err
    records = manifest(tmp_path / "o").images
    assert [record.source for record in records] == [f"relu channel {channel}" for channel in range(4)]
    for channel, record in enumerate(records):
        examples, expected = sheet_of(record).examples or [], strongest(channel, wanted)
        if channel != BRIGHT:
            assert [(one.source, one.at) for one in examples] == [(name, place) for _, name, place in expected]
        assert [one.value for one in examples] == pytest.approx([value for value, *_ in expected], rel=1e-4)
        assert all(one.box == (one.at[1], one.at[0], one.at[1] + 5, one.at[0] + 5) for one in examples)
    assert [len(sheet_of(record).examples or []) for record in records][SILENT] == 0
    scarce = sum(0 < len(strongest(channel, wanted)) < wanted for channel in range(4))
    assert found(tmp_path / "o")["layers"][0]["scarce"] == scarce
    assert 0 < scarce < 4
    first = sheet_of(records[0]).examples or []
    assert [one.at for one in first] == [place_of(COUNT - 1 - number) for number in range(min(wanted, COUNT))]
    assert cnnviz("verify", tmp_path / "o").out == "all listed files are unchanged\n"
    assert not list((tmp_path / "o").glob("*.f32"))


def test_projections_stand_beside_patches_where_a_family_projects(top: Command, photos: Path, tmp_path: Path) -> None:
    side = 3 * KEPT_PATCH + 2 * JOINT
    pictures = {}
    runs: tuple[tuple[str, Any], ...] = (
        ("features", ()), ("deconv", ("--rule", "rectify")), ("deconv", ("--rule", "guide"))
    )  # fmt: skip
    for family, more in runs:
        out = tmp_path / "".join((family, *more))
        done = top(family, photos, "--top-images", "9", *more, "-o", out)
        assert done.code == 0, done.err
        with Image.open(out / "relu-channel-0" / f"{family}.patches.png") as image:
            pictures["".join((family, *more))] = np.asarray(image.convert("RGB"))
        assert found(out)["projection"] == (NOTES[more[1]] if more else "")
    alone, rectified, guided = pictures.values()
    assert alone.shape == (side, side, 3)
    assert rectified.shape[1] > 2 * side
    assert np.array_equal(rectified[:, :side], alone)
    assert np.array_equal(guided[:, :side], alone)
    # What a template answers is the template itself, light and dark round mid-grey, whatever the rule.
    for one in (rectified, guided):
        assert one[:, -side:].min() < 30
        assert one[:, -side:].max() > 220


def test_what_nothing_excites_is_said_and_not_drawn(top: Command, photos: Path, tmp_path: Path) -> None:
    done = top("deconv", photos, "--top-images", "9", "-o", tmp_path / "o")
    record = manifest(tmp_path / "o").images[SILENT]
    assert [output.path.rpartition("/")[2] for output in record.outputs] == ["deconv.unit.png"]
    assert sheet_of(record).examples == []
    (layer,) = found(tmp_path / "o")["layers"]
    assert layer == {"layer": "relu", "channels": 4, "silent": [SILENT], "scarce": layer["scarce"]}
    assert f"relu: 4 channels, 1 silent ({SILENT})" in done.out
    assert "4 units, 7 figures" in done.out


def test_pages_and_table_tell_of_every_channel(top: Command, photos: Path, tmp_path: Path) -> None:
    top("features", photos, "--top-images", "2", "-o", tmp_path / "o")
    whole = manifest(tmp_path / "o")
    assert [sheet.path for sheet in whole.sheets or ()] == ["features.units-1.png"]
    assert [table.path for table in whole.tables or ()] == ["top_images.csv"]
    rows = list(csv.DictReader((tmp_path / "o" / "top_images.csv").read_text().splitlines()))
    expected = [
        (channel, rank, one)
        for channel, record in enumerate(whole.images)
        for rank, one in enumerate(sheet_of(record).examples or [], 1)
    ]
    assert len(rows) == len(expected) > 4
    for row, (channel, rank, one) in zip(rows, expected, strict=True):
        assert (row["layer"], row["channel"], row["rank"], row["source"]) == (
            "relu",
            str(channel),
            str(rank),
            one.source,
        )
        assert (float(row["value"]), row["sha256"]) == (one.value, one.sha256)
        assert (int(row["row"]), int(row["column"])) == one.at
        assert tuple(float(row[edge]) for edge in ("left", "top", "right", "bottom")) == one.box


def test_a_page_has_so_many_channels_and_the_last_names_the_silent(
    top: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[list[str], list[str]]] = []
    compose = sheets.compose_top_page

    def listen(tiles: Any, heading: str, facts: Any, more: Any, room: int, **how: bool) -> Any:
        drawn.append(([one.title for one in tiles], list(more)))
        return compose(tiles, heading, facts, more, room, **how)

    monkeypatch.setattr(sheets, "ROWS", 1)
    monkeypatch.setattr(sheets, "squares_on_page", lambda _room, **_how: 2)
    monkeypatch.setattr(sheets, "compose_top_page", listen)
    top("features", photos, "--top-images", "2", "-o", tmp_path / "o")
    assert [sheet.path for sheet in manifest(tmp_path / "o").sheets or ()] == [
        f"features.units-{n}.png" for n in (1, 2)
    ]
    assert drawn == [
        (["channel 0", "channel 2"], []),
        (["channel 3"], [f"silent in these images: channel {SILENT}"]),
    ]


def test_channels_are_chosen_by_number(top: Command, cnnviz: Command, photos: Path, tmp_path: Path) -> None:
    asked = ("--top-images", "2", "--top-channels", "3,0-1", "-o", tmp_path / "o")
    plan = top("features", photos, *asked, "--dry-run")
    assert "relu: 3 channels, at most 2 images each" in plan.out
    assert not (tmp_path / "o").exists()
    top("features", photos, *asked)
    assert [record.source for record in manifest(tmp_path / "o").images] == [f"relu channel {at}" for at in (0, 1, 3)]
    refused = top("features", photos, "--top-images", "2", "--top-channels", "4", "-o", tmp_path / "p")
    assert (refused.code, "there is no channel 4" in refused.err) == (2, True)
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({"features": {"top_images": 2}}))
    together = cnnviz("all", photos, "--config", file, "-o", tmp_path / "q")
    assert (together.code, "a run of their own" in together.err) == (2, True)


def test_what_is_done_is_not_done_again_and_what_is_gone_is(top: Command, photos: Path, tmp_path: Path) -> None:
    asked = ("--top-images", "4", "-o", tmp_path / "o")
    assert f"{COUNT} images: shown to the network" in top("deconv", photos, *asked).err
    before = files(tmp_path / "o")
    again = top("deconv", photos, *asked)
    assert (again.code, "4 of 4" in again.err) == (0, True)
    assert files(tmp_path / "o") == before
    (tmp_path / "o" / "relu-channel-2" / "deconv.patches.png").unlink()
    assert top("deconv", photos, *asked).code == 0
    assert files(tmp_path / "o") == before
    Image.fromarray(planted(COUNT + 2)).save(photos / "0.png")
    top("deconv", photos, *asked)
    assert (sheet_of(manifest(tmp_path / "o").images[0]).examples or [])[0].source == "0.png"


def test_a_network_that_is_known_by_its_name_is_not_loaded_again(
    cnnviz: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnviz_cli.run.study_end._RECENT", 0)  # images that were written just now may change again
    asked = ("features", photos, "--top-images", "2", "--layer", "stages.0", "--top-channels", "0-2")
    asked += ("--input-size", "64")
    first = cnnviz(*asked, "-o", tmp_path / "o")
    assert first.code == 0, first.err
    before = files(tmp_path / "o")
    again = cnnviz(*asked, "-o", tmp_path / "o")
    assert (again.code, "shown to the network" in again.err, "loading" in again.err) == (0, False, False)
    assert files(tmp_path / "o") == before
    assert "stages.0: 3 channels" in again.out


def test_shards_and_a_merge_write_what_one_process_writes(
    top: Command, cnnviz: Command, photos: Path, tmp_path: Path
) -> None:
    asked = ("--top-images", "4", "--batch-size", "2")
    top("deconv", photos, *asked, "-o", tmp_path / "whole")
    halves = tmp_path / "halves"
    # The first shard has shown its own images and waits for nobody: it is done when the other is.
    for index in ("0/2", "1/2", "0/2"):
        top("deconv", photos, *asked, "-o", halves, "--shard", index)
    merged = cnnviz("merge", halves)
    assert merged.code == 0, merged.err
    whole, parts = files(tmp_path / "whole"), files(halves)
    assert {name: parts.get(name) for name in whole} == whole


def test_a_page_shows_no_squares_that_were_changed(top: Command, cnnviz: Command, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "halves"
    for index in ("0/2", "1/2", "0/2"):
        top("features", photos, "--top-images", "2", "-o", out, "--shard", index)
    shutil.copy(out / "relu-channel-0" / "features.patches.png", out / "relu-channel-2" / "features.patches.png")
    (out / "relu-channel-3" / "features.patches.png").unlink()
    merged = cnnviz("merge", out)
    assert "relu-channel-2/features.patches.png: its file was changed" in merged.err
    assert "relu-channel-3/features.patches.png: its file is gone" in merged.err


def test_an_image_that_cannot_be_read_is_counted(top: Command, photos: Path, tmp_path: Path) -> None:
    (photos / "0 broken.png").write_bytes(b"no image")  # the first of the list
    shutil.copy(photos / "13.png", photos / "copy.png")
    done = top("features", photos, "--top-images", "9", "-o", tmp_path / "o")
    assert done.code in (0, 3), done.err
    (seen,) = json.loads((tmp_path / "o" / "manifest.json").read_bytes())["findings"]["seen"]
    assert (seen["images"], seen["unseen"], seen["examples"][0]["source"]) == (COUNT + 1, 1, "0 broken.png")
    sources = [one.source for one in sheet_of(manifest(tmp_path / "o").images[0]).examples or []]
    assert sources == [f"{COUNT - 1 - number}.png" for number in range(9)]


def test_no_sheet_is_drawn_where_no_image_can_be_read(top: Command, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    refused = top("features", tmp_path / "broken.png", "--top-images", "9", "-o", tmp_path / "o")
    assert refused.code == 2
    assert "error: the image cannot be shown to the network: broken.png (this is not an image" in refused.err


def test_too_many_channels_are_refused_before_an_image_is_read(
    top: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "MOST_UNITS", 3)
    refused = top("features", photos, "--top-images", "9", "-o", tmp_path / "o")
    assert (refused.code, "4 channels, and each would have a sheet" in refused.err) == (2, True)


def test_of_fewer_images_than_were_asked_for_the_words_say_how_many(
    top: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headings: list[str] = []
    compose = sheets.compose_top_page

    def listen(tiles: Any, heading: str, *rest: Any, **how: bool) -> Any:
        headings.append(heading)
        return compose(tiles, heading, *rest, **how)

    monkeypatch.setattr(sheets, "compose_top_page", listen)
    for photo in sorted(photos.iterdir())[3:]:
        photo.unlink()
    assert top("features", photos, "--top-images", "9", "-o", tmp_path / "o").code == 0
    assert headings == ["relu: the 3 strongest patches of each channel"]
    assert strongest_words(2, 9, 3) == "the 2 strongest patches, each of another file, among 3 images; 9 were asked for"
    assert strongest_words(9, 9, 30) == "the 9 strongest patches, each of another file, among 30 images"
    assert strongest_words(1, 1, 30) == "the strongest patch among 30 images"
    assert strongest_words(0, 9, 3) == "3 images"
