"""Sums and differences of objectives: from YAML, from the prompt and from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import tiny
import torch
from dreaming import answers_of, ascent
from PIL import Image

import cnnviz_cli
from cnnviz_cli import channel, direction, energy, likeness, target
from cnnviz_cli.core.objectives import ClassScore, Objective, Sum
from cnnviz_cli.core.records import Manifest, SingleSubject, Subject, Term
from cnnviz_cli.core.unit_objectives import Channel, Direction, Energy
from cnnviz_cli.methods.common.canvases import Pixels

from .conftest import Command, Result

HOW: dict[str, Any] = {"input_size": (32, 32), "steps": 3, "device": "cpu", "method": "pyramid"}
ASKED = ("--model", "nets:classifier", "--allow-code", "--input-size", "32", "--threads", "1", "--device", "cpu")
YAML = """
dream:
  method: pyramid
  steps: 2
  term:
    - {target: 2}
    - {layer: trunk.6, unit: "3@centre", weight: -0.5}
    - {layer: high, weight: 0.25}
"""
LAYER = "trunk.6"


@pytest.fixture
def dream(cnnviz: Command) -> Command:
    def run(*arguments: str | Path) -> Result:
        return cnnviz("dream", *arguments, *ASKED)

    return run


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "sum.yaml"
    path.write_text(YAML)
    return path


def manifest(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / "manifest.json").read_bytes())


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("dream.png"))}


def test_the_gradient_of_a_sum_is_the_sum_of_gradients() -> None:
    """One plain step from grey, in float64: the picture moves along the weighted sum of the terms' own gradients."""
    net = tiny.build(tiny.Plain).double()
    terms: tuple[tuple[float, Objective], ...] = (
        (1.0, ClassScore(2)),
        (-0.5, Channel("conv2", 1, "centre")),
        (0.25, Energy("conv1")),
        (2.0, Direction("conv2", (1.0, -1.0, 0.5, 0.0, 0.0, 2.0))),
        (-3.0, ClassScore(1, "softmax")),
    )
    canvas = Pixels((tiny.SIZE, tiny.SIZE), 1, 1.4, noise=0.01)

    def moved(of: Objective) -> torch.Tensor:
        before, after = ascent(canvas, of, steps=0), ascent(canvas, of, steps=1)
        found = answers_of(net, [before, after])
        change: torch.Tensor = found[after] - found[before]
        return change

    expected = sum(weight * moved(objective) for weight, objective in terms)
    assert isinstance(expected, torch.Tensor)
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(moved(Sum(terms)), expected, rtol=1e-9, atol=1e-12)


def test_a_sum_of_one_term_paints_the_bytes_of_that_term(dream: Command, tmp_path: Path) -> None:
    for name, plain, term in (
        ("class", ("--target", "2"), "{target: 2}"),
        ("unit", ("--layer", LAYER, "--unit", "3@centre"), f"{{layer: {LAYER}, unit: 3@centre, weight: 1}}"),
        ("layer", ("--layer", LAYER), f"{{layer: {LAYER}, weight: 1.0}}"),
    ):
        for folder, asked in (("plain", plain), ("sum", ("--term", term))):
            assert dream(*asked, "--steps", "2", "-o", tmp_path / name / folder).code == 0
        found = [(tmp_path / name / folder / "manifest.json").read_bytes() for folder in ("plain", "sum")]
        assert found[0] == found[1]
        assert pictures(tmp_path / name / "plain") == pictures(tmp_path / name / "sum")


