"""Runs whose maps are judged by what people have marked: numbers, resuming, and what is said."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnviz_cli.cli.main import main

Say = Callable[..., str]

SIDE = 32
BOX = "<bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>{}</xmax><ymax>32</ymax></bndbox>"


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """in/0.png to in/2.png of noise, boxes.csv of the first two, and the folder of the test to work in."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    Path("in").mkdir()
    for number in range(3):
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(f"in/{number}.png")
    Path("boxes.csv").write_text("0.png,0,0,16,32,cat\n1.png,8,0,32,32,cat\n", encoding="utf-8")


@pytest.fixture
def cnnviz(capfd: pytest.CaptureFixture[str]) -> Say:
    """Judge the maps of a tiny network, and return all that is said; the command has to end with `code`."""

    def run(annotations: str, *arguments: str, code: int = 0) -> str:
        model = ["--model", "tiny:Plain", "--allow-code", "--input-size", str(SIDE), "--resize", "squash"]
        asked = ["--method", "gradcam", "--measure", "inside", "--annotations", annotations]
        found = main(["evaluate", "in", *model, *asked, "--device", "cpu", "-o", "out", *arguments])
        said = capfd.readouterr()
        assert found == code, said.err
        return said.err + said.out

    return run


def images() -> dict[str, Any]:
    found = json.loads(Path("out/manifest.json").read_text(encoding="utf-8"))
    return {image["source"]: image for image in found["images"]}


def numbers(image: dict[str, Any]) -> dict[str, Any]:
    """The numbers of its one map, and why others are undone."""
    (output,) = [output for output in image["outputs"] if output.get("method")]
    return {**output["measures"], **output.get("undone", {})}


def voc(number: int, left: int, right: int, name: str = "cat") -> None:
    content = f"<annotation><object><name>{name}</name>{BOX.format(left, right)}</object></annotation>"
    Path("voc").mkdir(exist_ok=True)
    Path(f"voc/{number}.xml").write_text(content, encoding="utf-8")


def test_numbers_stand_in_the_manifest_and_images_without_a_box_say_why(cnnviz: Say) -> None:
    said = cnnviz("boxes.csv")
    assert "boxes.csv: no label in it is a class of the network" in said
    assert "warning: boxes.csv names 2 of 3 images, and not for instance '2.png'" in said
    found = images()
    assert [numbers(found[f"{number}.png"]).get("inside.share") for number in range(3)] == [0.5, 0.75, None]
    assert numbers(found["2.png"]) == {"inside": "it has no annotation"}
    digest = sha256(Path("boxes.csv").read_bytes()).hexdigest()
    assert [found[f"{number}.png"].get("annotation_sha256") for number in range(3)] == [digest, digest, None]
    control = next(one for one in found["0.png"]["controls"] if one["name"] == "centre")
    assert control["measures"]["inside.share"] == 0.5


def test_annotations_of_other_images_leave_the_rest_as_it_is(cnnviz: Say) -> None:
    Path("boxes.csv").write_text("other.png,0,0,16,32,cat\n", encoding="utf-8")
    said = cnnviz("boxes.csv", "--measure", "sparseness")
    assert "warning: boxes.csv names none of these images, not even '0.png': nothing is measured" in said
    found = [numbers(image) for image in images().values()]
    assert [one["inside"] for one in found] == ["it has no annotation"] * 3
    assert all(0 <= one["sparseness"] <= 1 for one in found)


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_annotations_of_other_images_are_a_mistake_where_nothing_else_is_judged_by(
    cnnviz: Say, more: tuple[str, ...]
) -> None:
    Path("boxes.csv").write_text("other.png,0,0,16,32,cat\n", encoding="utf-8")
    for _ in range(2):
        said = cnnviz("boxes.csv", *more, code=2)
        assert "--annotations: boxes.csv names none of these images, not even '0.png', and by nothing else" in said
        assert "Traceback" not in said


def test_a_damaged_file_is_one_sentence(cnnviz: Say) -> None:
    Path("boxes.csv").write_text("0.png,0,0,16\n", encoding="utf-8")
    said = cnnviz("boxes.csv", code=2)
    assert "boxes.csv:1: this row needs an image and four edges" in said
    assert "Traceback" not in said
    assert not Path("out/manifest.json").exists()


