"""captum: Deconvolution and GuidedBackprop of a network with functional ReLUs are its plain gradient.

`ModifiedReluGradientAttribution` puts its hooks on `nn.ReLU` modules. GoogLeNet calls `F.relu`, so there are none, and
no message says so. An error if no ReLU was hooked would be enough; cnnviz replaces ReLUs at the call, with a
`TorchFunctionMode`.
"""

import torch
import torchvision
from captum.attr import Deconvolution, GuidedBackprop

torch.manual_seed(0)
net = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False).eval()
x = torch.randn(1, 3, 64, 64, requires_grad=True)
(gradient,) = torch.autograd.grad(net(x)[0, 0], x)
for kind in (Deconvolution, GuidedBackprop):
    print(kind.__name__, "minus gradient:", (kind(net).attribute(x, target=0) - gradient).abs().max().item())
