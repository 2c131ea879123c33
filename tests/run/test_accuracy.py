"""What is true of images, and what a network says: printed, recorded, merged and resumed alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from run.resuming import photographs, run

from cnnviz_cli.cli.main import main
from cnnviz_cli.core.records import Manifest
from cnnviz_cli.files.inputs.search import Source, find_images
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.output.shards import Shard

pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Source]:
    """Six photographs and a table; of the last nobody knows what is true."""
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "in", 7)
    (tmp_path / "in" / "3.png").unlink()
    run(tmp_path / "look", find_images([tmp_path / "in"], recursive=False))
    images = json.loads((tmp_path / "look" / "manifest.json").read_bytes())["images"]
    said = {image["source"]: image["predictions"][0]["label"] for image in images}
    other = next(name for name in "abcde" if name not in said.values())
    rows = [(name, said[name] if name in ("0.png", "1.png") else other) for name in list(said)[:-1]]
    (tmp_path / "truth.csv").write_text("file,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    shutil.rmtree(tmp_path / "look")
    return find_images([tmp_path / "in"], recursive=False)


def test_the_manifest_and_the_summary_say_how_often(
    labelled: list[Source], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["gradcam", "in", "--truth", "truth.csv", "--device", "cpu", "-o", "out", "--batch-size", "1"]
    assert main(asked) == 0
    printed = capsys.readouterr().out
    assert "correct, of 5 images with ground truth: top-1 2 (40.0 %)\n" in printed
    assert "3 mistakes:\n  2.png" in printed
    assert "confused: " in printed
    manifest = Manifest.model_validate_json((tmp_path / "out" / "manifest.json").read_bytes())
    found = manifest.summary.accuracy
    assert found is not None
    assert (found.known, found.top1, found.top5) == (5, 2, None)
    assert sum(one.count for one in found.confusions) == 3

    assert main([*asked, "--json"]) == 0  # of an earlier run's records
    told = json.loads(capsys.readouterr().out)
    assert told["summary"]["accuracy"]["top1"] == 2
    assert [one["source"] for one in told["mistakes"]] == ["2.png", "4.png", "5.png"]

    for index in range(2):
        run(tmp_path / "parts", labelled, shard=Shard(index, 2), batch_size="1", truth="truth.csv")
    merged = merge_shards(tmp_path / "parts")
    assert merged.summary.accuracy == found
    one, many = (json.loads((tmp_path / name / "manifest.json").read_bytes()) for name in ("out", "parts"))
    assert one["summary"] == many["summary"]


def test_without_a_truth_nothing_is_said(
    labelled: list[Source], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gradcam", "in", "--device", "cpu", "-o", "out"]) == 0
    assert "right" not in capsys.readouterr().out
    assert labelled
    assert "accuracy" not in json.loads((tmp_path / "out" / "manifest.json").read_bytes())["summary"]


def test_where_classes_go_together(labelled: list[Source], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert labelled
    asked = ["gradcam", "in", "--truth", "truth.csv", "--multilabel", "--device", "cpu", "-o", "out"]
    assert main(asked) == 0
    images = json.loads((tmp_path / "out" / "manifest.json").read_bytes())["images"]
    present = sum(image["truth"]["probability"] >= 0.5 for image in images if image["truth"])
    assert f"5 images with ground truth: true class at 50 % or more {present} (" in capsys.readouterr().out
