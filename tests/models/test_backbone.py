"""The layers that words mean in segmenters and detectors, worked out by hand."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import segmentation
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from cnnviz_cli.models.inspect.layers import ModelLayers
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load import zoo
from cnnviz_cli.models.spec.catalog import model_names

# The trunks return: of segmenters one map, of L-RASPP two, all on the scores' way. Of feature pyramids every map comes
# by way of the deepest inner block, from which the top-down path starts, and the extra levels from its output, except
# where they are made of the body's (LastLevelP6P7 of 2048 channels): there the body's last stage is the last that all
# share. Of SSD the first map that is returned is on the way to all others.
DEFAULT = {
    "deeplabv3_mobilenet_v3_large": "backbone.16",
    "deeplabv3_resnet101": "backbone.layer4",
    "deeplabv3_resnet50": "backbone.layer4",
    "fcn_resnet101": "backbone.layer4",
    "fcn_resnet50": "backbone.layer4",
    "lraspp_mobilenet_v3_large": "backbone.16",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "backbone.fpn.inner_blocks.1",
    "fasterrcnn_mobilenet_v3_large_fpn": "backbone.fpn.inner_blocks.1",
    "fasterrcnn_resnet50_fpn": "backbone.fpn.inner_blocks.3",
    "fasterrcnn_resnet50_fpn_v2": "backbone.fpn.inner_blocks.3",
    "fcos_resnet50_fpn": "backbone.fpn.inner_blocks.2",
    "keypointrcnn_resnet50_fpn": "backbone.fpn.inner_blocks.3",
    "maskrcnn_resnet50_fpn": "backbone.fpn.inner_blocks.3",
    "maskrcnn_resnet50_fpn_v2": "backbone.fpn.inner_blocks.3",
    "retinanet_resnet50_fpn": "backbone.fpn.inner_blocks.2",
    "retinanet_resnet50_fpn_v2": "backbone.body.layer4",
    "ssd300_vgg16": "backbone.features",
    "ssdlite320_mobilenet_v3_large": "backbone.features.0",
}
SLOW = (
    "ssd300_vgg16", "maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "keypointrcnn_resnet50_fpn",
    "deeplabv3_resnet101", "fcn_resnet101", "fasterrcnn_mobilenet_v3_large_fpn", "deeplabv3_resnet50",
    "fcos_resnet50_fpn",
)  # fmt: skip
"""Those that are like another but for a longer trunk or another head."""


@cache
def layers_of(name: str, side: int = 64) -> ModelLayers:
    """With a small picture, which detectors are told to see as it is."""
    net: Any = zoo.build_blank(name)[0].eval()
    transform = getattr(net, "transform", None)
    if transform is not None and transform.fixed_size:
        side = transform.fixed_size[0]
    elif transform is not None:
        transform.min_size, transform.max_size = (side,), 2 * side
    return probe_layers(net, (3, side, side), name)


def test_the_table_is_complete() -> None:
    assert set(DEFAULT) == {*model_names("segmentation"), *model_names("detection")}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in DEFAULT]
)
def test_default_layers(name: str) -> None:
    layers = layers_of(name)
    (last,) = layers.resolve(["last-conv"])
    assert last == DEFAULT[name]
    words = {word: layers.resolve([word]) for word in ("stages", "low", "mid", "high", "low-mid-high", "conv")}
    end = layers[last].order
    for word in ("stages", "low", "mid", "high", "low-mid-high"):
        assert all(layers[layer].order <= end for layer in words[word])
        assert all(layer.startswith("backbone.") for layer in words[word])
    assert words["high"] == words["stages"][-1:]
    assert layers[words["high"][0]].shape == layers[last].shape
    convolutions = [layer for layer in words["conv"] if not layer.startswith("backbone.")]
    assert bool(convolutions) == (layers.returned.kind == "maps")


@pytest.mark.parametrize(
    ("name", "layer", "size", "stride"),
    [
        # 7 and 3 of stride 2, then 3 of stride 1 three times: 7, 11, 35. The second stage halves once more: 43, 91.
        # Where the two others would, they dilate from their second convolution on: 107, 267, 299, 427.
        ("fcn_resnet50", "backbone.layer4", 427, 8),
        ("fcn_resnet50", "backbone.layer3", 267, 8),
        # The same with strides instead.
        ("fasterrcnn_resnet50_fpn", "backbone.fpn.inner_blocks.3", 427, 32),
        ("fasterrcnn_resnet50_fpn", "backbone.body.layer1", 35, 4),
        # Ten convolutions of 3 and three poolings of 2: 5, 6, 14, 16, 40, 44, 92.
        pytest.param("ssd300_vgg16", "backbone.features", 92, 8, marks=pytest.mark.slow),
    ],
)
def test_receptive_fields(name: str, layer: str, size: int, stride: int) -> None:
    field = layers_of(name)[layer].field
    assert field is not None
    assert (field.size, field.stride) == ((size, size), (stride, stride))


def test_receptive_fields_are_not_known_where_the_network_resizes() -> None:
    net: Any = zoo.build_blank("fasterrcnn_resnet50_fpn")[0].eval()
    net.transform.min_size, net.transform.max_size = (128,), 256
    layers = probe_layers(net, (3, 64, 64), "resized")
    assert layers.resolve(["last-conv"]) == ("backbone.fpn.inner_blocks.3",)
    assert layers["backbone.body.layer1"].field is None
    assert layers["backbone.body.layer1"].shape == (256, 32, 32)


def test_what_runs_for_each_box_is_no_layer() -> None:
    layers = layers_of("fasterrcnn_resnet50_fpn_v2")
    heads = [name for name in layers.kinds if name.startswith("roi_heads.box_head.") and name in layers.not_layers]
    assert "roi_heads.box_head.0.0" in heads
    assert "for each box" in layers.not_layers["roi_heads.box_head.0.0"]
    assert not any(info.name.startswith("roi_heads.") for info in layers)


class UNet(nn.Module):
    """Down, up and across; scores at the picture's size."""

    def __init__(self, classes: int = 5, width: int = 6) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.two = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.join = nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU(inplace=True))
        self.head = nn.Sequential(nn.Dropout(), nn.Conv2d(width, classes, 1))
        self.side = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Any:
        self.side(x)  # as if for training
        first = self.one(x)
        return self.head(self.join(torch.cat([first, self.up(self.two(first))], 1)))


