"""cnnviz_cli.top_images: the same as the command, without a file."""

from __future__ import annotations

from pathlib import Path

import nets
import numpy as np
import pytest
from PIL import Image
from run.test_folder_pass import AS_IT_IS, COUNT, place_of, planted

import cnnviz_cli
from cnnviz_cli.core.records import Manifest

SETTINGS = {name: one for name, one in AS_IT_IS.items() if name != "device"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(COUNT):
        Image.fromarray(planted(number)).save(folder / f"{number}.png")
    return folder


def test_it_finds_what_was_planted_and_writes_nothing(photos: Path) -> None:
    before = sorted(photos.rglob("*"))
    found = cnnviz_cli.top_images(nets.templates(), photos, layer="relu", count=4, project=True, **SETTINGS)
    assert [(one.layer, one.channel) for one in found] == [("relu", channel) for channel in range(4)]
    first, silent = found[0], found[1]
    assert [one.source for one in first.patches] == [f"{COUNT - 1 - number}.png" for number in range(4)]
    assert [one.at for one in first.patches] == [place_of(COUNT - 1 - number) for number in range(4)]
    assert (len(first.pictures), len(first.projections), first.images) == (4, 4, COUNT)
    assert first.squares is not None
    assert first.squares.width > 1.9 * first.squares.height
    assert first.sheet.width > first.squares.width
    assert first._repr_png_().startswith(b"\x89PNG")
    assert (silent.patches, silent.pictures, silent.squares) == ((), (), None)
    assert sorted(photos.rglob("*")) == before
    plain = cnnviz_cli.top_images(nets.templates(), photos, layer="relu", count=4, channels="0", **SETTINGS)
    assert [one.channel for one in plain] == [0]
    assert plain[0].patches == first.patches
    assert plain[0].projections == ()


def test_it_is_what_the_command_finds(photos: Path, tmp_path: Path) -> None:
    from cnnviz_cli.cli.main import main

    out = tmp_path / "o"
    words = ["deconv", str(photos), "--top-images", "3", "--model", "nets:templates", "--allow-code", "--layer", "relu"]
    words += ["--input-size", "32", "--resize", "squash", "--mean", "0,0,0", "--std", "1,1,1", "--workers", "0"]
    assert main([*words, "-q", "-o", str(out)]) == 0
    records = Manifest.model_validate_json((out / "manifest.json").read_bytes()).images
    found = cnnviz_cli.top_images(nets.templates(), photos, layer="relu", count=3, project=True, **SETTINGS)
    for one, record in zip(found, records, strict=True):
        assert list(one.patches) == record.outputs[0].examples
        if one.squares is not None:
            with Image.open(out / record.outputs[1].path) as written:
                assert np.array_equal(np.asarray(written.convert("RGB")), np.asarray(one.squares))


def test_rows_and_columns_of_an_oblong_input_are_not_mixed_up(tmp_path: Path) -> None:
    wide = np.full((32, 56, 3), 105, np.uint8)
    number = 6  # the template, where it is in that image, and 20 columns further right
    row, column = place_of(number)
    wide[row : row + 5, column + 20 : column + 25] = planted(number)[row : row + 5, column : column + 5]
    Image.fromarray(wide).save(tmp_path / "wide.png")
    settings = {**SETTINGS, "input_size": (32, 56)}
    (one,) = cnnviz_cli.top_images(nets.templates(), tmp_path, layer="relu", channels=[0], **settings)
    (patch,) = one.patches
    assert patch.at == (row, column + 20)
    assert patch.box == (column + 20, row, column + 25, row + 5)


def test_an_image_that_cannot_be_read_is_named(photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"broken.png is left out"):
        (one,) = cnnviz_cli.top_images(nets.templates(), photos, layer="relu", channels=[0], **SETTINGS)
    assert one.images == COUNT


@pytest.mark.parametrize(
    ("wrong", "words", "where"),
    [
        ({"count": 26}, "at most 25", "in the argument count"),
        ({"channels": [4]}, "no channel 4", "in the argument channels"),
        ({"channels": "x"}, "must be channels", "in the argument channels"),
        ({"layer": "nowhere"}, "nowhere", "in the argument layer"),
        ({"channnels": 3}, "no option", "See: help(cnnviz_cli.top_images)"),
    ],
)
def test_what_cannot_be_is_one_error(photos: Path, wrong: dict[str, object], words: str, where: str) -> None:
    given = {"layer": "relu", **SETTINGS, **wrong}
    with pytest.raises(cnnviz_cli.UsageError, match=words) as caught:
        cnnviz_cli.top_images(nets.templates(), photos, **given)  # type: ignore[arg-type]
    assert where in caught.value.__notes__


def test_images_are_files(photos: Path) -> None:
    with pytest.raises(cnnviz_cli.UsageError, match="none on a disk"):
        cnnviz_cli.top_images(nets.templates(), [np.zeros((8, 8, 3), np.uint8)], layer="relu")  # type: ignore[list-item]
    with pytest.raises(cnnviz_cli.CnnvizError):
        cnnviz_cli.top_images(nets.templates(), photos / "nowhere", layer="relu")
