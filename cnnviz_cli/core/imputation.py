"""Pixels that are not known, worked out from their neighbours: the linear system of ROAD, solved without scipy.

Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, 2022, https://arxiv.org/abs/2202.00449:
each unknown pixel is the weighted mean of its eight neighbours, 1/6 for each of the straight and 1/12 for each of the
diagonal ones, divided by the sum of the weights at the border. The system is symmetric and positive, so that conjugate
gradients solve it; they start at the solution of the same system at half the size, and that at a quarter's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

COARSEST = 8
"""The system is solved at halves of its size down to so many pixels a side."""

COARSE_STEPS = 24
FINE_STEPS = 400
EVERY = 4
"""After so many steps it is looked whether a system is solved."""

TOGETHER = 1 << 15
"""On a processor masks are solved together up to so many numbers, one mask at least.

They stay in its cache, and torch divides no sum of so few among threads, which would round it otherwise.
"""


def impute(picture: Tensor, hidden: Tensor, tolerance: float = 1e-2) -> Tensor:
    """A picture (C, H, W) with the pixels that each of n masks (n, H, W) hides worked out from the rest: (n, C, H, W).

    Each mask is solved as if it were alone, to the last bit: how many steps it takes depends on nothing else. Where all
    is hidden, the picture's mean colour is all that is known.

    Args:
        tolerance: of the residual, in shares of what the known pixels contribute.
    """
    import torch

    some = max(1, TOGETHER // picture.numel()) if picture.device.type == "cpu" else len(hidden)
    if len(hidden) > some:
        starts = range(0, len(hidden), some)
        return torch.cat([impute(picture, hidden[start : start + some], tolerance) for start in starts])
    mean = picture.mean((1, 2), keepdim=True)
    missing = hidden.unsqueeze(1)
    flat = (picture - mean).expand(len(hidden), -1, -1, -1)
    found = _solve_by_halves(torch.where(missing, 0, flat), missing, tolerance)
    return torch.where(missing, found + mean, picture)


def _solve_by_halves(known: Tensor, missing: Tensor, tolerance: float) -> Tensor:
    """Nested iteration: `known` (n, C, H, W) is zero where (n, 1, H, W) is `missing`."""
    import torch
    from torch.nn.functional import avg_pool2d, interpolate

    levels = [(known, missing, (~missing).to(known.dtype))]
    while min(levels[-1][0].shape[2:]) > COARSEST:
        values, _, share = levels[-1]
        values, share = (avg_pool2d(each, 2, ceil_mode=True, count_include_pad=False) for each in (values, share))
        levels.append((values, share == 0, share))
    found = None
    for values, absent, share in reversed(levels):
        exact = torch.where(absent, 0, values / torch.where(absent, 1, share))
        if found is None:
            start = torch.zeros_like(exact)
        else:
            start = interpolate(found, size=exact.shape[2:], mode="bilinear", align_corners=False)
        fine = absent is missing
        steps, aim = (FINE_STEPS, tolerance) if fine else (COARSE_STEPS, min(tolerance, 1e-2))
        found = _solve(exact, absent, start, steps, aim)
    assert found is not None
    return found


def _solve(known: Tensor, missing: Tensor, start: Tensor, steps: int, tolerance: float) -> Tensor:
    """Conjugate gradients from `start`; what is known stays. Each image and colour for itself."""
    import torch

    inside = missing.to(known.dtype)
    weights = _neighbours(torch.ones_like(known[:1, :1]))
    inverse = inside / weights

    def apply(values: Tensor) -> Tensor:
        return inside * (weights * values - _neighbours(values))

    def dot(left: Tensor, right: Tensor) -> Tensor:
        return (left * right).sum((2, 3), keepdim=True)

    target = inside * _neighbours(known)
    aim = tolerance**2 * dot(target, target)
    found = inside * start
    residual = target - apply(found)
    direction = scaled = inverse * residual
    size = dot(residual, scaled)
    going = dot(residual, residual) > aim
    for step in range(1, steps + 1):
        if not going.any():
            break
        moved = apply(direction)
        length = dot(direction, moved)
        share = torch.where(going & (length > 0), size / torch.where(length > 0, length, 1), 0)
        found = found + share * direction
        residual = residual - share * moved
        scaled = inverse * residual
        before, size = size, dot(residual, scaled)
        direction = scaled + torch.where(before > 0, size / torch.where(before > 0, before, 1), 0) * direction
        if step % EVERY == 0:
            going = going & (dot(residual, residual) > aim)
    return known + found


def _neighbours(values: Tensor) -> Tensor:
    """(n, C, H, W) the weighted sum of each pixel's neighbours, with zeros beyond the border."""
    from torch.nn.functional import pad

    wide = pad(values, (1, 1, 1, 1))
    rows = wide[:, :, :-2] + wide[:, :, 2:] + 2 * wide[:, :, 1:-1]
    sums = rows[..., :-2] + rows[..., 2:] + 2 * rows[..., 1:-1]
    return (sums - 4 * values) / 12
