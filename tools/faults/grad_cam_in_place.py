"""grad-cam: The map of a layer before an in-place ReLU is computed from rewritten activations.

`ActivationsAndGradients.save_activation` keeps `activation.cpu().detach()`, which on the CPU is the hooked tensor
itself; the ReLU overwrites it. `.detach().clone()` fixes it.
"""

import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

torch.manual_seed(0)
conv, fc, x, maps = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), torch.randn(1, 3, 8, 8), []
for inplace in (False, True):
    net = nn.Sequential(conv, nn.ReLU(inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten(), fc)
    with GradCAM(net, [conv]) as cam:
        maps.append(cam(x, [ClassifierOutputTarget(0)]))
print(f"maps from 0 to 1 differ by {abs(maps[0] - maps[1]).max():.3f}")
