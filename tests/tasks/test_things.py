"""Kinds of things: the likeliest box of a label, by hand and in dreams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import detectors
import located
import numpy as np
import pytest
import torch
from cli.conftest import Command, Result
from PIL import Image

import cnnviz_cli
from cnnviz_cli.core.needs import INPUT, Gradient
from cnnviz_cli.core.objectives import TargetLogit
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.tasks.things import Kinds

pytest_plugins = ("cli.conftest",)

HOW = ("--allow-code", "--threads", "1", "--device", "cpu")


@pytest.mark.parametrize("family", [*detectors.FAMILIES, "grid"])
def test_a_labels_score_is_that_of_its_likeliest_box(family: str) -> None:
    net, batch = detectors.build(family), detectors.pictures(2)
    outputs = net(batch)
    scores = Kinds(detectors.LABELS + 2).scores(outputs, None)
    for one, row in zip(outputs, scores, strict=True):
        for label in range(detectors.LABELS + 2):
            own = [float(score) for score, kind in zip(one["scores"], one["labels"], strict=True) if kind == label]
            assert float(row[label]) == max(own, default=0.0)


def test_its_gradient_is_that_boxs() -> None:
    net, batch = detectors.build("grid"), detectors.pictures(1)
    leaf = batch.clone().requires_grad_()
    (one,) = net(leaf)
    first = (one["labels"] == 2).nonzero()[0, 0]
    (expected,) = torch.autograd.grad(one["scores"][first], leaf)
    need = Gradient(INPUT, TargetLogit())
    found = observe(net, batch, Plan.of([need]), lambda _order: torch.tensor([[2]]), readout=Kinds(4))
    torch.testing.assert_close(found.evidence[need], expected)
    assert float(expected.abs().max()) > 0


def test_without_a_box_there_is_nothing_and_no_gradient() -> None:
    net, batch = detectors.build("grid", least=0.9999), detectors.pictures(1)
    need = Gradient(INPUT, TargetLogit())
    found = observe(net, batch, Plan.of([need]), lambda _order: torch.tensor([[2]]), readout=Kinds(4))
    assert float(found.logits.abs().max()) == 0
    assert not found.evidence[need].any()


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("cup\ncat\ndog\n")
    return path


@pytest.fixture
def dream(cnnviz: Command, labels: Path) -> Command:
    def run(*arguments: str | Path) -> Result:
        asked = ("--model", "located:detector", "--labels", labels, "--objective", "thing", "--input-size", "16")
        return cnnviz("dream", *arguments, *asked, "--min-score", "0", *HOW)

    return run


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Four times as large as the network's input, and of other proportions."""
    noise = np.random.default_rng(3).integers(105, 150, (8, 12, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(noise).resize((96, 64), Image.Resampling.BICUBIC).save(path)
    return path


def outputs_of(folder: Path) -> list[dict[str, Any]]:
    told = json.loads((folder / "manifest.json").read_text())
    return [output for image in told["images"] for output in image["outputs"] if output.get("dream")]


def score_by_hand(path: Path, label: int) -> float:
    """Of the picture as a file, shown to the network as the run shows it: squashed into the input."""
    image = Image.open(path).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)
    values = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    net = located.detector()
    net.score_thresh = 0.0
    (one,) = net(((values - mean) / std)[None])
    return float(one["scores"].detach()[one["labels"] == label].max())


@pytest.mark.parametrize("size", [(), ("--size", "16"), ("--size", "120")])
def test_a_label_is_painted_into_an_image_of_any_size(
    dream: Command, cnnviz: Command, photo: Path, tmp_path: Path, size: tuple[str, ...]
) -> None:
    asked = (
        "--target",
        "cat",
        "--steps",
        "4",
        "--strength",
        "4",
        *size,
        "--resize",
        "squash",
        "--interpolation",
        "bilinear",
    )
    done = dream(photo, *asked, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    (output,) = outputs_of(tmp_path / "o")
    told = output["dream"]
    assert told["score"] > told["start_score"]
    assert told["score"] == pytest.approx(score_by_hand(tmp_path / "o" / output["path"], 1), rel=1e-4)
    assert told["start_score"] == pytest.approx(score_by_hand(photo, 1), abs=0.02 if size else 1e-4)
    assert output["target"]["label"] == "cat"
    assert output["target"]["probability"] == pytest.approx(told["score"], abs=1e-6)
    done = cnnviz("verify", tmp_path / "o", "--scores", "--allow-code")
    assert (done.code, "1 received as listed" in done.out) == (0, True), done.out


def test_a_label_is_painted_from_noise_and_in_sums(dream: Command, cnnviz: Command, tmp_path: Path) -> None:
    done = dream("--target", "dog", "--method", "pyramid", "--steps", "6", "-o", tmp_path / "o")
    assert done.code == 0, done.err
    (output,) = outputs_of(tmp_path / "o")
    assert output["dream"]["score"] > output["dream"]["start_score"]
    assert output["subject"] == {"class_index": 2, "label": "dog", "layer": None}
    terms = ("--term", "{target: dog}", "--term", "{target: cup, weight: -0.5}")
    assert dream(*terms, "--method", "pyramid", "--steps", "3", "-o", tmp_path / "sum").code == 0
    for folder in ("o", "sum"):
        assert cnnviz("verify", tmp_path / folder, "--scores", "--allow-code").code == 0


def test_other_commands_explain_the_likeliest_box_of_a_label(
    cnnviz: Command, photo: Path, labels: Path, tmp_path: Path
) -> None:
    how = ("--model", "located:detector", "--labels", labels, "--input-size", "16", "--min-score", "0", *HOW)
    done = cnnviz("gradcam", photo, "--objective", "thing:cat", "--layer", "relu", *how, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "o" / "manifest.json").read_text())
    assert told["images"][0]["outputs"][0]["target"]["label"] == "cat"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--objective", "thing:cta"), ("no class 'cta'", "'cat'")),
        (("--objective", "box:1"), ("a box has its place in one image", "--objective thing")),
        (("--objective", "thing", "--target", "cat", "--score", "probability"), ("--score is for the classes",)),
    ],
)
def test_mistakes(
    cnnviz: Command, photo: Path, labels: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    how = ("--model", "located:detector", "--labels", labels, "--input-size", "16", *HOW)
    done = cnnviz("dream", photo, *arguments, *how)
    assert done.code == 2, done.err
    for word in words:
        assert word in done.err


def test_without_labels_there_is_nothing_to_name(cnnviz: Command, photo: Path) -> None:
    done = cnnviz("gradcam", photo, "--model", "located:detector", "--objective", "thing", "--input-size", "16", *HOW)
    assert (done.code, "--labels FILE" in done.err) == (2, True)


def test_python() -> None:
    (one,) = cnnviz_cli.dream(
        located.detector(), target="dog", objective="thing", labels=["cup", "cat", "dog"], min_score=0.0,
        method="pyramid", steps=3, input_size=(16, 16), device="cpu",
    )  # fmt: skip
    assert one.score > one.start_score
    assert one.probability == pytest.approx(one.score, abs=1e-6)
