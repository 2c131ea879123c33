"""Large photographs pass the network in tiles: no pass grows with the picture, and neither does the memory of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnviz_cli.engine import ascend

from .conftest import Command

HOW = ("--model", "nets:classifier", "--allow-code", "--input-size", "32", "--threads", "1", "--device", "cpu")
TILE = 64


@pytest.mark.parametrize("asked", [(), ("--frames", "2", "--zoom", "1.2"), ("--target", "1")])
def test_no_pass_is_larger_than_two_tiles(
    cnnviz: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 410, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    passes: list[tuple[int, ...]] = []
    inner = ascend.run_pass

    def record(net: Any, whole: Any, inputs: Any, *more: Any, **how: Any) -> Any:
        passes.append(tuple(inputs.shape))
        return inner(net, whole, inputs, *more, **how)

    monkeypatch.setattr(ascend, "run_pass", record)
    layer = () if "--target" in asked else ("--layer", "high")
    done = cnnviz(
        "dream", tmp_path / "large.png", *layer, *asked, "--steps", "1", "--tile", str(TILE), *HOW, "-o", tmp_path / "o"
    )
    assert done.code == 0, done.err
    assert len(passes) > 300 * 410 / TILE**2
    assert max(count * height * width for count, _, height, width in passes) <= 2 * TILE**2


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 2])
def test_a_photograph_of_twelve_megapixels_takes_hardly_more_than_a_small_one(tmp_path: Path, frames: int) -> None:
    """The peak of the whole process, as it reports it, of the bundled network."""

    def peak(width: int, height: int) -> int:
        coarse = np.random.default_rng(0).integers(0, 256, (height // 50, width // 50, 3), dtype=np.uint8)
        photo, folder = tmp_path / f"{width}.png", tmp_path / f"out-{width}"
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(photo)
        asked = ["--size", str(width), "--steps", "1", "--frames", str(frames), "--threads", "1", "-o", str(folder)]
        command = [sys.executable, "-m", "cnnviz_cli", "dream", str(photo), *asked, "-q"]
        subprocess.run(command, check=True, cwd=tmp_path)
        return int(json.loads((folder / "run.json").read_text())["peak_memory_bytes"])

    assert peak(4000, 3000) < 1.3 * peak(1000, 750)
