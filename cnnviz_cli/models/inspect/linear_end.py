"""Networks whose scores are one linear layer's output: that layer, and the network up to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnviz_cli.core.scores import rows_of
from cnnviz_cli.models.inspect.heads import LinearCall, linear_calls, noise_input


@dataclass(frozen=True)
class LinearEnd:
    """The last layer of a network whose scores are ``weight @ features + bias``.

    Attributes:
        name: of the layer.
        weight: (K, C), detached.
        bias: (K,), detached; None of a layer without one.
        features: a network that returns (B, C) what the layer is given.
    """

    name: str
    weight: Tensor
    bias: Tensor | None
    features: nn.Module


class EndInput(nn.Module):
    """A network that returns what one of its linear layers is given, (B, C)."""

    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        self.net, self.name = net, name

    def forward(self, *inputs: Any) -> Tensor:
        given: list[Tensor] = []

        def keep(_module: nn.Module, taken: Sequence[Any]) -> None:
            given[:] = [taken[0]]  # of several runs the last counts

        handle = self.net.get_submodule(self.name).register_forward_pre_hook(keep)
        try:
            self.net(*inputs)
        finally:
            handle.remove()
        return given[0]


def find_linear_end(net: nn.Module, shape: tuple[int, int, int], part: str | None = None) -> LinearEnd | None:
    """The last layer, if it is linear and gives the scores, or what a softmax or a sigmoid makes probabilities of.

    Found by a forward on noise, not by names; what comes before the layer may be anything. None where the scores come
    from something else, such as a convolution, a cosine or a layer whose output is scaled.

    Args:
        shape: channels, height and width of the input.
        part: the part of the output that is explained, see `core.scores.part_of`.
    """
    with linear_calls(net) as calls, torch.no_grad():
        scores = rows_of(net(noise_input(net, shape)), part)
    if scores is None:
        return None
    last = next((call for call in reversed(calls) if _gives(call, scores)), None)
    if last is None or not last.name:
        return None
    bias: Tensor | None = last.module.bias
    return LinearEnd(
        last.name, last.module.weight.detach(), None if bias is None else bias.detach(), EndInput(net, last.name).eval()
    )


def _gives(call: LinearCall, scores: Tensor) -> bool:
    """Whether a layer's output is the scores, or their logits, and is what its weights say, a row for each image."""
    made = rows_of(call.output)
    if made is None or call.features.dim() != 2 or made.shape != scores.shape:
        return False
    ends = (made, made.softmax(-1), made.log_softmax(-1), made.sigmoid())
    linear = functional.linear(call.features, call.module.weight, call.module.bias)
    return _close(made, linear) and any(_close(end, scores) for end in ends)


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-6)
