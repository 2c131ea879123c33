"""lucent: any RuntimeError of a network is taken for an image that is too small.

`render_vis` catches RuntimeError, out of memory among them, warns of the size in the first step and is silent
afterwards.
"""

import warnings

import torch
from lucent.optvis import param, render


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 3)

    def forward(self, x):
        self.conv(x)
        raise RuntimeError("out of memory")


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = render.render_vis(
        Net(), "conv:0", lambda: param.image(224), transforms=[], thresholds=(3,), progress=False, show_image=False
    )
print(len(found), "image;", sum("not big enough" in str(one.message) for one in caught), "warning of its size")
