"""Batch normalisation folded into the convolutions before it, for networks that run hundreds of times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cnnviz_cli.engine.graph import TraceError, scores_match, trace_graph
from cnnviz_cli.engine.passes import Read, autocast_context


@dataclass(frozen=True)
class _FoldResult:
    """What became of a network.

    Attributes:
        state: of its weights at that time, see `_state`.
        folded: the copy; None where there is nothing to fold, or its code cannot be traced.
    """

    state: tuple[tuple[int, int], ...]
    folded: nn.Module | None


_FOLD_CACHE: WeakKeyDictionary[nn.Module, _FoldResult] = WeakKeyDictionary()


def fold_if_equivalent(net: nn.Module, image: Tensor, scores: Tensor, precision: str, read: Read) -> nn.Module:
    """`net` without its batch normalisations, or `net` itself where that cannot be had.

    In eval mode a batch normalisation is one multiplication and one addition for each channel, which a convolution's
    weights can hold. Memory traffic is all that it costs, and that is a quarter of a ResNet's forward and backward
    on a CPU. The two networks are one function, so their gradients at the input are the same, up to rounding.
    Layers inside are not to be read from the copy.

    Args:
        image: (1, C, H, W), on which the copy has to give the same scores.
        scores: (1, K) what `net` says of it.
        read: from what a network returns for that image to its scores.
    """
    state = _state(net)
    made = _FOLD_CACHE.get(net)
    if made is None or made.state != state:
        made = _FOLD_CACHE[net] = _FoldResult(state, fold_batchnorm(net))
    copy = made.folded
    return copy if copy is not None and _scores_agree(copy, image, scores, precision, read) else net


def fold_batchnorm(net: nn.Module) -> nn.Module | None:
    """A copy of `net` that shares all modules but the folded ones; None if nothing can be folded."""
    if not any(type(module) is nn.BatchNorm2d for module in net.modules()):
        return None
    try:
        graph, _ = trace_graph(net)
    except TraceError:
        return None
    modules = dict(net.named_modules())
    pairs = [(node.args[0], node) for node in graph.nodes if _is_pair(node, modules)]
    if not pairs:
        return None
    made = fx.GraphModule(net, graph)
    for number, (convolution, norm) in enumerate(pairs):
        name = f"folded_{number}"
        made.add_submodule(name, fuse_conv_bn_eval(modules[convolution.target], modules[norm.target]))
        with graph.inserting_before(norm):
            both = graph.call_module(name, convolution.args)
        norm.replace_all_uses_with(both)
        graph.erase_node(norm)
        graph.erase_node(convolution)
    made.delete_all_unused_submodules()
    made.recompile()
    return made.eval()


def _is_pair(node: fx.Node, modules: dict[str, Any]) -> bool:
    """Whether a node normalises what a convolution, and nobody else, gets to see."""
    before = node.args[0] if node.op == "call_module" and len(node.args) == 1 else None
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1 or len(before.args) != 1:
        return False
    convolution, norm = modules[str(before.target)], modules[str(node.target)]
    # Exact types: a subclass or a parametrised module may do something else.
    if type(convolution) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d:
        return False
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in (convolution, norm))
    return not norm.training and norm.running_mean is not None and not hooked


def _state(net: nn.Module) -> tuple[tuple[int, int], ...]:
    """Changes when weights are loaded, moved or rewritten."""
    return tuple((value.data_ptr(), value._version) for value in (*net.parameters(), *net.buffers()))


def _scores_agree(copy: nn.Module, image: Tensor, scores: Tensor, precision: str, read: Read) -> bool:
    with torch.no_grad(), autocast_context(image.device, precision):
        again = read(copy(image.clone()))
    return scores_match(again, scores, precision)
