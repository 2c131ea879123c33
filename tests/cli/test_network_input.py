"""The commands and the YAML of docs/preprocessing.md, and mistakes in the network's input, from the command line."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from cnnviz_cli.cli.main import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "preprocessing.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def in_a_folder_with_a_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "sample_images" / "chelsea.png", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNVIZ_WORKERS", "0")


def preprocessing() -> dict[str, object]:
    record: dict[str, object] = json.loads(Path("out/manifest.json").read_text())["model"]["preprocessing"]
    return record


def test_the_commands_of_the_page_run(capfd: pytest.CaptureFixture[str]) -> None:
    # The other one, of bands, is tried in tests/test_bands.py: it needs a network of four.
    block, _bands = re.findall(r"^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    seen = []
    for line in block.splitlines():
        arguments = shlex.split(line, comments=True)[1:]
        assert main([*arguments, "-o", "out", "--force"]) == 0, (line, capfd.readouterr().err)
        seen.append(preprocessing())
    pad, full, larger, oblong = seen
    assert (pad["mode"], pad["size"], pad["mean"]) == ("pad", [224, 224], [0.5] * 3)
    assert (full["mode"], full["max_side"]) == ("full", 800)
    assert (larger["mode"], larger["size"], larger["resize"]) == ("crop", [300, 300], [343, 343])
    assert (oblong["size"], oblong["resize"], oblong["interpolation"]) == ([160, 320], [183, 366], "bicubic")


def test_the_yaml_of_the_page_runs(capfd: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    Path("c.yaml").write_text(block)
    assert main(["gradcam", "photo.jpg", "-c", "c.yaml", "-o", "out"]) == 0, capfd.readouterr().err
    assert preprocessing() == {
        "mode": "pad", "size": [160, 320], "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--max-side 300", "--max-side: --resize crop has no longest side"),
        ("--resize full --max-side 100", "--max-side: 100 pixels are less than the smallest input, 224 x 224"),
        ("--mean .5,.5", "--mean: 2 values are given, the network reads 3 channels"),
        (
            "--std 58",
            "'std' must be above 0 and at most 1, like the values of an image, not 58 Values that count to 255",
        ),
        ("--resize fll", "Did you mean 'full'?"),
        ("--input-size 4096x", "'input_size' must be a side or HEIGHTxWIDTH, in pixels"),
    ],
)
def test_a_mistake_is_one_sentence(flags: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcam", "photo.jpg", *flags.split(), "-o", "out"]) == 2
    assert said in " ".join(capfd.readouterr().err.split())
    assert not Path("out/manifest.json").exists()
