"""The folder that FiftyOne loads, read again by the rules of its importer, without FiftyOne.

Of fiftyone.utils.data.importers (1.22): a metadata.json without ``version`` is of the older form; paths of samples, and
of labels in fields that have a folder below ``fields``, are relative to the folder; a label's ``_cls`` is its class.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports.saved import CAT, DOG, failed, image, keep, output, save
from exports.test_maps import slowly
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.file_reading import ReadOptions, parse_value_range
from cnnviz_cli.core.records import DreamRecord, ImageRecord, Output, Prediction, Subject, Window
from cnnviz_cli.exports.api import Exported, Wishes, export_run
from cnnviz_cli.exports.fiftyone import LONGEST_SIDE
from cnnviz_cli.files.images.decode import read_image

MAP = np.array([[0, 1, 4], [2, 8, 0.5]])
SIGNED = np.array([[0, -1, 4], [2, 8, -16]])


def load(folder: Path) -> list[dict[str, Any]]:
    """The samples with absolute paths, all of which are there."""
    about = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    assert "version" not in about
    assert about["media_type"] == "image"
    fields = {one.name for one in (folder / "fields").iterdir()} if (folder / "fields").exists() else set()
    samples: list[dict[str, Any]] = json.loads((folder / "samples.json").read_text(encoding="utf-8"))["samples"]
    for sample in samples:
        assert not Path(sample["filepath"]).is_absolute()
        sample["filepath"] = folder / sample["filepath"]
        with Image.open(sample["filepath"]) as picture:
            picture.load()
        for name, value in sample.items():
            assert not name.startswith("_") or name == "_media_type"
            assert not {".", "$"} & set(name)
            if isinstance(value, dict) and value["_cls"] == "Heatmap":
                assert name in fields
                assert not Path(value["map_path"]).is_absolute()
                value["map_path"] = folder / value["map_path"]
    return samples


def values_of(heatmap: dict[str, Any]) -> NDArray[Any]:
    """What the 16 bits of a heat map stand for."""
    with Image.open(heatmap["map_path"]) as picture:
        assert picture.mode == "I;16"
        levels = np.asarray(picture, np.float64)
    low, high = heatmap["range"]
    assert (low, high) == (0, 65535)
    return np.asarray(heatmap["low"] + (heatmap["high"] - heatmap["low"]) * levels / high)


def photo(folder: Path, source: str, size: tuple[int, int] = (40, 30)) -> str:
    """A photograph, and the digest of its file."""
    place = folder / source
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (9, 99, 199)).save(place)
    return hashlib.sha256(place.read_bytes()).hexdigest()


@pytest.fixture
def seen(tmp_path: Path) -> Callable[..., ImageRecord]:
    """An image of 40 by 30 pixels that is in the folder ``photos``, of which the network saw 24 by 16."""

    def made(source: str, *outputs: Output, **facts: Any) -> ImageRecord:
        window = Window(size=(24, 16), box=(8, 7, 32, 23))
        usual = {"sha256": photo(tmp_path / "photos", source), "width": 40, "height": 30, "seen": window}
        return image(source, *outputs, **{**usual, **facts})

    return made


def exported(out: Path) -> tuple[Exported, list[dict[str, Any]]]:
    found = export_run(out, "fiftyone", wishes=Wishes(photos=out.parent / "photos"))
    return found, load(found.place)


def test_a_map_lies_over_the_whole_image_with_its_values(tmp_path: Path, seen: Callable[..., ImageRecord]) -> None:
    root = tmp_path / "out"
    one = output("a/x.png", array="x.map", range=(0.0, 8.0), scale=(0.0, 8.0), measures={"removal.gain": 1.0})
    found, (sample,) = exported(save(root, keep(root, seen("cats/a.png", one, truth=DOG), {"x.map": MAP[None]})))
    assert sample["filepath"].read_bytes() == (tmp_path / "photos/cats/a.png").read_bytes()
    assert sample["source"] == "cats/a.png"
    assert sample["outcome"] == "wrong"
    assert sample["ground_truth"] == {
        "_cls": "Classification", "tags": [], "label": "tench", "index": 0, "confidence": 0.25,
    }  # fmt: skip
    assert sample["prediction"]["label"] == "tiger cat"
    assert [one["label"] for one in sample["predictions"]["classifications"]] == ["tiger cat", "tench"]
    heatmap = sample["gradcam_conv"]
    np.testing.assert_allclose(values_of(heatmap), slowly(MAP, (8, 7, 32, 23), 40, 30), atol=8 / 65535 / 2 + 2e-5)
    assert {name: heatmap[name] for name in ("label", "index", "confidence", "method", "layer", "state", "figure")} == {
        "label": "tiger cat", "index": 282, "confidence": 0.625, "method": "gradcam", "layer": "conv", "state": "ok",
        "figure": "a/x.png",
    }  # fmt: skip
    assert isinstance(heatmap["measure_removal_gain"], float)
    assert found.told.counts == {"sample": 1, "heat map": 1}
    assert found.told.left_out == []


def test_a_signed_map_gives_one_map_for_and_one_against(tmp_path: Path, seen: Callable[..., ImageRecord]) -> None:
    root = tmp_path / "out"
    one = output("a/x.png", array="x.map", range=(-16.0, 8.0), scale=(-16.0, 16.0), layer=None, method="gradient")
    _, (sample,) = exported(save(root, keep(root, seen("a.png", one), {"x.map": SIGNED[None]})))
    placed = slowly(SIGNED, (8, 7, 32, 23), 40, 30)
    near = 16 / 65535 / 2 + 2e-5
    np.testing.assert_allclose(values_of(sample["gradient_for"]), placed.clip(min=0), atol=near)
    np.testing.assert_allclose(values_of(sample["gradient_against"]), placed.clip(max=0), atol=near)


def test_values_beyond_the_colours_are_cut_as_in_the_figure(tmp_path: Path, seen: Callable[..., ImageRecord]) -> None:
    root = tmp_path / "out"
    one = output("a/x.png", array="x.map", range=(0.0, 8.0), scale=(0.0, 4.0))
    _, (sample,) = exported(save(root, keep(root, seen("a.png", one), {"x.map": MAP[None]})))
    placed = slowly(MAP, (8, 7, 32, 23), 40, 30).clip(0, 4)
    np.testing.assert_allclose(values_of(sample["gradcam_conv"]), placed, atol=4 / 65535 / 2 + 2e-5)


def test_a_large_image_has_a_reduced_map_of_its_proportions(tmp_path: Path) -> None:
    root = tmp_path / "out"
    digest = photo(tmp_path / "photos", "a.png", (2048, 1024))
    one = image(
        "a.png", output("a/x.png", array="x.map", range=(0.0, 8.0), scale=(0.0, 8.0)),
        sha256=digest, width=2048, height=1024, seen=Window(size=(24, 16), box=(512, 0, 1536, 1024)),
    )  # fmt: skip
    _, (sample,) = exported(save(root, keep(root, one, {"x.map": MAP[None]})))
    values = values_of(sample["gradcam_conv"])
    assert values.shape == (LONGEST_SIDE // 2, LONGEST_SIDE)
    np.testing.assert_allclose(values, slowly(MAP, (128, 0, 384, 256), 512, 256), atol=1e-4)


def test_fields_are_the_same_for_the_same_question_in_every_image(
    tmp_path: Path, seen: Callable[..., ImageRecord]
) -> None:
    root = tmp_path / "out"

    def outputs(name: str) -> list[Output]:
        return [
            output(f"{name}/1.png", array="1.map", target=DOG if name == "b" else CAT),
            output(f"{name}/2.png", array="2.map", target=CAT if name == "b" else DOG),
            output(f"{name}/3.png", array="3.map", layer="a.b"), output(f"{name}/4.png", array="4.map", layer="a_b"),
            output(f"{name}/5.png", array="5.map", method="gradcam++", counterfactual=True),
            output(f"{name}/6.png", array="6.map", state="flat", scale=None),
        ]  # fmt: skip

    arrays = {f"{number}.map": MAP[None] for number in range(1, 7)}
    records = [keep(root, seen(f"{name}.png", *outputs(name)), arrays) for name in ("a", "b")]
    _, samples = exported(save(root, *records))
    for sample in samples:
        found = {
            key: value["figure"][2] for key, value in sample.items() if isinstance(value, dict) and "figure" in value
        }
        assert found == {
            "gradcam_conv": "1", "gradcam_conv_2": "2", "gradcam_a_b": "3", "gradcam_a_b_1x": "4",
            "gradcamplusplus_conv_counterfactual": "5",
        }  # fmt: skip


def test_boxes_values_and_similarities(tmp_path: Path, seen: Callable[..., ImageRecord]) -> None:
    box = Prediction(index=3, label="boat", probability=0.5, box=(10.0, 3.0, 30.0, 18.0), rank=1)
    value = Prediction(index=0, label="age", probability=None, value=41.0, unit="years")
    like = Prediction(index=0, label="reference", probability=None, similarity=1)
    share = Prediction(index=1, label="sky", probability=0.5, share=0.25)
    records = [seen(f"{at}.png", predictions=[one]) for at, one in enumerate((box, value, like, share))]
    _, (first, second, third, fourth) = exported(save(tmp_path / "out", *records))
    (detection,) = first["detections"]["detections"]
    np.testing.assert_allclose(detection["bounding_box"], [0.25, 0.1, 0.5, 0.5])
    assert (detection["label"], detection["confidence"]) == ("boat", 0.5)
    assert second["prediction_value"] == 41.0
    assert isinstance(third["similarity"], float)
    assert fourth["prediction"]["share"] == 0.25


def test_a_painted_picture_is_a_sample_itself_and_needs_no_photos(tmp_path: Path) -> None:
    root, unit = tmp_path / "out", Subject(layer="conv", channel=7)
    digest = photo(root, "conv-channel-7/dream.png")
    dream = DreamRecord(objective="channel 7", start="noise", number=1, steps=9, score=2, start_score=0.5)
    usual = {"family": "dream", "method": "octaves", "target": None, "dream": dream}
    painted = [output("conv-channel-7/dream.png", sha256=digest, **usual), output("gone.png", **usual)]
    found = export_run(save(root, image(unit.name, *painted, subject=unit, predictions=[])), "fiftyone")
    (sample,) = load(found.place)
    assert sample["filepath"].read_bytes() == (root / "conv-channel-7/dream.png").read_bytes()
    assert (sample["objective"], sample["dream_score"]) == ("channel 7", 2.0)
    assert isinstance(sample["dream_score"], float)
    assert len(found.told.left_out) == 1


def test_images_that_are_gone_or_others_are_left_out_and_told(tmp_path: Path, seen: Callable[..., ImageRecord]) -> None:
    gone, other = seen("gone.png"), seen("other.png")
    (tmp_path / "photos/gone.png").unlink()
    photo(tmp_path / "photos", "other.png", (41, 30))
    found, samples = exported(save(tmp_path / "out", gone, seen("here.png"), other, failed("broken.png")))
    assert [one["source"] for one in samples] == ["here.png"]
    assert found.told.left_out == [
        "images that are not below --photos, or are not those of the run, are left out: 3, of gone.png, other.png, "
        "broken.png"
    ]
    assert found.told.notes == ["the run has kept no maps (--save-arrays), so there are no heat maps"]
    assert not (found.place / "data/other.png").exists()


def test_an_image_that_failed_but_is_there_is_a_sample(tmp_path: Path) -> None:
    broken = failed("a.png").model_copy(update={"sha256": photo(tmp_path / "photos", "a.png")})
    _, (sample,) = exported(save(tmp_path / "out", broken))
    assert (sample["outcome"], sample["error"]) == ("failed", "the file is cut off")
    assert "prediction" not in sample


def explained(tmp_path: Path, name: str, data: bytes, **config: Any) -> tuple[Exported, list[dict[str, Any]]]:
    """An export of a run over one file."""
    place = tmp_path / "photos" / name
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(data)
    return exported(save(tmp_path / "out", image(name, sha256=hashlib.sha256(data).hexdigest()), **config))


def everything(folder: Path) -> bytes:
    return b"".join(one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file())


@pytest.mark.parametrize("name", ["scan.dcm", "noext"])
@pytest.mark.parametrize("value_range", ["auto", "-500,500"])
def test_of_a_dicom_image_the_pixels_are_copied_and_no_tag(tmp_path: Path, name: str, value_range: str) -> None:
    pytest.importorskip("pydicom")
    from files.test_dicom import RAMP, SECRETS, levels, make, packed
    from files.test_dicom import read as read_dicom

    made = make(RAMP)
    secrets = [str(value).encode() for value in SECRETS.values()]
    data = packed(made)
    assert all(secret in data for secret in secrets)
    found, (sample,) = explained(tmp_path, name, data, value_range=value_range)
    assert not any(secret in everything(found.place) for secret in secrets)
    assert sample["filepath"] == found.place / f"data/{name}/pixels.png"
    expected = read_dicom(tmp_path, made, ReadOptions(value_range=parse_value_range(value_range)))
    with Image.open(sample["filepath"]) as picture:
        assert np.array_equal(np.asarray(picture)[:, :, 0], levels(expected))
    assert found.told.notes[0] == (
        "of 1 image the pixels are copied alone, since the files say of whom or where they are"
    )
    assert found.told.left_out == []


def test_a_dicom_image_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    found, samples = explained(tmp_path, "a.dcm", bytes(128) + b"DICM" + b"Doe^Jane" * 9)
    assert samples == []
    assert found.told.left_out == [
        "images whose files say of whom or where they are, and whose pixels cannot be read, are left out: 1, of a.dcm"
    ]
    assert b"Doe" not in everything(found.place)


def tagged(form: str, *, place: bool, turn: int = 1, **how: Any) -> bytes:
    """A picture of 5 by 3 pixels with EXIF."""
    exif, file = Image.Exif(), BytesIO()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Camera", turn
    if place:
        where: dict[int, Any] = {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (48.0, 8.0, 7.5)}
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(where)
        if form == "TIFF":  # whose writer asks for what is listed alone
            exif[ExifTags.IFD.GPSInfo] = 0
    pixels = np.random.default_rng(0).integers(0, 255, (3, 5, 3), np.uint8)
    Image.fromarray(pixels).save(file, form, exif=exif, **how)
    return file.getvalue()


@pytest.mark.parametrize(("form", "suffix"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif")])
@pytest.mark.parametrize("turn", [1, 6])
def test_a_photograph_that_says_where_it_was_taken_says_so_no_more(
    tmp_path: Path, form: str, suffix: str, turn: int
) -> None:
    name = f"a.{suffix}"
    found, (sample,) = explained(tmp_path, name, tagged(form, place=True, turn=turn))
    upright = np.asarray(read_image(tmp_path / "photos" / name).image)
    with Image.open(sample["filepath"]) as picture:
        assert not picture.getexif()
        assert np.array_equal(np.asarray(picture), upright)
    assert sorted(one.name for one in found.place.iterdir()) == ["data", "metadata.json", "samples.json"]


def test_a_place_in_xmp_is_one_too(tmp_path: Path) -> None:
    file, text = BytesIO(), PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<a exif:GPSLatitude="48,8.125N"/>', zip=True)
    Image.new("RGB", (5, 3)).save(file, "PNG", pnginfo=text)
    _, (sample,) = explained(tmp_path, "a.png", file.getvalue())
    assert sample["filepath"].name == "pixels.png"


def test_any_other_exif_is_copied_with_the_file(tmp_path: Path) -> None:
    data = tagged("JPEG", place=False, turn=6)
    found, (sample,) = explained(tmp_path, "a.jpg", data)
    assert sample["filepath"].read_bytes() == data
    assert not any("pixels" in note for note in found.told.notes)


def test_a_name_that_is_no_utf_8_is_found(tmp_path: Path, seen: Callable[..., ImageRecord]) -> None:
    import os

    record = seen("plain.png")
    try:
        (tmp_path / "photos/plain.png").rename(os.fsdecode(os.fsencode(tmp_path / "photos") + b"/bad\xff.png"))
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    found, (sample,) = exported(save(tmp_path / "out", record.model_copy(update={"source": r"bad\xff.png"})))
    assert sample["source"] == r"bad\xff.png"
    assert found.told.left_out == []


@pytest.mark.parametrize("source", ["../secret.png", "link/secret.png", "{tmp}/secret.png", "pipe"])
def test_nothing_outside_of_the_folder_of_photos_is_copied(tmp_path: Path, source: str) -> None:
    """Though the manifest has its digest."""
    import os

    digest = photo(tmp_path, "secret.png")
    photo(tmp_path / "elsewhere", "secret.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "photos/pipe")
    found, samples = exported(save(tmp_path / "out", image(source.format(tmp=tmp_path), sha256=digest)))
    assert samples == []
    assert len(found.told.left_out) == 1
    assert not (found.place / "data").exists()


@pytest.mark.parametrize("source", ["con.png", "a:b?.png", "x" * 200 + "\u202e.png", "../up.png", "a//b.png"])
def test_names_are_such_as_every_system_stores(tmp_path: Path, source: str) -> None:
    dream = DreamRecord(objective="o", start="noise", number=1, steps=9, score=2, start_score=0.5)
    root = tmp_path / "out"
    digest = photo(root, "x.png")
    found = export_run(
        save(root, image(source, output("x.png", sha256=digest, target=None, dream=dream, family="dream"))), "fiftyone"
    )
    (sample,) = load(found.place)
    assert sample["filepath"].resolve().is_relative_to(found.place.resolve())


def test_without_photos_the_sentence_names_the_flag(tmp_path: Path, seen: Callable[..., ImageRecord]) -> None:
    out = save(tmp_path / "out", seen("a.png"))
    with pytest.raises(UsageError, match="not in a run's folder") as error:
        export_run(out, "fiftyone")
    assert "--photos DIR" in error.value.fix
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out", "photos"]


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, seen: Callable[..., ImageRecord]) -> None:
    root = tmp_path / "out"
    out = save(root, keep(root, seen("a.png", output("a/x.png", array="x.map")), {"x.map": MAP[None]}))
    files = []
    for name in ("one", "two"):
        export_run(out, "fiftyone", tmp_path / name, Wishes(photos=tmp_path / "photos"))
        found = sorted(one for one in (tmp_path / name).rglob("*") if one.is_file())
        files.append({one.relative_to(tmp_path / name): one.read_bytes() for one in found})
    assert files[0] == files[1]
    assert len(files[0]) == 4


def test_an_earlier_export_is_replaced_whole_and_nothing_else(tmp_path: Path, seen: Callable[..., ImageRecord]) -> None:
    out, place, how = save(tmp_path / "out", seen("a.png")), tmp_path / "place", Wishes(photos=tmp_path / "photos")
    export_run(out, "fiftyone", place, how)
    (place / "data/stale.png").touch()
    with pytest.raises(UsageError, match="exists already"):
        export_run(out, "fiftyone", place, how)
    export_run(out, "fiftyone", place, how, overwrite=True)
    assert not (place / "data/stale.png").exists()
    assert len(load(place)) == 1
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "metadata.json").write_text('{"info": {}}', encoding="utf-8")
    for wrong in (foreign, tmp_path / "photos", out.parent):
        with pytest.raises(UsageError, match="not replaced"):
            export_run(out, "fiftyone", wrong, how, overwrite=True)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["mine", "out", "photos", "place"]
