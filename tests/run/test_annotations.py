"""Annotations of a run: what is said of them, whose an entry is, and the regions of classes."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnviz_cli.core.classes import Labels
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.file_reading import ReadOptions
from cnnviz_cli.core.geometry import Framing, stretch
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.annotations.folders import open_annotations
from cnnviz_cli.files.annotations.regions import MarkedRegion
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.run.annotations import NOT_ANNOTATED, RunAnnotations
from cnnviz_cli.run.image_data import NetworkInput, crop_input

LABELS = Labels(("tabby, tabby cat", "hen", "toaster"))
WHOLE = Framing((4, 2), 1, stretch((4, 2)))


class Said(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)


def named(*names: str) -> list[Source]:
    return [Source("/photos", name, name) for name in names]


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    path = tmp_path / "boxes.csv"
    path.write_text("a.jpg,0,0,1,2,tabby\na.jpg,1,0,2,2,dog\nb.jpg,2,0,4,2,Hen\n", encoding="utf-8")
    return path


def checked(path: Path, *names: str) -> tuple[bool, list[str], list[str]]:
    said = Said()
    return RunAnnotations(open_annotations(path), LABELS).check(named(*names), said), said.said, said.warned


def test_it_is_said_once_which_classes_have_objects_of_their_own(boxes: Path) -> None:
    assert checked(boxes, "a.jpg", "b.jpg") == (
        True,
        [
            "boxes.csv: 2 of its 3 labels are classes of the network ('tabby', 'Hen'); other classes are judged by all "
            "that is marked in an image"
        ],
        [],
    )
    boxes.write_text("a.jpg,0,0,1,2,dog\n", encoding="utf-8")
    assert checked(boxes, "a.jpg")[1] == [
        "boxes.csv: no label in it is a class of the network, so all that is marked in an image counts together"
    ]


def test_images_without_an_annotation_are_counted(boxes: Path) -> None:
    going, _, warned = checked(boxes, "c.jpg", "a.jpg", "d\n.jpg")
    assert (going, warned) == (True, ["boxes.csv names 1 of 3 images, and not for instance 'c.jpg'"])


def test_annotations_of_other_images_are_left_out_in_one_sentence(boxes: Path) -> None:
    assert checked(boxes, "c.jpg", "d.jpg") == (
        False,
        [],
        ["boxes.csv names none of these images, not even 'c.jpg': nothing is measured by what is marked"],
    )


def test_an_entry_of_a_table_is_of_one_image(boxes: Path) -> None:
    with pytest.raises(UsageError, match=r"boxes.csv: 'a.jpg' is 'x/a.jpg' as well as 'y/a.jpg'") as caught:
        checked(boxes, "x/a.jpg", "y/a.jpg")
    assert "path" in caught.value.fix


def shown(*names: str) -> list[NetworkInput]:
    """Images of 4 x 2 pixels, all of which the network sees."""
    return [NetworkInput("", (4, 2), None, framing=WHOLE, source=source) for source in named(*names)]


def marked(given: RunAnnotations, name: str, index: int) -> MarkedRegion | str:
    return given.mark(shown(name), [[index]], (2, 4)).regions[0][0]


def test_a_class_is_judged_by_its_own_objects_or_by_all(boxes: Path) -> None:
    given = RunAnnotations(open_annotations(boxes), LABELS)
    own = marked(given, "a.jpg", 0)
    assert not isinstance(own, str)
    assert (own.inside.tolist(), own.labels, own.of_class) == ([[True, False, False, False]] * 2, ("tabby",), True)
    for index in (2, 7, -1):  # the last two are numbers of no class, as a network without classes has them
        every = marked(given, "a.jpg", index)
        assert not isinstance(every, str)
        assert every.inside.tolist() == [[True, True, False, False]] * 2
        assert (every.labels, every.of_class) == (("dog", "tabby"), False)
    elsewhere = "the class explained is marked in other images, and not in this one"
    assert [marked(given, "a.jpg", 1), marked(given, "b.jpg", 0), marked(given, "c.jpg", 0)] == [
        elsewhere,
        elsewhere,
        NOT_ANNOTATED,
    ]


def test_what_was_in_memory_is_not_annotated(boxes: Path) -> None:
    batch = RunAnnotations(open_annotations(boxes), LABELS).mark([NetworkInput("", (4, 2), None)], [[0]], (2, 4))
    assert (batch.regions, batch.digests) == ([[NOT_ANNOTATED]], [None])
    assert batch.given()["marked:0"].tolist() == [[[False] * 4] * 2]


def test_a_batch_has_a_region_for_each_target(boxes: Path) -> None:
    batch = RunAnnotations(open_annotations(boxes), LABELS).mark(
        shown("a.jpg", "c.jpg", "b.jpg"), [[0, 1], [0, 1], [0, 2]], (2, 4)
    )
    digest = sha256(boxes.read_bytes()).hexdigest()
    assert list(batch.digests) == [digest, None, digest]
    elsewhere = "the class explained is marked in other images, and not in this one"
    assert batch.absent() == {
        "marked:0": ["", NOT_ANNOTATED, elsewhere],
        "marked:1": [elsewhere, NOT_ANNOTATED, ""],
    }
    given = batch.given()
    assert list(given) == ["marked:0", "marked:1"]
    assert [one.shape for one in given.values()] == [(3, 2, 4), (3, 2, 4)]
    assert given["marked:0"][:, 0].tolist() == [[True, False, False, False], [False] * 4, [False] * 4]
    assert given["marked:1"][:, 1].tolist() == [[False] * 4, [False] * 4, [False, False, True, True]]


def test_of_a_folder_each_image_decides_and_has_its_own_digest(tmp_path: Path) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>1</xmax><ymax>2</ymax></bndbox>"
    for name, label in (("a", "tabby"), ("b", "dog")):
        content = f"<annotation><object><name>{label}</name>{box}</object></annotation>"
        (tmp_path / f"{name}.xml").write_text(content, encoding="utf-8")
    (tmp_path / "d.xml").write_text("<annotation>", encoding="utf-8")
    going, said, _ = checked(tmp_path, "a.jpg", "b.jpg")
    assert going
    assert said == [
        f"{tmp_path.name}: a class is judged by the objects that are called as it is, or else by all of the image's"
    ]
    given = RunAnnotations(open_annotations(tmp_path), LABELS)
    names = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
    batch = given.mark(shown(*names), [[0]] * 4, (2, 4))
    found = [row[0] for row in batch.regions]
    assert [(one.labels, one.of_class) for one in found if not isinstance(one, str)] == [
        (("tabby",), True),
        (("dog",), False),
    ]
    assert str(found[2]) == "it has no annotation"
    assert str(found[3]).startswith("its annotation cannot be read: this is no XML")
    assert given.sha256 is None
    assert list(batch.digests) == [given.digest_of(source) for source in named(*names)]  # also of what is damaged
    assert [digest is None for digest in batch.digests] == [False, False, True, False]


@pytest.mark.parametrize("how", [ReadOptions(), ReadOptions(least_side=32)], ids=["all", "fast"])
@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_files_are_framed_as_they_are_read(tmp_path: Path, orientation: int, how: ReadOptions) -> None:
    """What is marked lies where the network sees it, of a turned file and one decoded at a half of its size."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[16:48, 24:56] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=100, exif=exif)
    (tmp_path / "x.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.jpg", "width": 96, "height": 64}],
                "annotations": [{"image_id": 1, "bbox": [24, 16, 32, 32]}],
            }
        ),
        encoding="utf-8",
    )
    source = Source(str(tmp_path), "a.jpg", "a.jpg")
    decoded = read_image(source, how)
    assert max(decoded.image.size) == (96 if how.least_side is None else 48)
    preprocessing = Preprocessing(16, 16, (0.5,) * 3, (0.5,) * 3, "box")
    given = crop_input(decoded, (source, ""), preprocessing, None, how).network_input
    ((region,),) = RunAnnotations(open_annotations(tmp_path / "x.json"), LABELS).mark([given], [[0]], (16, 16)).regions
    assert not isinstance(region, str)
    assert region.inside.tolist() == (given.pixels.min(2) > 127).tolist()
    assert region.inside.sum() == 64  # a quarter


def test_a_damaged_file_stops_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"images": []}), encoding="utf-8")
    with pytest.raises(UsageError, match=r'x\.json: there is no list of "annotations"'):
        RunAnnotations(open_annotations(tmp_path / "x.json"), LABELS)
