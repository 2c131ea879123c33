"""A network's traced graph, cut behind a layer, so that variants of the layer run through what comes after it alone.

It has to repeat the scores of the network itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn

from cnnviz_cli.core.layers import from_maps, split_run
from cnnviz_cli.core.network import match_memory_format
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.passes import Read
from cnnviz_cli.engine.twins import FoldError, Twin, find_twin


class TraceError(Exception):
    """Why a network's code cannot be traced, or why a network cannot be cut at a layer."""


def trace_graph(net: nn.Module) -> tuple[fx.Graph, dict[fx.Node, str]]:
    """The graph of `net`, and for each node its module's path. Raises TraceError if it cannot be traced."""
    # Not at the top: it takes a second, and few methods take a network apart.
    from torchvision.models.feature_extraction import NodePathTracer

    # The way torchvision's own feature extractor names nodes; in eval mode, so that switches of training are decided.
    tracer = NodePathTracer()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = tracer.trace(net)
    except Exception as error:  # whatever a network does in Python may fail on a tracer's stand-ins
        raise TraceError(f"its code cannot be traced ({escape_text(str(error).splitlines()[0][:80])})") from error
    return graph, tracer.node_to_qualname


def _repeats_scores(run: Callable[[], Any], scores: Tensor, execution: Execution, read: Read) -> bool:
    with torch.no_grad(), execution.autocast(scores.device):
        again = read(run())
    tolerance = 5e-2 if execution.precision != "fp32" else 1e-9 if scores.dtype == torch.float64 else 1e-4
    return torch.allclose(again.to(scores.dtype), scores, rtol=tolerance, atol=tolerance * float(scores.abs().max()))


@dataclass(frozen=True)
class SplitNetwork:
    """A network in two parts: the head gives the layer's output and what else crosses the cut, `crossing` values (live
    skip connections, sizes); the tail takes the same."""

    head: Callable[[Tensor], tuple[Any, ...]]
    tail: Callable[..., Any]
    crossing: int


def split_at_layer(net: nn.Module, layer: str) -> SplitNetwork:
    """Cut the traced graph of `net` behind a run of `layer`, the last unless its name says which; the parts share its
    modules. Raises TraceError if it cannot be traced, or the layer is not in the trace."""
    graph, names = trace_graph(net)
    cut = _output_of(layer, graph, names)
    after = _nodes_after(cut)
    order = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    result = next(node for node in graph.nodes if node.op == "output")
    if result not in after:
        raise TraceError("its scores do not depend on the layer")
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
            raise TraceError("the layer's runs cannot be told apart in its trace")
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
        raise TraceError("the layer does not appear in its trace")
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
    """A value that crosses the cut, of one image, for `count` variants of it; `twice` is that of the same image twice:
    where a number differs, it counts images."""
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


class Tail(Protocol):
    """What comes after a layer: (n, C, h, w) altered maps of one image -> what the network returns for them."""

    @property
    def modules(self) -> nn.Module:
        """The network whose modules run."""

    def __call__(self, maps: Tensor) -> Any: ...


_HALVES: WeakKeyDictionary[nn.Module, dict[str, tuple[Twin | None, SplitNetwork | str]]] = WeakKeyDictionary()
"""For each network and layer the twin that was cut, if there is one, and its parts or why it cannot be cut there;
tracing takes longer than many a tail."""


@dataclass(frozen=True)
class _Split:
    modules: nn.Module
    twin: Twin | None
    halves: SplitNetwork
    once: tuple[Any, ...]
    twice: tuple[Any, ...]

    def __call__(self, maps: Tensor) -> Any:
        if self.twin is not None:
            self.twin.clear()
        count = len(maps)
        crossing = [expand_batch(a, count, b) for a, b in zip(self.once[1:], self.twice[1:], strict=True)]
        return self.halves.tail(match_memory_format(from_maps(maps, self.once[0]), self.once[0]), *crossing)


@dataclass(frozen=True)
class _Whole:
    """The whole network, the layer's output replaced: what is left where a network cannot be cut."""

    net: nn.Module
    twin: Twin | None
    layer: str
    image: Tensor
    run: int
    native: Tensor

    @property
    def modules(self) -> nn.Module:
        return self.net if self.twin is None else self.twin.net

    def __call__(self, maps: Tensor) -> Any:
        if self.twin is not None:
            with suppress(FoldError), self.twin.in_use() as copy:
                return self._run(copy, maps)
        return self._run(self.net, maps)

    def _run(self, net: nn.Module, maps: Tensor) -> Any:
        runs = 0

        def replace(_module: nn.Module, _inputs: Any, _output: Any) -> Tensor | None:
            nonlocal runs
            runs += 1
            return match_memory_format(from_maps(maps, self.native), self.native) if runs == self.run else None

        hook = net.get_submodule(split_run(self.layer)[0]).register_forward_hook(replace)
        try:
            return net(self.image.expand(len(maps), -1, -1, -1))
        finally:
            hook.remove()


def make_tail(net: nn.Module, layer: str, image: Tensor, scores: Tensor, execution: Execution, read: Read) -> Tail:
    """What comes after `layer`, for variants of one (1, C, H, W) image. Where the cut network does not repeat `scores`,
    the whole network is used."""
    parts = _HALVES.setdefault(net, {})
    twin = find_twin(net, image, (layer,)) if execution.fold else None
    if layer not in parts or parts[layer][0] is not twin:
        try:
            with nullcontext(net) if twin is None else twin.in_use() as whole:
                parts[layer] = twin, split_at_layer(whole, layer)
        except TraceError as error:
            parts[layer] = twin, str(error)
    halves = parts[layer][1]
    if isinstance(halves, SplitNetwork):
        with torch.no_grad(), execution.autocast(image.device):
            if twin is not None:
                twin.clear()
            once = halves.head(image.clone())
            twice = halves.head(image.repeat(2, 1, 1, 1)) if halves.crossing else once
        tail = _Split(net if twin is None else twin.net, twin, halves, once, twice)
        if _halves_agree(tail, scores, execution, read):
            return tail
        parts[layer] = twin, "its parts do not give the scores of the whole"
    return make_whole_tail(net, layer, image, execution, fold=execution.fold)


def whole_network_reason(net: nn.Module, layer: str) -> str | None:
    """Why the network runs whole for variants of `layer`; None if it does not, or has not been tried."""
    _, found = _HALVES.get(net, {}).get(layer, (None, None))
    return found if isinstance(found, str) else None


def _halves_agree(tail: _Split, scores: Tensor, execution: Execution, read: Read) -> bool:
    cut = tail.once[0]
    if not isinstance(cut, Tensor):
        return False
    crossing = [value.clone() if isinstance(value, Tensor) else value for value in tail.once[1:]]
    return _repeats_scores(lambda: tail.halves.tail(cut.clone(), *crossing), scores, execution, read)


def make_whole_tail(net: nn.Module, layer: str, image: Tensor, execution: Execution, *, fold: bool) -> Tail:
    """The whole network on one image, (1, C, H, W), as a function of altered maps of its layer."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs.append(output.detach().clone())

    path, chosen = split_run(layer)
    hook = net.get_submodule(path).register_forward_hook(keep)
    try:
        with torch.no_grad(), execution.autocast(image.device):
            net(image.clone())
    finally:
        hook.remove()
    run = chosen or len(outputs)
    twin = find_twin(net, image, (layer,)) if fold else None
    return _Whole(net, twin, layer, image, run, outputs[run - 1])
