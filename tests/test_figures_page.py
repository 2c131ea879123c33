"""The Python of docs/figures.md: what a file says about itself, and a map laid over its image."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnviz_cli
from cnnviz_cli.cli.main import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def cat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "sample_images" / "chelsea.png", tmp_path / "cat.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNVIZ_WORKERS", "0")


def test_every_command_of_the_page_runs(capfd: pytest.CaptureFixture[str]) -> None:
    commands = re.findall(r"^cnnviz (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert main(command.split()) == 0, (command, capfd.readouterr().err)
    with Image.open("paper/cat.jpg/gradcam.png") as figure:
        assert figure.size[0] == 1004  # 8.5 cm at 300 dots an inch
    with Image.open("slides/cat.jpg/saliency.png") as figure:
        assert figure.size[0] == 1200
    assert "3.3in" in Path("vectors/cat.jpg/gradcam.svg").read_text(encoding="utf-8")[:400]


def test_the_reader_shows_what_a_file_says(capsys: pytest.CaptureFixture[str]) -> None:
    cnnviz_cli.explain("efficientnet_lite0", "cat.jpg")[0, "gradcam"].save("gradcam.png")
    exec(compile(BLOCKS[0], "figures.md", "exec"), {})
    told = capsys.readouterr().out
    assert "'Method': 'gradcam'" in told
    assert "'Target': 'tiger cat'" in told


def test_the_lines_lay_the_map_where_the_figure_has_it() -> None:
    assert main(["gradcam", "cat.jpg", "--save-arrays", "-o", "numbers", "-q"]) == 0
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[1], "figures.md", "exec"), names)
    laid, heat = np.asarray(names["laid"]), names["heat"]
    own = cnnviz_cli.explain("efficientnet_lite0", "cat.jpg")[0, "gradcam"].map_on_photo()
    left, top, right, bottom = names["left"], names["top"], names["right"], names["bottom"]
    half = ((right - left) / heat.shape[1] / 2 + 1, (bottom - top) / heat.shape[0] / 2 + 1)
    # Within the centres of the outer cells; beyond them every tool continues a map in its own way.
    inner = slice(int(top + half[1]) + 1, int(bottom - half[1])), slice(int(left + half[0]) + 1, int(right - half[0]))
    np.testing.assert_allclose(laid[inner], own[inner], atol=0.02 * heat.max())
    with Image.open("overlay.png") as overlay:
        assert overlay.size == (451, 300)


def test_every_channel_is_kept_on_request() -> None:
    asked = ["features", "cat.jpg", "--layer", "stages.0", "--channels", "3", "--save-arrays", "-q"]
    assert main([*asked, "-o", "drawn"]) == 0
    assert main([*asked, "--all-channels", "-o", "every"]) == 0
    with np.load("drawn/cat.jpg/arrays.npz") as drawn, np.load("every/cat.jpg/arrays.npz") as every:
        (maps,) = (drawn[name] for name in drawn if name.endswith(".maps"))
        (channels,) = (drawn[name] for name in drawn if name.endswith(".channels"))
        assert not any(name.endswith(".all") for name in drawn)
        (whole,) = (every[name] for name in every if name.endswith(".all"))
    assert whole.shape == (16, *maps.shape[1:])
    assert (whole[channels] == maps).all()
