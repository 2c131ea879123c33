"""A finished run's maps are judged as if they had just been made."""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from run.resuming import BROKEN, Listener, files_of, photographs, tiny_model

from cnnviz_cli.cli.main import main
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.panels import Heatmap
from cnnviz_cli.core.records import Output
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.render.scaling import state_of
from cnnviz_cli.run.finished_run import FinishedRun
from cnnviz_cli.run.judging import prepare_judged
from cnnviz_cli.run.kept_maps import KeptExplainer, KeptMap, panel_with

pytestmark = pytest.mark.usefixtures("tiny_network")

COMPUTED = ["--device", "cpu", "--workers", "0", "-q"]
JUDGED = ("--measure", "removal,subsets,sparseness", "--subsets", "8", "--subset-cells", "3", "--steps", "4")
METHODS = ["gradcam", "eigencam", "gradient", "smoothgrad"]


def numbers(out: Path) -> dict[tuple[str, ...], str]:
    """The table's values, as they are written, by all that says of what."""
    with (out / "evaluation.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {tuple(value for name, value in sorted(row.items()) if name != "value"): row["value"] for row in rows}


def manifest(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return found


def exchange(out: Path, old: str, new: str) -> None:
    """Write something else into a manifest, in its own form."""
    path = out / "manifest.json"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    photographs(tmp_path / "in", 5)
    return tmp_path / "in"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that `finished` is a copy of."""
    place = tmp_path_factory.mktemp("made")
    photographs(place / "in", 5)
    asked = ["all", str(place / "in"), "--target", "top2", "--batch-size", "1", "--save-arrays"]
    asked += ["--gradcam-method", "gradcam,eigencam", "--saliency-method", "gradient,smoothgrad"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", tiny_model)
        assert main([*asked, "--gradcam-layer", "conv", *COMPUTED, "-o", str(place / "run-a")]) == 3
    return place / "run-a"


@pytest.fixture
def finished(tmp_path: Path, made: Path) -> Path:
    """A run of several families and two targets, one of its methods without a map, one of its images broken."""
    return Path(shutil.copytree(made, tmp_path / "run-a"))


@pytest.fixture(scope="module")
def once_judged(made: Path) -> Path:
    """Its maps, judged; to be read alone."""
    before, out = files_of(made), made.parent / "kept"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", tiny_model)
        assert judge(made, made.parent / "in", out) == 3  # one of the pictures is broken
    assert files_of(made) == before
    return out


@pytest.fixture
def kept(tmp_path: Path, once_judged: Path) -> Path:
    """A copy of it, beside the copy of the run."""
    return Path(shutil.copytree(once_judged, tmp_path / "kept"))


def judge(run: Path, pictures: Path, out: Path, measures: tuple[str, ...] = JUDGED, *more: str) -> int:
    return main(["evaluate", str(run), str(pictures), *measures, *COMPUTED, "-o", str(out), *more])


def test_kept_maps_have_the_numbers_of_maps_just_made(tmp_path: Path, pictures: Path, once_judged: Path) -> None:
    direct = ["evaluate", str(pictures), "--method", ",".join(METHODS), "--target", "top2", *JUDGED, *COMPUTED]
    assert main([*direct, "--gradcam-layer", "conv", "-o", str(tmp_path / "direct")]) == 3
    found, expected = numbers(once_judged), numbers(tmp_path / "direct")
    assert found == expected
    assert {one["method"] for one in manifest(once_judged)["evaluation"]["methods"]} == set(METHODS)
    kept, made = (manifest(out)["images"] for out in (once_judged, tmp_path / "direct"))
    for one, other in zip(kept, made, strict=True):
        assert one.get("controls") == other.get("controls")
        assert one.get("agreement") == other.get("agreement")
        listed = [
            [(item["path"], item["state"], item["range"], item.get("undone")) for item in image["outputs"]]
            for image in (one, other)
        ]
        assert listed[0] == listed[1]
    assert verify(once_judged) == []


def test_the_numbers_are_of_the_kept_maps_and_no_method_runs(
    tmp_path: Path, pictures: Path, finished: Path, kept: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Maps of another making have other numbers: turned upside down they say something else."""
    for path in sorted(finished.rglob("arrays.npz")):
        old = hashlib.sha256(path.read_bytes()).hexdigest()
        with np.load(path) as file:
            found = {name: file[name] for name in file.files}
        np.savez_compressed(path, **{name: one[..., ::-1, :] if one.ndim > 1 else one for name, one in found.items()})
        exchange(finished, old, hashlib.sha256(path.read_bytes()).hexdigest())
    assert judge(finished, pictures, tmp_path / "turned") == 3
    first, second = numbers(kept), numbers(tmp_path / "turned")
    assert first.keys() == second.keys()
    moved = {key for key in first if first[key] != second[key]}
    assert {"control" in key for key in moved} == {False}  # what has not seen the network is as it was
    assert len(moved) > len(first) / 4
    # The same folder again: its maps are others than those that were judged there.
    capfd.readouterr()
    assert judge(finished, pictures, kept) == 2
    assert "digest of the maps" in capfd.readouterr().err
    assert numbers(kept) == first
    flags = FinishedRun.read(finished).flags | {("evaluate", "maps"): str(finished), ("device",): "cpu"}
    explainer = prepare_judged("evaluate", load_settings("evaluate", flags, None, {}), Listener())
    assert isinstance(explainer, KeptExplainer)
    assert not explainer.plan.needs
    assert (explainer.cost.backwards, explainer.cost.variants) == (0, 0)


def test_measures_that_run_methods_again_are_left_out(
    tmp_path: Path, pictures: Path, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "kept"
    assert judge(finished, pictures, out, ("--measure", "sparseness,randomisation,grid")) == 3
    left = {one["name"]: one["why"] for one in manifest(out)["evaluation"]["left_out"]}
    assert {"randomisation", "grid"} <= set(left)
    assert "runs the methods again" in left["grid"]
    assert {one["name"] for one in manifest(out)["evaluation"]["measures"]} == {"sparseness"}
    capfd.readouterr()
    assert main(["evaluate", str(finished), str(pictures), "--measure", "stability", "-o", str(tmp_path / "no")]) == 2
    assert "no measure is left" in capfd.readouterr().err


def test_a_kept_map_of_zeros_says_why_it_is_empty() -> None:
    said = {"family": "gradcam", "method": "gradcam", "layer": "head", "target": None, "path": "a.png", "range": (0, 0)}
    said |= {"sha256": "0" * 64, "width": 4, "height": 4, "scale": (0, 0)}
    kept = [
        KeptMap(np.zeros((1, 2, 2), np.float32), Output.model_validate({**said, "state": state}))
        for state in ("negative", "flat")
    ]
    panel = panel_with(Heatmap(torch.zeros(2, 1, 2, 2), torch.zeros(2), torch.zeros(2)), kept)
    assert [state_of(panel.pick(image)) for image in range(2)] == ["negative", "flat"]


def test_an_image_without_its_maps_fails_alone(tmp_path: Path, pictures: Path, finished: Path) -> None:
    (finished / "0.png" / "arrays.npz").write_bytes(b"no arrays")
    (finished / "1.png" / "arrays.npz").unlink()
    shutil.copy(pictures / BROKEN, pictures / "9.png")
    with Image.open(pictures / "2.png") as image:
        image.transpose(Image.Transpose.ROTATE_180).save(pictures / "8.png")
    out = tmp_path / "kept"
    assert judge(finished, pictures, out, JUDGED, "--batch-size", "4") == 3
    errors = {image["source"]: image["error"] for image in manifest(out)["images"]}
    assert errors["0.png"] == "the maps in run-a are not those of its manifest: 0.png/arrays.npz"
    assert errors["1.png"] == "the maps in run-a cannot be read: 1.png/arrays.npz"
    assert errors["8.png"] == "run-a has no maps of this image"
    assert (errors["2.png"], errors["4.png"]) == (None, None)


def test_what_cannot_be_judged_is_refused_in_a_sentence(
    tmp_path: Path, pictures: Path, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run, folder = str(finished), str(pictures)
    before = files_of(finished)
    bare, other = tmp_path / "bare", tmp_path / "other"
    assert main(["gradcam", folder, *COMPUTED, "-o", str(bare)]) == 3
    shutil.copytree(finished, other)
    exchange(other, "0" * 64, "1" * 64)
    for asked, code, what in (
        ([run], 2, "the images that it explained are needed"),
        ([run, str(bare), folder], 2, "Keep the maps: cnnviz gradcam IMAGES --save-arrays"),
        ([str(bare), folder], 2, "Keep the maps: cnnviz gradcam IMAGES --save-arrays"),
        ([run, folder, "--method", "lrp"], 2, "has no maps of lrp"),
        ([run, folder, "--target", "3"], 2, "--target: what is explained is what"),
        ([run, folder, "--gradcam-layer", "stages"], 2, "--gradcam-layer: what is explained is what"),
        ([run, folder, "-o", run], 2, "its figures would be replaced"),
        ([str(other), folder, "-o", str(tmp_path / "no")], 4, "weights of tiny are not those of other"),
    ):
        capfd.readouterr()
        assert main(["evaluate", *asked, *JUDGED, *COMPUTED]) == code, asked
        heard = capfd.readouterr().err
        assert what in heard
        assert "Traceback" not in heard
    assert files_of(finished) == before


def test_a_file_that_names_a_run_and_no_methods_of_it_is_refused(
    tmp_path: Path, pictures: Path, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"evaluate:\n  maps: {finished}\n", encoding="utf-8")
    assert main(["evaluate", str(pictures), "--config", str(path), *COMPUTED, "-o", str(tmp_path / "no")]) == 2
    assert "the methods are not those of 'run-a'" in capfd.readouterr().err
