"""Which layers' positions the class scores depend on, and which of those layers words mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz_cli.core.layers import LayerInfo
from cnnviz_cli.core.layout import as_maps, oblong
from cnnviz_cli.core.readout import part_of
from cnnviz_cli.models.heads import noise_for


@dataclass(frozen=True, slots=True)
class Reach:
    """What one forward has shown of a classifier's layers.

    Attributes:
        infos: the layers that have maps, in the order in which they finish.
        live: names of those on whose positions the scores depend. Behind a class token they do not.
        active: names of the modules that do more than pool or rearrange.
        projections: names of those that weigh features to queries, keys or values for an attention and do nothing else.
        leading: by layer how many tokens stand before its positions.
    """

    infos: Sequence[LayerInfo]
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


def default_layers(reach: Reach) -> tuple[frozenset[str], str]:
    """The names of the layers that words mean, and what makes the deepest of them the default layer."""
    candidates = reach.candidates
    if not candidates:
        return frozenset(), ""
    last = candidates[-1]
    names = frozenset(info.name for info in candidates)
    if last.name not in reach.live:
        return names, "the deepest layer with maps; what the scores depend on could not be followed"
    later = [info for info in reach.infos if info.order > last.order and info.spatial and info.name not in reach.live]
    leading = reach.leading.get(last.name, 0)
    if later and leading:
        after = "the class token alone is used" if leading == 1 else f"only the {leading} leading tokens are used"
    elif later:
        after = "its positions no longer reach them"
    else:
        after = "positions are pooled or flattened"
    return names, f"the deepest layer with maps on whose positions the scores depend; after it {after}"


_TRIED = (1, 4, 16)


def reached(net: nn.Module, shape: tuple[int, int, int], reach: Reach, head: str | None = None) -> Reach:
    """The same, with those candidates taken out whose positions get no gradient from any score.

    For networks that do something with their tokens that could not be followed. The deepest candidates are tried first,
    a few at a time, since a gradient costs what comes after the first of them. Where none gets a gradient, as with a
    head that starts at zero, nothing is known, and nothing is taken out.

    Args:
        net: in eval mode, on a device that holds values.
        shape: channels, height and width of the input.
        head: which part of the output is explained.
    """
    candidates = [info.name for info in reach.candidates]
    dead: set[str] = set()
    end = len(candidates)
    for count in (*_TRIED, end):
        tried = candidates[max(end - count, 0) : end]
        if not tried:
            break
        alive = _alive(net, shape, tried, head)
        if alive is None:
            return reach
        dead.update(name for name in tried if name not in alive)
        if alive:
            return replace(reach, live=reach.live - dead)
        end -= len(tried)
    return reach


def _alive(net: nn.Module, shape: tuple[int, int, int], names: Sequence[str], head: str | None) -> set[str] | None:
    """Those of the layers whose positions get a gradient other than zero; None if the network gives none."""
    kept: dict[str, Tensor] = {}

    def keeper(name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            if not output.requires_grad:
                output = output.detach().requires_grad_()
                torch.set_grad_enabled(True)
            kept[name] = output
            return output.clone()

        return keep

    hooks = [net.get_submodule(name).register_forward_hook(keeper(name)) for name in names]
    try:
        with torch.set_grad_enabled(False), oblong(*shape[1:]):
            scores: Any = part_of(net(noise_for(net, shape)), head)
            if not getattr(scores, "requires_grad", False):
                return None
            same = torch.Generator(device="cpu").manual_seed(0)
            weights = torch.randn(scores.shape, generator=same, dtype=torch.float32, device="cpu").to(scores)
            with torch.enable_grad():
                gradients: Any = torch.autograd.grad((scores * weights).sum(), list(kept.values()), allow_unused=True)
            found = set()
            for name, gradient in zip(kept, gradients, strict=True):
                maps = None if gradient is None else as_maps(gradient)
                if maps is not None and bool((maps != 0).any()):
                    found.add(name)
            return found
    except (RuntimeError, NotImplementedError):  # in-place operations, or a part without a derivative
        return None
    finally:
        for hook in hooks:
            hook.remove()
