"""How weights and inputs lie in memory: channels last, which is faster, or contiguous, as networks are made.

Code of a network may rest on the layout: `x.view(len(x), -1)` after a convolution fails in channels_last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

MemoryFormat = Literal["channels_last", "contiguous"]


def to_memory_format(tensor: Tensor, memory_format: MemoryFormat) -> Tensor:
    """`tensor` in that layout, itself if it is; a tensor of other than four dimensions is contiguous in either."""
    import torch

    last = memory_format == "channels_last" and tensor.dim() == 4
    return tensor.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def match_memory_format(tensor: Tensor, other: Tensor) -> Tensor:
    """`tensor` in the layout of `other`."""
    return to_memory_format(tensor, memory_format_of(other))


def memory_format_of(tensor: Tensor) -> MemoryFormat:
    """The layout of a tensor; contiguous where it is in both, as with one channel, or in neither."""
    import torch

    if tensor.dim() == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last):
        return "channels_last"
    return "contiguous"


def convert_weights(net: nn.Module, memory_format: MemoryFormat) -> None:
    """Bring the parameters and buffers of four dimensions into that layout, in place.

    Others stay as they are: torch has channels_last for four dimensions alone, and `net.to` refuses a network that has
    a weight of five.
    """
    import torch

    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.dim() == 4 and tensor.is_floating_point():
                tensor.data = to_memory_format(tensor.data, memory_format)
