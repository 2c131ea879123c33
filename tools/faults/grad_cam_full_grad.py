"""grad-cam: FullGrad fails on a network that runs a layer twice.

It lists one bias for each module, but one gradient arrives for each run: `assert(len(self.bias_data) ==
len(grads_list))`.
"""

import torch
from pytorch_grad_cam import FullGrad
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

conv = nn.Conv2d(3, 3, 3)
net = nn.Sequential(conv, nn.ReLU(), conv, nn.Flatten(), nn.Linear(48, 2))
try:
    FullGrad(net, [])(torch.randn(1, 3, 8, 8), [ClassifierOutputTarget(0)])
except AssertionError as error:
    print("AssertionError", error)
