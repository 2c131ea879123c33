"""A network's graph, and whether what was made of it is still the same function."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, fx, nn

from cnnviz_cli.core.text import visible


class CannotTraceError(Exception):
    """Why a network's code cannot be traced."""


def traced(net: nn.Module) -> tuple[fx.Graph, dict[fx.Node, str]]:
    """The graph of `net`, and for each node the path of the module it stems from.

    Raises:
        CannotTraceError: its code does what a tracer's stand-ins do not.
    """
    # Not at the top: it takes a second, and few methods take a network apart.
    from torchvision.models.feature_extraction import NodePathTracer

    # The way torchvision's own feature extractor names nodes; in eval mode, so that switches of training are decided.
    tracer = NodePathTracer()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = tracer.trace(net)
    except Exception as error:  # whatever a network does in Python may fail on a tracer's stand-ins
        raise CannotTraceError(f"its code cannot be traced ({visible(str(error).splitlines()[0][:80])})") from error
    return graph, tracer.node_to_qualname


def repeats(again: Tensor, scores: Tensor, precision: str) -> bool:
    """Whether the scores of a remade network are those of the network itself, up to rounding.

    Args:
        again: (B, K).
        scores: (B, K).
    """
    tolerance = 5e-2 if precision != "fp32" else 1e-9 if scores.dtype == torch.float64 else 1e-4
    return torch.allclose(again.to(scores.dtype), scores, rtol=tolerance, atol=tolerance * float(scores.abs().max()))
