"""Random numbers that depend on an image and a number alone: not on the chunk, the batch, or anybody's global state."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def normal(seed: int, number: int, shape: tuple[int, ...]) -> Tensor:
    """Draw number `number` of the image that starts from `seed`: standard normal, float32, on the CPU."""
    import torch

    return torch.randn(shape, generator=generator(seed, number), dtype=torch.float32, device="cpu")


def uniform(seed: int, number: int, shape: tuple[int, ...]) -> Tensor:
    """The same, uniform in [0, 1)."""
    import torch

    return torch.rand(shape, generator=generator(seed, number), dtype=torch.float32, device="cpu")


def generator(seed: int, number: int) -> torch.Generator:
    """A generator of its own for each draw; seeds lie below 2**56."""
    import torch

    # An odd factor spreads neighbouring numbers over the whole state; the sum stays inside 63 bits.
    return torch.Generator(device="cpu").manual_seed((seed + 0x9E3779B97F4A7C15 * (number + 1)) % 2**63)
