"""grad-cam: Ablation-CAM of a layer with negative activations depends on the batch size.

`AblationLayer.__call__` sets a channel to 0, as in the paper, only if the layer's minimum is exactly 0. Otherwise it
sets `torch.min(output) - 1e7`, which gives a meaningless score. The minimum is computed again after each channel of a
batch, so each channel is set 10,000,000 lower than the one before. Always setting 0 would be the paper's definition.
"""

import torch
from pytorch_grad_cam import AblationCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
x, seen = torch.randn(1, 3, 8, 8), []
net[1].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].min().item()))
for size in (1, 4):
    AblationCAM(net, [net[0]], batch_size=size)(x, [ClassifierOutputTarget(0)])
    print(f"lowest activation {seen[0]:.2f}; with channels removed in batches of {size}: {min(seen):.4g}")
