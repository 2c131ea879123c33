"""cnnviz attack: the ordinary run with another answer; what resuming, shards, arrays and mistakes come to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import torch
from PIL import Image

from cnnviz_cli.core.text import escape_text

from .conftest import Command

HOW = ("--model", "nets:classifier", "--allow-code", "--input-size", "32", "--device", "cpu", "-q")
EPS = ("--eps", "0.4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number in range(3):
        pixels = random.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    return tmp_path / "in"


def manifest_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return found


def files_of(out: Path) -> dict[str, bytes]:
    found = (path for path in out.rglob("*") if path.is_file())
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in found
        if path.suffix != ".jsonl" and not path.name.startswith(("run.", "manifest."))
    }


def test_what_is_kept_is_the_input_that_flips_the_label(cnnviz: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cnnviz("attack", folder, "-o", out, "--method", "all", "--steps", "3", "--save-arrays", *EPS, *HOW).code == 0
    manifest = manifest_of(out)
    assert manifest["run"]["command"] == "attack"
    config = manifest["run"]["config"]["attack"]
    assert config == {
        "eps": 0.4, "explain_by": "auto", "method": ["fgsm", "pgd"], "norm": "linf", "restarts": 1, "steps": 3,
        "to": None,
    }  # fmt: skip
    net = nets.classifier().eval()
    flipped = 0
    for image in manifest["images"]:
        assert [output["method"] for output in image["outputs"]] == ["fgsm", "pgd"]
        with np.load(out / image["arrays"]["path"]) as arrays:
            for output in image["outputs"]:
                told, kept = output["statistics"], output["arrays"]
                assert kept == {name: f"attack.{output['method']}.{name}" for name in ("attacked", "change")}
                attacked, change = arrays[kept["attacked"]], arrays[kept["change"]]
                scores = net(torch.from_numpy(attacked)[None])
                assert int(scores.argmax()) == told["label_after"]
                assert told["label_before"] == image["predictions"][0]["index"] == output["target"]["index"]
                assert told["flipped"] == (told["label_after"] != told["label_before"])
                assert np.abs(change).max() == pytest.approx(told["linf"], rel=1e-5)
                assert np.linalg.norm(change.astype(np.float64)) == pytest.approx(told["l2"], rel=1e-5)
                assert output["state"] == "ok"
                flipped += int(told["flipped"])
    assert flipped
    assert cnnviz("verify", out).code == 0


def test_the_same_command_does_nothing_and_shards_come_to_the_same_files(
    cnnviz: Command, folder: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    asked = ("attack", folder, "--steps", "2", *EPS, *HOW)
    assert cnnviz(*asked, "-o", one, "--batch-size", "1").code == 0
    before = files_of(one)
    assert cnnviz(*asked, "-o", one, "--batch-size", "1").code == 0
    assert files_of(one) == before
    for shard in ("1/2", "0/2"):
        cnnviz(*asked, "-o", two, "--batch-size", "1", "--shard", shard)
    assert cnnviz("merge", two).code == 0
    assert files_of(two) == before
    three = tmp_path / "three"
    assert cnnviz(*asked, "-o", three, "--batch-size", "3").code == 0
    assert files_of(three) == before
    outputs = [[image["outputs"] for image in manifest_of(out)["images"]] for out in (one, two, three)]
    assert outputs[0] == outputs[1] == outputs[2]


def test_another_seed_starts_elsewhere(cnnviz: Command, folder: Path, tmp_path: Path) -> None:
    told = []
    for name, seed in (("a", "0"), ("b", "1")):
        cnnviz("attack", folder / "0.png", "-o", tmp_path / name, "--seed", seed, "--steps", "2", *EPS, *HOW)
        told.append(manifest_of(tmp_path / name)["images"][0]["outputs"][0]["statistics"])
    assert told[0]["l2"] != told[1]["l2"]


def test_a_wanted_class_is_reached_or_it_is_said_that_it_was_not(cnnviz: Command, folder: Path, tmp_path: Path) -> None:
    for to in range(4):
        out = tmp_path / f"to{to}"
        assert cnnviz("attack", folder, "-o", out, "--to", to, "--steps", "5", "--eps", "1", *HOW).code == 0
        for image in manifest_of(out)["images"]:
            told = image["outputs"][0]["statistics"]
            assert (told["label_after"] == to) == bool(told["flipped"])
            if told["label_before"] == to:
                assert (told["eps"], told["changed"]) == (0, 0)


def test_the_true_class_may_be_wanted(cnnviz: Command, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,class\n0.png,2\n1.png,2\n", encoding="utf-8")
    out = tmp_path / "out"
    cnnviz("attack", folder, "-o", out, "--to", "true", "--truth", tmp_path / "t.csv", "--method", "fgsm", *EPS, *HOW)
    images = manifest_of(out)["images"]
    assert [image["status"] for image in images] == ["ok", "ok", "failed"]
    assert "true class is unknown" in images[2]["error"]
    assert images[0]["outputs"][0]["statistics"]["flipped"] in (0, 1)


def test_a_dry_run_tells_the_passes_and_writes_nothing(cnnviz: Command, folder: Path, tmp_path: Path) -> None:
    how = [word for word in HOW if word != "-q"]
    done = cnnviz("attack", folder, "-o", tmp_path / "o", "--method", "all", "--dry-run", "--json", *how)
    told = json.loads(done.out)
    assert [name.rpartition("/")[2] for name in told["outputs"]] == ["attack.fgsm.png", "attack.pgd.png"]
    assert any("17 sizes of 10 steps" in line for line in told["plan"])
    assert told["cost"]["at_most"] is True
    assert not (tmp_path / "o").exists()


def test_a_dry_run_does_not_deny_the_backwards_that_it_tells_of(cnnviz: Command, folder: Path, tmp_path: Path) -> None:
    how = [word for word in HOW if word != "-q"]
    said = cnnviz("attack", folder, "-o", tmp_path / "o", "--dry-run", *how).out
    assert "0 backwards" not in said
    assert "1 forward, autograd off in it\n" in said
    # 1 + 17 sizes of 11 passes; the image, what was found, that in 8 bits, its label; and three explanations.
    assert "up to 192 variants per image" in said
    assert "at most 188 forwards, besides 4 of the image before and after it, most with a backward" in said


def test_the_terminal_says_what_the_label_became_and_by_how_much(cnnviz: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    how = [word for word in HOW if word != "-q"]
    done = cnnviz("attack", folder, "-o", out, "--method", "all", "--steps", "3", *EPS, *how)
    lines = done.out.splitlines()
    for image in manifest_of(out)["images"]:
        said = [line for line in lines if line.startswith(image["source"])]
        assert len(said) == 2  # a line for each method
        for line, output in zip(said, image["outputs"], strict=True):
            told = output["statistics"]
            before, after = f"class {told['label_before']:.0f}", f"class {told['label_after']:.0f}"
            expected = f"{before} is not flipped within 102/255"
            if told["flipped"]:
                expected = f"{before} becomes {after} by a change of {255 * told['eps']:.3g}/255"
            assert output["verdict"] == expected
            assert line.split(maxsplit=1)[1].startswith(expected)
            assert line.endswith(output["path"])
    cnnviz("gradcam", folder, "-o", tmp_path / "g", *how)
    assert "verdict" not in manifest_of(tmp_path / "g")["images"][0]["outputs"][0]


def test_the_figure_s_command_in_a_report_is_the_attack_s(cnnviz: Command, folder: Path, tmp_path: Path) -> None:
    from cnnviz_cli.config.command_line import figure_commands

    out = tmp_path / "out"
    assert cnnviz("attack", folder / "0.png", "-o", out, "--to", "1", "--norm", "l2", "--report", *HOW).code == 0
    assert (out / "report.html").exists()
    manifest = manifest_of(out)
    found = figure_commands(manifest)(manifest["images"][0]["outputs"][0])
    assert found is not None
    before, behind, target = found
    assert before == "cnnviz attack"
    assert "--to 1" in behind
    assert "--norm l2" in behind
    assert target.startswith("--target ")


def test_maps_of_an_attack_are_not_judged(cnnviz: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cnnviz("attack", folder / "0.png", "-o", out, "--method", "fgsm", "--save-arrays", *HOW)
    done = cnnviz("evaluate", folder, "--maps", out, "-o", tmp_path / "e", *HOW)
    assert done.code == 2
    assert "attacked images" in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--eps", "8"), "--eps 8/255"),
        (("--eps", "300/255"), "shares of 255: --eps 4/255. The most is 1"),
        (("--eps", "0"), "a size above 0"),
        (("--eps", "4/0"), "a size above 0"),
        (("--eps", "nan"), "a size above 0"),
        (("--to", "9"), "there is no class 9"),
        (("--to", "predicted"), "says already"),
        (("--to", "true"), "--truth"),
        (("--explain-by", "grdcam"), "no method 'grdcam'"),
        (("--explain-by", "deconvnet"), "no single map"),
        (("--method", "fgsm", "--steps", "3"), "no chosen method reads this option"),
        (("--method", "gradcam"), "'gradcam' is a method of gradcam"),
        (("--norm", "l3"), "must be linf or l2"),
        (("--task", "regression"), "an attack flips the label of a classifier"),
    ],
)
def test_a_mistake_is_one_sentence(
    cnnviz: Command, folder: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = cnnviz("attack", folder, "-o", tmp_path / "o", *arguments, *HOW)
    assert done.code == 2, escape_text(done.err)
    assert words in done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.glob("o/**/*.png"))


@pytest.mark.parametrize("key", ["contrast: 1", "counterfactual: true", "score: probability"])
def test_a_file_may_not_ask_what_an_attack_does_not_answer(
    cnnviz: Command, folder: Path, tmp_path: Path, key: str
) -> None:
    (tmp_path / "c.yaml").write_text(key, encoding="utf-8")
    done = cnnviz("attack", folder, "-c", tmp_path / "c.yaml", "-o", tmp_path / "o", *HOW)
    assert done.code == 2
    assert "no such question" in done.err


def test_eps_is_a_ratio_wherever_it_is_written(
    cnnviz: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text("attack: {eps: 2/255, method: fgsm}", encoding="utf-8")
    one = folder / "0.png"
    cnnviz("attack", one, "-c", tmp_path / "c.yaml", "-o", tmp_path / "a", *HOW)
    monkeypatch.setenv("CNNVIZ_ATTACK__EPS", "2/255")
    cnnviz("attack", one, "--method", "fgsm", "-o", tmp_path / "b", *HOW)
    monkeypatch.delenv("CNNVIZ_ATTACK__EPS")
    cnnviz("attack", one, "--method", "fgsm", "--eps", " 2 / 255 ", "-o", tmp_path / "c", *HOW)
    found = [manifest_of(tmp_path / name)["run"]["config"]["attack"]["eps"] for name in "abc"]
    assert found == [2 / 255] * 3


def test_segments_and_boxes_are_refused(cnnviz: Command, folder: Path, tmp_path: Path) -> None:
    done = cnnviz(
        "attack", folder, "-o", tmp_path / "o", "--model", "located:segmenter", "--allow-code", "--device", "cpu"
    )
    assert done.code == 2
    assert "an attack flips the label of a classifier" in done.err
