"""Horama: MACO does not keep the amplitudes.

In the first and the last column of a real picture's spectrum each coefficient is the conjugate of another. With free
phases `irfft2` drops the half that does not fit. dreamlens, Xplique and faccent have the same lines.
"""

import torch
from horama import maco_fv

maco_fv.recorrelate_colors = lambda image, _device: image  # the spectrum before colours
torch.manual_seed(0)
template, phase = torch.rand(3, 32, 17, dtype=torch.float64) + 0.5, torch.randn(3, 32, 17, dtype=torch.float64)
image = maco_fv.maco_preconditioner(template, phase, (0.0, 1.0), "cpu").logit()
ratio = (torch.fft.rfft2(image).abs() / template)[:, 1:]
off = (ratio / ratio[..., 1:-1].median() - 1).abs()
print(f"amplitudes are off by up to {off[..., [0, -1]].max():.0%} there, by {off[..., 1:-1].max():.1%} elsewhere")
