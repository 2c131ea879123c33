"""Networks that look at a part of their input: maps lie over that part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cnnviz_cli
from cnnviz_cli.models.inspect.probe import probe_layers

TINY = cnnviz_cli.Preprocessing(16, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Corner(nn.Module):
    """Looks at the lower left quarter."""

    def __init__(self, pad: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pad = pad
        self.maps = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(x, (0, self.pad, 0, self.pad)) if self.pad else x
        scores: Tensor = self.fc(self.maps(x[..., 8:16, :8]).mean((2, 3)))
        return scores


def test_a_layer_that_sees_a_quarter_has_that_window() -> None:
    layers = probe_layers(Corner().eval(), (3, 16, 16), "Corner")
    assert layers["maps"].window == (0.0, 0.5, 0.5, 1.0)


def test_after_padding_shares_are_not_known() -> None:
    """A slice that takes padding off again is no part of the input."""
    layers = probe_layers(Corner(pad=4).eval(), (3, 16, 16), "Corner")
    assert layers["maps"].window is None


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "layercam"])
def test_a_map_is_zero_where_the_network_does_not_look(method: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    (found,) = cnnviz_cli.explain(Corner(), image, methods=method, preprocessing=TINY, layers="maps")
    seen = found[method].map
    assert seen.shape == (8, 8)  # maps of 4 x 4 over a quarter
    outside = np.ones((8, 8), bool)
    outside[4:, :4] = False
    assert not seen[outside].any()


def test_gradcam_of_a_corner_is_the_one_worked_out_by_hand() -> None:
    net = Corner().double().eval()
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    (found,) = cnnviz_cli.explain(net, image, methods="gradcam", preprocessing=TINY, layers="maps", targets=1)
    x = ((torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255) - 0.5) / 0.25
    with torch.no_grad():
        maps = net.maps(x[..., 8:, :8])
        expected = (net.fc.weight[1][:, None, None] / 16 * maps[0]).sum(0).relu()
    np.testing.assert_allclose(found["gradcam"].map[4:, :4], expected, rtol=1e-4, atol=1e-7)