def test_what_is_added_and_taken_away_paints_nothing(dream: Command, tmp_path: Path) -> None:
    asked = ("--term", "{target: 2}", "--term", "{target: 2, weight: -1}", "--steps", "2")
    done = dream(*asked, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    (output,) = manifest(tmp_path / "o").images[0].outputs
    assert (output.state, output.dream and output.dream.score) == ("flat", 0)


def test_a_sum_from_yaml_is_named_recorded_resumed_and_found_again(
    dream: Command, cnnviz: Command, settings: Path, tmp_path: Path
) -> None:
    asked = ("-c", settings, "--number", "2", "-o", tmp_path / "o")
    assert dream(*asked).code == 0
    found = manifest(tmp_path / "o")
    words = "class 2 2 minus 0.5 x trunk.6 channel 3 at centre plus 0.25 x trunk"
    assert [image.source for image in found.images] == [words, f"{words} number 2"]
    subject = found.images[1].subject
    assert subject is not None
    assert subject.terms == (
        Term(weight=1, of=SingleSubject(class_index=2, label="2")),
        Term(weight=-0.5, of=SingleSubject(layer="trunk.6", channel=3, at="centre")),
        Term(weight=0.25, of=SingleSubject(layer="trunk")),
    )
    assert subject.title == "2 minus 0.5 x trunk.6 channel 3 at centre plus 0.25 x trunk"
    before = pictures(tmp_path / "o")
    assert len(set(before.values())) == 2
    assert "2 of 2" in dream(*asked).err
    next((tmp_path / "o").rglob("dream.png")).unlink()
    assert "1 of 2" in dream(*asked).err
    assert pictures(tmp_path / "o") == before
    assert cnnviz("verify", tmp_path / "o", "--scores", "--allow-code").code == 0
    for shard in ("0/2", "1/2"):
        assert dream(*asked[:-1], tmp_path / "parts", "--shard", shard).code == 0
    assert cnnviz("merge", tmp_path / "parts").code == 0
    assert pictures(tmp_path / "parts") == before


def test_the_score_of_a_sum_is_that_of_its_terms(settings: Path, dream: Command, tmp_path: Path) -> None:
    """Worked out here from the PNG alone, in float64."""
    assert dream("-c", settings, "--score", "probability", "--resize", "squash", "-o", tmp_path / "o").code == 0
    (output,) = manifest(tmp_path / "o").images[0].outputs
    values = np.array(Image.open(tmp_path / "o" / output.path).convert("RGB"))
    mean, std = (torch.tensor(one).view(3, 1, 1).double() for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    net = nets.classifier().double().eval()
    inputs = ((torch.from_numpy(values).permute(2, 0, 1).double() / 255 - mean) / std)[None]
    before = net.trunk[:7](inputs)
    after = before.relu()
    expected = net(inputs).softmax(1)[0, 2] - 0.5 * before[0, 3, 2, 2] + 0.25 * after.square().mean() / 2
    assert output.dream is not None
    assert output.dream.score == pytest.approx(float(expected.detach()), rel=1e-4, abs=1e-5)
    assert output.dream.objective.startswith("the probability of class 2 minus 0.5 x channel 3 of trunk.6")


def test_files_of_terms_are_part_of_what_is_asked(dream: Command, cnnviz: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "probe.npy", np.arange(16.0))
    Image.new("RGB", (40, 40), (200, 30, 60)).save(tmp_path / "red.png")
    terms = (
        f"{{layer: {LAYER}, direction: {tmp_path / 'probe.npy'}}}",
        f"{{layer: {LAYER}, like: {tmp_path}/red.png}}",
    )
    asked = ("--term", terms[0], "--term", terms[1], "--method", "pyramid", "--steps", "2", "-o", tmp_path / "o")
    assert dream(*asked).code == 0
    found = manifest(tmp_path / "o")
    assert found.images[0].source == "trunk.6 direction probe plus trunk.6 like red.png"
    assert str(tmp_path) not in json.dumps(found.run.config)
    assert cnnviz("verify", tmp_path / "o", "--scores", "--allow-code").code == 0
    np.save(tmp_path / "probe.npy", -np.arange(16.0))
    refused = dream(*asked)
    assert (refused.code, "digest of --term 1, direction" in refused.err) == (2, True)


def test_images_are_painted_into_by_sums(dream: Command, cnnviz: Command, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    terms = ("--term", f"{{layer: {LAYER}}}", "--term", "{target: 1, weight: 0.5}")
    assert dream(tmp_path / "photo.png", *terms, "--steps", "2", "-o", tmp_path / "o").code == 0
    (output,) = (one for one in manifest(tmp_path / "o").images[0].outputs if one.dream)
    assert output.subject is not None
    assert output.subject.title == "trunk.6 plus 0.5 x 1"
    assert cnnviz("verify", tmp_path / "o", "--scores", "--allow-code").code == 0
    refused = dream(tmp_path / "photo.png", *terms, "--method", "caricature", "-o", tmp_path / "c")
    assert (refused.code, "a caricature is that of a layer" in refused.err) == (2, True)


def test_python_adds_up_what_yaml_does(settings: Path, dream: Command, tmp_path: Path) -> None:
    dream("-c", settings, "-o", tmp_path / "o")
    of = target(2) - 0.5 * channel(LAYER, 3, "centre") + energy("high") / 4
    (one,) = cnnviz_cli.dream(nets.classifier(), of=of, **HOW | {"steps": 2})
    (written,) = pictures(tmp_path / "o")
    with Image.open(tmp_path / "o" / written) as file:
        assert np.array_equal(np.array(file.convert("RGB")), np.array(one.picture))


def test_the_algebra() -> None:
    one, other = channel(LAYER, 3, (1, 2)), target("espresso")

    def weights(of: cnnviz_cli.Objective) -> list[tuple[float, Any]]:
        return [(term.weight, term.about.get("target", term.about.get("unit"))) for term in of.terms]

    assert weights(one - 2 * (other - one)) == [(1, "3@1,2"), (-2, "espresso"), (2, "3@1,2")]
    assert weights(sum([one, other])) == [(1, "3@1,2"), (1, "espresso")]  # type: ignore[arg-type]
    assert weights(-(one * 3) / 2) == [(-1.5, "3@1,2")]
    for mistake in (lambda: one + 1, lambda: one * other, lambda: one - "x", lambda: one * True):
        with pytest.raises(TypeError):
            mistake()


def test_directions_and_likenesses_from_python(tmp_path: Path) -> None:
    along = np.zeros(16)
    along[5] = 3.0
    (unit,), (same,) = (
        cnnviz_cli.dream(nets.classifier(), of=2 * term, **HOW) for term in (channel(LAYER, 5), direction(LAYER, along))
    )
    assert same.score == pytest.approx(unit.score, rel=0.05, abs=0.02)
    Image.new("RGB", (40, 40), (200, 30, 60)).save(tmp_path / "red.png")
    (guided,) = cnnviz_cli.dream(nets.classifier(), of=likeness(LAYER, tmp_path / "red.png") * 2, **HOW)
    assert guided.score > guided.start_score


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (3, "what is painted is no int"),
        (target(1) * float("nan"), "finite number, not nan"),
        (target(1) * 0 + target(2), "a weight of 0"),
        (channel("trunk.66", 1) + target(1), "no layer 'trunk.66'"),
        (channel(LAYER, 16) + target(1), "no channel 16"),
        (target(9) + target(1), "no class 9"),
        (direction(LAYER, np.ones(3)) + target(1), "16 channels"),
    ],
)
def test_mistakes_from_python(of: Any, words: str) -> None:
    with pytest.raises(cnnviz_cli.UsageError, match=words):
        cnnviz_cli.dream(nets.classifier(), of=of, **HOW)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--term", "{target: 9}", "--term", "{target: 1}"), ("--term 1: there is no class 9", "0 to 3")),
        (("--term", "{target: 1, weigth: 2}"), ("a term has no key 'weigth'", "'weight'")),
        (("--term", "{unit: 3}"), ("--term 1: unit is about a layer, and none is named",)),
        (("--term", "{weight: 3}"), ("neither a class nor a layer",)),
        (("--term", "{target: 1, layer: high}"), ("Make two terms of them",)),
        (("--term", "{layer: high, unit: 1, direction: a.npy}"), ("unit and direction are two things",)),
        (("--term", "{target: 1, weight: 0}"), ("a weight of 0", "Leave it out")),
        (("--term", "{target: 1, weight: .inf}"), ("finite number",)),
        (("--term", "{target: 1, weight: x}"), ("--term: 'weight' must be a number, not 'x'",)),
        (("--term", "{layer: hihg, weight: 2}"), ("--term 1: ", "no layer 'hihg'", "'high'")),
        (("--term", "{layer: 'trunk.*', weight: 2}"), ("is 8 layers, and a term has one",)),
        (("--term", "{layer: high, unit: all, weight: 2}"), ("is 16 units, and a term has one",)),
        (("--term", "target"), ("must be keys and values, not 'target'",)),
        (
            ("--term", "{target: 1}", "--target", "2"),
            ("--target is beside it", "Make it a term: --term '{target: espresso}'"),
        ),
        (("--term", "{target: 1}", "--layer", "high"), ("--layer is beside it",)),
        (("--term", "{layer: high, like: none.png, weight: 2}"), ("--term 1: ", "none.png")),
    ],
)
def test_mistakes_are_told_in_a_sentence(dream: Command, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    done = dream(*arguments)
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


def test_an_empty_sum_is_nothing_to_paint(dream: Command, tmp_path: Path) -> None:
    (tmp_path / "none.yaml").write_text("dream: {term: []}\n")
    done = dream("-c", tmp_path / "none.yaml")
    assert (done.code, "nothing is named to paint" in done.err) == (2, True)


def test_draws_follow_the_sum_and_not_the_names_of_classes() -> None:
    def of(weight: float, label: str) -> Subject:
        return Subject(terms=(Term(weight=weight, of=SingleSubject(class_index=2, label=label)),))

    assert of(0.5, "cat").sha256 == of(0.5, "tabby").sha256 != of(0.5 + 1e-9, "cat").sha256
    assert of(0.5, "cat").folder == "0.5-x-class-2-cat"
