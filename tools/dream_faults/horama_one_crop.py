"""Horama: one crop a step crashes.

`roi_align(...).squeeze(0)` takes the batch off a single crop. The squeeze has nothing else to do.
"""

import torch
from horama import common

image = torch.rand(3, 64, 64, requires_grad=True) * 1
try:
    common.optimization_step(lambda views: views.mean(), image, (0.2, 0.25), 0.05, 1, 8)
except ValueError as error:
    print("ValueError:", str(error)[:75])
