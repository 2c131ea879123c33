"""lucent: jitter goes one way and brings in black.

`jitter(d)` shifts by 0 to d - 1 pixels to the right and down, never to the left or up; kornia's `translate` fills with
zero.
"""

import numpy as np
import torch
from lucent.optvis import transform

np.random.seed(0)
white, shift = torch.ones(1, 1, 16, 16), transform.jitter(5)
views = [shift(white)[0, 0] for _ in range(200)]
edges = {"top": 0, "left": 0, "bottom": 0, "right": 0}
for view in views:
    for name, line in zip(edges, (view[0], view[:, 0], view[-1], view[:, -1]), strict=True):
        edges[name] += bool((line == 0).all())
print("of 200 views of a white image so many have a black edge at", edges)
