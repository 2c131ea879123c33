"""A small network whose evidence is known: the class is the colour of the one square that has a white frame."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

SIZE, SIDE = 24, 7


class Framed(nn.Module):
    """Three convolutions, an average over positions and a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1, stride=2)
        self.conv3 = nn.Conv2d(24, 24, 3, padding=1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        x = self.relu(self.conv2(x))
        return self.fc(self.relu(self.conv3(x)).mean((2, 3)))


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(n, 3, SIZE, SIZE) pictures in [-1, 1], the class of each, and (n, SIZE, SIZE) where its framed square is.

    Each of four squares, one a quadrant, has a colour of its own; three of them, without a frame, are distractors.
    """
    drawn = torch.Generator().manual_seed(seed)
    made = 0.1 * torch.randn(count, 3, SIZE, SIZE, generator=drawn) - 0.5
    labels = torch.randint(3, (count,), generator=drawn)
    places = torch.zeros(count, SIZE, SIZE)
    half = SIZE // 2
    for image in range(count):
        framed = int(torch.randint(4, (1,), generator=drawn))
        for quadrant in range(4):
            top, left = (int(x) for x in torch.randint(half - SIDE + 1, (2,), generator=drawn))
            top, left = top + half * (quadrant // 2), left + half * (quadrant % 2)
            rows, columns = slice(top, top + SIDE), slice(left, left + SIDE)
            colour = labels[image] if quadrant == framed else torch.randint(3, (1,), generator=drawn)
            square = torch.full((3, SIDE, SIDE), -0.8)
            square[int(colour)] = 0.8
            if quadrant == framed:
                square[:, [0, -1], :] = 1
                square[:, :, [0, -1]] = 1
                places[image, rows, columns] = 1
            made[image, :, rows, columns] = square
    return made.clamp(-1, 1), labels, places


@functools.cache
def trained() -> nn.Module:
    """The network after 160 steps, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Framed()
    moves = torch.optim.Adam(net.parameters(), 1e-2)
    pool, classes, _ = pictures(384, 1000)
    for step in range(160):
        part = slice(32 * (step % 12), 32 * (step % 12 + 1))
        loss = nn.functional.cross_entropy(net(pool[part]), classes[part])
        moves.zero_grad()
        loss.backward()
        moves.step()
    return net.eval().requires_grad_(False)
