"""What a caption says of the layers that a map was joined of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cnnviz_cli.core.panels import Heatmap
from cnnviz_cli.methods.common.cams import Part, finish
from cnnviz_cli.run.image_data import TaskName, Wording
from cnnviz_cli.run.present import build_caption

WORDING = Wording(model="net", layers={"head": "last convolution (head)"})


def heading(layers: tuple[str, ...], joined: str = "mean") -> str:
    panel = replace(Heatmap(np.ones((1, 2, 2), np.float32)), layers=layers, joined=joined)
    return build_caption(
        TaskName("gradcam", "gradcam", "", "Grad-CAM"), panel, None, None, WORDING, "a.png", None
    ).heading


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (("a", "head"), "mean of a and last convolution (head)"),
        (("a", "b", "head"), "mean of a, b and last convolution (head)"),
        (("a", "b", "c", "head"), "mean of a, b and 2 more layers"),
    ],
)
def test_the_layers_of_a_joined_map_are_named(layers: tuple[str, ...], words: str) -> None:
    assert heading(layers) == f"Grad-CAM, {words}, rescaled"


def test_a_map_of_one_layer_alone_was_joined_of_none() -> None:
    one, other = (Part(name, torch.ones(2, 3, size, size)) for name, size in (("a", 4), ("b", 2)))
    assert [panel.layers for panel in finish([one], "none", "max", target=0, layers={})] == [()]
    (panel,) = finish([one, other], "none", "max", target=0, layers={})
    assert (panel.layer, panel.layers, panel.joined) == (None, ("a", "b"), "max")
    assert panel.pick(1).layers == ("a", "b")
