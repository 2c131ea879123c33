"""torchcam: Grad-CAM++: the division by alpha's denominator has no effect.

`alpha[idx][mask].div_(d[mask] + eps)`: indexing with a mask makes a copy, and only the copy is divided. So the weights
are sum g^2 relu(g). `torch.where` fixes it. The denominator itself has sum(g^3 A), where equation 19 of the paper has
g^3 sum(A).
"""

import torch
from torch import nn
from torchcam.methods import GradCAMpp

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 2))
x = torch.randn(1, 3, 8, 8)
with GradCAMpp(net, "0") as cam:
    one, two = (cam(0, net(x), normalized=False, eps=eps)[0] for eps in (1e-8, 1e8))
print("with 1e8 added to the denominator the map changes by", (one - two).abs().max().item())
