"""Copies of a network that share what they may share."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import nn

Net = TypeVar("Net", bound="nn.Module")


def copy_network(net: Net, parameter: Callable[[str, nn.Parameter], nn.Parameter]) -> Net:
    """A copy of a network. Buffers and all else are copies, so that whatever a forward writes down stays in the copy.

    Args:
        parameter: gives what stands in the copy for each parameter, by its name: itself, if both are to share it.

    Raises whatever a module raises that does not let itself be copied.
    """
    import torch
    from torch import Tensor

    known: dict[int, Any] = {}
    # Inside inference mode new tensors would be of the kind that no gradient can pass.
    with torch.inference_mode(mode=False), torch.no_grad():
        for name, own in net.named_parameters():
            known[id(own)] = parameter(name, own)
        for module in net.modules():
            # What deepcopy refuses: a weight that was computed from others by an older weight_norm.
            for value in (*vars(module).values(), *module.buffers(recurse=False)):
                if isinstance(value, Tensor):
                    known[id(value)] = value.detach().clone()
        return deepcopy(net, known)
