"""influence: from a folder of training images to figures, records and tables, and what is said of what cannot be."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

import cnnviz_cli
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.render.influence import SuspectTile
from cnnviz_cli.run.session import Session
from cnnviz_cli.studies.influence import figures
from cnnviz_cli.studies.influence.study import InfluenceStudy
from tests.cli.conftest import Command

NET = ("--model", "nets:classifier", "--allow-code", "--input-size", "32")
MANY = ("--neighbours", "50")


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(colours).resize((40, 36), Image.Resampling.NEAREST).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """train/ with four classes of three images, and images/ with two."""
    for index in range(4):
        for number in range(3):
            picture(tmp_path / "train" / str(index) / f"{number}.png", 10 * index + number)
    for number in range(2):
        picture(tmp_path / "images" / f"{number}.png", 100 + number)
    return tmp_path


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return found


def influences(record: dict[str, Any], number: int = 0) -> dict[str, float]:
    one = record["findings"]["influence"][number]
    return {found["source"]: found["value"] for found in (*one["helpful"], *one["harmful"])}


def gradients(session: Session, path: Path, index: int | None) -> tuple[torch.Tensor, int]:
    """At weight and bias of the last layer of one image's cross entropy, by a backward of the whole network."""
    preprocessing = session.model.preprocessing
    pixels = preprocessing.prepare(Image.open(path).convert("RGB"), None)[0][None].double()
    net = session.net.double()
    last = list(net.fc.parameters())
    for one in last:
        one.requires_grad_(True)
    scores = net(pixels)
    target = int(scores.argmax()) if index is None else index
    loss = functional.cross_entropy(scores, torch.tensor([target]))
    return torch.cat([found.flatten() for found in torch.autograd.grad(loss, last)]), target


def test_the_influences_of_a_run_are_products_of_gradients_of_the_network(cnnviz: Command, folders: Path) -> None:
    done = cnnviz("influence", "images", "--train", "train", *NET, *MANY, "-o", "out")
    assert done.code == 0, done.err
    told = manifest(folders / "out")
    given = {("model",): "nets:classifier", ("allow_code",): True, ("input_size",): (32, 32)}
    session = Session.load("influence", load_settings("influence", given, None, {}), Reporter())
    train = sorted((folders / "train").rglob("*.png"))
    others = {f"{path.parent.name}/{path.name}": gradients(session, path, int(path.parent.name))[0] for path in train}
    for record in told["images"]:
        own, target = gradients(session, folders / "images" / record["source"], None)
        (one,) = record["findings"]["influence"]
        assert (one["class_index"], one["asked"]) == (target, "likeliest")
        assert record["predictions"][0]["index"] == target
        expected = {name: float(other @ own) for name, other in others.items()}
        found = influences(record)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=2e-4)
        assert one["help"] == pytest.approx(sum(value for value in expected.values() if value > 0), rel=2e-4)
        shares = [image["share"] for image in one["helpful"]]
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        assert shares == sorted(shares, reverse=True)
        for image in (*one["helpful"], *one["harmful"]):
            assert image["value"] == pytest.approx(image["residuals"] * image["features"], rel=1e-6)
    suspects = told["findings"]["influence"]["suspects"]
    alone = {name: float(other @ other) for name, other in others.items()}
    assert [one["source"] for one in suspects] == sorted(alone, key=lambda name: -alone[name])
    assert suspects[0]["value"] == pytest.approx(max(alone.values()), rel=2e-4)


