"""Quantus: PixelFlipping counts values of colours, not pixels, and its curve leaves the intact image out.

The features that are ordered are the values of all colours, so that a step of 16 features flips five pixels and a third
of a sixth, and the same steps are thrice as many as pixels would take. The first point of the curve is that after the
first step: 58 of 64 whole pixels here. Steps of whole pixels, and a point before the first, would mend it.
"""

import numpy as np
import quantus
import torch


class Pixels(torch.nn.Module):
    """Counts pixels of which some colours are gone and others are not, and those that are whole."""

    def forward(self, x):
        kept = (x != 0).sum(1)
        return torch.stack([((kept > 0) & (kept < 3)).sum((1, 2)), (kept == 3).sum((1, 2))], 1).float()


images = np.ones((1, 3, 8, 8), dtype=np.float32)
maps = np.random.default_rng(1).random((1, 1, 8, 8), dtype=np.float32)
for label, what in ((0, "pixels flipped in part"), (1, "whole pixels")):
    measure = quantus.PixelFlipping(
        features_in_step=16, perturb_baseline=0.0, disable_warnings=True, display_progressbar=False
    )
    curve = measure(
        model=Pixels().eval(), x_batch=images, y_batch=np.array([label]), a_batch=maps, device="cpu", softmax=False
    )
    print(what, np.asarray(curve).reshape(-1).tolist())
