"""lucent: a wide image is shown to the network as a square.

`render_vis` enlarges a picture with a side below 224 to 224 x 224, whatever its proportions.
"""

import torch
from lucent.optvis import param, render

torch.manual_seed(0)
net, seen = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3)), []
net.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape[2:])))
render.render_vis(
    net, "0:0", lambda: param.image(300, 150), transforms=[], thresholds=(1,), progress=False, show_image=False
)
print("an image 150 high and 300 wide is seen as", seen[0])