def test_a_table_that_was_changed_is_another_run(cnnviz: Say) -> None:
    cnnviz("boxes.csv")
    assert "3 of 3 images are already done" in cnnviz("boxes.csv")
    Path("boxes.csv").write_text("0.png,0,0,24,32,cat\n", encoding="utf-8")
    assert "digest of the annotations" in cnnviz("boxes.csv", code=2)
    cnnviz("boxes.csv", "--force")
    assert numbers(images()["0.png"])["inside.share"] == 0.75


def test_of_a_folder_what_was_changed_is_judged_again_and_the_rest_is_not(cnnviz: Say) -> None:
    voc(0, 1, 16)
    voc(1, 1, 16)
    Path("voc/2.xml").write_text("<annotation>", encoding="utf-8")
    cnnviz("voc")
    assert "cannot be read: this is no XML" in numbers(images()["2.png"])["inside"]
    assert "3 of 3 images are already done" in cnnviz("voc")
    voc(1, 1, 8)
    assert "2 of 3 images are already done" in cnnviz("voc")
    assert [numbers(images()[f"{number}.png"])["inside.share"] for number in range(2)] == [0.5, 0.25]
    Path("voc/0.xml").unlink()
    assert "2 of 3 images are already done" in cnnviz("voc")
    assert numbers(images()["0.png"]) == {"inside": "it has no annotation"}


def test_how_images_are_read_changes_nothing(cnnviz: Say) -> None:
    cnnviz("boxes.csv", "--batch-size", "1")
    whole = {name: numbers(image) for name, image in images().items()}
    cnnviz("boxes.csv", "--force", "--batch-size", "1", "--workers", "0")
    assert {name: numbers(image) for name, image in images().items()} == whole


def test_the_answer_is_printed_and_the_files_about_all_images_are_named(cnnviz: Say) -> None:
    for _ in range(2):  # and again where nothing is left to do
        said = cnnviz("boxes.csv", "--measure", "sparseness")
        lines = said.splitlines()
        head = next(at for at, line in enumerate(lines) if line.split()[:2] == ["inside", "inside"])
        found = json.loads(Path("out/manifest.json").read_text(encoding="utf-8"))["evaluation"]
        cell = found["methods"][0]["measures"]["inside"]
        assert lines[head + 1].startswith("Grad-CAM")
        assert f"{cell['mean']:.2f} ± {cell['error']:.2f}" in lines[head + 1]
        assert sum(line.startswith("control: ") for line in lines) == len(found["controls"])
        assert "in the figure besides: sparseness" in lines
        assert {"out/evaluation.png", "out/evaluation.csv"} <= set(lines)
    said = cnnviz("boxes.csv", "--measure", "sparseness", "--json", "-q")
    answer = json.loads(said[said.index("{") :])
    assert answer["evaluation"]["methods"] == found["methods"]
    assert answer["files"] == ["out/evaluation.png", "out/evaluation.csv"]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("broken.json", "{", "this is no JSON of annotations"),
        ("broken.csv", "0.png,8,0,1,32,cat\n", "are not the left, top, right and bottom edges of a box"),
        ("broken.txt", "", "holds no annotations of a kind that is read"),
        ("gone.json", None, "does not exist"),
    ],
)
def test_what_cannot_be_read_is_told_before_the_network_is_loaded(
    cnnviz: Say, monkeypatch: pytest.MonkeyPatch, name: str, content: str | None, what: str
) -> None:
    monkeypatch.setattr(
        importlib.import_module("cnnviz_cli.run.session"), "load_model", lambda *_a, **_k: pytest.fail("it was loaded")
    )
    if content is not None:
        Path(name).write_text(content, encoding="utf-8")
    assert what in cnnviz(name, code=2)


def test_a_table_that_changes_while_a_process_lives_is_read_again(cnnviz: Say) -> None:
    cnnviz("boxes.csv")
    Path("boxes.csv").write_text("0.png,0,0,8,32,cat\n1.png,8,0,32,32,cat\n", encoding="utf-8")
    cnnviz("boxes.csv", "--force")
    assert numbers(images()["0.png"])["inside.share"] == 0.25


def test_the_summary_says_by_what_maps_were_judged(cnnviz: Say) -> None:
    Path("boxes.csv").write_text("0.png,0,0,16,32,cat\n1.png,8,0,32,32,positive 2\n", encoding="utf-8")
    said = cnnviz("boxes.csv")
    assert "Images and targets judged by what people have marked: 2 by all that is marked" in said
    assert "1 by nothing." in said
