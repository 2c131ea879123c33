"""What the network is shown of images that are all length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from cnnviz_cli.models.input.preprocessing import Preprocessing

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def sliver(width: int, height: int) -> Image.Image:
    """Dark in the first half, light in the second."""
    levels = np.full((height, width, 3), 40, np.uint8)
    if width > height:
        levels[:, width // 2 :] = 200
    else:
        levels[height // 2 :] = 200
    return Image.fromarray(levels)


@pytest.mark.parametrize("mode", ["crop", "squash", "pad", "full"])
@pytest.mark.parametrize("size", [(1, 1), (1, 65535), (65535, 1), (1, 1_000_000), (1_000_000, 1), (3, 600_000)])
@pytest.mark.parametrize("interpolation", ["bilinear", "lanczos"])
def test_the_input_has_its_size_and_the_middle_of_the_image(
    mode: Any, size: tuple[int, int], interpolation: Any
) -> None:
    how = Preprocessing(256, 224, MEAN, STD, mode=mode, interpolation=interpolation)
    seen, view = how.crop_image(sliver(*size))
    assert seen.size == view.size
    assert max(seen.size) <= 1024
    if size == (1, 1) or mode != "squash":
        return
    pixels = np.asarray(seen)[..., 0].astype(int)
    row = pixels[pixels.shape[0] // 2] if size[0] > size[1] else pixels[:, pixels.shape[1] // 2]
    assert np.abs(row[2:108] - 40).max() <= 1
    assert np.abs(row[116:222] - 200).max() <= 1


def test_a_long_side_is_averaged_as_it_would_be_resized() -> None:
    levels = np.random.default_rng(5).integers(0, 256, (1, 700_000, 3), dtype=np.uint8)
    how = Preprocessing(64, 64, MEAN, STD, mode="squash")
    seen = np.asarray(how.crop_image(Image.fromarray(levels))[0]).astype(float)[32]
    exact = np.asarray(Image.fromarray(levels).resize((64, 1), Image.Resampling.BILINEAR)).astype(float)[0]
    assert np.abs(seen - exact).max() <= 1


def resizing(made: list[tuple[int, int]]) -> Callable[..., Image.Image]:
    """Pillow's `resize`, which keeps account of what it makes."""
    genuine = Image.Image.resize

    def resize(image: Image.Image, size: tuple[int, int], *arguments: Any, **options: Any) -> Image.Image:
        made.append(size)
        return genuine(image, size, *arguments, **options)

    return resize


def test_no_resized_photograph_is_larger_than_what_is_shown() -> None:
    """Cut from an image that would have 4096 x 262,144 pixels."""
    how = Preprocessing(4096, 512, MEAN, STD)
    photo = sliver(1000, 64_000)
    assert how.resize_crop(photo.size).resized == (4096, 262_144)
    made = []
    with patch.object(Image.Image, "resize", autospec=True, side_effect=resizing(made)):
        seen, _ = how.crop_image(photo)
    assert made == [(512, 512)]
    assert seen.size == (512, 512)
