"""Eval mode, also of networks whose own ``train`` or ``eval`` says otherwise."""

from __future__ import annotations

from torch import nn

from cnnviz_cli.core.network_errors import network_errors


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
