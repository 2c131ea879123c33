"""captum: DeepLift does not add up where a max-pool follows a ReLU, or its windows overlap.

Contributions have to add up to the difference of the scores. The hooks of a ReLU and of the pool right after it share
one tensor. The ReLU's hook runs before the pool's has stored its own multiplier there; a convolution between them keeps
the two apart. Also, `max_unpool2d` assigns where several windows share their maximum, so all signals but one are lost;
autograd's backward of max_pool2d adds them up.
"""

import torch
from captum.attr import DeepLift
from torch import nn

torch.manual_seed(0)
conv, relu, pool = nn.Conv2d(3, 3, 3), nn.ReLU, nn.MaxPool2d
nets = {
    "ReLU, convolution, pool": (conv, relu(), nn.Conv2d(3, 3, 1), pool(2), nn.Flatten(), nn.Linear(48, 1)),
    "ReLU, pool": (conv, relu(), pool(2), nn.Flatten(), nn.Linear(48, 1)),
    "ReLU, convolution, overlapping pool": (
        conv,
        relu(),
        nn.Conv2d(3, 3, 1),
        pool(3, 1),
        nn.Flatten(),
        nn.Linear(108, 1),
    ),
}
for name, layers in nets.items():
    net = nn.Sequential(*layers).double()
    x, baseline = torch.randn(2, 1, 3, 10, 10, dtype=torch.float64)
    missed = DeepLift(net).attribute(x, baseline, 0).sum() - (net(x) - net(baseline))[0, 0]
    print(f"{name}: shares miss {abs(missed / (net(x) - net(baseline))[0, 0]):.0%} of the difference of scores")
