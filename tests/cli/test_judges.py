"""cnnviz dream --judge: what another network makes of the file that was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import mobilenet_v3_small, resnet18
from torchvision.transforms._presets import ImageClassification

from cnnviz_cli.core.classes import Labels
from cnnviz_cli.core.records import DreamRecord, Manifest
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.models.load.loaded_model import load_model
from cnnviz_cli.run.dream_judges import _places

from .conftest import Command, Result

NET = ("--model", "mobilenet_v3_small", "--weights", "random:0", "--input-size", "64")
HOW = ("--threads", "1", "--device", "cpu", "--method", "pyramid", "--steps", "1", "--octaves", "1")
JUDGE = "resnet18=random:1"


@pytest.fixture
def dream(cnnviz: Command) -> Command:
    def run(*arguments: str | Path) -> Result:
        return cnnviz("dream", "--target", "espresso", *NET, *HOW, *arguments)

    return run


def manifest(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / "manifest.json").read_bytes())


def told_in(folder: Path) -> tuple[Path, DreamRecord]:
    """The file of the first picture in a folder, and what is told of it."""
    output = next(output for image in manifest(folder).images for output in image.outputs if output.dream)
    assert output.dream is not None
    return folder / output.path, output.dream


def by_hand(path: Path, net: torch.nn.Module, transforms: Any) -> np.ndarray[Any, Any]:
    """Probabilities, from the file alone, by torchvision's own preprocessing, in float64."""
    with Image.open(path) as file, torch.no_grad():
        scores = net.double().eval()(transforms(file.convert("RGB"))[None].double())[0]
    return scores.softmax(0).numpy()


