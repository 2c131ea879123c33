"""Which layers the layer words mean: of classifiers those the scores depend on, of other networks the backbone's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import and_
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz_cli.core.layers import LayerInfo, as_maps, input_proportions
from cnnviz_cli.core.scores import part_of
from cnnviz_cli.models.inspect.heads import forward_hooks, noise_input
from cnnviz_cli.models.inspect.outputs import NetworkOutput


@dataclass(frozen=True, slots=True)
class ForwardTrace:
    """What one forward has shown of a network.

    Attributes:
        infos: the layers that have maps, in the order in which they finish.
        order: by module its place in that order.
        bits: by module the bit of whatever depends on its output.
        mappings: by module that returned a mapping of maps, what each of them depends on.
        outputs: by layer what its output depends on.
        scores: what the network's scores depend on.
        live: the layers on whose positions the scores depend. Behind a class token they do not.
        active: the modules that do more than pool or rearrange.
        projections: those that weigh features to queries, keys or values for an attention and do nothing else.
        leading: by layer how many tokens stand before its positions.
    """

    infos: Sequence[LayerInfo]
    order: Mapping[str, int]
    bits: Mapping[str, int]
    mappings: Mapping[str, Sequence[int]]
    outputs: Mapping[str, int]
    scores: int
    convolutions: frozenset[str]
    live: frozenset[str]
    active: frozenset[str]
    projections: frozenset[str]
    leading: Mapping[str, int]

    @property
    def candidates(self) -> list[LayerInfo]:
        """The layers that may be the default, the deepest last."""
        spatial = [info for info in self.infos if info.spatial] or list(self.infos)
        # If nothing could be followed up to the scores, every layer may count.
        live = [info for info in spatial if info.name in self.live] or spatial
        active = [info for info in live if info.name in self.active] or live
        # One map alone is most often a gate, and tells little beside what it is multiplied by.
        several = [info for info in active if info.shape[0] > 1] or active
        return [info for info in several if info.name not in self.projections] or several


def default_layers(trace: ForwardTrace) -> tuple[frozenset[str], str]:
    """The names of the layers that words mean, and what makes the deepest of them the default layer."""
    candidates = trace.candidates
    if not candidates:
        return frozenset(), ""
    last = candidates[-1]
    names = frozenset(info.name for info in candidates)
    if last.name not in trace.live:
        return names, "the deepest layer with maps; what the scores depend on could not be followed"
    later = [info for info in trace.infos if info.order > last.order and info.spatial and info.name not in trace.live]
    leading = trace.leading.get(last.name, 0)
    if later and leading:
        after = "the class token alone is used" if leading == 1 else f"only the {leading} leading tokens are used"
    elif later:
        after = "its positions no longer reach them"
    else:
        after = "positions are pooled or flattened"
    return names, f"the deepest layer with maps on whose positions the scores depend; after it {after}"


_TRIAL_COUNTS = (1, 4, 16)


def drop_unreached(
    net: nn.Module, shape: tuple[int, int, int], trace: ForwardTrace, head: str | None = None
) -> ForwardTrace:
    """The same without the candidates whose positions get no gradient from any score.

    The deepest are tried first, a few at a time, since a gradient costs what comes after the first of them. Where none
    gets a gradient, as with a head that starts at zero, nothing is known, and nothing is taken out.
    """
    candidates = [info.name for info in trace.candidates]
    dead: set[str] = set()
    end = len(candidates)
    for count in (*_TRIAL_COUNTS, end):
        tried = candidates[max(end - count, 0) : end]
        if not tried:
            break
        alive = _layers_with_gradient(net, shape, tried, head)
        if alive is None:
            return trace
        dead.update(name for name in tried if name not in alive)
        if alive:
            return replace(trace, live=trace.live - dead)
        end -= len(tried)
    return trace


def _layers_with_gradient(
    net: nn.Module, shape: tuple[int, int, int], names: Sequence[str], head: str | None
) -> set[str] | None:
    """Those of the layers whose positions get a gradient other than zero; None if the network gives none."""
    kept: dict[str, Tensor] = {}

    def keep(name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        if not output.requires_grad:
            output = output.detach().requires_grad_()
            torch.set_grad_enabled(True)
        kept[name] = output
        return output.clone()

    modules = {name: net.get_submodule(name) for name in names}
    try:
        with forward_hooks(modules, keep), torch.set_grad_enabled(False), input_proportions(*shape[1:]):
            scores: Any = part_of(net(noise_input(net, shape)), head)
            if not getattr(scores, "requires_grad", False):
                return None
            same = torch.Generator(device="cpu").manual_seed(0)
            weights = torch.randn(scores.shape, generator=same, dtype=torch.float32, device="cpu").to(scores)
            with torch.enable_grad():
                gradients: Any = torch.autograd.grad((scores * weights).sum(), list(kept.values()), allow_unused=True)
            maps = ((name, None if one is None else as_maps(one)) for name, one in zip(kept, gradients, strict=True))
            return {name for name, found in maps if found is not None and bool((found != 0).any())}
    except (RuntimeError, NotImplementedError):  # in-place operations, or a part without a derivative
        return None


@dataclass(frozen=True, slots=True)
class Backbone:
    """`layers` up to and with the default layer, `why` it is that, and all layers of the `part` that ``conv`` means."""

    layers: frozenset[str]
    why: str
    part: frozenset[str] | None = None


def find_backbone(trace: ForwardTrace, returned: NetworkOutput) -> Backbone | None:
    """The backbone of a network that returns maps or boxes; None if words are about all of its layers.

    It is the outermost module that returns a mapping of maps. The default layer is the last in it that does more than
    pool or rearrange, and on which the scores depend: of maps of scores that is known from the forward; of boxes, which
    may be none, every map that the backbone returns has to depend on it. Without such a module, of maps it is the last
    layer that is not the scores themselves, and of boxes the backbone is the last of the network's own layers.
    """
    spatial = [info for info in trace.infos if info.spatial and info.name in trace.active]
    if returned.kind == "maps":
        reached = [info for info in spatial if trace.scores & trace.bits[info.name]]
        name = _outermost_mapping(trace)
        inner = [info for info in reached if name is not None and _is_within(info.name, name)]
        last = (inner or _before_scores(trace, reached, returned.classes))[-1:]
        part = name if inner else None
    elif returned.kind == "boxes":
        name = _outermost_mapping(trace) or next(
            (info.name for info in reversed(spatial) if "." not in info.name), None
        )
        if name is None:
            return None
        maps = trace.mappings.get(name) or [trace.outputs[name]]
        common = reduce(and_, maps)
        last = [info for info in spatial if _is_within(info.name, name) and common & trace.bits[info.name]][-1:]
        part = name
    else:
        return None
    if not last:
        return None
    inside = [info for info in trace.infos if part is None or _is_within(info.name, part)]
    every = "every map that it returns depends" if returned.kind == "boxes" else "the scores depend"
    return Backbone(
        frozenset(info.name for info in inside if info.order <= last[0].order),
        f"the last layer of '{part}' on which {every}" if part else "the last layer before the maps of scores",
        frozenset(info.name for info in inside) if returned.kind == "boxes" else None,
    )


def _outermost_mapping(trace: ForwardTrace) -> str | None:
    outer = [
        name for name in trace.mappings if not any(_is_within(name, other) for other in trace.mappings if other != name)
    ]
    return min(outer, key=lambda name: trace.order[name], default=None)


def _before_scores(trace: ForwardTrace, reached: Sequence[LayerInfo], classes: int) -> Sequence[LayerInfo]:
    """The layers before the last convolution, if that has a channel for each class: what it gives are the scores."""
    last = max((info for info in reached if info.name in trace.convolutions), key=lambda info: info.order, default=None)
    if last is None or last.shape[0] != classes:
        return reached
    return [info for info in reached if info.order < last.order] or reached


def _is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")
