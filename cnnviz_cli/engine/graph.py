"""A network's traced graph, cut behind a layer, so that variants of the layer run through what comes after it alone.

It has to repeat the scores of the network itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn

from cnnviz_cli.core.layers import from_maps, split_run
from cnnviz_cli.core.network import match_memory_format
from cnnviz_cli.core.text import first_line
from cnnviz_cli.engine.answers import PassContext
from cnnviz_cli.engine.execution import Execution
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
        raise TraceError(f"its code cannot be traced ({first_line(error, 80)})") from error
    return graph, tracer.node_to_qualname


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


class _MixedError(Exception):
    """What crosses a cut for several images cannot be told apart by image."""


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
    return _rebuilt(value, [expand_batch(part, count, other) for part, other in zip(value, twice, strict=True)])


def _pick_image(value: Any, image: int, count: int, once: Any, twice: Any) -> Any:
    """Of a value that crosses the cut for `count` images that of one; `once` and `twice` tell shapes and numbers for
    one image, and for the same twice. Raises _MixedError where it cannot be told."""
    if isinstance(value, Tensor):
        if once.dim() and twice.shape[0] == 2 * once.shape[0]:
            if value.shape != (count, *once.shape[1:]):
                raise _MixedError
            return value[image : image + 1]
        if value.shape != once.shape:
            raise _MixedError
        return value
    if isinstance(value, tuple | list):
        if len(value) != len(once):
            raise _MixedError
        pairs = zip(value, once, twice, strict=True)
        return _rebuilt(value, [_pick_image(part, image, count, one, two) for part, one, two in pairs])
    # What counts images grows with them; all else is the same for any number.
    if value != expand_batch(once, count, twice):
        raise _MixedError
    return once


def _shapes(value: Any) -> Any:
    """A value that crosses the cut, its tensors without their numbers."""
    if isinstance(value, Tensor):
        return value.to("meta")
    return _rebuilt(value, [_shapes(part) for part in value]) if isinstance(value, tuple | list) else value


def _rebuilt(value: Any, parts: list[Any]) -> Any:
    return torch.Size(parts) if isinstance(value, torch.Size) else type(value)(parts)


class Tail(Protocol):
    """What comes after a layer: (n, C, h, w) altered maps of one image -> what the network returns for them."""

    @property
    def modules(self) -> nn.Module:
        """The network whose modules run."""

    def __call__(self, maps: Tensor) -> Any: ...


@dataclass
class _Cut:
    """A network that was cut behind a layer.

    Attributes:
        twin: what was cut, if it is not the network itself.
        halves: its parts, or why there are none.
        crossing: by shape of an image and how it is carried out the shapes of what crosses the cut, see `_pick_image`.
    """

    twin: Twin | None
    halves: SplitNetwork | str
    crossing: dict[Hashable, tuple[Any, Any]] = field(default_factory=dict)


_CUTS: WeakKeyDictionary[nn.Module, dict[str, _Cut]] = WeakKeyDictionary()
"""By network and layer; tracing takes longer than many a tail."""


@dataclass(frozen=True)
class _Split:
    modules: nn.Module
    twin: Twin | None
    tail: Callable[..., Any]
    native: Tensor
    once: tuple[Any, ...]
    twice: tuple[Any, ...]

    def __call__(self, maps: Tensor) -> Any:
        if self.twin is not None:
            self.twin.clear()
        return self.tail(match_memory_format(from_maps(maps, self.native), self.native), *self._crossing(len(maps)))

    def unaltered(self) -> Any:
        """What the network returns for the layer's output as it is."""
        if self.twin is not None:
            self.twin.clear()
        return self.tail(self.native.clone(), *self._crossing(1))

    def _crossing(self, count: int) -> list[Any]:
        return [expand_batch(one, count, two) for one, two in zip(self.once, self.twice, strict=True)]


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


def _repeats_scores(tails: Sequence[_Split], context: PassContext) -> bool | None:
    """Whether the tail of the first image with scores that are numbers gives them; None if there is no such image."""
    for image, tail in enumerate(tails):
        scores = context.logits[image : image + 1]
        if not scores.isnan().any():
            with torch.no_grad(), context.execution.autocast(scores.device):
                again = context.score_reader(image)(tail.unaltered())
            return context.execution.repeats(again, scores)
    return None


