"""Eval mode, also of networks whose own ``train`` or ``eval`` says otherwise."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import is_lazy

from cnnviz_cli.core.errors import ModelError
from cnnviz_cli.core.network_errors import network_errors


def refuse_unfinished(net: nn.Module, where: str = "--model") -> None:
    """Raise ModelError if weights have no values: of lazy modules that never ran, or on the meta device."""
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if is_lazy(tensor):
            what = f"'{name}' has no shape yet: it gets one when the network runs for the first time (a lazy module)"
            raise ModelError(
                what, where=where, fix="Run the network once before it is trained, and load what was trained."
            )
    refuse_valueless(net, where)


def refuse_valueless(net: nn.Module, where: str = "--model") -> None:
    """Raise ModelError if weights are on the meta device, from which they cannot be moved."""
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if tensor.is_meta:
            what = f"'{name}' has a shape and no values (it is on the meta device)"
            raise ModelError(what, where=where, fix="Give it values: load its weights, with assign=True.")


def put_in_eval(net: nn.Module) -> tuple[str, ...]:
    """Put every module of a network in eval mode; returns the names of those that its own ``eval`` had left out.

    Its own is called first, since it may do more than switch. What it returns does not matter: many an overridden
    ``train`` forgets to return the network.

    Raises:
        NetworkError: its own raised an error.
    """
    with network_errors(always=True):
        net.eval()
    left = tuple(name or type(net).__name__ for name, module in net.named_modules() if module.training)
    for module in net.modules():
        if module.training:
            module.training = False
    return left
