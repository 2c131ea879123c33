"""Networks that prepare their input themselves are shown pictures that they leave as they are."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.geometry import shorter_side
from cnnviz_cli.models.input.builtin_transform import BuiltinTransform, preset_for
from cnnviz_cli.models.input.input_overrides import InputOverrides, apply_overrides
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.load import zoo
from cnnviz_cli.models.load.built_model import set_eval_mode
from cnnviz_cli.models.load.loaded_model import load_model

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
FASTER = BuiltinTransform("transform", 800, 1333, 32, None, tuple(MEAN), tuple(STD))
SSD = BuiltinTransform("transform", 300, 300, 1, (300, 300), tuple(MEAN), tuple(STD))


class Detects(nn.Module):
    """A transform of torchvision's, and one box for each picture."""

    def __init__(self, least: int = 64, most: int = 150, step: int = 32, fixed: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.prepares = GeneralizedRCNNTransform(least, most, MEAN, STD, size_divisible=step, fixed_size=fixed)
        self.conv = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, pictures: Any) -> Any:
        sizes = [tuple(picture.shape[-2:]) for picture in pictures]
        inputs, _ = self.prepares(pictures)
        maps = self.conv(inputs.tensors)
        found = [
            {"boxes": torch.tensor([[8.0, 8, 16, 16]]), "scores": one.mean().sigmoid()[None], "labels": torch.ones(1)}
            for one in maps
        ]
        return self.prepares.postprocess(found, inputs.image_sizes, sizes)


@cache
def blank(name: str) -> tuple[Any, Any]:
    """Of torchvision's network without weights, which is not changed; and its preset."""
    return zoo.build_blank(name)


def photo(size: tuple[int, int]) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


sides = st.integers(1, 400)


@given(
    sides, sides, st.sampled_from([(64, 150, 32, None), (60, 150, 1, None), (50, 50, 1, (40, 60)), (64, 128, 16, None)])
)
def test_it_knows_what_the_transform_does(height: int, width: int, settings: Any) -> None:
    net = Detects(*settings)
    inside = BuiltinTransform.find(net)
    assert inside is not None
    assert inside.name == "prepares"
    resized = inside.resized_size((height, width))
    if min(resized) < 1:
        return  # which the transform refuses
    inputs, _ = net.prepares([torch.zeros(3, height, width)])
    assert inputs.image_sizes == [resized]
    assert inside._padded_size(resized) == tuple(inputs.tensors.shape[-2:])
    assert inside.leaves_unchanged((height, width)) == (resized == (height, width) == tuple(inputs.tensors.shape[-2:]))
    if inside.leaves_unchanged((height, width)):
        assert inside.keeps_proportions((height, width))


