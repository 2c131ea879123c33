"""Runs a network that draws random numbers so that the same image gets the same draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import nn

from cnnviz_cli.core.seeding import reseeding
from cnnviz_cli.models.facts import NetworkFacts


@contextmanager
def steady(net: nn.Module, facts: NetworkFacts, seed: int) -> Iterator[None]:
    """Within, the network is in eval mode, and every forward starts its draws at `seed` if it draws any."""
    for module in net.modules():
        if module.training:  # a forward of its own may have switched it back
            module.training = False
    with nullcontext() if facts.randomness == "none" else reseeding(net, seed):
        yield
