"""captum: The same DenseNet written in two ways has two deconvolutions.

Only its last ReLU is a function (`F.relu` in `DenseNet.forward`), which the hooks miss. The second network is the first
with this one call turned into a module; the scores are equal.
"""

import torch
import torchvision
from captum.attr import Deconvolution, GuidedBackprop
from torch import nn

torch.manual_seed(0)
net = torchvision.models.densenet121(weights=None).eval()
same = nn.Sequential(net.features, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.classifier).eval()
x = torch.randn(1, 3, 64, 64)
print("scores differ by", (net(x) - same(x)).abs().max().item())
for kind in (Deconvolution, GuidedBackprop):
    one, two = (kind(each).attribute(x.clone(), target=0) for each in (net, same))
    print(kind.__name__, f"differs by {(one - two).norm() / two.norm():.0%}")
