"""The bundled network and the usual preprocessing, which do without torchvision, are what torchvision would make."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.ops.misc import Conv2dNormActivation as Theirs
from torchvision.transforms._presets import ImageClassification

from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.load.built_model import imagenet_preprocessing
from cnnviz_cli.models.load.efficientnet_lite import Conv2dNormActivation


def test_the_usual_is_torchvisions_default() -> None:
    assert imagenet_preprocessing() == Preprocessing.from_transforms(ImageClassification(crop_size=224))


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [None, 0])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("active", [True, False])
def test_a_block_is_torchvisions(kernel: int, stride: int, padding: int | None, groups: int, active: bool) -> None:
    norm = partial(nn.BatchNorm2d, eps=1e-3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = Theirs(
            4, 8, kernel, stride, padding, groups, norm_layer=norm, activation_layer=nn.ReLU6 if active else None
        )
        torch.manual_seed(0)
        ours = Conv2dNormActivation(4, 8, kernel, stride, padding, groups=groups, active=active)
    assert repr(ours) == repr(theirs)
    given = torch.arange(2 * 4 * 9 * 9.0).view(2, 4, 9, 9).cos()
    assert torch.equal(ours(given.clone()), theirs(given.clone()))
