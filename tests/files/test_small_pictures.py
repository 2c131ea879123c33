"""Thumbnails and maps in grey against slow derivations of them."""

from __future__ import annotations

from io import BytesIO
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.small_pictures import (
    encode_grey,
    encode_thumbnail,
    thumbnail_of,
    write_grey,
    write_thumbnail,
)


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with fine detail, no two corners alike."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((width, height))
    fine = random.integers(-12, 13, (height, width, 3))
    return Image.fromarray((np.asarray(coarse).astype(int) + fine).clip(0, 255).astype(np.uint8))


def cubic(distance: float) -> float:
    """Keys' kernel with a = -0.5, which Pillow calls bicubic."""
    near, x = 0.0, abs(distance)
    if x < 1:
        near = (1.5 * x - 2.5) * x * x + 1
    elif x < 2:
        near = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return near


def resampled(line: np.ndarray[Any, Any], extent: float, count: int) -> np.ndarray[Any, Any]:
    """The first axis, of which `extent` counts, at so many places, each the weighted mean around it."""
    scale = extent / count
    width = max(1.0, scale)
    found = []
    for at in range(count):
        centre = (at + 0.5) * scale
        first, last = max(0, floor(centre - 2 * width)), min(len(line), ceil(centre + 2 * width))
        weights = np.array([cubic((place + 0.5 - centre) / width) for place in range(first, last)])
        found.append(np.tensordot(weights / weights.sum(), line[first:last], 1))
    return np.array(found)


def slowly_reduced(image: Image.Image, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Means of whole blocks down to one and a half times the size or more, then the cubic kernel along each side, in
    float64."""
    pixels = np.asarray(image).astype(np.float64)
    extents: list[float] = []
    for axis, target in ((0, size[1]), (1, size[0])):
        length = pixels.shape[axis]
        block = max(1, int(length / target / 1.5))
        starts = range(0, length, block)
        means = [pixels.take(range(start, min(start + block, length)), axis).mean(axis) for start in starts]
        pixels = np.stack(means, axis)
        extents.append(length / block)
    pixels = resampled(pixels, extents[0], size[1])
    return resampled(pixels.swapaxes(0, 1), extents[1], size[0]).swapaxes(0, 1)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((500, 375), (128, 96)),
        ((375, 500), (96, 128)),
        ((1501, 1000), (128, 85)),
        ((128, 128), (128, 128)),
        ((90, 40), (90, 40)),
        ((1, 1), (1, 1)),
        ((3000, 4), (128, 1)),
        ((129, 64), (128, 64)),
    ],
)
def test_a_thumbnail_has_the_image_s_proportions_and_is_never_enlarged(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    small = thumbnail_of(photograph(*size))
    assert small.size == expected
    with Image.open(BytesIO(encode_thumbnail(small))) as opened:
        assert (opened.size, opened.format, opened.mode) == (expected, "WEBP", "RGB")


@pytest.mark.parametrize("size", [(500, 375), (333, 700), (1200, 901), (200, 131)])
def test_a_thumbnail_is_the_slow_reduction(size: tuple[int, int]) -> None:
    image = photograph(*size)
    small = thumbnail_of(image)
    expected = slowly_reduced(image, small.size).clip(0, 255)
    far = np.abs(np.asarray(small) - expected)
    assert far.max() <= 2  # Pillow rounds to whole numbers three times
    with Image.open(BytesIO(encode_thumbnail(small))) as opened:
        assert np.abs(np.asarray(opened) - expected).mean() < 6  # in which a colour is coded for four pixels


def test_what_a_photograph_says_of_itself_stays_out(tmp_path: Path) -> None:
    image = photograph(200, 100)
    exif = Image.Exif()
    exif[0x010E] = "taken at the secret place"
    buffer = BytesIO()
    image.save(buffer, "JPEG", exif=exif, icc_profile=b"profile" * 20, comment=b"secret comment")
    with Image.open(buffer) as opened:
        loaded = opened.convert("RGB")
        assert loaded.info["icc_profile"]
        for given in (loaded, loaded.resize((90, 45))):
            data = encode_thumbnail(thumbnail_of(given))
            assert b"secret" not in data
            assert b"profile" not in data
            assert data[12:16] == b"VP8 "  # a picture without chunks of metadata
        picture = write_thumbnail(Sink(tmp_path), "a/thumbnail.webp", loaded)
        assert loaded.info["icc_profile"]  # which is the caller's
    assert (picture.path, picture.width, picture.height) == ("a/thumbnail.webp", 128, 64)


def test_grey_says_where_each_value_lies_on_the_scale(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    values = (4 * random.standard_normal((71, 97))).astype(np.float32)
    values[0, :4] = np.nan, np.inf, -np.inf, 0
    for scale in ((-3.0, 3.0), (0.0, 7.5), (-1.0, 0.25), (0.5, 2.0)):
        with Image.open(BytesIO(encode_grey(values, scale))) as opened:
            found = np.asarray(opened)
        assert found.shape == (71, 97, 3)
        assert (found == found[:, :, :1]).all()
        for row, column in [(0, 0), (0, 1), (0, 2), (0, 3), *np.ndindex(8, 11)]:
            plain = float(values[row, column])
            plain = plain if np.isfinite(plain) else 0.0
            share = (min(max(plain, scale[0]), scale[1]) - scale[0]) / (scale[1] - scale[0])
            assert int(found[row, column, 0]) == round(255 * share)
    picture = write_grey(Sink(tmp_path), "a/b.webp", values, (-3.0, 3.0))
    assert (picture.width, picture.height) == (97, 71)
    assert (tmp_path / "a" / "b.webp").read_bytes() == encode_grey(values, (-3.0, 3.0))


def test_the_widest_scales_overflow_nowhere() -> None:
    most = float(np.finfo(np.float32).max)
    values = np.array([[-most, 0, most]], np.float32)
    with Image.open(BytesIO(encode_grey(values, (-most, most)))) as opened:
        assert np.asarray(opened)[0, :, 0].tolist() == [0, 128, 255]
