"""The real command, the bundled model, the sample images.

What asks how a process does starts one; the others call the command in this one, which has imported all of it already.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchvision.models import vgg16

from cnnviz_cli.cli.main import main
from cnnviz_cli.files.output.manifest import manifest_schema

pytestmark = pytest.mark.usefixtures("networks_once")

SAMPLES = Path(__file__).parents[2] / "sample_images"
NAMES = ["camera.png", "chelsea.png", "chelsea_coffee.png", "coffee.png", "rocket.jpg"]


def started(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "cnnviz_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def cnnviz(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in this process."""
    out, err, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    words = [str(argument) for argument in arguments]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main(words)
    finally:
        signal.signal(signal.SIGTERM, handler)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`cnnviz all sample_images`, with classes by name."""
    out = tmp_path_factory.mktemp("demo") / "out"
    done = cnnviz("all", SAMPLES, "-o", out, "-t", "top1", "-t", "tiger cat", "-t", "espresso")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def manifest(demo: Path) -> dict[str, Any]:
    return json.loads((demo / "manifest.json").read_text(encoding="utf-8"))


def outputs(manifest: dict[str, Any], source: str, family: str) -> list[dict[str, Any]]:
    (image,) = (image for image in manifest["images"] if image["source"] == source)
    return [output for output in image["outputs"] if output["family"] == family and output["method"]]


def test_the_four_known_answers(manifest: dict[str, Any]) -> None:
    tops = {image["source"]: image["predictions"][0] for image in manifest["images"]}
    known = {
        "chelsea.png": (282, "tiger cat", 0.39),
        "coffee.png": (967, "espresso", 0.95),
        "rocket.jpg": (657, "missile", 0.27),
        "camera.png": (872, "tripod", 0.94),
    }
    for name, (index, label, probability) in known.items():
        assert (tops[name]["index"], tops[name]["label"]) == (index, label)
        assert tops[name]["probability"] == pytest.approx(probability, abs=0.01)


@pytest.mark.parametrize(("target", "left"), [("282-tiger_cat", True), ("967-espresso", False)])
def test_the_evidence_for_each_class_lies_in_its_half(target: str, left: bool, tmp_path: Path) -> None:
    classes = ["-t", "tiger cat", "-t", "espresso"]
    done = cnnviz("gradcam", SAMPLES / "chelsea_coffee.png", *classes, "--save-arrays", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "chelsea_coffee.png" / "arrays.npz") as arrays:
        values = arrays[f"gradcam.{target}.map"][0]
    # The crop is centred on the seam, so the halves of the map are the halves of the picture.
    enlarged = np.asarray(Image.fromarray(values).resize((224, 224), Image.Resampling.BILINEAR))
    share = enlarged[:, :112].sum() / enlarged.sum()
    assert (share if left else 1 - share) >= 0.75


@pytest.mark.parametrize(("other", "left"), [("chelsea.png", True), ("coffee.png", False)])
def test_what_makes_it_like_another_picture_lies_in_that_ones_half(other: str, left: bool, tmp_path: Path) -> None:
    done = cnnviz(
        "gradcam",
        SAMPLES / "chelsea_coffee.png",
        "--objective",
        f"similarity:{SAMPLES / other}",
        "--save-arrays",
        "-o",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "chelsea_coffee.png" / "arrays.npz") as arrays:
        values = arrays["gradcam.map"][0]
    enlarged = np.asarray(Image.fromarray(values).resize((224, 224), Image.Resampling.BILINEAR))
    share = enlarged[:, :112].sum() / enlarged.sum()
    assert (share if left else 1 - share) >= 0.75
    manifest = (tmp_path / "manifest.json").read_text()
    assert f"similarity:{other}" in manifest  # and not where it lies
    assert str(SAMPLES) not in manifest


def test_the_manifest_keeps_its_schema_and_describes_the_files(demo: Path, manifest: dict[str, Any]) -> None:
    jsonschema.validate(manifest, manifest_schema())
    assert [image["source"] for image in manifest["images"]] == NAMES
    written = {path.relative_to(demo).as_posix() for path in demo.rglob("*.png") if path.is_file()}
    listed = {output["path"] for image in manifest["images"] for output in image["outputs"]}
    assert listed == written
    for image in manifest["images"]:
        for output in image["outputs"]:
            with Image.open(demo / output["path"]) as picture:
                assert picture.size == (output["width"], output["height"])
                picture.load()
    assert all(image["outputs"][0]["family"] == "overview" for image in manifest["images"])
    assert manifest["run"]["plan"] == {"forwards": 1, "backwards": 3 + 12, "variants": 0}
    assert manifest["summary"] == {"failed": 0, "images": 5, "ok": 5, "outputs": len(written)}
    done = cnnviz("verify", demo)
    assert (done.returncode, done.stderr) == (0, ""), done


def test_a_class_that_two_targets_name_is_drawn_once(manifest: dict[str, Any]) -> None:
    drawn = [output["target"]["label"] for output in outputs(manifest, "chelsea.png", "gradcam")]
    assert drawn == ["tiger cat", "espresso"]
    drawn = [output["target"]["label"] for output in outputs(manifest, "camera.png", "saliency")]
    assert drawn == ["tripod", "tiger cat", "espresso"]


def test_nothing_in_the_manifest_tells_of_this_machine(demo: Path) -> None:
    text = (demo / "manifest.json").read_text() + (demo / "manifest.jsonl").read_text()
    for secret in (str(demo), str(SAMPLES.parent), str(Path.home()), sys.prefix):
        assert secret not in text


def test_the_same_again_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    # Another process, and another order of hashes in it.
    for name, cwd, run in (("a", SAMPLES, cnnviz), ("b", tmp_path, started)):
        monkeypatch.chdir(cwd)
        out = tmp_path / name
        arguments: Sequence[str | Path] = [
            "all",
            SAMPLES / "rocket.jpg",
            "-o",
            out,
            "-t",
            "top2",
            "--input-size",
            "96",
            "--save-arrays",
            "-q",
        ]
        assert run(*arguments).returncode == 0
        files = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
        files.pop("run.json")
        runs.append(files)
    assert runs[0] == runs[1]
    assert "manifest.json" in runs[0]


def test_a_broken_picture_fails_alone(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "good.png").write_bytes((SAMPLES / "chelsea.png").read_bytes())
    (folder / "torn.png").write_bytes((SAMPLES / "chelsea.png").read_bytes()[:5000])
    (folder / "x[b]\x1b[31m.jpg").write_bytes(b"not a picture")
    done = cnnviz("gradcam", folder, "-o", out)
    assert done.returncode == 3
    assert "\x1b" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert [image["status"] for image in manifest["images"]] == ["ok", "failed", "failed"]
    assert manifest["run"]["status"] == "partial"
    assert all(image["error"] for image in manifest["images"][1:])
    assert (out / "good.png" / "gradcam.png").exists()


def test_overlays_have_the_photographs_size_times_a_whole_number(manifest: dict[str, Any]) -> None:
    for name in NAMES:
        with Image.open(SAMPLES / name) as photo:
            width, height = photo.size
        times = 2 if max(width, height) < 480 else 1
        width, height = times * width, times * height
        for output in outputs(manifest, name, "gradcam"):
            # The photograph itself, and beside it only margins, caption and colour bar.
            assert width <= output["width"] <= width + 64
            assert height < output["height"] <= height + 240


def test_a_dry_run_writes_nothing_and_says_what_the_run_does(tmp_path: Path) -> None:
    out = tmp_path / "out"
    network = ["--model", "squeezenet1_1", "--weights", "random:0", "--input-size", "64"]
    arguments = ["all", SAMPLES / "chelsea.png", "-o", out, "-t", "tiger cat", "-t", "espresso", *network]
    done = cnnviz(*arguments, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert not out.exists()
    sketch = json.loads(done.stdout)
    assert cnnviz(*arguments, "-q").returncode == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert sketch["cost"] == manifest["run"]["plan"]
    assert sorted(sketch["outputs"]) == sorted(o["path"] for o in manifest["images"][0]["outputs"])


def test_gradcam_alone_takes_no_gradient_below_its_layer(tmp_path: Path) -> None:
    done = cnnviz("gradcam", SAMPLES / "chelsea.png", "-o", tmp_path / "out", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    plan = " ".join(json.loads(done.stdout)["plan"])
    assert "autograd from head on" in plan
    assert "input" not in plan


def test_kernels_and_maps_of_one_layer_are_two_pictures(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["features", SAMPLES / "chelsea.png", "-o", out, "--layer", "stem.0", "--filters", "-q"]
    assert cnnviz(*arguments).returncode == 0
    names = sorted(path.name for path in out.rglob("*.png") if path.is_file())
    assert names == ["features.001.stem.0.png", "features.filters.001.stem.0.png"]


@pytest.mark.parametrize("name", ["smoke", "efficientnet_lite0"])
def test_the_configurations_run(name: str, tmp_path: Path) -> None:
    config = SAMPLES.parent / "configs" / f"{name}.yaml"
    done = cnnviz("all", SAMPLES / "chelsea.png", "-c", config, "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["summary"]["ok"] == 1


def test_the_layers_that_the_large_configuration_names_are_there() -> None:
    given = yaml.safe_load((SAMPLES.parent / "configs" / "vgg16.yaml").read_text(encoding="utf-8"))
    with torch.device("meta"):
        layers = dict(vgg16().named_modules())
    assert {*given["features"]["layer"], *given["deconv"]["layer"], given["gradcam"]["layer"]} <= layers.keys()


@pytest.mark.slow  # draws 138 million random weights
def test_the_large_configuration_runs_where_its_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNVIZ_WEIGHTS", "random:0")  # which wins over the file, whose weights cannot be fetched here
    config = SAMPLES.parent / "configs" / "vgg16.yaml"
    done = cnnviz("gradcam", SAMPLES / "chelsea.png", "-c", config, "-o", tmp_path / "out", "-q")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["model"]["name"], manifest["model"]["weights"]) == ("vgg16", "random:0")