def make_tails(context: PassContext, layer: str) -> list[Tail]:
    """For each image of the batch what comes after `layer`. Where the cut network does not repeat the scores of an
    image, the whole network is used."""
    net, execution = context.net, context.execution
    if not context.alone:
        cut = _find_cut(net, layer, context.batch, execution)
        if isinstance(cut.halves, SplitNetwork):
            with torch.no_grad(), execution.applied_to(net if cut.twin is None else cut.twin.net, context.batch.device):
                tails = _split_tails(context, layer, cut, cut.halves)
            repeated = _repeats_scores(tails, context) if tails else False
            if repeated:
                return [*tails]
            # A batch without numbers says nothing about the next.
            if repeated is False:
                cut.halves = "its parts do not give the scores of the whole"
    twin = find_twin(net, context.batch, (layer,)) if context.folds else None
    return [_whole_tail(context, layer, image, twin) for image in range(len(context.batch))]


def whole_network_reason(net: nn.Module, layer: str) -> str | None:
    """Why the network runs whole for variants of `layer`; None if it does not, or has not been tried."""
    cut = _CUTS.get(net, {}).get(layer)
    return cut.halves if cut is not None and isinstance(cut.halves, str) else None


def _find_cut(net: nn.Module, layer: str, batch: Tensor, execution: Execution) -> _Cut:
    cuts = _CUTS.setdefault(net, {})
    twin = find_twin(net, batch, (layer,)) if execution.fold else None
    if layer not in cuts or cuts[layer].twin is not twin:
        try:
            with nullcontext(net) if twin is None else twin.in_use() as whole:
                cuts[layer] = _Cut(twin, split_at_layer(whole, layer))
        except TraceError as error:
            cuts[layer] = _Cut(twin, str(error))
    return cuts[layer]


def _split_tails(context: PassContext, layer: str, cut: _Cut, halves: SplitNetwork) -> list[_Split]:
    """The tails of a batch; none if the layer does not give one tensor. The head runs only for what the batch's own
    forward has not kept."""
    batch, kept, twin = context.batch, context.own.kept.get(layer), cut.twin

    def head(images: Tensor) -> tuple[Any, ...]:
        if twin is not None:
            twin.clear()
        return halves.head(images.clone())

    def tail(native: Tensor, crossing: Sequence[Any], twice: Sequence[Any]) -> _Split:
        modules = context.net if twin is None else twin.net
        return _Split(modules, twin, halves.tail, native.detach(), tuple(crossing), tuple(twice))

    if kept is not None and not halves.crossing:
        return [tail(native, (), ()) for native in torch.split(kept, 1)]
    key = batch.shape[1:], batch.dtype, batch.device, context.execution
    if key not in cut.crossing:
        one = batch[:1]
        cut.crossing[key] = _shapes(head(one)), _shapes(head(one.repeat(2, 1, 1, 1)))
    once, twice = cut.crossing[key]
    if not isinstance(once[0], Tensor):
        return []
    if len(batch) > 1:
        values = head(batch)
        with suppress(_MixedError):
            parts = [_pick_image(values, image, len(batch), once, twice) for image in range(len(batch))]
            return [tail(part[0], part[1:], twice[1:]) for part in parts]
    return [tail(values[0], values[1:], twice[1:]) for values in map(head, torch.split(batch, 1))]


def _whole_tail(context: PassContext, layer: str, image: int, twin: Twin | None) -> Tail:
    """The whole network on one image, as a function of altered maps of its layer."""
    net, picture = context.net, context.batch[image : image + 1]
    path, chosen = split_run(layer)
    if layer in context.own.kept:
        native = context.own.kept[layer].detach()[image : image + 1]
        return _Whole(net, twin, layer, picture, chosen or context.own.runs[layer], native)
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs.append(output.detach().clone())

    hook = net.get_submodule(path).register_forward_hook(keep)
    try:
        with torch.no_grad(), context.execution.autocast(picture.device):
            net(picture.clone())
    finally:
        hook.remove()
    run = chosen or len(outputs)
    return _Whole(net, twin, layer, picture, run, outputs[run - 1])
