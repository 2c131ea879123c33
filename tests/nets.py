"""Small networks of unusual kinds, a factory each, as people write them: ``--model nets:NAME``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


def trunk(channels: int = 3, width: int = 8) -> nn.Sequential:
    """Three convolutions that take one side in eight."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, 2, 1),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, 2 * width, 3, 2, 1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(inplace=True),
        nn.Conv2d(2 * width, 2 * width, 3, 2, 1),
        nn.ReLU(inplace=True),
    )


class Classifier(nn.Module):
    """A trunk, an average over positions, a linear layer."""

    def __init__(self, classes: int = 4, channels: int = 3) -> None:
        super().__init__()
        self.trunk = trunk(channels)
        self.fc = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))

    def features(self, x: Tensor) -> Tensor:
        return self.trunk(x)


TEMPLATE = torch.linspace(-1, 1, 25).roll(7).view(5, 5)
"""What the first channel of `Templates` answers, in every colour."""


class Templates(nn.Module):
    """Its first channel answers a template, its second nothing, its third what is bright, its fourth anything."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.fc = nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Linear(4, 2)
        with torch.no_grad():
            self.conv.weight[0] = TEMPLATE
            self.conv.weight[2] = 1 / 75
            self.conv.bias.copy_(torch.tensor([-4.0, -1000.0, 0.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


class LeNet(nn.Module):
    """Flattens with `view`, which a tensor in channels_last refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1, self.fc2 = nn.Linear(16 * 5 * 5, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        return self.fc2(torch.relu(self.fc1(x.view(x.size(0), -1))))


class BackwardView(Classifier):
    """Only its backward says `view`."""

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(_ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(_ctx: Any, arriving: Tensor) -> Tensor:
            return (2 * arriving.view(len(arriving), -1)).view_as(arriving)

    def features(self, x: Tensor) -> Tensor:
        first: Tensor = self.Double.apply(self.trunk[0](x))
        return self.trunk[1:](first)


class ReadsMemory(Classifier):
    """Reads a tensor in the order of memory, so that another layout gives other numbers."""

    def features(self, x: Tensor) -> Tensor:
        maps = self.trunk(x)
        size = maps.shape
        return maps.as_strided(size, (size[1] * size[2] * size[3], size[2] * size[3], size[3], 1)) * torch.arange(
            16.0
        ).view(1, 16, 1, 1)


class Slices(nn.Module):
    """A picture as a pile of slices: a weight of five dimensions among others of four."""

    def __init__(self) -> None:
        super().__init__()
        self.pile, self.flat, self.fc = nn.Conv3d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, 2, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.pile(x.unsqueeze(1))).mean(2)
        return self.fc(functional.relu(self.flat(x)).mean((2, 3)))


class StaysTraining(Classifier):
    """Its `train` is deaf to its argument."""

    def train(self, mode: bool = True) -> StaysTraining:  # noqa: ARG002
        return super().train(mode=True)


class ForgetsItself(Classifier):
    """Its `train` returns nothing, as in many a backbone with frozen stages."""

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)
        self.trunk[1].eval()


class Restless(Classifier):
    """Its forward puts a norm back into training mode."""

    def features(self, x: Tensor) -> Tensor:
        self.trunk[1].train()
        return self.trunk(x)


class Dropped(Classifier):
    """Dropout that is always on (MC dropout)."""

    def features(self, x: Tensor) -> Tensor:
        return functional.dropout(self.trunk(x), 0.5, training=True)


class Counts(Classifier):
    """Another answer each time, whatever the seed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def features(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.trunk(x) * self.calls


class BatchStatistics(Classifier):
    """Normalised by the batch, in eval mode too."""

    def features(self, x: Tensor) -> Tensor:
        return functional.batch_norm(self.trunk(x), None, None, training=True)


class OneAtATime(Classifier):
    """Takes a single image."""

    def features(self, x: Tensor) -> Tensor:
        if len(x) != 1:
            raise ValueError("one image, please")
        return self.trunk(x)


class Checkpointed(Classifier):
    """Saves memory in training; reentrant or not."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant

    def features(self, x: Tensor) -> Tensor:
        return checkpoint(self.trunk, x, use_reentrant=self.reentrant)


