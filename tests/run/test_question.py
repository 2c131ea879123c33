"""Labels, truths, contrasts and probabilities, from the settings to the manifest."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from run.resuming import Listener, photographs, run, tiny_model
from torch import nn

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.files.inputs.search import Source, find_images
from cnnviz_cli.files.output.manifest import manifest_schema
from cnnviz_cli.run import execute

SAMPLES = Path(__file__).parents[2] / "sample_images"


def without_digests(image: dict[str, Any]) -> list[dict[str, Any]]:
    """An image's outputs but for the hashes of their files, which carry the digest of the run's settings."""
    return [{key: value for key, value in output.items() if key != "sha256"} for output in image["outputs"]]


tiny_runs = pytest.mark.usefixtures("tiny_network")


@pytest.fixture
def folders(tmp_path: Path) -> list[Source]:
    """An ImageFolder: in/a/{0,1}.png, in/B/{2}.png, in/none/{4}.png, and a broken in/a/3.png."""
    photographs(tmp_path / "flat", 5)
    for number, folder in enumerate(("a", "a", "B", "a", "none")):
        (tmp_path / "in" / folder).mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / "flat" / f"{number}.png", tmp_path / "in" / folder / f"{number}.png")
    return find_images([tmp_path / "in"], recursive=True)


def images(out: Path) -> dict[str, Any]:
    """The manifest's images by their names."""
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    jsonschema.validate(manifest, manifest_schema())
    return {image["source"]: image for image in manifest["images"]}


def explained(image: Any) -> list[int]:
    return [output["target"]["index"] for output in image["outputs"] if output["method"]]


# --- what is true -------------------------------------------------------------------------------------------


@tiny_runs
def test_in_an_image_folder_predicted_and_true_are_explained(folders: list[Source], tmp_path: Path) -> None:
    heard = Listener()
    outcome = run(tmp_path / "out", folders, heard, truth="folder", target=["predicted,true"])
    assert (outcome.summary.ok, outcome.summary.failed) == (4, 1)
    assert "the true class of 1 of 5 images is unknown, for instance of 'none/4.png'" in heard.warned
    found = images(tmp_path / "out")
    for name, true in (("a/0.png", 0), ("a/1.png", 0), ("B/2.png", 1)):
        predicted = found[name]["predictions"][0]["index"]
        assert found[name]["truth"]["index"] == true
        assert explained(found[name]) == list(dict.fromkeys((predicted, true)))
    assert found["none/4.png"]["truth"] is None
    assert explained(found["none/4.png"]) == [found["none/4.png"]["predictions"][0]["index"]]
    assert found["a/3.png"]["status"] == "failed"


@tiny_runs
@pytest.mark.parametrize("settings", [{"target": ["true"]}, {"contrast": "true"}])
def test_without_a_truth_a_picture_fails_where_all_hangs_on_it(
    settings: dict[str, Any], folders: list[Source], tmp_path: Path
) -> None:
    outcome = run(tmp_path / "out", folders, truth="folder", **settings)
    assert (outcome.status, outcome.summary.failed) == ("partial", 2)
    unknown = images(tmp_path / "out")["none/4.png"]
    assert unknown["error"] == "its true class is unknown, and without that there is nothing to explain"
    assert unknown["sha256"]


@tiny_runs
def test_a_contrast_with_the_truth_is_that_with_the_class(folders: list[Source], tmp_path: Path) -> None:
    run(tmp_path / "true", folders, truth="folder", contrast="true", target=["c"], save_arrays="true")
    run(tmp_path / "a", folders, contrast="a", target=["c"], save_arrays="true")
    run(tmp_path / "b", folders, contrast="1", target=["c"], save_arrays="true")
    by_truth = images(tmp_path / "true")
    for name, other in (("a/0.png", "a"), ("a/1.png", "a"), ("B/2.png", "b")):
        fixed = images(tmp_path / other)[name]
        assert without_digests(by_truth[name]) == without_digests(fixed)
        assert by_truth[name]["outputs"][0]["contrast"]["label"] == other
        assert by_truth[name]["arrays"] == fixed["arrays"]
        drawn = [np.asarray(Image.open(tmp_path / run / name / "gradcam.png")) for run in ("true", other)]
        assert np.array_equal(*drawn)


