"""lucent: every image fails with the kornia of today.

0.1.8 calls `kornia.get_rotation_matrix2d` and `kornia.warp_affine`, which kornia 0.9 has under `kornia.geometry` alone.
It runs with kornia 0.4.1.
"""

import kornia
import torch
from lucent.optvis import transform

try:
    transform.random_rotate([5])(torch.zeros(1, 3, 8, 8))
    print(f"kornia {kornia.__version__}: no error")
except AttributeError as error:
    print(f"kornia {kornia.__version__}:", error)