@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"])
@pytest.mark.parametrize("size", [(640, 480), (480, 640), (100, 100), (33, 31), (1000, 400), (400, 1000), (1600, 900)])
def test_what_torchvisions_see_is_pixel_for_pixel_the_input(name: str, size: tuple[int, int]) -> None:
    net: Any = blank(name)[0].eval()
    preset = preset_for(net, Preprocessing(1, 1, (), ()), name)
    given, view, _ = preset.prepare(photo(size))
    inputs, _ = net.transform(given[None])
    mean, std = (torch.tensor(values)[:, None, None] for values in (net.transform.image_mean, net.transform.image_std))
    assert torch.equal(inputs.tensors[0], (given - mean) / std)
    assert inputs.image_sizes == [tuple(given.shape[1:])]
    assert (given.shape[2], given.shape[1]) == view.size
    # And boxes in it are boxes in what we gave.
    (found,) = net.transform.postprocess(
        [{"boxes": torch.tensor([[1.0, 2.0, 30.0, 40.0]])}], inputs.image_sizes, [tuple(given.shape[1:])]
    )
    assert found["boxes"].tolist() == [[1.0, 2.0, 30.0, 40.0]]


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (300, 200), (900, 300), (300, 900)])
@pytest.mark.parametrize("net", [Detects(), Detects(fixed=(96, 96), step=1)])
def test_a_marked_patch_is_where_the_view_says(net: Detects, size: tuple[int, int]) -> None:
    preset = preset_for(net, Preprocessing(1, 1, (), ()), "net")
    picture = Image.new("RGB", size)
    box = (size[0] // 3, size[1] // 3, 2 * size[0] // 3, 2 * size[1] // 3)
    picture.paste((255, 255, 255), box)
    given, view, _ = preset.prepare(picture)
    inputs, _ = net.prepares(given[None])
    seen = inputs.tensors[0] * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    rows, columns = np.nonzero((seen.min(0).values > 0.6).numpy())
    across, down = size[0] / view.size[0], size[1] / view.size[1]
    found = view.to_image((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    assert found == pytest.approx(box, abs=1.5 * max(across, down))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fasterrcnn_mobilenet_v3_large_320_fpn", ("full", 320, 640, 320, tuple(MEAN))),
        ("fasterrcnn_mobilenet_v3_large_fpn", ("full", 800, 1312, 800, tuple(MEAN))),
        ("ssdlite320_mobilenet_v3_large", ("squash", (320, 320), 1024, None, (0.5, 0.5, 0.5))),
    ],
)
def test_presets_of_torchvisions(name: str, expected: tuple[Any, ...]) -> None:
    preset = preset_for(blank(name)[0], Preprocessing(1, 1, (), ()), name)
    assert (preset.mode, preset.crop, preset.most, preset.side, preset.fill) == expected
    assert (preset.mean, preset.std) == ((0.0,) * 3, (1.0,) * 3)


def test_a_network_that_pads_whatever_it_is_given_is_refused() -> None:
    with pytest.raises(UsageError, match=r"net pads every image: .* multiples of 32") as caught:
        preset_for(Detects(60, 150), Preprocessing(1, 1, (), ()), "net")
    assert "multiple of 32" in caught.value.fix
    # Not where it does not have to.
    assert preset_for(Detects(60, 150, 1), Preprocessing(1, 1, (), ()), "net").size == (60, 60)
    plain = Preprocessing(1, 1, (), ())
    assert preset_for(nn.Conv2d(3, 3, 1), plain, "net") is plain


@pytest.mark.parametrize(
    ("inside", "size", "said"),
    [
        (FASTER, (800, 800), None),
        (FASTER, (800, 1312), None),
        (FASTER, (1088, 800), None),
        (FASTER, (400, 400), None),  # twice as large inside
        (FASTER, (200, 320), None),
        (FASTER, (400, 600), r"400 x 600 and pads it to 800 x 1216.*--input-size 800x1216"),
        (FASTER, (800, 1333), r"800 x 1333 and pads it to 800 x 1344.*--input-size 800x1312"),
        (FASTER, (600, 300), r"600 x 300 and pads it to 1344 x 672.*--input-size 1312x800"),
        (SSD, (300, 300), None),
        (SSD, (450, 450), None),
        (SSD, (300, 400), r"300 x 400 and brings it to 300 x 300.*--input-size 300x300"),
    ],
)
def test_inputs_that_would_lie_otherwise_inside_are_refused(
    inside: BuiltinTransform, size: Any, said: str | None
) -> None:
    if said is None:
        inside.check_size(size, "net")
        return
    with pytest.raises(UsageError) as caught:
        inside.check_size(size, "net")
    assert caught.value.where == "--input-size"
    what, fix = said.split(".*")
    assert what in caught.value.what
    assert caught.value.fix.endswith(fix)
    near = tuple(map(int, fix.removeprefix("--input-size ").split("x")))
    assert inside.leaves_unchanged((near[0], near[1]))


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([(512, 1024), (320, 640), (300, 300), (600, 700)]))
def test_whole_photographs(width: int, height: int, sizes: tuple[int, int]) -> None:
    side, most = sizes
    placing = shorter_side((width, height), side, most, 32)
    assert min(placing.size) == side
    assert max(placing.size) == side or (max(placing.size) % 32 == 0 and max(placing.size) <= max(most, side))
    assert (placing.size[0] >= placing.size[1]) == (width >= height) or placing.size[0] == placing.size[1]
    # All of it is within the window, at its proportions to half a step.
    assert placing.within == (0, 0, *placing.resized)
    across, down = placing.resized[0] / width, placing.resized[1] / height
    assert abs(across / down - 1) <= 32 / min(placing.resized)


