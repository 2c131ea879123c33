"""Networks through which no gradient passes: a method that needs one is a mistake of choice, others explain them."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import Command

HOW = ("--model", "nets:inference", "--allow-code", "--input-size", "32")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("gradcam", "gradcam"),
        ("gradcam", "shapleycam"),
        ("saliency", "gradient"),
        ("saliency", "integrated-gradients"),
        ("saliency", "lrp"),
        ("saliency", "deeplift"),
    ],
)
def test_each_says_where_the_gradient_ends_and_what_runs(
    cnnviz: Command, image: Path, tmp_path: Path, family: str, method: str
) -> None:
    done = cnnviz(family, image, *HOW, "--method", method, "-o", tmp_path / "o")
    assert done.code == 2, done.err
    assert f"error: {method}: no gradient reaches " in done.err
    assert "runs under torch.inference_mode()" in done.err
    assert "These run on this network: " in done.err
    if method in ("gradcam", "lrp"):
        commands = done.err.split("These run on this network: ")[1].splitlines()[0].split("; ")
        assert len(commands) == 3
        for number, command in enumerate(commands):
            _, *words = shlex.split(command)
            assert cnnviz(words[0], image, *HOW, *words[1:], "-o", tmp_path / f"o{number}").code == 0, command