def test_what_is_written(cnnviz: Command, folders: Path) -> None:
    done = cnnviz("influence", "images", "--train", "train", *NET, "-o", "out", "--json")
    assert done.code == 0, done.err
    told = manifest(folders / "out")
    about = told["findings"]["influence"]
    assert (about["name"], about["images"], about["classes"], about["unlabelled"]) == ("train", 12, 4, 0)
    assert (about["layer"], about["bias"], about["loss"]) == ("fc", True, "cross-entropy")
    for record in told["images"]:
        (output,) = record["outputs"]
        assert output["path"].startswith(f"{record['source']}/influence.")
        with Image.open(folders / "out" / output["path"]) as image:
            assert image.size == (output["width"], output["height"])
        (one,) = record["findings"]["influence"]
        assert len(one["helpful"]) <= 4
        assert one["helping"] + one["harming"] == 12
        assert output["target"]["index"] == one["class_index"]
    with (folders / "out" / "influence.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for record in told["images"]:
        (one,) = record["findings"]["influence"]
        mine = [row for row in rows if row["source"] == record["source"]]
        assert len(mine) == len(one["helpful"]) + len(one["harmful"])
        first = next(row for row in mine if row["effect"] == "harms" and row["rank"] == "1")
        assert first["training_image"] == one["harmful"][0]["source"]
        assert float(first["influence"]) == pytest.approx(one["harmful"][0]["value"])
        assert first["training_class"] == one["harmful"][0]["label"]
    (sheet,) = told["sheets"]
    assert sheet["path"] == "influence-training.png"
    assert cnnviz("verify", "out").code == 0
    assert not list((folders / "out").glob("*.f32"))
    assert json.loads(done.out)["findings"]["influence"]["images"] == 12


def test_the_same_command_gives_the_same_bytes_and_does_nothing_twice(cnnviz: Command, folders: Path) -> None:
    ask = ("influence", "images", "--train", "train", *NET, "--batch-size", "2")
    assert cnnviz(*ask, "-o", "one").code == 0
    assert cnnviz(*ask, "-o", "again").code == 0
    files = {path.relative_to(folders / "one") for path in (folders / "one").rglob("*") if path.is_file()}
    for name in files - {Path("run.json"), Path("manifest.jsonl")}:
        assert (folders / "one" / name).read_bytes() == (folders / "again" / name).read_bytes(), name
    before = (folders / "one" / "manifest.json").read_bytes()
    done = cnnviz(*ask, "-o", "one")
    assert done.code == 0
    assert "already done" in done.out + done.err
    assert (folders / "one" / "manifest.json").read_bytes() == before


@pytest.mark.slow
def test_shards_give_the_same_bytes(cnnviz: Command, folders: Path) -> None:
    for number in range(2, 5):
        picture(folders / "images" / f"{number}.png", 100 + number)
    ask = ("influence", "images", "--train", "train", *NET, "--batch-size", "2", "--workers", "0")
    assert cnnviz(*ask, "-o", "one").code == 0
    start = [sys.executable, "-m", "cnnviz_cli", *ask, "-o", "two", "--shard"]
    path = os.pathsep.join([str(Path(nets.__file__).parent), os.environ.get("PYTHONPATH", "")])
    shards = [subprocess.Popen([*start, f"{at}/2"], env={**os.environ, "PYTHONPATH": path}) for at in range(2)]
    assert [one.wait() for one in shards] == [0, 0]
    assert cnnviz("merge", "two").code == 0
    names = {path.relative_to(folders / "one") for path in (folders / "one").rglob("*.*") if path.is_file()}
    for name in names:
        if name.suffix in (".png", ".csv"):
            assert (folders / "one" / name).read_bytes() == (folders / "two" / name).read_bytes(), name
    first, second = manifest(folders / "one"), manifest(folders / "two")
    assert first["images"] == second["images"]
    assert first["findings"] == second["findings"]


def test_an_image_that_is_among_the_training_images_is_flagged(cnnviz: Command, folders: Path) -> None:
    shutil.copy(folders / "train" / "2" / "1.png", folders / "images" / "same.png")
    shutil.copy(folders / "train" / "2" / "1.png", folders / "train" / "2" / "twin.png")
    shutil.copy(folders / "train" / "2" / "1.png", folders / "train" / "3" / "wrong.png")
    done = cnnviz("influence", "images/same.png", "--target", "2", "--train", "train", *NET, *MANY, "-o", "out")
    assert done.code == 0, done.err
    told = manifest(folders / "out")
    (one,) = told["images"][0]["findings"]["influence"]
    assert one["asked"] == "chosen"
    rows = [*one["helpful"], *one["harmful"]]
    same = {row["source"]: row for row in rows if row.get("same")}
    assert set(same) == {"2/1.png", "3/wrong.png"}  # a twin is not shown beside it
    assert same["2/1.png"]["copies"] == 2
    assert same["2/1.png"]["contradicted"] is True
    assert same["2/1.png"]["likeness"] == 1.0
    assert same["2/1.png"]["value"] > 0 > same["3/wrong.png"]["value"]
    about = told["findings"]["influence"]
    assert (about["images"], about["copies"], about["contradicted"]) == (14, 1, 1)
    assert one["helping"] + one["harming"] == 14


def test_the_true_class_is_asked_for_where_it_is_known(cnnviz: Command, folders: Path) -> None:
    (folders / "truth.csv").write_text("file,label\n0.png,3\n", encoding="utf-8")
    done = cnnviz("influence", "images", "--truth", "truth.csv", "--train", "train", *NET, "-o", "out")
    assert done.code == 0, done.err
    first, second = manifest(folders / "out")["images"]
    assert [(one["class_index"], one["asked"]) for one in first["findings"]["influence"]] == [(3, "true")]
    assert first["truth"]["index"] == 3
    assert [one["asked"] for one in second["findings"]["influence"]] == ["likeliest"]
    ask = ("influence", "images", "--truth", "truth.csv", "--train", "train", *NET)
    done = cnnviz(*ask, "--target", "true", "-o", "true")
    assert done.code == 3
    assert "true class is unknown" in str(manifest(folders / "true")["images"][1]["error"])
    done = cnnviz(*ask, "--target", "top2,true,1", "-o", "several")
    assert done.code == 0, done.err
    first = manifest(folders / "several")["images"][0]
    asked = [one["class_index"] for one in first["findings"]["influence"]]
    assert len(asked) == len(set(asked)) == len(first["outputs"])
    assert {1, 3} <= set(asked)


def test_a_table_says_what_is_true_of_training_images(cnnviz: Command, folders: Path) -> None:
    rows = [f"{index}/{number}.png,{(index + 1) % 4}" for index in range(4) for number in range(2)]
    (folders / "train.csv").write_text("\n".join(["file,label", *rows]), encoding="utf-8")
    ask = ("influence", "images", "--train", "train", "--train-truth", "train.csv", *NET, *MANY, "-o", "out")
    done = cnnviz(*ask)
    assert done.code == 0, done.err
    assert "4 of 12 training images have no row in the table and are left out: '0/2.png'" in done.err
    about = manifest(folders / "out")["findings"]["influence"]
    assert (about["images"], about["unlabelled"]) == (8, 4)
    assert {one["class_index"] for one in about["suspects"] if one["source"].startswith("1/")} == {2}


def test_broken_training_images_are_counted(cnnviz: Command, folders: Path) -> None:
    (folders / "train" / "1" / "0.png").write_bytes(b"no image")
    done = cnnviz("influence", "images", "--train", "train", *NET, *MANY, "-o", "out")
    assert done.code == 0
    assert "not among the images of train: 1/0.png" in done.err
    found = manifest(folders / "out")["findings"]
    assert [(one["name"], one["images"], one["unseen"]) for one in found["seen"]] == [("", 2, 0), ("train", 11, 1)]
    assert found["influence"]["images"] == 11
    classes = {one["source"]: one["class_index"] for one in found["influence"]["suspects"]}
    assert all(int(name[0]) == index for name, index in classes.items())  # rows and classes stay together


def test_a_broken_image_fails_by_itself(cnnviz: Command, folders: Path) -> None:
    (folders / "images" / "0.png").write_bytes(b"no image")
    done = cnnviz("influence", "images", "--train", "train", *NET, "-o", "out")
    assert done.code == 3
    assert [one["status"] for one in manifest(folders / "out")["images"]] == ["failed", "ok"]


def test_sigmoids_are_asked_for_a_class_by_itself(cnnviz: Command, folders: Path) -> None:
    ask = ("influence", "images", "--train", "train", "--multilabel", "--target", "1", *NET[:-1], "24x32", *MANY)
    done = cnnviz(*ask, "-o", "out")
    assert done.code == 0, done.err
    told = manifest(folders / "out")
    seen = told["images"][0]["seen"]
    assert seen["size"] == [32, 24]  # width and height
    left, top, right, bottom = seen["box"]
    assert (right - left) / (bottom - top) == pytest.approx(32 / 24, rel=0.02)  # sides are resized to whole pixels
    assert told["findings"]["influence"]["loss"] == "binary cross-entropy"
    (one,) = told["images"][0]["findings"]["influence"]
    # Of the class alone: an image of it helps, any other harms.
    assert {row["class_index"] for row in one["helpful"]} == {1}
    assert 1 not in {row["class_index"] for row in one["harmful"]}


def test_a_sigmoids_influence_on_itself_is_that_of_its_class_alone(
    cnnviz: Command, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(folders / "train" / "1" / "0.png", folders / "images" / "0.png")
    feet: list[str] = []
    draw = figures.compose_suspects
    monkeypatch.setattr(figures, "compose_suspects", lambda *given: (feet.extend(given[3]), draw(*given))[1])
    ask = ("influence", "images", "--train", "train", "--multilabel", "--target", "1", "--suspects", "12")
    assert cnnviz(*ask, *NET, *MANY, "-o", "out").code == 0
    told = manifest(folders / "out")
    (own,) = [one for one in told["images"][0]["findings"]["influence"][0]["helpful"] if one.get("same")]
    (suspect,) = [one for one in told["findings"]["influence"]["suspects"] if one["source"] == "1/0.png"]
    assert suspect["value"] == own["value"]
    assert own["residuals"] == pytest.approx((1 - suspect["probability"]) ** 2, rel=1e-3)
    assert any("alone" in line for line in feet)


def test_a_training_image_that_has_gone_is_said_to_have(
    cnnviz: Command, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    look, draw, sheet = InfluenceStudy.look, figures.compose_influence, figures.compose_suspects

    def look_and_lose(study: InfluenceStudy, looking: Any) -> None:
        look(study, looking)
        (folders / "train" / "1" / "0.png").unlink()

    monkeypatch.setattr(InfluenceStudy, "look", look_and_lose)
    monkeypatch.setattr(figures, "compose_influence", lambda one, room: (drawn.append(one), draw(one, room))[1])
    monkeypatch.setattr(figures, "compose_suspects", lambda *given: (drawn.extend(given[0]), sheet(*given))[1])
    ask = ("influence", "images/0.png", "--train", "train", "--suspects", "12", *NET, *MANY, "-o", "out")
    assert cnnviz(*ask).code == 0
    tiles = [*drawn[0].helpful.tiles, *drawn[0].harmful.tiles]
    suspects = [one for one in drawn if isinstance(one, SuspectTile)]
    for shown in (tiles, suspects):
        assert {one.source for one in shown if one.note == figures.GONE} == {"1/0.png"}
    chance = manifest(folders / "out")["images"][0]["findings"]["influence"][0]["probability"]
    assert any(fact.endswith(f", {-np.log(chance):.2f}") for fact in drawn[0].facts)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "error: --train: it is missing"),
        (("--train", "nothing"), "error: --train: there is no folder 'nothing'"),
        (("--train", "train/0"), "error: --train: all 3 training images are of one class, 0,"),
        (
            ("--train", "foreign"),
            "no image of 'foreign' lies in a folder named after a class of the network; the folder",
        ),
        (("--train", "empty"), "error: --train: "),
        (("--train", "train", "--train-truth", "no.csv"), "error: --train-truth: there is no file 'no.csv'"),
        (
            ("--train", "train", "--train-truth", "odd.csv"),
            "--train-truth: odd.csv:1: the model has no class 'x'",
        ),
        (
            ("--train", "train", "--train-truth", "else.csv"),
            "--train-truth: no row of else.csv names any of these images",
        ),
        (("--train", "train", "--neighbours", "0"), "--neighbours"),
        (("--train", "broken"), "error: --train: no image of 'broken' could be shown to the network"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    cnnviz: Command, folders: Path, words: tuple[str, ...], said: str
) -> None:
    picture(folders / "foreign" / "cats" / "a.png", 1)
    (folders / "empty").mkdir()
    (folders / "odd.csv").write_text("0/0.png,x\n", encoding="utf-8")
    (folders / "else.csv").write_text("file,label\nother.png,1\n", encoding="utf-8")
    for index in "01":
        (folders / "broken" / index).mkdir(parents=True)
        (folders / "broken" / index / "a.png").write_bytes(b"no image")
    done = cnnviz("influence", "images", *words, *NET, "-o", "out")
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not list((folders / "out").rglob("*.png"))


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize("model", ["nets:no_parameters", "squeezenet1_1"])
def test_a_head_that_is_not_linear_is_refused(cnnviz: Command, model: str) -> None:
    weights = () if ":" in model else ("--weights", "none")
    how = ("--model", model, *weights, "--allow-code", "--input-size", "64")
    done = cnnviz("influence", "images", "--train", "train", *how, "-o", "out")
    assert done.code == 2
    assert "are not what one linear layer returns, so that influence has no closed form" in done.err


def test_a_dry_run_writes_nothing(cnnviz: Command, folders: Path) -> None:
    done = cnnviz("influence", "images", "--train", "train", *NET, "-o", "out", "--dry-run")
    assert done.code == 0
    assert "12 training images of 4 classes" in done.out
    assert not (folders / "out").exists()


def test_the_same_from_python(cnnviz: Command, folders: Path) -> None:
    assert cnnviz("influence", "images", "--train", "train", *NET, "--neighbours", "2", "-o", "out").code == 0
    first, second = manifest(folders / "out")["images"]
    how: dict[str, Any] = {"input_size": (32, 32), "device": "cpu", "neighbours": 2}
    found = cnnviz_cli.influence("nets:classifier", str(folders / "images"), folders / "train", allow_code=True, **how)
    assert [one.source for one in found.records] == ["0.png", "1.png"]
    for record in (first, second):
        told = [one.model_dump(mode="json") for one in found.answers[record["source"]]]
        assert told == record["findings"]["influence"]
    assert found.training.images == 12
    assert found.figures_of(found.records[0])[0].size == (first["outputs"][0]["width"], first["outputs"][0]["height"])
    assert (found.save(folders / "saved") / "influence.csv").read_bytes() == (
        folders / "out/influence.csv"
    ).read_bytes()
    images = [Image.open(folders / "images" / "1.png"), np.asarray(Image.open(folders / "images" / "0.png"))]
    given: dict[str, Any] = how | {"target": [1, "2"], "suspects": 0}
    held = cnnviz_cli.influence(nets.classifier(), images, str(folders / "train"), **given)
    assert [[one.class_index for one in answers] for answers in held.answers.values()] == [[1, 2], [1, 2]]
    assert held.figure is None
    with pytest.raises(cnnviz_cli.UsageError, match="all 3 training images are of one class"):
        cnnviz_cli.influence(nets.classifier(), images, folders / "train" / "0", **how)
    with pytest.raises(cnnviz_cli.UsageError, match="there is no option 'neighbors'"):
        cnnviz_cli.influence(nets.classifier(), images, folders / "train", neighbors=3, **how)


def test_the_page_does_what_it_shows(cnnviz: Command, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "influence.md").read_text(encoding="utf-8")
    (block, *_) = re.findall(r"^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    shutil.copytree(root / "sample_images", tmp_path / "sample_images")
    for line in filter(None, block.splitlines()):
        command, *words = shlex.split(line, comments=True)
        if command == "cnnviz":
            assert cnnviz(*words, "--input-size", "64").code == 0, line
        else:
            subprocess.run([command, *words], check=True)
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    exec(compile(code, "influence.md", "exec", dont_inherit=True), {})
    assert (tmp_path / "influence.png").exists()