@tiny_runs
def test_no_class_is_told_apart_from_itself(folders: list[Source], tmp_path: Path) -> None:
    run(tmp_path / "out", folders, truth="folder", contrast="true", target=["a", "b"])
    found = images(tmp_path / "out")
    assert (explained(found["a/0.png"]), explained(found["B/2.png"])) == ([1], [0])
    run(tmp_path / "right", folders[:1], truth="folder", contrast="true", target=["a"])
    (image,) = images(tmp_path / "right").values()
    assert (image["status"], image["outputs"]) == ("ok", [])


@tiny_runs
def test_a_table_says_the_same_as_folders(folders: list[Source], tmp_path: Path) -> None:
    table = tmp_path / "truth.csv"
    table.write_text("file,label\na/0.png,A\n1.png,0\nB/2.png,b\n", encoding="utf-8")
    run(tmp_path / "folder", folders, truth="folder", target=["predicted,true"])
    run(tmp_path / "table", folders, truth=str(table), target=["predicted,true"])
    of_folders, of_table = (images(tmp_path / name) for name in ("folder", "table"))
    for name in ("a/0.png", "a/1.png", "B/2.png", "none/4.png"):
        assert without_digests(of_folders[name]) == without_digests(of_table[name])
        assert {**of_folders[name], "outputs": None} == {**of_table[name], "outputs": None}
    text = (tmp_path / "table" / "manifest.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    run_record = json.loads(text)["run"]
    assert run_record["config"]["truth"] == "truth.csv"
    assert len(run_record["truth_sha256"]) == 64


@tiny_runs
@pytest.mark.parametrize(
    ("content", "what", "fix"),
    [
        ("0.png,a\nB/2.png,x\n", "truth.csv:2: the model has no class 'x'", "file and label"),
        ("9.png,a\n", "no row of truth.csv names any of these images", "'9.png', an image is 'a/0.png'"),
        ("0.png,a\n7.png,b\n", "truth.csv:1: '0.png' is 'a/0.png' as well as 'z/0.png'", "enough of the path"),
    ],
)
def test_tables_that_do_not_fit(content: str, what: str, fix: str, folders: list[Source], tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text(content, encoding="utf-8")
    twin = Source(str(tmp_path / "in"), "z/0.png", "z/0.png")
    with pytest.raises(UsageError) as caught:
        run(tmp_path / "out", [*folders, twin], truth=str(tmp_path / "truth.csv"))
    assert what in caught.value.what
    assert fix in caught.value.fix


@tiny_runs
def test_folders_of_which_none_is_a_class_are_a_mistake(folders: list[Source], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no image lies in a folder named after a class; the folders are 'none'"):
        run(tmp_path / "out", [source for source in folders if source.name.startswith("none")], truth="folder")


# --- labels -------------------------------------------------------------------------------------------------


@tiny_runs
def test_labels_of_a_file_are_the_names_of_classes(folders: list[Source], tmp_path: Path) -> None:
    labels = tmp_path / "birds.txt"
    labels.write_text("auk\ncrane\nowl\nCrane\nemu\n", encoding="utf-8")
    run(tmp_path / "out", folders, labels=str(labels), target=["ow"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert {output["target"]["label"] for image in manifest["images"] for output in image["outputs"]} == {"owl"}
    names = {one["label"] for image in manifest["images"] for one in image["predictions"]}
    assert names == {"auk", "crane (1)", "owl", "Crane (3)", "emu"}
    assert manifest["run"]["config"]["labels"] == "birds.txt"
    assert len(manifest["model"]["labels_sha256"]) == 64
    assert str(tmp_path) not in json.dumps(manifest)


@tiny_runs
def test_a_wrong_number_of_labels_is_told_with_both_numbers(folders: list[Source], tmp_path: Path) -> None:
    labels = tmp_path / "l.json"
    labels.write_text('["x", "y"]', encoding="utf-8")
    with pytest.raises(UsageError, match=r"l\.json has 2 names, and the network has 5 classes") as caught:
        run(tmp_path / "out", folders, labels=str(labels))
    assert caught.value.where == "--labels"


@tiny_runs
def test_other_labels_have_everything_done_again(folders: list[Source], tmp_path: Path) -> None:
    labels, heard = tmp_path / "l.txt", Listener()
    labels.write_text("a\nb\nc\nd\ne\n", encoding="utf-8")
    run(tmp_path / "out", folders, labels=str(labels))
    labels.write_text("a\nb\nc\nd\nf\n", encoding="utf-8")
    with pytest.raises(UsageError, match="with other settings is in the way") as caught:
        run(tmp_path / "out", folders, labels=str(labels))
    assert "digest of the labels" in f"{caught.value.what}\n{caught.value.fix}"
    run(tmp_path / "out", folders, heard, force=True, labels=str(labels))
    assert heard.begun == len(folders)


# --- probabilities ------------------------------------------------------------------------------------------


@tiny_runs
def test_multilabel_probabilities_are_sigmoids_in_the_same_order(folders: list[Source], tmp_path: Path) -> None:
    run(tmp_path / "soft", folders)
    run(tmp_path / "multi", folders, multilabel="true")
    for name, image in images(tmp_path / "multi").items():
        soft = images(tmp_path / "soft")[name]["predictions"]
        assert [one["index"] for one in image["predictions"]] == [one["index"] for one in soft]
        if image["status"] == "ok":
            odds = [one["probability"] / (1 - one["probability"]) for one in image["predictions"]]
            shares = [odd / sum(odds) for odd in odds]  # exp of the scores, so that this is their softmax
            assert shares == pytest.approx([one["probability"] for one in soft], abs=1e-4)


class YesNo(tiny.Plain):
    """One score."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 1)


@pytest.fixture
def yes_no(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Have every run load a network with one score, which is the one given plus or minus little."""

    def load_with(bias: float) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = YesNo().eval().requires_grad_(False)
        net.fc.bias.fill_(bias)
        model = replace(tiny_model(), net=net, labels=("defect",))
        monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", lambda *_a, **_k: model)

    return load_with


@pytest.mark.parametrize(("bias", "index", "label"), [(2.0, 1, "defect"), (-2.0, 0, "not defect")])
def test_one_score_is_a_question_of_yes_or_no(
    bias: float, index: int, label: str, yes_no: Callable[[float], None], folders: list[Source], tmp_path: Path
) -> None:
    yes_no(bias)
    run(tmp_path / "out", folders[:1])
    (image,) = images(tmp_path / "out").values()
    first, second = image["predictions"]
    assert (first["index"], first["label"]) == (index, label)
    assert first["probability"] + second["probability"] == pytest.approx(1, abs=1e-6)
    assert first["probability"] == pytest.approx(1 / (1 + 2.718281828 ** -abs(bias)), abs=0.06)
    assert explained(image) == [index]


@pytest.mark.parametrize(("names", "expected"), [("ok\nbad\n", ["ok", "bad"]), ("bad\n", ["not bad", "bad"])])
def test_one_score_may_have_two_labels(
    names: str, expected: Sequence[str], yes_no: Callable[[float], None], folders: list[Source], tmp_path: Path
) -> None:
    yes_no(2.0)
    (tmp_path / "l.txt").write_text(names, encoding="utf-8")
    run(tmp_path / "out", folders[:1], labels=str(tmp_path / "l.txt"), target=[expected[0], expected[1]])
    (image,) = images(tmp_path / "out").values()
    assert [one["label"] for one in image["predictions"]] == [expected[1], expected[0]]
    assert explained(image) == [0, 1]
    (tmp_path / "l.txt").write_text("a\nb\nc\n", encoding="utf-8")
    with pytest.raises(UsageError, match="has 3 names, and the network has 1 classes"):
        run(tmp_path / "other", folders[:1], labels=str(tmp_path / "l.txt"))


# --- the bundled model --------------------------------------------------------------------------------------


def test_a_misclassified_cat_in_an_image_folder(tmp_path: Path) -> None:
    for folder, name in (("tabby", "chelsea.png"), ("espresso", "coffee.png"), ("Tiger_Cat", "chelsea_coffee.png")):
        (tmp_path / "in" / folder).mkdir(parents=True)
        shutil.copy(SAMPLES / name, tmp_path / "in" / folder)
    flags = {("output",): str(tmp_path / "out"), ("truth",): "folder", ("contrast",): "true", ("save_arrays",): True}
    outcome = execute(
        "gradcam", load_settings("gradcam", flags, None, {}), find_images([tmp_path / "in"], recursive=True), Listener()
    )
    assert outcome.status == "ok"
    found = images(tmp_path / "out")
    truths = {name: (image["truth"]["index"], image["truth"]["label"]) for name, image in found.items()}
    assert truths == {
        "espresso/coffee.png": (967, "espresso"),
        "tabby/chelsea.png": (281, "tabby"),
        "Tiger_Cat/chelsea_coffee.png": (282, "tiger cat"),
    }
    assert found["espresso/coffee.png"]["outputs"] == []  # the network was right
    (output,) = found["tabby/chelsea.png"]["outputs"]
    assert (output["target"]["label"], output["contrast"]["label"]) == ("tiger cat", "tabby")
    assert output["state"] == "ok"
