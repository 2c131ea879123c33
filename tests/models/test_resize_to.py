"""Resizing and cropping said by two numbers are torchvision's transforms, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms.functional import InterpolationMode

from cnnviz_cli import UsageError
from cnnviz_cli.models.input.input_overrides import InputOverrides
from cnnviz_cli.models.input.preprocessing import Preprocessing

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PRESET = Preprocessing(256, 224, MEAN, STD)


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(451, 300), (300, 451), (64, 64), (33, 200), (500, 64), (65, 64), (20, 30)])
@pytest.mark.parametrize(
    ("cover", "crop"), [(64, (64, 64)), (256, (224, 224)), (73, (64, 64)), (300, (200, 280)), (40, (64, 64))]
)
@pytest.mark.parametrize("how", ["bilinear", "bicubic", "nearest"])
def test_they_are_torchvisions(size: tuple[int, int], cover: int, crop: tuple[int, int], how: Any) -> None:
    theirs = transforms.Compose(
        [
            transforms.Resize(cover, InterpolationMode(how)),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    ours = InputOverrides(size=crop, cover=cover, interpolation=how).apply_to(PRESET)
    image = photo(*size)
    tensor, view, seen = ours.prepare(image)
    assert torch.equal(tensor, theirs(image))
    assert (view.size, seen.size) == (crop[::-1], crop[::-1])


def test_without_an_input_size_the_preset_s_is_cut() -> None:
    wanted = InputOverrides(cover=224).apply_to(PRESET)
    assert (wanted.resized_size, wanted.size) == ((224, 224), (224, 224))
    assert wanted.as_json()["resize"] == [224, 224]


@pytest.mark.parametrize("mode", ["pad", "squash", "full"])
def test_where_nothing_is_cut_it_is_refused(mode: Any) -> None:
    with pytest.raises(UsageError, match=f"--resize {mode} shows all of the image") as caught:
        InputOverrides(mode=mode, cover=64).apply_to(PRESET)
    assert (caught.value.where, caught.value.fix) == ("--resize-to", "Add --resize crop, or leave it out.")
