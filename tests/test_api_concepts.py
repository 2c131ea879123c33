"""Concepts from Python: the same as of the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nets import classifier
from PIL import Image

import cnnviz_cli
from cnnviz_cli import Preprocessing, UsageError

PRE = Preprocessing(48, 48, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def pictures(count: int = 3) -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [
        Image.fromarray(draw.integers(0, 256, (6, 8 + number, 3), dtype=np.uint8)).resize(
            (96, 72), Image.Resampling.BICUBIC
        )
        for number in range(count)
    ]


def test_concepts_of_images_in_memory(tmp_path: Path) -> None:
    found = cnnviz_cli.concepts(classifier(), pictures(), concepts=3, preprocessing=PRE, device="cpu")
    assert len(found) == 3
    assert [one.number for one in found] == [1, 2, 3]
    assert found[2].number == 2
    assert found.basis.shape == (3, 16)
    assert found.basis.dtype == np.float32
    for told in found.answers.values():
        assert sum(told.adds) + (told.bias or 0) + (told.rest or 0) == pytest.approx(told.score, abs=1e-4)
    assert found.figure is not None
    assert len(found.answers) == 3
    with pytest.raises(KeyError):
        found[4]
    found.save(tmp_path / "kept")
    file = tmp_path / "kept" / "concepts.npz"
    again = cnnviz_cli.concepts(classifier(), pictures(2), basis=file, preprocessing=PRE, device="cpu")
    assert again.found.basis is not None
    assert again.found.basis.error == pytest.approx(found.found.error, abs=1e-5)
    first = next(iter(found.answers.values()))
    assert next(iter(again.answers.values())).adds == pytest.approx(first.adds, abs=1e-4)


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    given = [*pictures(2), tmp_path / "broken.png"]
    with pytest.warns(UserWarning, match=r"broken\.png is left out: this is not an image") as heard:
        found = cnnviz_cli.concepts(classifier(), given, concepts=2, preprocessing=PRE, device="cpu")
    assert sum("broken" in str(one.message) for one in heard) == 1
    assert [record.status for record in found.records] == ["ok", "ok", "failed"]
    with pytest.raises(cnnviz_cli.UsageError, match="no image could be shown"):
        cnnviz_cli.concepts(classifier(), given[2:], concepts=2, preprocessing=PRE, device="cpu")


def test_the_same_as_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, one in enumerate(pictures()):
        one.save(folder / f"{number}.png")
    how = ["--model", "nets:classifier", "--allow-code", "--input-size", "48", "--device", "cpu", "--threads", "1"]
    command = [sys.executable, "-m", "cnnviz_cli", "concepts", str(folder), "--concepts", "2", *how, "-q"]
    place = str(Path(__file__).parent)
    subprocess.run([*command, "-o", str(tmp_path / "o")], check=True, env={**os.environ, "PYTHONPATH": place})
    told = json.loads((tmp_path / "o" / "manifest.json").read_text(encoding="utf-8"))["findings"]["concepts"]
    found = cnnviz_cli.concepts("nets:classifier", folder, concepts=2, allow_code=True, input_size=48, device="cpu")
    assert found.found.error == pytest.approx(told["error"], abs=1e-5)
    assert [one.importance for one in found] == pytest.approx([one["importance"] for one in told["concepts"]], abs=1e-4)


def test_a_wrong_argument_is_named_as_python_has_it() -> None:
    with pytest.raises(UsageError, match="30 concepts cannot be told apart") as caught:
        cnnviz_cli.concepts(classifier(), pictures(1), concepts=30, preprocessing=PRE)
    assert caught.value.where == "concepts"
    with pytest.raises(UsageError, match="no option 'crop'"):
        cnnviz_cli.concepts(classifier(), pictures(1), crop=0.3)
