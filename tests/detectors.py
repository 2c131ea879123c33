"""Small detectors with random weights, of each of torchvision's families and one of our own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.ssd import SSD
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from cnnviz_cli.tasks.detection import Boxes

SIZE = 32
"""Height and width of the input, which is what they resize to."""

LABELS = 4


class Trunk(nn.Module):
    """Two levels of 8 by 8 and 4 by 4 positions, what is coarse added to what is fine."""

    def __init__(self, channels: int, *, listed: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, 2, 1)
        self.bn1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 8, 3, 2, 1)
        self.conv3 = nn.Conv2d(8, 8, 3, 2, 1)
        self.fpn = FeaturePyramidNetwork([8, 8], channels)
        self.out_channels: Any = [channels, channels] if listed else channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        fine = self.relu(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        coarse = self.relu(self.conv3(fine))
        return self.fpn(OrderedDict([("0", fine), ("1", coarse)]))


LAYER = "backbone.conv3"
"""The last before the pyramid, on which scores of both levels depend."""


class Grid(nn.Module):
    """Our own: a box of fixed place for each position of a grid, scored by the sigmoid of a 1x1 convolution.

    Position p of the 4 x 4 grid has the box of its own 8 x 8 pixels. The label is the channel. Only scores above
    `least` are returned, the highest first.
    """

    def __init__(self, least: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 8, 8)
        self.relu = nn.ReLU()
        self.score = nn.Conv2d(5, LABELS, 1)
        self.least = least

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        scores = self.score(self.relu(self.conv(x))).sigmoid()
        return [self._boxes(one) for one in scores]

    def _boxes(self, scores: Tensor) -> dict[str, Tensor]:
        flat = scores.flatten()
        order = flat.argsort(descending=True)
        order = order[flat[order] > self.least]
        label, place = order // 16, order % 16
        corner = torch.stack([place % 4, place // 4], 1).to(flat) * 8
        return {"boxes": torch.cat([corner, corner + 8], 1), "scores": flat[order], "labels": label}


def _anchors() -> AnchorGenerator:
    return AnchorGenerator(((8,), (16,)), ((1.0,), (1.0,)))


_INSIDE: dict[str, Any] = {"min_size": SIZE, "max_size": 2 * SIZE, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}


def rcnn(least: float) -> nn.Module:
    return detection.FasterRCNN(
        Trunk(8),
        rpn_anchor_generator=_anchors(),
        rpn_post_nms_top_n_test=12,
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], 3, 2, canonical_scale=12, canonical_level=2),
        box_head=TwoMLPHead(72, 16),
        box_predictor=FastRCNNPredictor(16, LABELS),
        box_score_thresh=least,
        **_INSIDE,
    )


def masks(least: float) -> nn.Module:
    """Mask R-CNN, which goes on after the boxes are known."""
    net = rcnn(least)
    return detection.MaskRCNN(
        net.backbone,
        rpn_anchor_generator=_anchors(),
        rpn_post_nms_top_n_test=12,
        box_roi_pool=net.roi_heads.box_roi_pool,
        box_head=net.roi_heads.box_head,
        box_predictor=net.roi_heads.box_predictor,
        box_score_thresh=least,
        mask_roi_pool=MultiScaleRoIAlign(["0", "1"], 4, 2, canonical_scale=12, canonical_level=2),
        mask_head=MaskRCNNHeads(8, (8,), 1),
        mask_predictor=MaskRCNNPredictor(8, 8, LABELS),
        **_INSIDE,
    )


def retinanet(least: float) -> nn.Module:
    return detection.RetinaNet(
        Trunk(8), LABELS, anchor_generator=_anchors(), score_thresh=least, topk_candidates=30, **_INSIDE
    )


def fcos(least: float) -> nn.Module:
    # Its heads normalise by groups of 32.
    return detection.FCOS(
        Trunk(32), LABELS, anchor_generator=_anchors(), score_thresh=least, topk_candidates=30, **_INSIDE
    )


def ssd(least: float) -> nn.Module:
    boxes = DefaultBoxGenerator([[2], [2]], scales=[0.2, 0.4, 0.6])
    return SSD(
        Trunk(8, listed=True),
        boxes,
        (SIZE, SIZE),
        LABELS,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        score_thresh=least,
        topk_candidates=30,
    )


FAMILIES: dict[str, Callable[[float], nn.Module]] = {"rcnn": rcnn, "retinanet": retinanet, "fcos": fcos, "ssd": ssd}


def build(family: str, least: float = 0.0, seed: int = 0) -> nn.Module:
    """A seeded float64 instance in eval mode, its parameters frozen, whose scores spread from 0 to 1.

    Args:
        family: one of `FAMILIES`, "masks" or "grid".
        least: scores above it are returned.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = {**FAMILIES, "masks": masks, "grid": Grid}[family](least)
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                # Boxes stay near their anchors, so that all of them have an area.
                gain = 0.02 if any(word in name for word in ("bbox", "regression")) else 2.0
                module.weight.data.normal_(std=(gain / module.weight[0].numel()) ** 0.5)
                if module.bias is not None:
                    # FCOS gives a box's sides in steps of the level, from zero on.
                    module.bias.data.normal_(1.0 if family == "fcos" and "bbox_reg" in name else 0.0, 0.1)
            elif isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
    return net.double().eval().requires_grad_(False)


def pictures(count: int, seed: int = 1) -> Tensor:
    """(count, 3, SIZE, SIZE) float64 noise."""
    return torch.randn(count, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def likeliest(order: Tensor) -> Tensor:
    """(B, 2) the second and the first box, as a `choose` function."""
    return order.sort(dim=1, descending=True, stable=True).indices[:, [1, 0]]


READ: dict[str, Any] = {"readout": Boxes()}
"""What the engine is told."""
