"""grad-cam: Guided backpropagation of the same tensor doubles the second time.

`GuidedBackpropReLUModel.__call__` runs `.backward()` and reads `input_img.grad`, which accumulates.
`torch.autograd.grad` fixes it. It also reads only image 0 of a batch, and leaves the ReLUs replaced if the forward pass
raises.
"""

import torch
from pytorch_grad_cam import GuidedBackpropReLUModel
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
guided, x = GuidedBackpropReLUModel(net, device="cpu"), torch.randn(1, 3, 8, 8)
one, two = (abs(guided(x, 0)).sum() for _ in range(2))
print(f"second / first = {two / one:.3f}")
