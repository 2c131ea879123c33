"""What a caller has set as torch's defaults changes no score and no map."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from cnnviz_cli import explain

PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 52, 3), dtype=np.uint8))
FEW = {"masks": 4, "steps": 2, "samples": 2, "window": 16, "draws": 6, "cells": 9}
NET = tiny.Plain().eval()


@pytest.fixture(params=["meta", "float64"])
def other_defaults(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "meta":
        torch.set_default_device("meta")
    else:
        torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


METHODS = [
    "gradcam", "scorecam", "ablationcam", "eigencam", "randomcam", "gradient", "smoothgrad", "integrated-gradients",
    "rise", "occlusion", "lime", "kernel-shap", "guided-gradcam", "feature-maps", "lrp", "deeplift",
]  # fmt: skip


def results(**options: object) -> list[tuple[str, list[np.ndarray]]]:
    found = explain(NET, PICTURE, METHODS, input_size=32, **FEW, **options)[0]
    return [("predictions", [np.array([one.probability for one in found.predictions])])] + [
        (one.method, list(one.arrays.values())) for one in found
    ]


@pytest.fixture(scope="module")
def usual() -> list[tuple[str, list[np.ndarray]]]:
    return results()


@pytest.mark.usefixtures("other_defaults")
def test_scores_and_maps_are_the_same_bits(usual: list[tuple[str, list[np.ndarray]]]) -> None:
    found = results()
    assert [name for name, _ in found] == [name for name, _ in usual]
    for (name, arrays), (_, wanted) in zip(found, usual, strict=True):
        for array, other in zip(arrays, wanted, strict=True):
            assert np.array_equal(array, other, equal_nan=True), name


@pytest.mark.usefixtures("other_defaults")
def test_a_network_by_name_is_built_where_it_is_run() -> None:
    found = explain("efficientnet_lite0", PICTURE, "gradcam", device="cpu", input_size=64)[0]
    assert found["gradcam"].map.any()
    assert found["gradcam"].state == "ok"


@pytest.mark.usefixtures("other_defaults")
def test_the_caller_s_defaults_stay() -> None:
    before = torch.get_default_device(), torch.get_default_dtype()
    explain("efficientnet_lite0", PICTURE, "gradcam", device="cpu", input_size=64)
    assert (torch.get_default_device(), torch.get_default_dtype()) == before
