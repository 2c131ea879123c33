"""What the network is shown lies over the photograph where it came from, in every mode and at every size."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from run.resuming import Listener, listed, run
from torch import Tensor, nn

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.geometry import View
from cnnviz_cli.models.input.input_overrides import InputOverrides, apply_overrides
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.render.canvas import draw_map, make_canvas, mark_unseen
from cnnviz_cli.render.scaling import pixels_in_box
from cnnviz_cli.render.style import Style
from cnnviz_cli.run.explain import Explainer, prepare

preparation = importlib.import_module("cnnviz_cli.run.session")

MODES = ("crop", "squash", "pad", "full")
SIZES = [(451, 301), (301, 451), (5, 7), (300, 9), (33, 250)]
SIDE = 24


class Bright(nn.Module):
    """One map, the brightness of patches of 2 x 2 pixels; the score of a class is its mean."""

    def __init__(self, channels: int = 3, kernel: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, kernel, stride=2, padding=(kernel - 1) // 2, bias=False)
        self.fc = nn.Linear(1, 2)
        self.conv.weight.fill_(1 / (channels * kernel**2))
        self.fc.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        self.fc.bias.fill_(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


class RowsFirst(Bright):
    """The same, its maps (B, h, w, C) with six channels, of which all but one are dark."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(1, 6, bias=False)
        self.fc = nn.Linear(6, 2)
        for layer in (self.mix, self.fc):
            layer.weight.fill_(0)
        self.mix.weight[2], self.fc.weight[0, 2] = 1, 1
        self.fc.bias.fill_(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.mix(self.conv(x).permute(0, 2, 3, 1)).relu().mean((1, 2)))


class SameAsRows(Bright):
    """64 channels at each of 64 rows, and 64 rows of 96 columns: by the shape alone, 96 channels of 64 x 64."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(1, 64, 1, bias=False)
        self.wide.weight.fill_(1 / 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.wide(self.conv(x)).relu().mean(1, keepdim=True).mean((2, 3)))


class Noisy(nn.Module):
    """Random weights, two convolutions and a max-pooling, for any number of channels."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.conv1(x).relu(), 2)
        return self.fc(self.conv2(x).relu().mean((2, 3)))


def loader(kind: Callable[..., nn.Module], *args: Any) -> Callable[..., LoadedModel]:
    """What `load_model` is replaced by."""

    def loaded(*_args: Any, overrides: InputOverrides, **_named: Any) -> LoadedModel:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            net = kind(*args).eval().requires_grad_(False)
        preset = Preprocessing(SIDE, SIDE, (0.5,) * 3, (0.5,) * 3)
        preprocessing, layers = apply_overrides(net, preset, overrides, "tiny")
        return LoadedModel(net, "tiny", "random:0", "0" * 64, tuple("abcde"), preprocessing, layers)

    return loaded


Preparing = Callable[..., Explainer]


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Preparing:
    """`prepared(command, network, **settings)`."""

    def made(command: str, kind: Callable[..., nn.Module], *args: Any, **given: Any) -> Explainer:
        monkeypatch.setattr(preparation, "load_model", loader(kind, *args))
        flags = {("device",): "cpu", **{tuple(name.split("__")): value for name, value in given.items()}}
        return prepare(command, load_settings(command, flags, None, {}), Listener())

    return made


