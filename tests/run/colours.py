"""A network whose classes are five colours, and pictures of them: where a class's evidence lies is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from run.resuming import listed
from torch import Tensor, nn

from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load.loaded_model import LoadedModel

SIDE = 16
COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "yellow": (1, 1, -1), "magenta": (1, -1, 1)}


class Colours(nn.Module):
    """Of each colour how much of the input, from -1 to 1 in each channel, is of it: rectified, and averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, len(COLOURS), 1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(len(COLOURS), len(COLOURS))
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor(list(COLOURS.values()))[:, :, None, None])
            self.conv.bias.fill_(-1)  # type: ignore[union-attr]
            self.fc.weight.copy_(4 * torch.eye(len(COLOURS)))
            self.fc.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.relu(self.conv(x)).mean((2, 3)))
        return scores


class OneSize(Colours):
    """The same for inputs of one size alone."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (SIDE, SIDE):
            raise ValueError("another size")
        return super().forward(x)


def colours_model(kind: type[Colours] = Colours) -> LoadedModel:
    """What the loader is replaced by."""
    net = kind().eval().requires_grad_(False)
    preprocessing = Preprocessing(SIDE, SIDE, (0.5,) * 3, (0.5,) * 3)
    layers = probe_layers(net, (3, SIDE, SIDE), "colours")
    return LoadedModel(net, "colours", "by hand", "1" * 64, tuple(COLOURS), preprocessing, layers)


def pictures(folder: Path, names: Sequence[str]) -> list[Source]:
    """A picture of each of some colours, with a little noise, so that no two are the same."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    for number, name in enumerate(names):
        pixels = 127.5 + 100 * np.array(COLOURS[name]) + random.integers(-20, 20, (SIDE, SIDE, 1))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}-{name}.png")
    return listed(folder)


def rows_of(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of a manifest's evaluation, by method or control."""
    evaluation = found["evaluation"]
    return {row["method"]: row for row in (*evaluation["methods"], *evaluation["controls"])}
