"""A network whose evidence is known: the class of an image is the colour of the patch in one of its quadrants.

The other quadrants have patches of colours that mean nothing, and the network has learnt that an image may be of no
class: without that, what is left when the patch is hidden would be evidence for the class that is never shown.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE, PATCH = 48, 12
QUADRANT = SIDE // 2

COLOURS = torch.tensor([[0.8, -0.8, -0.8], [-0.8, 0.8, -0.8], [-0.8, -0.8, 0.8], [0.8, 0.8, -0.8]])
"""Of the classes, normalised: red, green, blue, yellow."""

NONE = len(COLOURS)
"""The class of an image that has none of these."""

DISTRACTORS = torch.tensor([[0.8, -0.8, 0.8], [-0.8, 0.8, 0.8], [0.8, 0.8, 0.8], [-0.8, -0.8, -0.8]])
"""Magenta, cyan, white, black."""


class Colours(nn.Module):
    """Convolutions whose last maps, of 12 x 12 pixels, are averaged and weighed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 24, 3, padding=1)
        self.conv3 = nn.Conv2d(24, 24, 3, padding=1)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.pool1, self.pool2 = nn.AvgPool2d(2), nn.AvgPool2d(2)
        self.fc = nn.Linear(24, len(COLOURS) + 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        scores: Tensor = self.fc(self.relu3(self.conv3(x)).mean((2, 3)))
        return scores


def images(count: int, seed: int, *, none: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """(count, 3, 48, 48) normalised images, (count,) their classes and (count, 48, 48) bool where the patch is.

    Args:
        none: whether one in five has no patch of a class.
    """
    draws = torch.Generator().manual_seed(seed)
    rough = torch.randn(count, 3, 6, 6, generator=draws) * 0.15
    made = functional.interpolate(rough, size=(SIDE, SIDE), mode="bilinear")
    made += torch.randn(count, 3, SIDE, SIDE, generator=draws) * 0.03
    classes = torch.randint(len(COLOURS) + none, (count,), generator=draws)
    quadrants = torch.randint(4, (count,), generator=draws)
    others = torch.randint(len(DISTRACTORS), (count, 4), generator=draws)
    places = torch.randint(QUADRANT - PATCH + 1, (count, 4, 2), generator=draws)
    truth = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    for image in range(count):
        for quadrant in range(4):
            own = quadrant == quadrants[image] and classes[image] != NONE
            colour = COLOURS[classes[image]] if own else DISTRACTORS[others[image, quadrant]]
            corner = torch.tensor(divmod(quadrant, 2)) * QUADRANT + places[image, quadrant]
            down, across = (slice(int(start), int(start) + PATCH) for start in corner)
            made[image, :, down, across] = colour.view(3, 1, 1)
            truth[image, down, across] = own
    return made, classes, truth


def thinned(inputs: Tensor, truth: Tensor, seed: int) -> Tensor:
    """The images, of half of which a random share of the pixels that tell nothing is their mean, or a grey."""
    draws = torch.Generator().manual_seed(seed)
    share, grey, mean = (torch.rand(len(inputs), 1, 1, 1, generator=draws) * 2 - 1 for _ in range(3))
    gone = (torch.rand(truth.shape, generator=draws).unsqueeze(1) < share) & ~truth.unsqueeze(1)
    return torch.where(gone, torch.where(mean > 0, inputs.mean((2, 3), keepdim=True), grey), inputs)


@cache
def trained() -> nn.Module:
    """A network that knows the class of nearly every image, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Colours()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for step in range(150):
        inputs, classes, truth = images(12, 1000 + step, none=True)
        optimizer.zero_grad()
        functional.cross_entropy(net(thinned(inputs, truth, step)), classes).backward()
        optimizer.step()
    return net.eval().requires_grad_(False)


def accuracy(net: nn.Module) -> float:
    """The share of 256 images of which it knows the class."""
    inputs, classes, _ = images(256, 1, none=True)
    return float((net(inputs).argmax(1) == classes).float().mean())
