"""Regions, boxes and similarities explained by the command: the numbers, the names, the records, going on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import located
import numpy as np
import pytest
from located import CHANNELS, LABELS, PATCH, SIDE
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.cli.main import main
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.files.output.manifest import manifest_schema

Array = NDArray[np.float64]
Say = Callable[..., str]

GRID = SIDE // PATCH
NAMES = ("nothing", "cat", "dog")

LIKELY = " that is likely enough (of torchvision's detectors --min-score says how likely)"


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """in/0.png to in/2.png of noise, in/black.png, labels.txt, and the folder of the test to work in."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    Path("in").mkdir()
    for number in range(3):
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(f"in/{number}.png")
    Image.new("RGB", (SIDE, SIDE)).save("in/black.png")
    Path("labels.txt").write_text("\n".join(NAMES), encoding="utf-8")


@pytest.fixture
def cnnviz(capfd: pytest.CaptureFixture[str]) -> Say:
    """Run a command on one of the tiny networks, and return all that it said; it has to end with `code`."""

    def run(command: str, network: str, *arguments: str, code: int = 0) -> str:
        model = ["--model", f"located:{network}", "--allow-code", "--input-size", str(SIDE), "--resize", "squash"]
        plain = ["--mean", "0", "--std", "1", "--device", "cpu", "-o", "out"]
        found = main([*command.split(), *model, *plain, *arguments])
        said = capfd.readouterr()
        assert found == code, said.err
        return said.err + said.out

    return run


def manifest(out: str = "out") -> Any:
    found = json.loads(Path(out, "manifest.json").read_text(encoding="utf-8"))
    jsonschema.validate(found, manifest_schema())
    return found


def images(out: str = "out") -> dict[str, Any]:
    """The manifest's images by their names."""
    return {image["source"]: image for image in manifest(out)["images"]}


def arrays(name: str, out: str = "out") -> dict[str, Array]:
    with np.load(Path(out, name, "arrays.npz")) as found:
        return {key.removesuffix(".npy"): found[key].astype(np.float64) for key in found.files}


def files(out: str = "out") -> dict[str, bytes]:
    """The pictures, raw maps and the manifest of a run."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in Path(out).rglob("*")
        if path.is_file() and (path.suffix in (".png", ".npz") or path.name == "manifest.json")
    }


# --- by hand: NumPy and the networks' numbers alone ---------------------------------------------------------


class Hand:
    """What the tiny networks make of a picture."""

    def __init__(self, name: str) -> None:
        net: Any = located.segmenter()
        self.filters = net.patch.weight.detach().double().numpy().reshape(CHANNELS, -1)
        self.weights = net.score.weight.detach().double().numpy().reshape(LABELS, CHANNELS)
        self.bias = net.score.bias.detach().double().numpy()
        pixels = np.asarray(Image.open(name).convert("RGB")).astype(np.float64).transpose(2, 0, 1) / 255
        patches = pixels.reshape(3, GRID, PATCH, GRID, PATCH).transpose(1, 3, 0, 2, 4).reshape(GRID * GRID, -1)
        self.maps = patches @ self.filters.T
        """(16, 7) before the rectifier."""
        self.scores = self.maps.clip(0) @ self.weights.T + self.bias
        """(16, 3)"""

    def gradcam(self, slope: Array) -> Array:
        """(4, 4) of the score's slope by the scores of each patch (16, 3), at the convolution."""
        gradients = (slope @ self.weights) * (self.maps > 0)
        found: Array = (self.maps @ gradients.mean(0)).clip(0).reshape(GRID, GRID)
        return found

    def gradient(self, slope: Array) -> Array:
        """(16, 16) the largest of the three channels' gradients."""
        patches = ((slope @ self.weights) * (self.maps > 0)) @ self.filters
        whole = patches.reshape(GRID, GRID, 3, PATCH, PATCH).transpose(2, 0, 3, 1, 4).reshape(3, SIDE, SIDE)
        found: Array = np.abs(whole).max(0)
        return found

    def of_region(self, kind: int, region: Array) -> Array:
        """The slope of the sum of a label's scores over a region (16,)."""
        slope = np.zeros((GRID * GRID, LABELS))
        slope[:, kind] = region
        return slope

    def boxes(self) -> list[tuple[float, int, int]]:
        """Score, label and patch of each box, the likeliest first."""
        likely = 1 / (1 + np.exp(-self.scores))
        every = [(likely[at, kind], kind, at) for kind in range(LABELS) for at in range(GRID * GRID)]
        return sorted((one for one in every if one[0] > 0.5), reverse=True)

    def of_box(self, rank: int) -> Array:
        likely, kind, at = self.boxes()[rank]
        slope = np.zeros((GRID * GRID, LABELS))
        slope[at, kind] = likely * (1 - likely)
        return slope

    def likeness(self, other: Hand) -> tuple[float, Array]:
        """The cosine of the means of the scores, and its slope."""
        own, reference = self.scores.mean(0), other.scores.mean(0)
        own_length, length = np.linalg.norm(own), np.linalg.norm(reference)
        cosine = own @ reference / own_length / length
        slope = (reference / length - cosine * own / own_length) / own_length
        return float(cosine), np.tile(slope / (GRID * GRID), (GRID * GRID, 1))