def test_a_judge_says_what_it_says_of_the_file(dream: Command, tmp_path: Path) -> None:
    done = dream("--judge", JUDGE, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    path, told = told_in(tmp_path / "o")
    (judged,) = told.judged
    loaded = load_model("resnet18", "random:1", reporter=Reporter())
    net = resnet18()
    net.load_state_dict(loaded.net.state_dict())
    shares = by_hand(path, net, ImageClassification(crop_size=224))
    assert judged.probability == pytest.approx(shares[967], rel=1e-3)
    assert judged.rank == 1 + (shares > shares[967]).sum()
    assert judged.index == 967
    assert judged.prediction is not None
    assert judged.prediction.index == shares.argmax()
    assert judged.prediction.probability == pytest.approx(shares.max(), rel=1e-3)
    assert (judged.model, judged.weights) == ("resnet18", "random:1")
    assert judged.weights_sha256 == loaded.weights_sha256
    assert judged.brief(told.judged) in done.out
    assert f"rank {judged.rank}" in judged.brief(told.judged)


def test_who_explains_the_file_with_the_judge_finds_the_same(dream: Command, cnnviz: Command, tmp_path: Path) -> None:
    dream("--judge", "efficientnet_lite1", "--size", "80x70", "-o", tmp_path / "o")
    path, told = told_in(tmp_path / "o")
    asked = ("--model", "efficientnet_lite1", "--target", "espresso", "--device", "cpu", "--threads", "1")
    done = cnnviz("gradcam", path, *asked, "-o", tmp_path / "explained")
    assert done.code == 0, done.err
    (output,) = manifest(tmp_path / "explained").images[0].outputs
    assert output.target is not None
    assert told.judged[0].probability == pytest.approx(output.target.probability, abs=2e-6)


def test_judges_come_in_the_order_in_which_they_were_named(dream: Command, tmp_path: Path) -> None:
    done = dream("--judge", f"resnet18=random:2,{JUDGE}", "--judge", JUDGE, "-o", tmp_path / "o")
    _, told = told_in(tmp_path / "o")
    assert [one.weights for one in told.judged] == ["random:2", "random:1"]
    assert "resnet18 (random:2)" in done.out
    assert told.judged[0].probability != told.judged[1].probability


def test_json_has_what_judges_say(dream: Command, tmp_path: Path) -> None:
    (one,) = json.loads(dream("--judge", JUDGE, "--json", "-o", tmp_path / "o").out)["dreams"]
    _, told = told_in(tmp_path / "o")
    assert one["judged"][0]["probability"] == told.judged[0].probability
    assert one["source"] == "class 967 espresso"


def test_without_a_class_it_is_told_what_the_judge_takes_it_for(cnnviz: Command, tmp_path: Path) -> None:
    done = cnnviz("dream", "--layer", "high", "--unit", "3", *NET, *HOW, "--judge", JUDGE, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    _, told = told_in(tmp_path / "o")
    (judged,) = told.judged
    assert (judged.probability, judged.rank, judged.index) == (None, None, None)
    assert judged.prediction is not None
    assert f"resnet18: {judged.prediction.label}" in done.out


def photo(folder: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "photo.png")
    return folder / "photo.png"


@pytest.mark.parametrize("of_image", [False, True])
def test_a_judge_that_comes_later_paints_nothing_again(cnnviz: Command, tmp_path: Path, of_image: bool) -> None:
    asked: list[str | Path] = ["dream", *NET, *HOW[:4], "--steps", "1", "--octaves", "1", "--number", "2"]
    asked += [photo(tmp_path), "--target", "top1"] if of_image else ["--target", "espresso", "--method", "pyramid"]
    assert cnnviz(*asked, "-o", tmp_path / "o").code == 0
    outputs = [output for image in manifest(tmp_path / "o").images for output in image.outputs if output.dream]
    pictures = [tmp_path / "o" / output.path for output in outputs]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in pictures]
    done = cnnviz(*asked, "--judge", JUDGE, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    assert "painted already" in done.err
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in pictures] == before
    assert cnnviz(*asked, "--judge", JUDGE, "-o", tmp_path / "fresh").code == 0
    for path in (tmp_path / "fresh").rglob("*"):
        if path.is_file() and path.suffix in (".png", ".json") and path.name != "run.json":
            assert (tmp_path / "o" / path.relative_to(tmp_path / "fresh")).read_bytes() == path.read_bytes(), path
    assert all(one.dream.judged for image in manifest(tmp_path / "o").images for one in image.outputs if one.dream)
    assert cnnviz("verify", tmp_path / "o", "--scores").code == 0
    # And one that is asked no more is not heard any more.
    cnnviz(*asked, "-o", tmp_path / "o")
    assert told_in(tmp_path / "o")[1].judged == []


def test_a_picture_that_was_exchanged_is_painted_again(dream: Command, tmp_path: Path) -> None:
    dream("-o", tmp_path / "o")
    path, _ = told_in(tmp_path / "o")
    data = bytearray(path.read_bytes())
    data[-20] ^= 1  # the same size, so that only the digest tells
    path.write_bytes(data)
    assert dream("--judge", JUDGE, "-o", tmp_path / "o").code == 0
    assert path.read_bytes() != bytes(data)


def test_without_output_the_folder_is_found_again(
    dream: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ((), ("--judge", JUDGE), ()):
        assert dream(*more).code == 0
    assert [path.name for path in Path("cnnviz-out").iterdir()] == ["dream"]


def test_what_a_judge_said_is_found_again(dream: Command, cnnviz: Command, tmp_path: Path) -> None:
    dream("--judge", JUDGE, "-o", tmp_path / "o")
    done = cnnviz("verify", tmp_path / "o", "--scores")
    assert "1 received as listed" in done.out, done.err
    path, told = told_in(tmp_path / "o")
    Image.new("RGB", (64, 64), (250, 3, 120)).save(path)
    found = json.loads(cnnviz("verify", tmp_path / "o", "--scores", "--json").out)["differences"]
    said = [one["what"] if "what" in one else json.dumps(one) for one in found]
    assert any("rank by resnet18" in text for text in said), (said, told.judged)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--judge", "efficientnet_lite9"), ("--judge", "efficientnet_lite2")),
        (("--judge", "fasterrcnn_resnet50_fpn"), ("--judge", "cannot be a judge", "it is for detection")),
        (("--judge", "resnet18=random:x"), ("--judge", "random:")),
        (("--judge", "weights.pth"), ("--judge resnet50=weights.pth",)),
        (("--judge", "nets:classifier"), ("--judge", "--allow-code")),
        (("--judge", "nets:classifier", "--allow-code"), ("--judge", "4 classes without names", "1000")),
        (("--judge", "=random:1"), ("--judge", "NETWORK=WEIGHTS")),
    ],
)
def test_what_cannot_judge_is_told_before_anything_is_painted(
    dream: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(mobilenet_v3_small().state_dict(), "weights.pth")
    done = dream(*arguments, "-o", tmp_path / "o")
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err
    assert not list(tmp_path.rglob("*.png"))


def test_a_judge_without_the_class_is_refused(cnnviz: Command, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("espresso\nlatte\ncortado\ncup\n")
    asked = ("--model", "nets:classifier", "--allow-code", "--input-size", "32", "--labels", tmp_path / "names.txt")
    done = cnnviz("dream", "--target", "latte", *asked, *HOW, "--judge", JUDGE, "-o", tmp_path / "o")
    assert (done.code, "resnet18 has no class 'latte'" in done.err) == (2, True), done.err
    done = cnnviz("dream", "--target", "espresso", *asked, *HOW, "--judge", JUDGE, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    assert told_in(tmp_path / "o")[1].judged[0].index == 967  # by its name: the network calls it 0
    done = cnnviz("dream", "--target", "1", *asked[:-2], *HOW, "--judge", JUDGE, "-o", tmp_path / "p")
    assert (done.code, "--labels FILE" in done.err) == (2, True), done.err


def test_classes_are_found_by_name_unless_the_lists_are_one() -> None:
    names = ("crane", "Cup", "crane", "3")
    assert list(_places(names, Labels(names))) == [0, 1, 2, 3]
    assert list(_places(names, Labels(("cup", "crane", "3")))) == [1, 0, 1, 2]
    assert list(_places(("crane", "cup"), Labels(("crane", "crane", "bird")))) == [None, None]  # which of the two?
    assert list(_places(("0", "1"), Labels(("0", "1", "2")))) == [None, None]  # numbers are no names


def test_a_dry_run_names_the_judges(dream: Command) -> None:
    done = dream("--judge", JUDGE, "--dry-run")
    assert done.code == 0, done.err
    assert "each picture is shown to resnet18: 1 forward" in done.out


def test_shards_that_asked_other_judges_are_not_merged(dream: Command, cnnviz: Command, tmp_path: Path) -> None:
    asked = ("--target", "1,2", "--steps", "1", "-o", tmp_path / "o")
    dream(*asked, "--shard", "0/2")
    dream(*asked, "--shard", "1/2", "--judge", JUDGE)
    done = cnnviz("merge", tmp_path / "o")
    assert done.code == 2, done.err
    assert "were not made with the same settings" in done.err
    assert "judges: [] -> " in done.err
