"""`Preprocessing.prepare` against torchvision's own presets, and the view against a marked photograph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import models

from cnnviz_cli.core.geometry import View
from cnnviz_cli.models.input.preprocessing import Interpolation, Preprocessing, ResizeMode, Side
from cnnviz_cli.models.spec.catalog import PACKAGED, model_names, weights_names

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
    ours, view, seen = Preprocessing.from_transforms(transforms).prepare(photo(size))
    assert torch.equal(ours, transforms(photo(size)))
    assert ours.dtype == torch.float32
    assert seen.mode == "RGB"
    assert seen.size == view.size == (transforms.crop_size[0],) * 2


def test_every_published_preset_is_understood() -> None:
    for name in (name for name in model_names("classification") if name not in PACKAGED):
        for entry in weights_names(name):
            transforms = models.get_model_weights(name)[entry].transforms()
            ours = Preprocessing.from_transforms(transforms)
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
    assert view.to_image(box) == pytest.approx((400, 200, 500, 300), abs=900 / 460 / 2 + 0.01)


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
    ours, view, seen = Preprocessing.from_transforms(preset).prepare(photo(size))
    assert torch.equal(ours, preset(photo(size)))
    assert min(view.box[:2]) < 0
    assert not np.asarray(seen)[:8, :8].any()


def test_its_record_says_all_of_it() -> None:
    crop = Preprocessing(256, 224, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic")
    said = {"size": [224, 224], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bicubic"}
    assert crop.as_json() == {"mode": "crop", "resize": [256, 256], **said}
    assert replace(crop, mode="pad").as_json() == {"mode": "pad", **said}
    assert replace(crop, mode="full", most=640).as_json() == {"mode": "full", "max_side": 640, **said}


def shown(mode: ResizeMode, size: tuple[int, int], crop: Side = (40, 60), **others: Any) -> tuple[View, np.ndarray]:
    """How a photograph of noise is seen in some mode, by an input of 40 rows and 60 columns."""
    seen, view = Preprocessing(crop, crop, MEAN, STD, mode=mode, **others).crop_image(photo(size))
    return view, np.asarray(seen)


MEAN, STD = (0.2, 0.4, 0.6), (0.5,) * 3
MODES: tuple[ResizeMode, ...] = ("crop", "squash", "pad", "full")


@pytest.mark.parametrize(
    ("mode", "size", "expected"),
    [
        # 80 rows become 40, and so 140 columns 70, of which 5 are cut at either side.
        ("crop", (140, 80), View((140, 80), (60, 40), (10, 0, 130, 80))),
        ("squash", (140, 80), View((140, 80), (60, 40), (0, 0, 140, 80))),
        ("pad", (120, 160), View((120, 160), (60, 40), (-60, 0, 180, 160))),
        ("pad", (240, 80), View((240, 80), (60, 40), (0, -40, 240, 120))),
        # Multiples of 32 within 140 x 81, of which (140 - 128) / 2 and (81 - 64) / 2 are cut.
        ("full", (140, 81), View((140, 81), (128, 64), (6, 8, 134, 72))),
        # Enlarged 3.75 times until it covers 60 x 40: of 75 rows 64 are shown, from the seventh on (5.5 to even).
        ("full", (16, 20), View((16, 20), (60, 64), (0, 6 / 3.75, 16, 70 / 3.75))),
    ],
)
def test_where_each_mode_looks_is_worked_out_by_hand(mode: ResizeMode, size: tuple[int, int], expected: View) -> None:
    view, seen = shown(mode, size)
    assert seen.shape == (*view.size[::-1], 3)
    assert (view.image, view.size) == (expected.image, expected.size)
    assert view.box == pytest.approx(expected.box)


def test_full_takes_the_pixels_as_they_are() -> None:
    _, seen = shown("full", (140, 81))
    assert np.array_equal(seen, np.asarray(photo((140, 81)))[8:72, 6:134])


def test_full_reduces_what_is_longer_than_the_longest_side() -> None:
    view, seen = shown("full", (700, 500), most=350)
    # 350 x 250, of which 320 x 224 are shown.
    assert view == View((700, 500), (320, 224), (30, 26, 670, 474))
    half = photo((700, 500)).resize((350, 250), Image.Resampling.BILINEAR)
    assert np.array_equal(seen, np.asarray(half)[13:237, 15:335])


@pytest.mark.parametrize("mode", ["pad", "full"])
def test_a_border_has_the_mean_colour_which_is_zero_to_the_network(mode: ResizeMode) -> None:
    preprocessing = Preprocessing(40, 40, (0.2, 0.4, 0.6), (0.5,) * 3, mode=mode, most=400)
    inputs, view, seen = preprocessing.prepare(photo((800, 20)))
    colours = np.asarray(seen)
    top = int(np.flatnonzero((colours != (51, 102, 153)).any((1, 2)))[0])
    assert top > 10
    assert (colours[:top] == (51, 102, 153)).all()
    assert inputs[:, :top].abs().max() < 1e-6  # 51 / 255 is 0.2
    assert view.box[1] < 0
    assert view.box[3] > 20


@pytest.mark.parametrize("mode", MODES)
@given(width=st.integers(1, 300), height=st.integers(1, 300), crop=st.tuples(st.integers(8, 70), st.integers(8, 70)))
@settings(max_examples=40)
def test_every_mode_takes_every_size(mode: ResizeMode, width: int, height: int, crop: tuple[int, int]) -> None:
    preprocessing = Preprocessing(crop, crop, MEAN, STD, mode=mode, most=200)
    seen, view = preprocessing.crop_image(Image.new("RGB", (width, height), "white"))
    assert seen.size == view.size
    assert view.image == (width, height)
    if mode != "full":
        assert view.size == crop[::-1]
    else:
        assert all(side % 32 == 0 or side == least for side, least in zip(view.size, crop[::-1], strict=True))
        assert all(side <= max(200, least) for side, least in zip(view.size, crop[::-1], strict=True))
    if mode in ("squash", "pad"):
        assert view.is_whole
    # The white lies where the view says that the photograph is.
    white = (np.asarray(seen) == 255).all(2)
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    left, top, right, bottom = view.to_image((float(columns[0]), float(rows[0]), columns[-1] + 1.0, rows[-1] + 1.0))
    assert white[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert (left, right) == pytest.approx((max(view.box[0], 0), min(view.box[2], width)), abs=1e-4 * width)
    assert (top, bottom) == pytest.approx((max(view.box[1], 0), min(view.box[3], height)), abs=1e-4 * height)


@pytest.mark.parametrize("mode", MODES)
def test_proportions_stay_but_under_squash(mode: ResizeMode) -> None:
    view, _ = shown(mode, (301, 217))
    across = (view.box[2] - view.box[0]) / view.size[0]
    down = (view.box[3] - view.box[1]) / view.size[1]
    assert (across == pytest.approx(down, rel=0.02)) == (mode != "squash")


def test_an_input_that_is_not_square_covers_its_cover() -> None:
    # 300 rows become 50, and so 500 columns 83, of which 40 x 60 are shown from (5, 12) on (11.5 to even).
    _, view = Preprocessing((50, 70), (40, 60), MEAN, STD).crop_image(photo((500, 300)))
    assert view.size == (60, 40)
    assert view.box == pytest.approx((12 * 500 / 83, 5 * 6, 72 * 500 / 83, 45 * 6))


def test_grey_is_the_luminance_and_an_alpha_is_one_everywhere() -> None:
    picture = photo((20, 20))
    grey, _, seen = Preprocessing(20, 20, (0.25,), (0.5,)).prepare(picture)
    colours = np.asarray(picture).astype(float) @ (0.299, 0.587, 0.114)
    assert grey.shape == (1, 20, 20)
    assert np.abs((grey[0].numpy() * 0.5 + 0.25) * 255 - colours).max() <= 0.51  # Pillow rounds to whole levels
    assert seen.mode == "RGB"
    four, _, _ = Preprocessing(20, 20, (*MEAN, 0.5), (*STD, 0.25)).prepare(picture)
    three, _, _ = Preprocessing(20, 20, MEAN, STD).prepare(picture)
    assert torch.equal(four[:3], three)
    assert (four[3] == 2).all()


def test_black_and_white_follow_the_channels() -> None:
    frame = Preprocessing(20, (30, 40), (0.25,), (0.5,)).input_spec
    assert (frame.size, frame.black, frame.white) == ((30, 40), (-0.5,), (1.5,))
    # Neither black nor white can be seen through.
    four = Preprocessing(20, 20, (0.5, 0.5, 0.5, 0.0), (0.5, 0.5, 0.5, 1.0)).input_spec
    assert (four.black, four.white) == ((-1, -1, -1, 1), (1, 1, 1, 1))


@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_every_filter_is_pillows(interpolation: Interpolation) -> None:
    seen, _ = Preprocessing(40, 40, MEAN, STD, interpolation, "squash").crop_image(photo((99, 70)))
    expected = photo((99, 70)).resize((40, 40), Image.Resampling[interpolation.upper()])
    assert seen.tobytes() == expected.tobytes()