class Resized(UNet):
    """The last convolution's maps are brought to the picture's size, and something unused comes after."""

    def forward(self, x: Tensor) -> Any:
        maps = self.head(self.two(self.one(x)).narrow(1, 0, 6))
        scores = nn.functional.interpolate(maps, x.shape[-2:], mode="bilinear")
        self.side(x)
        return {"out": scores}


class Embedding(nn.Module):
    """A (B, D, 1, 1) tensor: as many channels as the last layer's, which is what there is to look at."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("net", "last"),
    [
        (UNet(), "join"),
        (UNet(classes=6), "join"),
        (Resized(), "two"),
        (Embedding(), "conv"),
        (nn.Conv2d(3, 4, 3), None),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "0"),
    ],
)
def test_without_a_trunk_it_is_the_last_before_the_scores(net: nn.Module, last: str | None) -> None:
    layers = probe_layers(net.eval(), (3, 16, 16), "net")
    assert layers.returned.kind == ("scores" if isinstance(net, Embedding) else "maps")
    assert [info.name for info in layers._match("last-conv")] == ([last] if last else [])


def test_a_trunk_within_a_trunk_and_one_that_is_not_used() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            body = models.resnet18(weights=None)
            self.backbone = IntermediateLayerGetter(body, {"layer1": "low", "layer3": "out"})
            self.other = IntermediateLayerGetter(nn.Sequential(nn.Conv2d(64, 8, 1)), {"0": "out"})
            self.classifier = segmentation.fcn.FCNHead(64, 3)

        def forward(self, x: Tensor) -> Any:
            maps = self.backbone(x)
            self.other(maps["low"])
            return {"out": self.classifier(maps["low"])}

    layers = probe_layers(Two().eval(), (3, 64, 64), "two")
    # The third stage is computed, but no score depends on it.
    assert layers.resolve(["last-conv"]) == ("backbone.layer1",)


def test_a_detector_whose_backbone_returns_one_map() -> None:
    """As in torchvision's own example."""
    backbone: Any = models.mobilenet_v2(weights=None, width_mult=0.25).features
    backbone.out_channels = 1280
    net = FasterRCNN(
        backbone,
        box_head=TwoMLPHead(1280 * 7 * 7, 8),
        box_predictor=FastRCNNPredictor(8, 2),
        rpn_anchor_generator=AnchorGenerator(((32,),), ((1.0,),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2),
        min_size=64,
        max_size=128,
    )
    layers = probe_layers(net.eval(), (3, 64, 96), "example")
    assert layers.resolve(["last-conv"]) == ("backbone",)
    assert layers["backbone"].shape == (1280, 2, 3)
    # Of the whole picture's pixels as of a classifier's: nothing was lost on the way in.
    alone = probe_layers(nn.Sequential(backbone, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), (3, 64, 96), "alone")
    assert layers["backbone"].field == alone["0"].field is not None
