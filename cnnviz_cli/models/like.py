"""What a network computes with: the type of its numbers, and where they lie."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def zeros_for(net: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """(1, C, H, W) zeros as the network takes them.

    Its first parameter decides; of a network that learnt nothing its first buffer of floating point. One without either
    is code alone, which takes what it is given: single precision, on the CPU.
    """
    found = (one for one in (*net.parameters(), *net.buffers()) if one.is_floating_point())
    like = next(found, None)
    if like is None:
        return torch.zeros(1, *shape, dtype=torch.float32, device="cpu")
    return torch.zeros(1, *shape, dtype=like.dtype, device=like.device)
