"""Networks as somebody writes them, so small that what is explained of them can be worked out by hand.

Each reads 16 by 16 pixels as 4 by 4 patches of 4 by 4, by one convolution whose windows do not overlap: seven channels,
rectified. What becomes of these is linear at each patch, so that a gradient is a product of two matrices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SIDE, PATCH, CHANNELS, LABELS = 16, 4, 7, 3


class Patches(nn.Module):
    """(B, 7, 4, 4) what the patches are rectified to."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, CHANNELS, PATCH, PATCH)
        self.relu = nn.ReLU()
        self.score = nn.Conv2d(CHANNELS, LABELS, 1)

    def patches(self, x: Tensor) -> Tensor:
        found: Tensor = self.relu(self.patch(x))
        return found


class Segmenter(Patches):
    """A map of scores for each of three labels; of black all is taken for the first."""

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.score(self.patches(x))
        return maps


class Detector(Patches):
    """Each patch is a box of each label, if its score is above the limit; in black there is none.

    A thing like torchvision's detectors have: `score_thresh`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.score_thresh: float | None = 0.5

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        return [self._boxes(one) for one in self.score(self.patches(x)).sigmoid()]

    def _boxes(self, scores: Tensor) -> dict[str, Tensor]:
        flat, across = scores.flatten(), scores.shape[2]
        order = flat.argsort(descending=True)
        order = order[flat[order] > self.score_thresh]
        label, place = order // scores[0].numel(), order % scores[0].numel()
        corner = torch.stack([place % across, place // across], 1).to(flat) * PATCH
        return {"boxes": torch.cat([corner, corner + PATCH], 1), "scores": flat[order], "labels": label}


class Embedder(Patches):
    """(B, 3) numbers, which are no classes."""

    def forward(self, x: Tensor) -> Tensor:
        vectors: Tensor = self.score(self.patches(x)).mean((2, 3))
        return vectors


def _made(kind: type[Patches]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(43)
        net = kind().eval()
    with torch.no_grad():
        net.patch.bias.zero_()
        net.patch.weight.mul_(3)
        net.score.weight.mul_(3)
        net.score.bias.copy_(torch.tensor([-0.2, -0.4, -0.6]))
    return net


def segmenter() -> nn.Module:
    """See `Segmenter`."""
    return _made(Segmenter)


def detector() -> nn.Module:
    """See `Detector`."""
    return _made(Detector)


def embedder() -> nn.Module:
    """See `Embedder`."""
    return _made(Embedder)


class Limitless(Detector):
    """Without a limit that could be found."""

    def __init__(self) -> None:
        super().__init__()
        self.score_thresh = None

    def _boxes(self, scores: Tensor) -> dict[str, Tensor]:
        flat = scores.flatten()
        box = torch.tensor([[0.0, 0.0, PATCH, PATCH]], device=flat.device)
        return {"boxes": box, "scores": flat[:1], "labels": flat[:1].long()}


def limitless() -> nn.Module:
    """See `Limitless`."""
    return _made(Limitless)
