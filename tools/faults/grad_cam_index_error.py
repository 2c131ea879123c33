"""grad-cam: A `with` block around a CAM hides every IndexError in the block.

`BaseCAM.__exit__` returns True for an IndexError.
"""

from pytorch_grad_cam import GradCAM
from torch import nn

net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Flatten(), nn.Linear(108, 2))
with GradCAM(net, [net[0]]):
    raise IndexError("of the user")
print("and on we go")
