"""Detectors are told from which score on a box counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from cnnviz_cli.models.load.built_model import set_score_threshold
from cnnviz_cli.models.spec.catalog import model_names

QUICK = ("fasterrcnn_mobilenet_v3_large_320_fpn", "fcos_resnet50_fpn", "ssdlite320_mobilenet_v3_large")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in model_names("detection")],
)
def test_every_detector_of_torchvision_has_one(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net: Any = models.get_model(name, weights=None, weights_backbone=None).eval()
    if not net.transform.fixed_size:
        net.transform.min_size, net.transform.max_size = (64,), 128
    proposals = getattr(getattr(net, "rpn", None), "score_thresh", None)
    picture = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))

    def found(least: float) -> torch.Tensor:
        assert set_score_threshold(net, least) == 1
        with torch.no_grad():
            return net(picture)[0]["scores"]

    every = found(0.0)
    assert len(every) > 1
    middle = float(every.median())
    some = found(middle)
    assert len(some) < len(every)
    assert (some > middle).all()
    assert len(found(1.0)) == 0
    assert getattr(getattr(net, "rpn", None), "score_thresh", None) == proposals


def test_a_network_of_somebody_elses() -> None:
    net: Any = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    assert set_score_threshold(net, 0.5) == 0
    net[1].score_thresh = 0
    net[0].score_thresh = True
    assert set_score_threshold(net, 0.5) == 1
    assert (net[1].score_thresh, net[0].score_thresh) == (0.5, True)
