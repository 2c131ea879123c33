"""A network's graph: traced, and cut at a layer so that only what comes after it runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from cnnviz_cli.core.layers import split_run
from cnnviz_cli.core.text import visible


class TraceError(Exception):
    """Why a network's code cannot be traced."""


def trace_graph(net: nn.Module) -> tuple[fx.Graph, dict[fx.Node, str]]:
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
        raise TraceError(f"its code cannot be traced ({visible(str(error).splitlines()[0][:80])})") from error
    return graph, tracer.node_to_qualname


def scores_match(again: Tensor, scores: Tensor, precision: str) -> bool:
    """Whether the scores of a remade network are those of the network itself, up to rounding.

    Args:
        again: (B, K).
        scores: (B, K).
    """
    tolerance = 5e-2 if precision != "fp32" else 1e-9 if scores.dtype == torch.float64 else 1e-4
    return torch.allclose(again.to(scores.dtype), scores, rtol=tolerance, atol=tolerance * float(scores.abs().max()))


class SplitError(Exception):
    """Why a network cannot be cut at a layer."""


@dataclass(frozen=True)
class SplitNetwork:
    """A network in two parts.

    Attributes:
        head: input -> the layer's output, and what else crosses the cut.
        tail: the same values -> what the network returns.
        crossing: how many values cross the cut besides the layer's output: live skip connections, sizes.
    """

    head: Callable[[Tensor], tuple[Any, ...]]
    tail: Callable[..., Any]
    crossing: int


def split_at_layer(net: nn.Module, layer: str) -> SplitNetwork:
    """Cut the traced graph of `net` behind a run of `layer`, the last unless its name says which.

    The parts share the network's modules.

    Raises:
        CannotSplitError: the network cannot be traced, or the layer cannot be found in the trace.
    """
    try:
        graph, names = trace_graph(net)
    except TraceError as error:
        raise SplitError(str(error)) from error
    cut = _output_of(layer, graph, names)
    after = _nodes_after(cut)
    order = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    result = next(node for node in graph.nodes if node.op == "output")
    if result not in after:
        raise SplitError("its scores do not depend on the layer")
    users = [node for node in order if node in after] + [result]
    crossing = list(
        dict.fromkeys(
            source
            for user in users
            for source in user.all_input_nodes
            if source not in after and source is not cut and source.op != "get_attr"
        )
    )
    head = fx.Graph()
    seen: dict[fx.Node, fx.Node] = {
        node: head.placeholder(node.name) for node in graph.nodes if node.op == "placeholder"
    }
    for node in order:
        if node not in after:
            seen[node] = head.node_copy(node, lambda old: seen[old])
    head.output(tuple(seen[node] for node in (cut, *crossing)))
    tail = fx.Graph()
    known = {node: tail.placeholder(node.name) for node in (cut, *crossing)}
    for node in order:
        if node in after or (node.op == "get_attr" and node not in known):
            known[node] = tail.node_copy(node, lambda old: known[old])
    tail.output(fx.map_arg(result.args[0], lambda old: known[old]))
    tail.eliminate_dead_code(is_impure_node=lambda node: node.op != "get_attr")
    return SplitNetwork(_module(net, head), _module(net, tail), len(crossing))


def _module(net: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    graph.lint()
    made = fx.GraphModule(net, graph)
    made.eval()
    return made


def _output_of(layer: str, graph: fx.Graph, names: Any) -> fx.Node:
    """The node that a module's last run returns: the last whose path lies in the module."""
    path, run = split_run(layer)
    if run is not None:
        runs = [node for node in graph.nodes if node.op == "call_module" and node.target == path]
        if len(runs) < run:  # its parts are in the trace, not itself, and they cannot be counted
            raise SplitError("the layer's runs cannot be told apart in its trace")
        cut: fx.Node = runs[run - 1]
        return cut
    found: fx.Node | None = None
    for node in graph.nodes:
        if node.op == "call_module" and node.target == layer:
            found = node
        elif node in names:
            stem = names[node]
            if stem.startswith(f"{layer}."):
                found = node
    if found is None:
        raise SplitError("the layer does not appear in its trace")
    return found


def _nodes_after(cut: fx.Node) -> set[fx.Node]:
    after: set[fx.Node] = set()
    waiting = list(cut.users)
    while waiting:
        node = waiting.pop()
        if node not in after:
            after.add(node)
            waiting.extend(node.users)
    return after


def expand_batch(value: Any, count: int, twice: Any) -> Any:
    """A value that crosses the cut, of one image, for `count` variants of it.

    Args:
        value: as the head gave it for one image.
        twice: as it gave it for the same image twice; where a number differs, it counts images.
    """
    if isinstance(value, Tensor):
        if value.dim() and twice.shape[0] == 2 * value.shape[0]:
            # A copy, not a view: the tail may add to it in place.
            return value.repeat(count, *[1] * (value.dim() - 1))
        return value
    if isinstance(value, bool) or not isinstance(value, int | tuple | list | torch.Size):
        return value
    if isinstance(value, int):
        return value * count if twice == 2 * value != 0 else value
    parts: Sequence[Any] = [expand_batch(part, count, other) for part, other in zip(value, twice, strict=True)]
    return torch.Size(parts) if isinstance(value, torch.Size) else type(value)(parts)
