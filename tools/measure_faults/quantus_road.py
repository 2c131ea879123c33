"""Quantus: ROAD fails for every image with colours.

The pixels are ordered over colours, height and width, 3 x 32 x 32 of them, but the mask of the imputation has height
and width alone, so that two of three places are outside of it. An order over height and width would mend it.
"""

import numpy as np
import quantus
import torch

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
images = np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)
maps = np.random.default_rng(1).random((1, 1, 32, 32), dtype=np.float32)
measure = quantus.ROAD(percentages=[50], disable_warnings=True, display_progressbar=False)
try:
    measure(model=net.eval(), x_batch=images, y_batch=np.array([0]), a_batch=maps, device="cpu")
except Exception as error:
    print(type(error).__name__, error)