class Inference(Classifier):
    """Computes in inference mode, whatever the caller wants."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            return super().forward(x)


class Lazy(nn.Module):
    """Weights that get their shapes from the first input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.LazyConv2d(8, 3), nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(functional.relu(self.conv(x)).mean((2, 3)))


class Stacked(nn.Module):
    """The left and the right half of an image through one trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.fc = trunk(), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        sides = [self.trunk(x[..., :half]).mean((2, 3)), self.trunk(x[..., half:]).mean((2, 3))]
        return self.fc(torch.cat(sides, 1))


class Chunked(Stacked):
    """The upper and the lower half, cut by `chunk`."""

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.trunk(part).mean((2, 3)) for part in x.chunk(2, dim=-2)]
        return self.fc(torch.cat(parts, 1))


class Mirrored(Stacked):
    """The image and its mirror image through one trunk: the maps of the second run are mirrored, too."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.cat([self.trunk(x).mean((2, 3)), self.trunk(x.flip(-1)).mean((2, 3))], 1))


class Recurrent(Classifier):
    """One convolution, ten times."""

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv2d(16, 16, 3, padding=1)

    def features(self, x: Tensor) -> Tensor:
        x = self.trunk(x)
        for _ in range(10):
            x = torch.tanh(self.again(x))
        return x


class Raises(Classifier):
    """Fails where and when it is told to."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when

    def eval(self) -> Raises:
        if self.when == "eval":
            raise KeyError("no such mode")
        return super().eval()

    def features(self, x: Tensor) -> Tensor:
        maps = self.trunk(x)
        # The trial pictures are black and noise: this is for a bright one.
        if self.when == "bright" and float(x.detach().mean((1, 2, 3)).max()) > 1.5:
            raise ValueError("this image is too bright")
        return maps


class TwoHeads(Classifier):
    """Scores of three classes by the name of species, and a number by the name of age."""

    def __init__(self) -> None:
        super().__init__()
        self.age = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        pooled = self.trunk(x).mean((2, 3))
        return {"species": self.fc(pooled), "age": self.age(pooled)}


class NoParameters(nn.Module):
    """An edge detector made by hand: nothing in it was learnt. Buffers may be left out too."""

    def __init__(self, *, buffers: bool = True) -> None:
        super().__init__()
        kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).view(1, 1, 3, 3)
        if buffers:
            self.register_buffer("kernel", kernel)
        self.held = None if buffers else kernel.tolist()
        self.edges, self.ends = nn.Identity(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel if self.held is None else torch.tensor(self.held, dtype=x.dtype, device=x.device)
        edges = self.edges(nn.functional.conv2d(x.mean(1, keepdim=True), kernel))
        return torch.stack([self.ends(edges).mean((1, 2, 3)), self.ends(-edges).mean((1, 2, 3))], 1)


def _seeded(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torch.manual_seed(0)
        return make()

    return build


classifier = _seeded(Classifier)
grey_classifier = _seeded(lambda: Classifier(channels=1))
lenet = _seeded(LeNet)
templates = _seeded(Templates)
backward_view = _seeded(BackwardView)
reads_memory = _seeded(ReadsMemory)
slices = _seeded(Slices)
stays_training = _seeded(StaysTraining)
forgets_itself = _seeded(ForgetsItself)
restless = _seeded(Restless)
dropped = _seeded(Dropped)
counts = _seeded(Counts)
batch_statistics = _seeded(BatchStatistics)
one_at_a_time = _seeded(OneAtATime)
checkpointed = _seeded(lambda: Checkpointed(reentrant=True))
checkpointed_again = _seeded(lambda: Checkpointed(reentrant=False))
inference = _seeded(Inference)
lazy = _seeded(Lazy)
stacked = _seeded(Stacked)
two_heads = _seeded(TwoHeads)
no_parameters = _seeded(NoParameters)
no_tensors = _seeded(lambda: NoParameters(buffers=False))
chunked = _seeded(Chunked)
mirrored = _seeded(Mirrored)
recurrent = _seeded(Recurrent)
raises_in_eval = _seeded(lambda: Raises("eval"))
raises_when_bright = _seeded(lambda: Raises("bright"))
