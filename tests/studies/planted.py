"""A network whose derivatives are known, folders of images for it, and studies of concepts that are named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from run.resuming import Listener
from torch import Tensor, nn

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.files.inputs.search import Source, find_images
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.run import Outcome
from cnnviz_cli.run.study import execute_study

SIDE = 8
LAYER = "colours"


class Planted(nn.Module):
    """Its layer's maps are the three colours themselves, and class 0 answers red times how much more than half is
    blue: along red its derivative is the blue of the image less one half."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Conv2d(3, 3, 1)
        self.rest = nn.Linear(3, 2)
        with torch.no_grad():
            self.colours.weight.copy_(torch.eye(3)[:, :, None, None])
            self.colours.bias.zero_()
            self.rest.weight.copy_(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
            self.rest.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        means = self.colours(x).mean((2, 3))
        return torch.cat([means[:, :1] * (means[:, 2:] - 0.5), self.rest(means)], 1)


def planted_model(*_arguments: Any, **_named: Any) -> LoadedModel:
    """What the loader is replaced by."""
    net = Planted().eval().requires_grad_(False)
    preprocessing = Preprocessing(SIDE, SIDE, (0.0,) * 3, (1.0,) * 3)
    layers = probe_layers(net, (3, SIDE, SIDE), "planted")
    return LoadedModel(net, "planted", "random:0", "0" * 64, ("product", "green", "blue"), preprocessing, layers)


def paint(folder: Path, count: int, colour: Sequence[float], seed: int, spread: float = 0.1) -> Path:
    """Noisy squares around a colour."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(seed)
    for number in range(count):
        own = np.asarray(colour) + draws.normal(0, spread, 3)
        pixels = (own + draws.normal(0, 0.05, (SIDE, SIDE, 3))).clip(0, 1)
        Image.fromarray(np.rint(255 * pixels).astype(np.uint8)).save(folder / f"{number:02}.png")
    return folder


def folders(root: Path) -> dict[str, Path]:
    """Concepts red and green, what is neither, and a class of eight images of which six are blue."""
    grey = (0.4, 0.4, 0.4)
    found = {
        "red": paint(root / "red", 14, (0.8, 0.4, 0.4), 1),
        "green": paint(root / "green", 12, (0.4, 0.8, 0.4), 2),
        "grey": paint(root / "grey", 12, grey, 3),
        "random": paint(root / "random", 20, grey, 4),
        "class": paint(root / "class", 6, (0.6, 0.5, 0.9), 5, 0.02),
    }
    paint(root / "more", 2, (0.6, 0.5, 0.1), 6, 0.02)
    for path in sorted((root / "more").iterdir()):
        path.rename(root / "class" / f"x{path.name}")
    (root / "more").rmdir()
    return found


def images_of(folder: Path) -> list[Source]:
    return find_images([folder], recursive=False)


def ask(
    out: Path,
    sources: Sequence[Source],
    concepts: Sequence[Path],
    against: Path,
    *,
    heard: Listener | None = None,
    shard: Shard = SINGLE_SHARD,
    force: bool = False,
    target: Any = (0,),
    **fields: Any,
) -> Outcome:
    """One study by whatever network the loader gives, in batches of three."""
    flags: dict[tuple[str, ...], Any] = {
        ("output",): str(out), ("batch_size",): "3", ("device",): "cpu", ("workers",): "0", ("target",): target,
        ("concepts", "concept"): tuple(map(str, concepts)), ("concepts", "against"): str(against),
        ("concepts", "layer"): LAYER, ("concepts", "cuts"): 60,
    }  # fmt: skip
    flags |= {("concepts", name): value for name, value in fields.items()}
    loaded = load_settings("concepts", flags, None, {})
    return execute_study("tcav", "concepts", loaded, sources, heard or Listener(), shard=shard, force=force)
