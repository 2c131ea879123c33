"""torchcam: The map of a layer before an in-place ReLU is computed from rewritten activations.

`_CAM._hook_a` keeps `output.detach()`, which shares the memory that the ReLU overwrites. A `.clone()` fixes it.
"""

import torch
from torch import nn
from torchcam.methods import GradCAM

torch.manual_seed(0)
conv, fc, x, maps = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), torch.randn(1, 3, 8, 8), []
for inplace in (False, True):
    net = nn.Sequential(conv, nn.ReLU(inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten(), fc)
    with GradCAM(net, "0") as cam:
        maps.append(cam(0, net(x))[0])
print(f"maps from 0 to 1 differ by {(maps[0] - maps[1]).abs().max():.3f}")
