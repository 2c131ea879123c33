"""grad-cam: Guided backpropagation of a network with functional ReLUs is its plain gradient.

`replace_all_layer_type_recursive` finds only `nn.ReLU` modules.
"""

import torch
from pytorch_grad_cam import GuidedBackpropReLUModel
from torch import nn
from torch.nn import functional


class Net(nn.Sequential):
    def forward(self, x):
        return self[2](functional.relu(self[1](functional.relu(self[0](x)))).flatten(1))


torch.manual_seed(0)
net, x = Net(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(64, 2)), torch.randn(1, 3, 8, 8, requires_grad=True)
(gradient,) = torch.autograd.grad(net(x)[0, 0], x)
guided = GuidedBackpropReLUModel(net, device="cpu")(x.detach(), 0).transpose(2, 0, 1)
print("guided minus gradient:", abs(guided - gradient[0].numpy()).max())
