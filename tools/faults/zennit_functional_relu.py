"""zennit: GuidedBackprop and DeconvNet of a network with functional ReLUs are its plain gradient.

Composites map rules to modules, and a function is not a module. A message could say that no rule was applied to any
ReLU.
"""

import torch
from torch import nn
from torch.nn import functional
from zennit.attribution import Gradient
from zennit.composites import DeconvNet, GuidedBackprop


class Net(nn.Sequential):
    def forward(self, x):
        return self[2](functional.relu(self[1](functional.relu(self[0](x)))).flatten(1))


torch.manual_seed(0)
net, x = Net(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(64, 2)), torch.randn(1, 3, 8, 8, requires_grad=True)
(gradient,) = torch.autograd.grad(net(x)[0, 0], x)
for composite in (DeconvNet(), GuidedBackprop()):
    with Gradient(net, composite) as attributor:
        values = attributor(x, torch.tensor([[1.0, 0.0]]))[1]
    print(type(composite).__name__, "minus gradient:", (values - gradient).abs().max().item())
