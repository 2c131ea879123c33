"""Where the layers are that words mean, in networks that are no classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_

from cnnviz_cli.core.layers import LayerInfo
from cnnviz_cli.models.returned import Returned


@dataclass(frozen=True, slots=True)
class Seen:
    """What one forward has shown of a network.

    Attributes:
        infos: the layers that have maps, in the order in which they finish.
        order: by module its place in that order.
        bits: by module the bit of whatever depends on its output.
        mappings: by module that returned a mapping of maps, what each of them depends on.
        outputs: by layer what its output depends on.
        scores: what the network's scores depend on, of a network that returns maps of them.
        convolutions: names of the convolutions.
        active: names of the modules that do more than pool or rearrange.
    """

    infos: Sequence[LayerInfo]
    order: Mapping[str, int]
    bits: Mapping[str, int]
    mappings: Mapping[str, Sequence[int]]
    outputs: Mapping[str, int]
    scores: int
    convolutions: frozenset[str]
    active: frozenset[str]


@dataclass(frozen=True, slots=True)
class Trunk:
    """The part of a network that words are about.

    Attributes:
        layers: those up to and with the default layer.
        why: what makes the last of them the default layer, as a sentence goes on.
        part: those of the whole part, the convolutions of which ``conv`` means; None for every convolution.
    """

    layers: frozenset[str]
    why: str
    part: frozenset[str] | None = None


def trunk_of(seen: Seen, returned: Returned) -> Trunk | None:
    """The trunk of a network that returns maps or boxes; None if words are about all of its layers.

    It is the outermost module that returns a mapping of maps. The default layer is the last in it that does more than
    pool or rearrange, and on which the scores depend: of maps of scores that is known from the forward; of boxes, which
    may be none, every map that the trunk returns has to depend on it. Without such a module, of maps it is the last
    layer that is not the scores themselves, and of boxes the trunk is the last of the network's own layers.
    """
    spatial = [info for info in seen.infos if info.spatial and info.name in seen.active]
    if returned.kind == "maps":
        reached = [info for info in spatial if seen.scores & seen.bits[info.name]]
        name = _outermost(seen)
        inner = [info for info in reached if name is not None and _within(info.name, name)]
        last = (inner or _before_scores(seen, reached, returned.classes))[-1:]
        part = name if inner else None
    elif returned.kind == "boxes":
        name = _outermost(seen) or next((info.name for info in reversed(spatial) if "." not in info.name), None)
        if name is None:
            return None
        maps = seen.mappings.get(name) or [seen.outputs[name]]
        common = reduce(and_, maps)
        last = [info for info in spatial if _within(info.name, name) and common & seen.bits[info.name]][-1:]
        part = name
    else:
        return None
    if not last:
        return None
    inside = [info for info in seen.infos if part is None or _within(info.name, part)]
    every = "every map that it returns depends" if returned.kind == "boxes" else "the scores depend"
    return Trunk(
        frozenset(info.name for info in inside if info.order <= last[0].order),
        f"the last layer of '{part}' on which {every}" if part else "the last layer before the maps of scores",
        frozenset(info.name for info in inside) if returned.kind == "boxes" else None,
    )


def _outermost(seen: Seen) -> str | None:
    """The first to finish of the modules that return a mapping of maps and lie in no other that does."""
    outer = [
        name for name in seen.mappings if not any(_within(name, other) for other in seen.mappings if other != name)
    ]
    return min(outer, key=lambda name: seen.order[name], default=None)


def _before_scores(seen: Seen, reached: Sequence[LayerInfo], classes: int) -> Sequence[LayerInfo]:
    """The layers before the last convolution, if that has a channel for each class: what it gives are the scores."""
    last = max((info for info in reached if info.name in seen.convolutions), key=lambda info: info.order, default=None)
    if last is None or last.shape[0] != classes:
        return reached
    return [info for info in reached if info.order < last.order] or reached


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")
