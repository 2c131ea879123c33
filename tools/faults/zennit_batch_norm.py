"""zennit: merging BatchNorm changes the network's scores.

`MergeBatchNorm.merge_batch_norm` divides the weights by sqrt(var + eps) and leaves a BatchNorm with variance 1 and the
old eps behind, which divides by sqrt(1 + eps) again. The error is small with PyTorch's eps of 1e-5. But 1e-3 is usual
for networks from TensorFlow, and the error accumulates over layers. Setting the merged module's `eps` to 0 fixes it.
"""

import torch
from torch import nn
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import EpsilonPlus

torch.manual_seed(0)
blocks = [(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4, eps=1e-3)) for _ in range(50)]
net = nn.Sequential(*(layer for block in blocks for layer in block)).double().eval()
x = torch.rand(1, 4, 4, 4, dtype=torch.float64)
before = net(x).norm()
with EpsilonPlus(canonizers=[SequentialMergeBatchNorm()]).context(net) as merged:
    after = merged(x).norm()
print(f"the output of 50 layers is {after / before - 1:+.1%} off")
