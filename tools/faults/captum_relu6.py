"""captum: ReLU6 is not a ReLU to Deconvolution and GuidedBackprop, and not a nonlinearity to DeepLift.

Types are compared with `nn.ReLU` (`SUPPORTED_NON_LINEAR` in DeepLift), but `nn.ReLU6` is a subclass of `Hardtanh`. So
all three are the plain gradient (times the input) on MobileNet-V2, EfficientNet-Lite and similar networks.
"""

import torch
from captum.attr import Deconvolution, DeepLift, GuidedBackprop
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Conv2d(4, 4, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(64, 2))
x = torch.randn(1, 3, 8, 8, requires_grad=True)
(gradient,) = torch.autograd.grad(net(x)[0, 0], x)
for kind, plain in ((Deconvolution, gradient), (GuidedBackprop, gradient), (DeepLift, gradient * x)):
    print(f"{kind.__name__} minus gradient: {(kind(net).attribute(x, target=0) - plain).abs().max():.6f}")
