"""`Preprocessing.prepare` against torchvision's own presets, and the view against a marked photograph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from cnnviz_cli.core.geometry import View
from cnnviz_cli.models.catalog import model_names, weights_of
from cnnviz_cli.models.preprocessing import Preprocessing

SIZES = [(451, 300), (300, 451), (224, 224), (256, 256), (17, 31), (1, 1), (3, 130), (999, 333), (257, 1000), (600, 38)]
WEIGHTS = [
    ("resnet18", "IMAGENET1K_V1"),  # 256 to 224, bilinear
    ("resnet50", "IMAGENET1K_V2"),  # 232 to 224
    ("inception_v3", "IMAGENET1K_V1"),  # 342 to 299
    ("swin_t", "IMAGENET1K_V1"),  # bicubic
    ("efficientnet_b1", "IMAGENET1K_V1"),  # 256 to 240, bicubic
    ("efficientnet_v2_s", "IMAGENET1K_V1"),  # 384 to 384
    ("efficientnet_v2_l", "IMAGENET1K_V1"),  # other mean and standard deviation
]


def photo(size: tuple[int, int], seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("model", "entry"), WEIGHTS)
def test_it_is_torchvisions_preprocessing_to_the_bit(model: str, entry: str, size: tuple[int, int]) -> None:
    transforms = models.get_model_weights(model)[entry].transforms()
    ours, view, seen = Preprocessing.of(transforms).prepare(photo(size))
    assert torch.equal(ours, transforms(photo(size)))
    assert ours.dtype == torch.float32
    assert seen.mode == "RGB"
    assert seen.size == view.size == (transforms.crop_size[0],) * 2


def test_every_published_preset_is_understood() -> None:
    for name in model_names()[1:]:
        for entry in weights_of(name):
            transforms = models.get_model_weights(name)[entry].transforms()
            ours = Preprocessing.of(transforms)
            assert [ours.resize] == transforms.resize_size
            assert [ours.crop] == transforms.crop_size
            assert ours.interpolation == transforms.interpolation.value


def test_the_view_is_worked_out_by_hand() -> None:
    # 600 x 400 to 384 x 256; the crop of 224 starts at (80, 16); a resized pixel is 1.5625 photo pixels.
    _, view, _ = Preprocessing(256, 224, (0.5,) * 3, (0.5,) * 3).prepare(photo((600, 400)))
    assert view == View((600, 400), (224, 224), (125.0, 25.0, 475.0, 375.0))


def test_what_is_seen_lies_where_the_view_says() -> None:
    picture = Image.new("RGB", (900, 500))
    picture.paste((255, 255, 255), (400, 200, 500, 300))
    _, view, seen = Preprocessing(256, 224, (0.5,) * 3, (0.5,) * 3, "bicubic").prepare(picture)
    rows, columns = np.nonzero(np.asarray(seen)[..., 0] > 127)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert view.to_photo(box) == pytest.approx((400, 200, 500, 300), abs=900 / 460 / 2 + 0.01)


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (2, 30000)])
def test_an_extreme_photograph_is_nearly_exact(size: tuple[int, int]) -> None:
    preprocessing = Preprocessing(64, 56, (0.5,) * 3, (0.5,) * 3)
    picture = photo(size)
    _, view, seen = preprocessing.prepare(picture)
    # The long way round: resize everything, then crop.
    long = int(64 * max(size) / min(size))
    resized = picture.resize((64, long) if size[0] < size[1] else (long, 64), Image.Resampling.BILINEAR)
    left, top = (round((side - 56) / 2) for side in resized.size)
    expected = np.asarray(resized.crop((left, top, left + 56, top + 56))).astype(int)
    assert np.abs(np.asarray(seen).astype(int) - expected).max() <= 2
    scale = min(size) / 64
    assert view.box == pytest.approx((left * scale, top * scale, (left + 56) * scale, (top + 56) * scale), rel=1e-3)


def test_an_extreme_photograph_is_never_resized_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def watched(self: Image.Image, size: tuple[int, int], *args: Any, **kwargs: Any) -> Image.Image:
        made.append(size)
        return resize(self, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", watched)
    Preprocessing(64, 56, (0.5,) * 3, (0.5,) * 3).prepare(photo((1, 5000)))  # whole, it were 64 x 320000
    assert made == [(56, 56)]


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (31, 31), (30, 300)])
def test_a_crop_larger_than_the_photograph_is_padded_like_torchvisions(size: tuple[int, int]) -> None:
    preset = models.ResNet18_Weights.DEFAULT.transforms(crop_size=49, resize_size=32)
    ours, view, seen = Preprocessing.of(preset).prepare(photo(size))
    assert torch.equal(ours, preset(photo(size)))
    assert min(view.box[:2]) < 0
    assert not np.asarray(seen)[:8, :8].any()


def test_its_record_says_all_of_it() -> None:
    record = Preprocessing(256, 224, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic").as_json()
    assert record == {
        "resize": 256,
        "crop": 224,
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "interpolation": "bicubic",
    }
