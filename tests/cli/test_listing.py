"""models, classes, verify, config: what there is, for eyes and for programs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from sealing import sealed

from cnnviz_cli.config.load import load_settings

from .conftest import Command

ROOT = Path(__file__).parents[2]


def test_models_by_glob_by_part_and_as_json(cnnviz: Command) -> None:
    head, *rows = cnnviz("models", "resnet*").out.splitlines()
    assert head.split()[0] == "model"
    assert {row.split()[0] for row in rows} == {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152"}
    assert "wide_resnet50_2" in cnnviz("models", "ResNet50").out
    (lite,) = json.loads(cnnviz("models", "efficientnet_lite0", "--json").out)["models"]
    assert (lite["default_weights"], lite["input_size"], lite["parameters"]) == ("BUNDLED", 224, 4_652_008)
    assert (lite["task"], lite["metric"], lite["value"]) == ("classification", "acc@1", None)
    assert cnnviz("models").out.splitlines()[1].startswith("efficientnet_lite0")
    (boxes,) = json.loads(cnnviz("models", "ssd300_vgg16", "--json").out)["models"]
    assert (boxes["task"], boxes["metric"], boxes["value"]) == ("detection", "box_map", 25.1)
    assert cnnviz("models", "fcn_resnet50").out.splitlines()[1].split()[1:] == [
        *("segmentation", "COCO_WITH_VOC_LABELS_V1", "520", "35.3", "M", "miou", "60.5", "135")
    ]


def test_classes_by_part_and_as_json(cnnviz: Command) -> None:
    assert cnnviz("classes", "crane").out == "134  crane bird\n517  crane\n"
    found = json.loads(cnnviz("classes", "tiger cat", "--json").out)
    assert found["classes"] == [{"index": 282, "name": "tiger cat"}]
    assert len(cnnviz("classes").out.splitlines()) == 1000


def test_classes_are_those_of_the_network(cnnviz: Command) -> None:
    assert cnnviz("classes", "--model", "fcn_resnet50").out.splitlines()[15] == "15  person"
    assert cnnviz("classes", "dog", "-m", "ssd300_vgg16", "--weights", "random:3").out == "18  dog\n58  hot dog\n"
    assert cnnviz("classes", "-m", "keypointrcnn_resnet50_fpn", "--weights", "COCO_LEGACY").out == (
        "0  no person\n1  person\n"
    )
    assert cnnviz("classes", "-m", "vgg16").out == cnnviz("classes").out
    unknown = cnnviz("classes", "zebra", "-m", "fcn_resnet50")
    assert unknown.code == 2
    assert "See: cnnviz classes --model fcn_resnet50" in unknown.err
    for args, where in (
        (("-m", "timm:resnet18"), "--model"),
        (("-m", "vgg16", "--weights", "my.pth"), "--weights"),
    ):
        theirs = cnnviz("classes", *args)
        assert (theirs.code, theirs.out) == (2, "")
        assert where in theirs.err
        assert "--labels" in theirs.err
    assert "no model" in cnnviz("classes", "-m", "vgg61").err


@pytest.mark.parametrize("of", ["config", "manifest"])
def test_the_published_schemas_are_current(cnnviz: Command, of: str) -> None:
    assert cnnviz("config", "schema", of).out == (ROOT / "schemas" / f"{of}.schema.json").read_text(encoding="utf-8")


def test_config_check_tells_every_mistake_of_every_file(cnnviz: Command) -> None:
    good = ROOT / "configs" / "smoke.yaml"
    Path("bad.yaml").write_text("alpha: 2\nmodle: x\n", encoding="utf-8")
    Path("worse.yaml").write_text("model: vgg61\n", encoding="utf-8")
    result = cnnviz("config", "check", good, "bad.yaml", "worse.yaml")
    assert result.code == 2
    assert result.out == f"{good}: ok\n"
    for place in ("bad.yaml:1:8", "bad.yaml:2:1", "worse.yaml:1:8"):
        assert f"error: {place}: " in result.err


def test_config_show_is_yaml_that_comes_to_the_same_with_every_origin(
    cnnviz: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("c.yaml").write_text("alpha: 0.25\noutput: 'a: #b'\ngradcam:\n  layer: ['012', 'x y']\n", encoding="utf-8")
    monkeypatch.setenv("CNNVIZ_TARGET", "[281, tiger cat]")
    shown = cnnviz("config", "show", "-c", "c.yaml", "--precision", "bf16").out
    for line in (
        "alpha: 0.25",
        'target: [281, "tiger cat"]',
        "precision: bf16",
        "model: efficientnet_lite0",
    ):
        assert line in shown
    for origin in ("# file c.yaml:1:8", "# environment CNNVIZ_TARGET", "# flag --precision", "# default"):
        assert origin in shown
    Path("shown.yaml").write_text(shown, encoding="utf-8")
    monkeypatch.delenv("CNNVIZ_TARGET")
    expected = load_settings("all", {("precision",): "bf16", ("target",): ["281", "tiger cat"]}, Path("c.yaml"), {})
    assert load_settings("all", {}, Path("shown.yaml"), {}) == expected
    assert yaml.safe_load(shown)["gradcam"]["layer"] == ["012", "x y"]


def test_verify_lists_what_differs(cnnviz: Command) -> None:
    picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01"
    output = {
        "family": "gradcam",
        "method": "gradcam",
        "layer": None,
        "target": None,
        "path": "a.png/gradcam.png",
        "sha256": hashlib.sha256(picture).hexdigest(),
        "width": 1,
        "height": 1,
        "range": None,
        "state": "ok",
    }
    image = {"source": "a.png", "sha256": None, "width": 1, "height": 1, "status": "ok", "error": None}
    tool = dict.fromkeys(("cnnviz", "python", "torch", "torchvision", "pillow"), "1")
    run = {"command": "gradcam", "status": "ok", "config": {}, "config_sha256": "", "device": "cpu"}
    plan = {"forwards": 1, "backwards": 1, "variants": 0}
    model = {"name": "m", "weights": "w", "weights_sha256": "", "num_classes": 2, "preprocessing": {}}
    manifest = {
        "schema_version": 1,
        "tool": tool,
        "run": run | {"precision": "fp32", "plan": plan},
        "model": model,
        "images": [image | {"predictions": [], "outputs": [output]}],
        "summary": {"images": 1, "ok": 1, "failed": 0, "outputs": 1},
    }
    Path("out/a.png").mkdir(parents=True)
    Path("out/manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    Path("out/a.png/gradcam.png").write_bytes(picture)
    fine = cnnviz("verify", "out")
    assert fine.code == 0
    assert fine.out.startswith("undigested  manifest.json")
    assert fine.out.endswith("\nall listed files match the manifest\n")
    Path("out/manifest.json").write_text(json.dumps(sealed(manifest)), encoding="utf-8")
    fine = cnnviz("verify", "out")
    assert (fine.code, fine.out) == (0, "all listed files are unchanged\n")
    Path("out/a.png/mine.png").write_bytes(b"x")
    extra = cnnviz("verify", "out")
    assert extra.code == 0
    assert extra.out.endswith("\nall listed files are unchanged; 1 figure not listed\n")
    Path("out/a.png/mine.png").unlink()
    Path("out/a.png/gradcam.png").write_bytes(picture + b"x")
    changed = cnnviz("verify", "out")
    assert changed.code == 3
    assert changed.out.startswith("changed  a.png/gradcam.png")
    assert json.loads(cnnviz("verify", "out", "--json").out)["differences"][0]["kind"] == "changed"
