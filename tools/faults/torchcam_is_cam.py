"""torchcam: IS-CAM shows the network inputs 5.5 times as bright as the image.

`coeff += (sidx + 1) / num_samples` is a running sum of i / N, which ends at (N + 1) / 2. An integral of the score from
zero to the masked image uses i / N itself: `coeff = (sidx + 1) / num_samples`.
"""

import torch
from torch import nn
from torchcam.methods import ISCAM

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2))
seen = []
net.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].max().item()))
with ISCAM(net, "0", num_samples=10) as cam:
    net(torch.ones(1, 3, 8, 8))
    cam(0)
print(f"of an image of ones the brightest input was {max(seen):.2f}")