def test_whole_photographs_by_hand() -> None:
    # 520 is nearest to 512; 640 x 480 becomes 683 x 512, whose nearest multiple is 672.
    assert shorter_side((640, 480), 512, 1024, 32).size == (672, 512)
    assert shorter_side((480, 640), 512, 1024, 32).resized == (512, 672)
    # 16 : 9 of a detector becomes 1422, more than 1333: all of 1312, and the rest of the height beside it.
    placing = shorter_side((1600, 900), 800, 1333, 32)
    assert (placing.size, placing.resized) == ((1312, 800), (1312, 738))
    assert placing.view_of((1600, 900)).box == pytest.approx((0, -31 * 900 / 738, 1600, 769 * 900 / 738))


def test_segmenters_see_the_whole_photograph(reporter: Any) -> None:
    loaded = load_model("lraspp_mobilenet_v3_large", "random:0", reporter=reporter)
    preset = loaded.preprocessing
    assert preset == Preprocessing(512, 512, tuple(MEAN), tuple(STD), "bilinear", "full", 1024, 512)
    assert preset.as_json() == {
        "mode": "full",
        "size": [512, 512],
        "mean": MEAN,
        "std": STD,
        "interpolation": "bilinear",
        "max_side": 1024,
        "shorter_side": 512,
        "multiples_of": 32,
    }
    given, view, _ = preset.prepare(photo((640, 480)))
    assert given.shape == (3, 512, 672)
    assert view.is_whole
    assert preset.trial_size == (512, 576)
    # Up to the rounding of its size it is what torchvision makes of the photograph.
    theirs = models.get_model_weights("lraspp_mobilenet_v3_large").DEFAULT.transforms()(photo((640, 480)))
    assert theirs.shape == (3, 520, 693)
    assert given.mean((1, 2)).tolist() == pytest.approx(theirs.mean((1, 2)).tolist(), abs=1e-2)


def test_what_is_wanted_of_a_preset_for_whole_photographs() -> None:
    preset = Preprocessing(512, 512, tuple(MEAN), tuple(STD), "bilinear", "full", 1024, 512)
    assert InputOverrides().apply_to(preset) == preset
    assert InputOverrides(most=2048).apply_to(preset) == replace(preset, most=2048)
    sized = InputOverrides(size=(256, 320)).apply_to(preset)
    assert (sized.mode, sized.side, sized.size, sized.resized_size) == ("pad", None, (256, 320), (256, 320))
    own = InputOverrides("full").apply_to(preset)
    assert (own.mode, own.side, own.size) == ("full", None, (512, 512))
    crop = InputOverrides("crop").apply_to(preset)
    assert (crop.mode, crop.side, crop.size) == ("crop", None, (512, 512))
    with pytest.raises(UsageError, match="less than the smallest"):
        InputOverrides(most=300).apply_to(preset)


def test_what_is_wanted_of_a_detector(reporter: Any) -> None:
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    net, preset = blank(name)
    set_eval_mode(net)

    def loaded(**wanted: Any) -> Preprocessing:
        return apply_overrides(net, preset_for(net, preset, name), InputOverrides(**wanted), name)[0]

    plain = load_model(name, "random:0", reporter=reporter).preprocessing
    assert loaded(mode="full") == loaded() == plain
    assert plain.as_json()["fill"] == MEAN
    limited = loaded(most=500)
    assert limited.most == 500
    assert limited.prepare(photo((800, 400)))[0].shape == (3, 320, 480)
    assert (loaded(size=(160, 192)).mode, loaded(mode="crop").mode) == ("pad", "crop")
    for wanted, where in (
        ({"size": (320, 500)}, "--input-size"),
        ({"mode": "full", "size": (320, 320)}, "--input-size"),
        ({"most": 700}, "--max-side"),
    ):
        with pytest.raises(UsageError) as caught:
            loaded(**wanted)
        assert caught.value.where == where
    with pytest.raises(UsageError) as caught:
        load_model("ssdlite320_mobilenet_v3_large", "random:0", overrides=InputOverrides("full"), reporter=reporter)
    assert caught.value.where == "--resize full"