def close(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


BOTH = pytest.mark.parametrize("family", ["gradcam --layer patch", "saliency"])


@BOTH
def test_maps_of_a_region_are_those_worked_out_by_hand(family: str, cnnviz: Say) -> None:
    cnnviz(family, "segmenter", "in", "--labels", "labels.txt", "-t", "cat,dog", "--save-arrays", code=3)
    family = family.split(maxsplit=1)[0]
    for name in ("0.png", "1.png", "2.png"):
        hand, image = Hand(f"in/{name}"), images()[name]
        taken = hand.scores.argmax(1)
        for target in (output["target"] for output in image["outputs"] if output["method"]):
            kind = target["index"]
            share = float((taken == kind).mean())
            assert (target["label"], target["probability"]) == (NAMES[kind], None)
            assert target["share"] == pytest.approx(share, abs=1e-6)
            work = hand.gradcam if family == "gradcam" else hand.gradient
            close(arrays(name)[f"{family}.{kind}-{NAMES[kind]}.map"][0], work(hand.of_region(kind, taken == kind)))
        found = {one["index"]: one["share"] for one in image["predictions"]}
        assert found == {kind: pytest.approx((taken == kind).mean(), abs=1e-6) for kind in np.unique(taken)}
        shares = list(found.values())
        assert shares == sorted(shares, reverse=True)


@BOTH
def test_maps_of_a_box_are_those_worked_out_by_hand(family: str, cnnviz: Say) -> None:
    cnnviz(family, "detector", "in/0.png", "in/1.png", "--labels", "labels.txt", "-t", "top3", "--save-arrays")
    family = family.split(maxsplit=1)[0]
    for name in ("0.png", "1.png"):
        hand, image = Hand(f"in/{name}"), images()[name]
        targets = [output["target"] for output in image["outputs"] if output["method"]]
        assert [target["rank"] for target in targets] == [1, 2, 3]
        for rank, (target, (likely, kind, at)) in enumerate(zip(targets, hand.boxes(), strict=False)):
            assert (target["index"], target["label"]) == (kind, NAMES[kind])
            assert target["probability"] == pytest.approx(likely, abs=1e-5)
            left, top = at % GRID * PATCH, at // GRID * PATCH
            assert target["box"] == [left, top, left + PATCH, top + PATCH]
            work = hand.gradcam if family == "gradcam" else hand.gradient
            close(arrays(name)[f"{family}.box-{rank + 1}-{NAMES[kind]}.map"][0], work(hand.of_box(rank)))
        assert [one["rank"] for one in image["predictions"]] == [1, 2, 3, 4, 5]


@BOTH
def test_maps_of_a_similarity_are_those_worked_out_by_hand(family: str, cnnviz: Say) -> None:
    cnnviz(family, "embedder", "in/0.png", "in/1.png", "--objective", "similarity:in/2.png", "--save-arrays")
    family = family.split(maxsplit=1)[0]
    for name in ("0.png", "1.png"):
        hand = Hand(f"in/{name}")
        cosine, slope = hand.likeness(Hand("in/2.png"))
        (output,) = images()[name]["outputs"]
        assert output["target"] == {
            "index": 1,
            "label": "similar to 2.png",
            "probability": None,
            "similarity": pytest.approx(cosine, abs=1e-5),
        }
        assert images()[name]["predictions"] == [output["target"]]
        close(arrays(name)[f"{family}.map"][0], (hand.gradcam if family == "gradcam" else hand.gradient)(slope))
    assert manifest()["run"]["objective_sha256"] == read_image(Path("in/2.png")).sha256
    assert manifest()["run"]["config"]["objective"] == "similarity:2.png"


# --- what is written ----------------------------------------------------------------------------------------


def names(image: Any) -> list[str]:
    return [Path(output["path"]).name for output in image["outputs"]]


def test_files_are_named_by_what_is_explained(cnnviz: Say) -> None:
    cnnviz("gradcam", "detector", "in/0.png", "--labels", "labels.txt", "-t", "top3")
    boxes = [f"box-{rank}-{label}" for rank, label in ((1, "dog"), (2, "nothing"), (3, "dog"))]
    assert names(images()["0.png"]) == ["gradcam.compare.png", *(f"gradcam.{box}.png" for box in boxes)]
    cnnviz("gradcam", "detector", "in/0.png", "--objective", "box:2", "--force")
    assert names(images()["0.png"]) == ["gradcam.png"]
    assert images()["0.png"]["outputs"][0]["target"]["rank"] == 2
    cnnviz("gradcam", "segmenter", "in/0.png", "--labels", "labels.txt", "--objective", "segment:top2", "--force")
    assert names(images()["0.png"]) == ["gradcam.compare.png", "gradcam.2-dog.png", "gradcam.0-nothing.png"]


@pytest.mark.parametrize(
    ("network", "objective"),
    [("segmenter", "auto"), ("detector", "auto"), ("embedder", "similarity:in/2.png")],
)
def test_all_of_it_has_an_overview_and_comparisons(network: str, objective: str, cnnviz: Say) -> None:
    methods = ["--saliency-method", "gradient,occlusion", "--gradcam-method", "gradcam,hirescam"]
    cnnviz("all", network, "in/0.png", "--objective", objective, *methods)
    found = names(images()["0.png"])
    assert {"overview.png", "gradcam.compare.png", "saliency.compare.png", "gradcam.hirescam.png"} <= set(found)
    for name in found:
        with Image.open(Path("out", "0.png", name)) as picture:
            picture.load()


def test_a_picture_in_which_nothing_is_found_fails_by_name_and_the_others_do_not(cnnviz: Say) -> None:
    said = cnnviz("gradcam", "detector", "in", "-t", "top7", "--labels", "labels.txt", code=3)
    why = f"the network finds nothing in it{LIKELY}"
    assert f"failed: black.png: {why}" in said
    found = images()
    assert (found["black.png"]["status"], found["black.png"]["error"]) == ("failed", why)
    assert found["black.png"]["sha256"]
    # Of seven each has what is there.
    drawn = [[o["target"]["rank"] for o in found[f"{n}.png"]["outputs"] if o["method"]] for n in range(3)]
    assert drawn == [list(range(1, min(7, len(Hand(f"in/{n}.png").boxes())) + 1)) for n in range(3)]
    assert [len(ranks) for ranks in drawn] == [7, 5, 3]


def test_a_box_that_is_not_there_is_said(cnnviz: Say) -> None:
    cnnviz("gradcam", "detector", "in/1.png", "in/2.png", "--objective", "box:4", code=3)
    assert images()["1.png"]["status"] == "ok"
    assert images()["2.png"]["error"] == f"the network finds fewer than 4 things in it{LIKELY}"
    cnnviz("gradcam", "detector", "in/2.png", "--objective", "box:4", "--min-score", "0.1", "--force")
    assert images()["2.png"]["outputs"][0]["target"]["probability"] < 0.5


def test_feature_maps_ask_for_no_find(cnnviz: Say) -> None:
    cnnviz("features", "detector", "in/0.png", "in/black.png")
    assert [(image["status"], len(image["predictions"])) for image in images().values()] == [("ok", 5), ("ok", 0)]


def test_a_region_that_is_not_there_is_said(cnnviz: Say) -> None:
    cnnviz("gradcam", "segmenter", "in", "--labels", "labels.txt", "--objective", "segment:dog", code=3)
    found = images()
    assert found["black.png"]["error"] == "the network takes no part of it for 'dog'"
    assert [found[f"{n}.png"]["status"] for n in range(3)] == ["ok"] * 3


@pytest.mark.parametrize(
    ("network", "arguments"),
    [("segmenter", ["-t", "top2"]), ("detector", ["-t", "top3"]), ("embedder", ["--objective", "similarity:in/2.png"])],
)
def test_batches_and_processes_change_nothing(network: str, arguments: Sequence[str], cnnviz: Say) -> None:
    plain = ["in/0.png", "in/1.png", "in/2.png", *arguments, "--save-arrays"]
    # What is marked goes to the processes that draw; of a similarity nothing is.
    runs = {"together": ["3", "0"], "alone": ["1", "0"], "others": ["3", "0" if network == "embedder" else "2"]}
    for folder, (batch, workers) in runs.items():
        cnnviz("gradcam", network, *plain, "--batch-size", batch, "--workers", workers)
        shutil.move("out", folder)
    assert files("together") == files("others")
    for single, one in zip(manifest("alone")["images"], manifest("together")["images"], strict=True):
        assert single["predictions"] == one["predictions"]
        assert [output["target"] for output in single["outputs"]] == [output["target"] for output in one["outputs"]]
        for name, values in arrays(one["source"], "together").items():
            np.testing.assert_allclose(values, arrays(one["source"], "alone")[name], rtol=1e-5, atol=1e-7)


def test_a_scale_of_the_run_is_that_of_all_boxes(cnnviz: Say) -> None:
    cnnviz("gradcam", "detector", "in/0.png", "in/1.png", "-t", "top2", "--scale", "run", "--save-arrays")
    outputs = [output for image in images().values() for output in image["outputs"] if output["method"]]
    highest = max(output["range"][1] for output in outputs)
    assert len(outputs) == 4
    assert {tuple(output["scale"]) for output in outputs} == {(0.0, highest)}


@pytest.mark.parametrize(
    ("network", "arguments", "expected"),
    [
        ("detector", ["-t", "top2"], ["gradcam.top-1.png", "gradcam.top-2.png"]),
        ("segmenter", ["-t", "top1,2"], ["gradcam.top-1.png", "gradcam.2-2.png"]),
        ("embedder", ["--objective", "similarity:in/2.png"], ["gradcam.png"]),
    ],
)
def test_a_dry_run_says_the_files(network: str, arguments: Sequence[str], expected: Sequence[str], cnnviz: Say) -> None:
    said = cnnviz("gradcam", network, "in/0.png", "--dry-run", *arguments)
    assert [line for line in expected if line not in said] == []
    assert not Path("out").exists()


def test_what_is_located_is_not_looked_for_in_turned_pictures(cnnviz: Say) -> None:
    for network in ("segmenter", "detector"):
        said = cnnviz("gradcam", network, "in/0.png", "--smooth", "aug", code=2)
        assert "--smooth: what is explained has a place in the image" in said
    cnnviz("gradcam", "embedder", "in/0.png", "--smooth", "aug", "--objective", "similarity:in/2.png")


# --- going on -----------------------------------------------------------------------------------------------


def test_another_reference_picture_of_the_same_name_is_noticed(cnnviz: Say) -> None:
    shutil.copy("in/2.png", "other.png")
    asked = ["in/0.png", "in/1.png", "--objective", "similarity:other.png"]
    cnnviz("gradcam", "embedder", *asked)
    before = files()
    assert "2 of 2 images are already done" in cnnviz("gradcam", "embedder", *asked)
    assert files() == before
    shutil.copy("in/0.png", "other.png")
    assert "digest of what the objective names: " in cnnviz("gradcam", "embedder", *asked, code=2)
    said = cnnviz("gradcam", "embedder", *asked, "--force")
    assert "done with other settings (digest of what the objective names" in said
    assert images()["0.png"]["predictions"][0]["similarity"] == pytest.approx(1, abs=1e-6)


# --- regions that somebody has drawn ------------------------------------------------------------------------


def mask(path: str, inside: NDArray[np.bool_]) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Image.fromarray(inside.astype(np.uint8) * 255).save(path)


def half(side: int = SIDE) -> NDArray[np.bool_]:
    """The left half."""
    return np.arange(side)[None] < np.full((side, 1), side // 2)


def test_maps_of_a_mask_are_those_worked_out_by_hand(cnnviz: Say) -> None:
    inside = np.zeros((SIDE, SIDE), bool)
    inside[4:12, 6:15] = True  # of the patches' centres at 2, 6, 10 and 14 two down, three across
    mask("mask.png", inside)
    cnnviz("saliency", "segmenter", "in", "--region", "mask.png", "-t", "1,2", "--save-arrays")
    region = inside[2::PATCH, 2::PATCH].ravel().astype(np.float64)
    assert region.sum() == 6
    for number in range(3):
        hand = Hand(f"in/{number}.png")
        for kind in (1, 2):
            close(
                arrays(f"{number}.png")[f"saliency.{kind}-{kind}.map"][0], hand.gradient(hand.of_region(kind, region))
            )
    # What the network takes for it is told of all of the picture, also where nothing is taken for it.
    image = images()["black.png"]
    assert [output["target"]["share"] for output in image["outputs"] if output["method"]] == [0, 0]
    assert manifest()["run"]["objective_sha256"] == read_image(Path("mask.png")).sha256
    assert manifest()["run"]["config"]["region"] == "mask.png"


def test_of_masks_in_a_folder_each_picture_has_its_own(cnnviz: Say) -> None:
    for number, inside in enumerate((half(), ~half(), half(2 * SIDE))):
        mask(f"masks/{number}.png", inside)
    mask("masks/black.png", np.ones((SIDE, SIDE + 1), bool))
    cnnviz("saliency", "segmenter", "in", "--region", "masks", "-t", "2", "--save-arrays", code=3)
    found = [arrays(f"{number}.png")["saliency.map"][0] > 0 for number in range(3)]
    assert [(one[:, :8].any(), one[:, 8:].any()) for one in found] == [(True, False), (False, True), (True, False)]
    assert images()["black.png"]["error"] == "its mask has 17 x 16 pixels, other proportions than its own 16 x 16"
    digests = [images()[f"{number}.png"]["mask_sha256"] for number in range(3)]
    assert digests == [read_image(Path(f"masks/{number}.png")).sha256 for number in range(3)]


def test_masks_that_are_missing_empty_or_out_of_sight_fail_by_name(cnnviz: Say) -> None:
    mask("masks/0.png", half())
    mask("masks/1.png", np.zeros((SIDE, SIDE), bool))
    Path("masks/2.png").write_text("no picture", encoding="utf-8")
    said = cnnviz("gradcam", "segmenter", "in", "--region", "masks", code=3)
    found = images()
    assert found["0.png"]["status"] == "ok"
    assert found["1.png"]["error"] == "its mask is empty: no pixel of it is within the region"
    assert found["2.png"]["error"].startswith("its mask: ")
    assert found["black.png"]["error"] == "it has no mask: there is no 'black.png', nor of another format"
    assert "failed: 1.png: its mask is empty" in said
    sliver = np.zeros((64, 64), bool)
    sliver[:2] = True
    Image.new("RGB", (64, 64)).save("wide.png")
    mask("sliver.png", sliver)
    cnnviz("gradcam", "segmenter", "wide.png", "--region", "sliver.png", "--resize", "crop", "--force", code=3)
    assert images()["wide.png"]["error"] == "nothing of its mask is within what the network sees of it"


@pytest.mark.parametrize("mode", ["crop", "squash", "pad", "full"])
def test_a_mask_is_shown_as_its_photograph_is(mode: str, cnnviz: Say) -> None:
    random = np.random.default_rng(1)
    Image.fromarray(random.integers(0, 256, (40, 72, 3), np.uint8)).save("in/wide.png")
    inside = np.zeros((40, 72), bool)
    inside[9:33, 20:45] = True
    inside[12:17, 50:70] = True
    mask("mask.png", inside)
    more = ["--interpolation", "nearest", "--resize", mode, "--save-arrays", "--region", "mask.png", "-t", "1"]
    cnnviz("saliency", "segmenter", "in/wide.png", *more)
    found = arrays("wide.png")["saliency.map"][0] > 0
    width, height = images()["wide.png"]["seen"]["size"]
    left, top, right, bottom = images()["wide.png"]["seen"]["box"]
    # Where in the photograph the centres of the patches are, which are what the maps have a position for.
    across = left + (np.arange(2, width, PATCH) + 0.5) * (right - left) / width
    down = top + (np.arange(2, height, PATCH) + 0.5) * (bottom - top) / height
    padded = np.pad(inside, 100)
    expected = padded[np.floor(down + 100).astype(int)[:, None], np.floor(across + 100).astype(int)]
    assert expected.any()
    np.testing.assert_array_equal(found.reshape(height // PATCH, PATCH, -1, PATCH).any((1, 3)), expected)


def test_a_mask_that_was_changed_is_noticed(cnnviz: Say) -> None:
    mask("mask.png", half())
    asked = ["in/0.png", "in/1.png", "-t", "1"]
    cnnviz("gradcam", "segmenter", *asked, "--region", "mask.png")
    assert "2 of 2 images are already done" in cnnviz("gradcam", "segmenter", *asked, "--region", "mask.png")
    mask("mask.png", ~half())
    refused = cnnviz("gradcam", "segmenter", *asked, "--region", "mask.png", code=2)
    assert "digest of what the objective names: " in refused
    said = cnnviz("gradcam", "segmenter", *asked, "--region", "mask.png", "--force")
    assert "done with other settings (digest of what the objective names" in said


def test_of_a_folder_of_masks_what_was_changed_is_done_again_and_the_rest_is_not(cnnviz: Say) -> None:
    mask("masks/0.png", half())
    mask("masks/1.png", half())
    asked = ["in", "-t", "1", "--region", "masks"]
    cnnviz("gradcam", "segmenter", *asked, code=3)
    mask("masks/1.png", ~half())
    mask("masks/2.png", half())  # what had none is tried again anyhow
    before = images()
    assert "1 of 4 images are already done" in cnnviz("gradcam", "segmenter", *asked, code=3)
    after = images()
    assert after["0.png"] == before["0.png"]
    assert after["1.png"]["mask_sha256"] == read_image(Path("masks/1.png")).sha256 != before["1.png"]["mask_sha256"]
    assert after["1.png"]["outputs"] != before["1.png"]["outputs"]
    assert after["2.png"]["status"] == "ok"


# --- torchvision's, at random ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        ("lraspp_mobilenet_v3_large", ["--input-size", "64x96", "--resize", "squash"]),
        pytest.param("ssdlite320_mobilenet_v3_large", ["--min-score", "0"], marks=pytest.mark.slow),
        ("squeezenet1_1", ["--input-size", "64", "--objective", "similarity:in/2.png"]),
    ],
)
def test_networks_of_torchvision(
    network: str, arguments: Sequence[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = import_module("cnnviz_cli.run.session")
    genuine, loaded = session.load_model, list[Any]()

    def load(*about: Any, **named: Any) -> Any:
        """The network, made once for both commands."""
        loaded.append(loaded[0] if loaded else genuine(*about, **named))
        return loaded[0]

    monkeypatch.setattr(session, "load_model", load)
    plain = ["--weights", "random:0", "--device", "cpu", "-o", "out", "--save-arrays", "--objective", "auto"]
    for command in ("gradcam", "saliency"):
        found = main([command, "in/0.png", "--model", network, *plain, *arguments, "--force"])
        assert found == 0, capfd.readouterr().err
        (image,) = images().values()
        (output,) = image["outputs"]
        assert image["predictions"][0] == output["target"]
        # Random weights of a network this deep may move its score by less than it is rounded by: flat.
        assert output["state"] in ("ok", "negative", "flat")
        assert (output["state"] == "flat") <= (network != "squeezenet1_1")
        (values,) = arrays("0.png").values()
        assert np.isfinite(values).all()
        if network.startswith("ssdlite"):
            left, top, right, bottom = output["target"]["box"]
            assert 0 <= left < right <= SIDE
            assert 0 <= top < bottom <= SIDE
        if network.startswith("lraspp"):
            assert output["target"]["share"] > 0
            assert image["seen"]["size"] == [96, 64]
    assert len(loaded) == 2


# --- what only the network can tell ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "arguments", "said"),
    [
        ("segmenter", ["--objective", "box"], "--objective: located:segmenter returns maps of class scores, so there"),
        ("segmenter", ["--objective", "class"], "so there is no class to explain"),
        ("segmenter", ["--objective", "similarity:in/1.png"], "and images are compared by vectors"),
        ("segmenter", ["--objective", "segment:cow", "--labels", "labels.txt"], "--objective: the model has no class"),
        ("segmenter", ["-t", "true"], "--target: true classes are known for whole images"),
        ("segmenter", ["--truth", "folder"], "--truth: --truth is for the classes of a classifier"),
        ("segmenter", ["--multilabel"], "--multilabel: --multilabel is for the classes of a classifier"),
        ("segmenter", ["--min-score", "0"], "--min-score: --min-score is for box"),
        ("detector", ["--objective", "segment:1"], "located:detector returns boxes, so there is no segment to explain"),
        ("detector", ["-t", "cat", "--labels", "labels.txt"], "--target: 'cat': boxes are told by their rank"),
        ("detector", ["--score", "probability"], "--score: --score is for the classes of a classifier"),
        ("detector", ["--contrast", "1"], "--contrast: --contrast is for the classes of a classifier"),
        ("detector", ["--region", "in/0.png"], "--region: --region is for segment"),
        ("embedder", ["--objective", "segment"], "returns class scores, so there is no segment to explain"),
        ("embedder", ["--embedding", "output"], "--embedding: nothing is compared"),
        ("limitless", ["--min-score", "0.5"], "--min-score: located:limitless has no limit that could be set"),
    ],
)
def test_mistakes_are_one_sentence(network: str, arguments: Sequence[str], said: str, cnnviz: Say) -> None:
    heard = cnnviz("gradcam", network, "in/0.png", *arguments, code=2)
    assert said in heard
    assert heard.count("error:") == 1
    assert not Path("out/manifest.json").exists()


def test_methods_that_compare_classes_are_refused_where_there_are_none(cnnviz: Say) -> None:
    for network in ("segmenter", "detector"):
        assert "no class of a classifier" in cnnviz("gradcam", network, "in/0.png", "--method", "finercam", code=2)


@pytest.mark.parametrize(
    ("network", "asked", "targets"),
    [
        ("segmenter", ["--labels", "labels.txt", "--objective", "segment:top2"], 2),
        ("detector", ["-t", "top2"], 2),
        ("embedder", ["--objective", "similarity:in/2.png"], 1),
    ],
)
def test_maps_of_what_is_no_class_are_judged(network: str, asked: list[str], targets: int, cnnviz: Say) -> None:
    few = ["--steps", "3", "--subsets", "6", "--subset-cells", "3", "--random-stages", "2"]
    measures = ["--measure", "removal,subsets,class,randomisation,stability", *few]
    cnnviz("evaluate", network, "in/0.png", "in/1.png", "--method", "gradcam,gradient", *measures, *asked)
    found = manifest()["evaluation"]
    assert (found["images"], found["cases"]) == (2, 2 * targets)
    assert {row["method"] for row in found["methods"]} == {"gradcam", "gradient"}
    for row in found["methods"]:
        assert {"removal.gain", "subsets", "stability"} <= row["measures"].keys() | row["undone"].keys()
        assert row["measures"]["removal.gain"]["count"] == 2 * targets
        assert "no other class" in row["undone"]["class"] or row["measures"]["class"]
    assert Path("out/evaluation.png").is_file()