def black(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """A black photograph with a white box."""
    picture = Image.new("RGB", size)
    picture.paste((255, 255, 255), box)
    return picture


def a_box_in(view: View) -> tuple[int, int, int, int]:
    """Some pixels of the photograph off the centre of what the network sees, three of the input's or more."""
    box = []
    for axis, share in ((0, 0.25), (1, 0.6)):
        low, high, side = view.box[axis], view.box[axis + 2], view.image[axis]
        start, stop = max(low, 0), min(high, side)
        length = min(max(1, round(max((stop - start) / 5, 3 * (high - low) / view.size[axis]))), side)
        first = min(int(start + share * (stop - start)), side - length)
        box.append((first, first + length))
    (left, right), (top, bottom) = box
    return left, top, right, bottom


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("input_size", ["24", "20x36"])
def test_a_marked_place_is_marked_where_it_is(
    mode: str, size: tuple[int, int], input_size: str, prepared: Preparing
) -> None:
    asked = prepared("gradcam", Bright, resize=mode, input_size=[input_size])
    assert_found(asked, size)


@pytest.mark.parametrize(("layer", "kind"), [("mix", RowsFirst), ("wide", SameAsRows)])
@pytest.mark.parametrize("size", [(192, 128), (128, 192), (260, 140)])
def test_maps_of_oblong_inputs_are_not_misread(
    size: tuple[int, int], layer: str, kind: type[nn.Module], prepared: Preparing
) -> None:
    asked = prepared("gradcam", kind, resize="full", gradcam__layer=[layer])
    assert_found(asked, size)
    asked = prepared("gradcam", kind, resize="squash", input_size=["128x192"], gradcam__layer=[layer])
    assert asked.session.model.layers[layer].shape[1:] == (64, 96)
    assert_found(asked, size)


def assert_found(asked: Explainer, size: tuple[int, int]) -> None:
    """A white box in a black photograph of that size is where the map over it is drawn."""
    preprocessing = asked.session.model.preprocessing
    box = a_box_in(preprocessing.crop_image(Image.new("RGB", size))[1])
    photo = black(size, box)
    inputs, view, _ = preprocessing.prepare(photo)
    _, [[panel]] = asked.explain_batch(inputs[None], ["0" * 64], Listener())
    assert panel.values.shape[2:] == (view.size[1] // 2, view.size[0] // 2)
    stage = make_canvas(photo, view)
    drawn = np.asarray(draw_map(panel.pick(0), stage, Style()), float)
    change = np.abs(drawn - np.asarray(mark_unseen(stage), float)).sum(2)
    rows, columns = (np.arange(length) + 0.5 for length in change.shape)
    centre = (change.sum(0) @ columns / change.sum(), change.sum(1) @ rows / change.sum())
    # To a cell of the map, which is two pixels of the input; the border of a photograph pulls inwards.
    cells = [2 * (view.box[2] - view.box[0]) / view.size[0], 2 * (view.box[3] - view.box[1]) / view.size[1]]
    for at, low, high, cell, length in zip(centre, box[:2], box[2:], cells, size, strict=True):
        assert at / stage.factor == pytest.approx((low + high) / 2, abs=max(cell, 0.03 * length))


@pytest.mark.parametrize("mode", MODES)
def test_only_what_was_not_seen_is_hatched(mode: str, prepared: Preparing) -> None:
    preprocessing = prepared("gradcam", Bright, resize=mode, input_size=["224"]).session.model.preprocessing
    photo = Image.new("RGB", (451, 301), (200, 30, 30))
    stage = make_canvas(photo, preprocessing.crop_image(photo)[1])
    left, top, right, bottom = {
        "crop": (75, 0, 376, 301),  # the middle 301 columns
        "squash": (0, 0, 451, 301),
        "pad": (0, 0, 451, 301),
        "full": (2, 6, 450, 294),  # 448 x 288
    }[mode]
    assert pixels_in_box(stage.view.box, photo.size) == pytest.approx((left, top, right, bottom), abs=1)
    kept = (np.asarray(mark_unseen(stage)) == (200, 30, 30)).all(2)
    assert kept.sum() == pytest.approx((right - left) * (bottom - top), rel=0.01)
    assert kept[top + 1 : bottom - 1, left + 1 : right - 1].all()


@pytest.mark.parametrize("mode", MODES)
def test_patches_lie_over_what_caused_them(mode: str, prepared: Preparing) -> None:
    asked = prepared("deconv", lambda: Bright(kernel=3), resize=mode, deconv__layer=["conv"], deconv__maps="1")
    size = (330, 160)
    box = a_box_in(asked.session.model.preprocessing.crop_image(Image.new("RGB", size))[1])
    inputs, view, _ = asked.session.model.preprocessing.prepare(black(size, box))
    _, [[panel]] = asked.explain_batch(inputs[None], ["0" * 64], Listener())
    (row,) = panel.pick(0).rows
    assert row.values.shape == (1, 3, *view.size[::-1])
    assert row.field == (3, 3)
    left, top, right, bottom = view.to_image(tuple(row.boxes[0].tolist()))
    # Three pixels of the input, of which some is white.
    across, down = ((view.box[end + 2] - view.box[end]) / view.size[end] for end in (0, 1))
    assert (right - left, bottom - top) == pytest.approx((3 * across, 3 * down), rel=1e-4)
    assert left < box[2]
    assert right > box[0]
    assert top < box[3]
    assert bottom > box[1]
    # The strongest position is wholly white where the box is large enough for that.
    assert box[0] - across <= left <= right <= box[2] + across
    assert box[1] - down <= top <= bottom <= box[3] + down


def photographs(folder: Path) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for number, (width, height) in enumerate([(70, 100), (70, 100), (131, 45), (3, 9), (99, 66)]):
        pixels = random.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def maps_of(out: Path) -> list[dict[str, Any]]:
    return [dict(np.load(path)) for path in sorted(out.glob("*/arrays.npz"))]


@pytest.mark.parametrize("mode", MODES)
def test_a_run_takes_photographs_of_all_sizes_together(
    mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(preparation, "load_model", loader(Noisy))
    sources = listed(photographs(tmp_path / "in"))
    how = {"resize": mode, "save_arrays": True}
    for name, batch in (("together", "3"), ("alone", "1")):
        assert run(tmp_path / name, sources, batch_size=batch, **how).status == "ok"
    together, alone = maps_of(tmp_path / "together"), maps_of(tmp_path / "alone")
    sides = [(96, 64)] * 2 + [(32, 128), (64, 24), (64, 96)] if mode == "full" else [(SIDE, SIDE)] * 5
    for first, second, (height, width) in zip(together, alone, sides, strict=True):
        assert first.keys() == second.keys() == {"gradcam.map"}
        assert first["gradcam.map"].shape == (1, height // 2, width // 2)
        np.testing.assert_allclose(first["gradcam.map"], second["gradcam.map"], rtol=1e-4, atol=1e-7)


def test_another_shape_is_another_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(preparation, "load_model", loader(Noisy))
    sources = listed(photographs(tmp_path / "in"))
    run(tmp_path / "out", sources)
    heard = Listener()
    with pytest.raises(UsageError, match="a finished run with other settings is in the way"):
        run(tmp_path / "out", sources, heard, resize="pad", mean=["0.25"])
    run(tmp_path / "out", sources, heard, resize="pad", mean=["0.25"], force=True)
    assert any("done with other settings" in text and "resize" in text for text in heard.warned)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["model"]["preprocessing"] == {
        "mode": "pad", "size": [SIDE, SIDE], "mean": [0.25] * 3, "std": [0.5] * 3, "interpolation": "bilinear",
    }  # fmt: skip
    assert (manifest["run"]["config"]["resize"], manifest["run"]["config"]["mean"]) == ("pad", [0.25])


QUICK = {
    "saliency__samples": "2", "saliency__steps": "2", "saliency__masks": "3", "saliency__draws": "20",
    "saliency__cells": "4", "gradcam__noisy_masks": "2", "gradcam__mask_steps": "2", "gradcam__noisy_inputs": "2",
}  # fmt: skip


@pytest.mark.parametrize("channels", [1, 4])
def test_every_method_takes_a_network_of_other_channels(
    channels: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(preparation, "load_model", loader(Noisy, channels))
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    from cnnviz_cli.run import execute

    flags: dict[tuple[str, ...], Any] = {tuple(name.split("__")): value for name, value in QUICK.items()}
    flags |= {(family, "method"): ["all"] for family in ("saliency", "gradcam", "features")}
    flags |= {("deconv", "method"): ["all"], ("output",): str(tmp_path / "out"), ("device",): "cpu"}
    flags[("save_arrays",)] = True
    settings = load_settings("all", flags, None, {})
    heard = Listener()
    outcome = execute("all", settings, listed(folder), heard)
    assert outcome.status == "ok"
    (record,) = json.loads(outcome.manifest.read_text())["images"]
    found = {output["method"] for output in record["outputs"]}
    assert {"gradient", "gradcam", "deconvnet", "class", "lrp", "lime", "xrai", "guided-backprop"} <= found
    assert not any("nonfinite" in text for text in heard.warned)
    arrays = maps_of(tmp_path / "out")[0]
    assert arrays["deconv.class.picture"].shape == (channels, SIDE, SIDE)


def test_a_method_that_does_not_apply_at_a_size_fails_the_photograph(prepared: Preparing) -> None:
    asked = prepared("gradcam", Bright, resize="full", gradcam__method=["kpca-cam"])
    assert asked.at_size((SIDE, SIDE)) is asked
    assert asked.at_size((64, 96)) is asked.at_size((64, 96))
    assert asked.at_size((64, 96)).session.context.layers["conv"].shape == (1, 32, 48)
    assert asked.at_size((64, 96)).session.context.input_spec.size == (64, 96)
    with pytest.raises(ImageError, match="at 512 x 512 pixels: layer 'conv' has 256 x 256 positions"):
        asked.at_size((512, 512))


def test_words_mean_the_same_layers_at_every_size(prepared: Preparing) -> None:
    asked = prepared("deconv", Noisy, resize="full", deconv__layer=["stages"])
    usual = asked.session.context.layers
    there = asked.at_size((96, 64)).session.context.layers
    assert there.resolve(["stages"]) == usual.resolve(["stages"])
    assert [there[name].shape[1:] for name in there.resolve(["stages"])] == [(96, 64), (48, 32)]


def test_full_says_up_to_which_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "load_model", loader(Bright))
    heard = Listener()
    flags = {("device",): "cpu", ("resize",): "full", ("max_side",): "320"}
    prepare("gradcam", load_settings("gradcam", flags, None, {}), heard)
    assert heard.said == ["images keep their own size, up to 320 pixels a side (--max-side)"]
    heard = Listener()
    prepare("gradcam", load_settings("gradcam", {("device",): "cpu"}, None, {}), heard)
    assert heard.said == []


class Tokens(Bright):
    """A list of positions, of which only those of a square are all there, and can be laid out again."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        positions = self.conv(x).flatten(2).transpose(1, 2)
        return self.fc(self.mix(positions if x.shape[2] == x.shape[3] else positions[:, 5:]).mean(1))


def test_full_needs_layers_that_can_be_read_at_all_sizes(prepared: Preparing) -> None:
    prepared("gradcam", Tokens, resize="pad", gradcam__layer=["mix"])
    prepared("gradcam", Tokens, resize="full", gradcam__layer=["conv"])
    with pytest.raises(UsageError, match="tiny is read at one size only: at 32 x 64 pixels: the maps of layer 'mix'"):
        prepared("gradcam", Tokens, resize="full", gradcam__layer=["mix"])
