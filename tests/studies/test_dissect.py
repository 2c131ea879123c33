"""The command dissect: planted channels are found, numbers are those of loops, runs resume, and mistakes are told."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from render.laid import texts
from studies.coloured import BIAS, SIDE, WEIGHT, coloured, scene, write_boxes, write_scenes

import cnnviz_cli
from cnnviz_cli.cli.main import main
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.run import looking
from cnnviz_cli.studies.dissection.sheets import draw_image

ROOT = Path(__file__).parents[2]
COUNT = 8
QUANTILE = 0.93  # a square of 12 x 12 is 6.25 % of an image of 48 x 48

Say = Callable[..., str]


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """in/0.png and so on, masks of them, and the folder of the test to work in."""
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path, COUNT)


@pytest.fixture
def cnnviz(capfd: pytest.CaptureFixture[str]) -> Say:
    """Dissect the planted network, and return all that is said; the command has to end with `code`."""

    def run(*arguments: str, images: str = "in", layer: str = "colours", code: int = 0) -> str:
        model = [
            "--model",
            "studies.coloured:coloured",
            "--allow-code",
            "--input-size",
            str(SIDE),
            "--resize",
            "squash",
        ]
        asked = ["--layer", layer, "--quantile", str(QUANTILE), "--device", "cpu", "--workers", "0", "-o", "out"]
        words = [one for one in ("--layer", "-o", "--quantile") if one in arguments]
        for one in words:
            at = asked.index(one)
            del asked[at : at + 2]
        given = list(arguments)
        if "--annotations" not in given:
            given += ["--annotations", "masks"]
        found = main(["dissect", images, *model, *asked, *given])
        said = capfd.readouterr()
        assert found == code, said.err
        return said.err + said.out

    return run


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def said_of_all(cnnviz: Say, kept: Path) -> str:
    """What is said of a run of all images, which lies in out/: made by the first test that looks at it."""
    said = kept / "said.txt"
    if said.exists():
        shutil.copytree(kept / "out", "out")
    else:
        said.write_text(cnnviz(), encoding="utf-8")
        shutil.copytree("out", kept / "out")
    return said.read_text(encoding="utf-8")


looks_at_all = pytest.mark.usefixtures("said_of_all")


def manifest(out: str = "out") -> Any:
    return json.loads(Path(out, "manifest.json").read_text(encoding="utf-8"))


def table(out: str = "out") -> list[dict[str, str]]:
    with Path(out, "dissection.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def slow(count: int = COUNT, quantile: float = QUANTILE) -> list[dict[str, Any]]:
    """The table of layer `colours` once more, in double precision from the images themselves."""
    weight = np.array(WEIGHT, np.float64)
    scenes = [scene(number) for number in range(count)]
    maps = [image.astype(np.float64) / 255 @ weight.T + BIAS for image, _ in scenes]
    rows = []
    for channel in range(4):
        values = np.sort(np.concatenate([one[..., channel].ravel() for one in maps]))
        # The smallest value that no more than the rest of the values exceed.
        threshold = values[len(values) - int((1 - quantile) * len(values) + 1e-9) - 1]
        found = {}
        for label in ("red", "blue"):
            both = union = 0
            for one, (_, marked) in zip(maps, scenes, strict=True):
                above = one[..., channel] > threshold
                inside = marked.get(label, np.zeros_like(above))
                both += int((above & inside).sum())
                union += int((above | inside).sum())
            found[label] = both / union if union else 0.0
        rows.append({"threshold": threshold, **found})
    return rows


def test_planted_channels_are_found_and_numbers_are_those_of_loops(said_of_all: str) -> None:
    rows, expected = table(), slow()
    assert [row["label"] for row in rows[:2]] == ["red", "blue"]
    assert [rows[channel]["detector"] for channel in (0, 1, 3)] == ["yes", "yes", "no"]
    for row, one in zip(rows, expected, strict=True):
        best = max(("blue", "red"), key=lambda label: one[label])
        assert float(row["threshold"]) == pytest.approx(one["threshold"], abs=2e-6)
        assert float(row["iou"]) == pytest.approx(one[best], abs=1e-3)
        assert int(row["intersection"]) / max(int(row["union"]), 1) == pytest.approx(float(row["iou"]), rel=1e-5)
    assert float(rows[0]["iou"]) > 0.8
    # The channel that is the same everywhere is nowhere above its threshold.
    assert rows[3] == {**rows[3], "threshold": "0.5", "label": "", "iou": "0", "intersection": "0", "union": "0"}
    (layer,) = manifest()["findings"]["dissect"]["layers"]
    assert layer["silent"] == 1
    assert (layer["channels"], [one["label"] for one in layer["labels"]]) == (4, ["red", "blue"])
    assert [one["images"] for one in layer["labels"]] == [COUNT, COUNT // 2]
    red, blue = layer["labels"]
    assert (red["channels"][0]["unit"], blue["channels"][0]["unit"]) == (0, 1)
    assert (
        "colours: 3 of 4 channels are detectors" in said_of_all
        or "colours: 2 of 4 channels are detectors" in said_of_all
    )
    assert verify(Path("out")) == []


@looks_at_all
def test_chance_is_far_below_a_planted_channel(cnnviz: Say) -> None:
    (layer,) = manifest()["findings"]["dissect"]["layers"]
    red = layer["labels"][0]
    assert red["channels"][0]["iou"] > 3 * red["chance"]["highest"]
    assert manifest()["findings"]["dissect"]["shuffles"] == COUNT - 1
    cnnviz("--shuffles", "0", "-o", "plain")
    (layer,) = manifest("plain")["findings"]["dissect"]["layers"]
    assert "chance" not in layer["labels"][0]
    assert "detectors_by_chance" not in layer
    assert [row["iou"] for row in table("plain")] == [row["iou"] for row in table()]


@looks_at_all
def test_each_image_says_what_was_found_in_it() -> None:
    first, second = manifest()["images"][:2]
    assert first["findings"]["dissect"]["marked"] == ["blue", "red"]
    assert second["findings"]["dissect"]["marked"] == ["red"]
    found = {(one["unit"], one["label"]): one for one in first["findings"]["dissect"]["found"]}
    assert found[0, "red"]["detector"]
    assert found[0, "red"]["iou"] > 0.7
    image, marked = scene(0)
    above = image @ np.array(WEIGHT[0]) / 255 > float(table()[0]["threshold"])
    expected = (above & marked["red"]).sum() / (above | marked["red"]).sum()
    assert found[0, "red"]["iou"] == pytest.approx(expected, abs=5e-3)
    assert [output["path"] for output in first["outputs"]] == ["0.png/dissect.png"]


def test_images_without_an_annotation_count_for_thresholds_alone(cnnviz: Say) -> None:
    for number in range(4, COUNT):
        Path(f"masks/{number}.png").unlink()
    said = cnnviz()
    assert "masks names 4 of 8 images" in said
    assert manifest()["findings"]["dissect"]["annotated"] == 4
    some, thresholds = table(), [row["threshold"] for row in table()]
    cnnviz("-o", "fewer", images="in/[0-3].png")
    assert manifest("fewer")["findings"]["dissect"]["annotated"] == 4
    assert [row["threshold"] for row in table("fewer")] != thresholds
    assert some[0]["label"] == "red"
    assert manifest()["images"][7]["findings"]["dissect"]["marked"] == []


@looks_at_all
def test_masks_and_boxes_of_the_same_things_agree(cnnviz: Say) -> None:
    write_boxes(Path("boxes.json"), COUNT)
    cnnviz("--annotations", "boxes.json", "-o", "boxes")
    whole, boxes = table(), table("boxes")
    assert [row["threshold"] for row in whole] == [row["threshold"] for row in boxes]
    # Where a bar crosses a square, the square's box is more than what is left of the square.
    assert float(boxes[0]["iou"]) == pytest.approx(float(whole[0]["iou"]), abs=0.15)
    assert boxes[1]["intersection"] == whole[1]["intersection"]


def test_a_coarse_layer_lies_where_its_positions_see(cnnviz: Say) -> None:
    """Means of two by two pixels: enlarged, the square is still where it is."""
    cnnviz(layer="coarse")
    row = table()[0]
    assert row["label"] == "red"
    assert float(row["iou"]) > 0.7


def test_only_what_the_network_sees_counts(cnnviz: Say) -> None:
    """Of images twice as wide the middle is seen; what is marked beside it is neither found nor missed."""
    Path("wide").mkdir()
    Path("wide_masks").mkdir()
    for number in range(COUNT):
        image, found = scene(number)
        wide = np.full((SIDE, 2 * SIDE, 3), 90, np.uint8)
        wide[:, SIDE // 2 : SIDE // 2 + SIDE] = image
        wide[:20, :20] = [230, 20, 30]
        Image.fromarray(wide).save(f"wide/{number}.png")
        mask = np.zeros((SIDE, 2 * SIDE), np.uint8)
        mask[:, SIDE // 2 : SIDE // 2 + SIDE] = found["red"]
        mask[:20, :20] = 1
        drawn = Image.fromarray(mask)
        drawn.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        drawn.save(f"wide_masks/{number}.png")
    Path("wide_masks/labels.txt").write_text("nothing\nred\n", encoding="utf-8")
    cnnviz("--resize", "crop", "--resize-to", str(SIDE), "--annotations", "wide_masks", images="wide")
    (layer,) = manifest()["findings"]["dissect"]["layers"]
    assert layer["labels"][0]["pixels"] == sum(int(scene(number)[1]["red"].sum()) for number in range(COUNT))
    assert float(table()[0]["iou"]) == pytest.approx(slow()[0]["red"], abs=1e-3)


def everything(out: str) -> dict[str, bytes]:
    """The bytes of every figure and table, and what was found."""
    files = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(Path(out).rglob("*"))
        if path.is_file() and path.suffix in (".png", ".csv")
    }
    return files | {"findings": json.dumps([manifest(out)["findings"], manifest(out)["images"]]).encode()}


def test_a_run_goes_on_where_it_was_and_gives_the_same_bytes(cnnviz: Say) -> None:
    cnnviz("--batch-size", "3")
    whole = everything("out")
    assert "8 already done" in cnnviz("--batch-size", "3")
    assert everything("out") == whole
    Path("out/2.png/dissect.png").unlink()
    assert "7 already done" in cnnviz("--batch-size", "3")
    assert everything("out") == whole


def test_shards_give_the_same_bytes_as_one_run(cnnviz: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "_START_SECONDS", 0)
    monkeypatch.setattr(looking, "_POLL_SECONDS", 0.01)
    cnnviz("--batch-size", "3", "-o", "whole")
    assert "of shard 1 of 2 have not been shown" in cnnviz("--batch-size", "3", "--shard", "0/2", code=130)
    cnnviz("--batch-size", "3", "--shard", "1/2")
    cnnviz("--batch-size", "3", "--shard", "0/2")
    assert main(["merge", "out"]) == 0
    assert everything("out") == everything("whole")


def test_other_annotations_are_another_question(cnnviz: Say) -> None:
    cnnviz()
    Image.new("L", (SIDE, SIDE), 0).save("masks/1.png")
    assert "a finished run with other settings is in the way" in cnnviz(code=2)
    cnnviz("--force")
    assert manifest()["findings"]["dissect"]["annotated"] == COUNT - 1


def test_several_layers_have_a_chart_and_pages_each(cnnviz: Say) -> None:
    cnnviz("--layer", "colours,coarse", "--units", "0,1")
    assert [sheet["path"] for sheet in manifest()["sheets"]] == [
        "dissection.png",
        "dissection.labels.colours.png",
        "dissection.labels.coarse.png",
    ]
    assert [(row["layer"], row["unit"]) for row in table()] == [
        ("colours", "0"),
        ("colours", "1"),
        ("coarse", "0"),
        ("coarse", "1"),
    ]


# --- mistakes ----------------------------------------------------------------------------------------------


def test_mistakes_are_one_sentence(cnnviz: Say) -> None:
    said = cnnviz("--annotations", "nowhere", code=2)
    assert "--annotations: 'nowhere' does not exist" in said
    Path("others").mkdir()
    Image.new("L", (4, 4), 255).save("others/another.png")
    assert "others names none of these images, not even '0.png'" in cnnviz("--annotations", "others", code=2)
    assert "--units: there is no channel 9: layer 'colours' has 4, 0 to 3" in cnnviz("--units", "1,9", code=2)
    assert "'coarse' of studies.coloured:coloured has maps of a single" in cnnviz(
        "--layer", "coarse", "--input-size", "2", code=2
    )
    assert "--layer" in cnnviz("--layer", "no_such_layer", code=2)
    said = cnnviz("--quantile", "99.5", code=2)
    assert "'quantile' must be below 1, not 99.5" in said
    assert "A share, not per cent: 0.995" in said
    assert "A share, not per cent: 0.04" in cnnviz("--iou", "4", code=2)
    assert "'iou' must be above 0, not -1" in cnnviz("--iou", "-1", code=2)
    assert "'units' must be channels, not '3-1'" in cnnviz("--units", "3-1", code=2)
    for mistake in (
        ["--quantile", "1"],
        ["--quantile", "0"],
        ["--iou", "0"],
        ["--units", "first"],
        ["--shuffles", "-1"],
    ):
        assert mistake[0] in cnnviz(*mistake, code=2)


def test_a_channel_that_is_no_detector_is_called_none_in_an_image(cnnviz: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnviz_cli.studies.dissection import study

    drawn: list[list[str]] = []

    def draw(tiles: Any, *more: Any) -> Any:
        figure = draw_image(tiles, *more)
        drawn.append([item.text for _, _, item in texts(figure[0])])
        return figure

    monkeypatch.setattr(study, "draw_image", draw)
    cnnviz("--units", "0,1")
    assert {"channel 0 of colours", "channel 1 of colours"} <= set(drawn[0])
    drawn.clear()
    cnnviz("--units", "0,1", "--iou", "0.99", "-o", "strict")
    assert {"channel 0 of colours: no detector", "channel 1 of colours: no detector"} <= set(drawn[0])


def test_units_may_be_ranges(cnnviz: Say) -> None:
    cnnviz("--units", "0-1,3")
    assert [row["unit"] for row in table()] == ["0", "1", "3"]


def test_a_dry_run_counts_the_shuffles_that_there_are(cnnviz: Say) -> None:
    assert f"{COUNT - 1} shuffles of annotations" in cnnviz("--dry-run")
    Path("masks/0.png").unlink()
    assert f"{COUNT - 2} shuffles of annotations" in cnnviz("--dry-run")
    assert "2 shuffles of annotations" in cnnviz("--dry-run", "--shuffles", "2")


def test_without_annotations_there_is_nothing_to_find(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["dissect", "in", "-o", "out"]) == 2
    assert "--annotations: dissect needs annotations" in capfd.readouterr().err
    assert not Path("out").exists()


def test_empty_masks_are_one_sentence(cnnviz: Say) -> None:
    for number in range(COUNT):
        Image.new("L", (SIDE, SIDE), 0).save(f"masks/{number}.png")
    said = cnnviz(code=2)
    assert "masks: of 8 images with an annotation none counts: nothing is marked in it" in said


def test_images_that_cannot_be_read_are_one_sentence(cnnviz: Say) -> None:
    for number in range(COUNT):
        Path(f"in/{number}.png").write_bytes(b"no picture")
    said = cnnviz(code=2)
    assert f"error: none of the {COUNT} images can be shown to the network: 0.png (this is not an image" in said


def test_what_lies_where_the_network_does_not_see_it_is_said(cnnviz: Say) -> None:
    beyond = "".join(f"{number}.png,900,900,950,950,far\n" for number in range(COUNT))
    Path("far.csv").write_text(f"image,left,top,right,bottom,label\n{beyond}", encoding="utf-8")
    said = cnnviz("--annotations", "far.csv", code=2)
    assert f"far.csv: of {COUNT} images with an annotation none counts: 'far' lies outside of it" in said
    Path("far.csv").write_text(f"image,left,top,right,bottom,label\n{beyond}0.png,1,1,9,9,near\n", encoding="utf-8")
    assert "marked only where the network does not see it: far" in cnnviz("--annotations", "far.csv")


def test_what_does_not_count_is_said_and_the_rest_counts(cnnviz: Say) -> None:
    Image.new("L", (SIDE, SIDE), 0).save("masks/1.png")
    Path("masks/3.png").write_bytes(b"no picture")
    said = cnnviz()
    assert "annotations that do not count: 1.png (nothing is marked in it), 3.png (its mask: " in said
    assert manifest()["findings"]["dissect"]["annotated"] == COUNT - 2
    assert manifest()["images"][1]["findings"]["dissect"]["undone"] == "nothing is marked in it"


def test_a_label_in_one_image_is_said(cnnviz: Say) -> None:
    for number in range(2, COUNT, 2):
        Path(f"masks/{number}.png").unlink()
    said = cnnviz()
    assert "marked in one image only: blue; a channel may know the image, and not the thing" in said


def test_one_annotated_image_has_no_chance(cnnviz: Say) -> None:
    for number in range(1, COUNT):
        Path(f"masks/{number}.png").unlink()
    assert "one image is annotated: what channels reach by chance cannot be told" in cnnviz()
    (layer,) = manifest()["findings"]["dissect"]["layers"]
    assert "chance" not in layer["labels"][0]


def test_the_commands_of_the_page_are_understood(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "dissect.md").read_text(encoding="utf-8")
    lines = re.findall(r"^cnnviz (dissect .*)$", page, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        assert main([*dict.fromkeys([*shlex.split(line, comments=True), "--dry-run"])]) == 0
        said = capfd.readouterr().out
        assert "detectors from 0.04 on, 4 shuffles of annotations" in said
    assert "MB of maps beside the journal" in said


# --- from Python -------------------------------------------------------------------------------------------


@looks_at_all
def test_python_finds_what_the_command_does() -> None:
    paths = [f"in/{number}.png" for number in range(COUNT)]
    marked: dict[str | int, Any] = {
        f"in/{number}.png": [{"mask": mask, "label": label} for label, mask in scene(number)[1].items()]
        for number in range(COUNT)
    }
    common: dict[str, Any] = {"layer": "colours", "quantile": QUANTILE, "input_size": SIDE, "resize": "squash"}
    found = cnnviz_cli.dissect(coloured(), paths, marked, labels=["a", "b", "c"], **common)
    assert [dict(row) for row in found.channels] == table()
    assert list(found.labels) == ["red", "blue"]
    assert found.labels["red"].channels[0].unit == 0
    assert found.dissection.annotated == COUNT
    assert found.figure is not None
    assert set(found.figures) == {"dissection.png", "dissection.labels.png"}
    pictures = [Image.fromarray(scene(number)[0]) for number in range(COUNT)]
    again = cnnviz_cli.dissect(
        coloured(), pictures, dict(enumerate(marked.values())), labels=["a", "b", "c"], units=[0, 1], **common
    )
    assert [dict(row) for row in again.channels] == table()[:2]


def test_python_names_its_own_arguments_in_mistakes() -> None:
    with pytest.raises(UsageError, match="there is no image 9") as caught:
        cnnviz_cli.dissect(coloured(), ["in/0.png"], {9: np.ones((SIDE, SIDE))})
    assert caught.value.where == "annotations"
    with pytest.raises(UsageError, match="does not exist"):
        cnnviz_cli.dissect(coloured(), ["in/0.png"], "nowhere")
    with pytest.raises(UsageError, match="no file, folder, or dict"):
        cnnviz_cli.dissect(coloured(), ["in/0.png"], 3)  # type: ignore[arg-type]
