"""Finds a network's layers by running it once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz_cli.core.layers import LayerInfo
from cnnviz_cli.core.layout import as_maps, oblong
from cnnviz_cli.core.regions import maps_in
from cnnviz_cli.models.inside import Inside
from cnnviz_cli.models.layers import ModelLayers
from cnnviz_cli.models.receptive import CUT_OUT, Tracker
from cnnviz_cli.models.returned import Returned
from cnnviz_cli.models.trunk import Seen, trunk_of
from cnnviz_cli.models.windows import Windows, whole


def probe(net: nn.Module, shape: tuple[int, int, int], model: str, head: str | None = None) -> ModelLayers:
    """The layers of a network that have maps.

    One forward of zeros, batch 1, without gradients. The network must be in eval mode, and is left as it was.

    Args:
        shape: channels, height and width of the input.
        model: the network's name, for errors.
        head: which part of the output is explained, see `Returned.of`.

    Raises:
        UsageError: there is no such part.
    """
    like = next(net.parameters())
    picture = torch.zeros(1, *shape, dtype=like.dtype, device=like.device)
    modules = {name: module for name, module in net.named_modules() if name}
    watch = _Watch(Tracker(picture), Windows(picture), modules, Inside.of(net), shape[1:])
    hooks = []
    try:
        for name, module in modules.items():
            if isinstance(module, torch.jit.ScriptModule):
                watch.reasons[name] = "it is TorchScript, inside which nothing can be read"  # nor hooked
                continue
            hooks.append(module.register_forward_hook(partial(watch.finished, name)))
        with torch.no_grad(), watch.windows, watch.tracker, oblong(*shape[1:]):
            output = net(picture)
        returned = Returned.of(output, head)
        scores = watch.tracker.marks(maps_in(output, returned.head)) if returned.kind == "maps" else 0
    finally:
        for hook in hooks:
            hook.remove()

    infos = sorted(watch.layers.values(), key=lambda info: info.order)
    convolutions = {name for name, module in modules.items() if isinstance(module, nn.Conv2d)}
    convolving = frozenset(info.name for info in infos if any(_within(name, info.name) for name in convolutions))
    attentions = {name for name, module in modules.items() if isinstance(module, nn.MultiheadAttention)}
    last = max((watch.order[name] for name in attentions & watch.order.keys()), default=-1)
    takes_over = last > max((watch.order[name] for name in convolutions & watch.order.keys()), default=-1)
    named = frozenset(convolutions & watch.layers.keys())
    trunk = trunk_of(watch.seen(infos, scores, named, convolving), returned)
    return ModelLayers(
        model=model,
        infos=tuple(infos),
        convolutions=named if trunk is None or trunk.part is None else named & trunk.part,
        convolving=convolving,
        among=None if trunk is None else trunk.layers,
        kinds={name: type(module).__name__ for name, module in modules.items()},
        others={
            name: watch.reasons.get(name, "it does not run by itself") for name in modules if name not in watch.layers
        },
        attention=last if takes_over else None,
        max_pooled=watch.tracker.max_pooled,
        returned=returned,
        whole=getattr(net, "whole", ""),
        runs={name: tuple(runs) for name, runs in watch.runs.items() if len(runs) > 1 and name in watch.layers},
    )


def _within(name: str, layer: str) -> bool:
    return name == layer or name.startswith(f"{layer}.")


class _Watch:
    """What the hooks saw. Of a module that runs several times, the last run stays."""

    def __init__(
        self, tracker: Tracker, windows: Windows, modules: Iterable[str], inside: Inside | None, size: tuple[int, int]
    ) -> None:
        self.tracker = tracker
        self.windows = windows
        self.runs: dict[str, list[LayerInfo | None]] = {}
        self.order: dict[str, int] = {}
        self.layers: dict[str, LayerInfo] = {}
        self.reasons: dict[str, str] = {}
        self._bits = {name: 2 * CUT_OUT << place for place, name in enumerate(modules)}
        self._outputs: dict[str, int] = {}
        self._mappings: dict[str, list[int]] = {}
        self._inside, self._size = inside, size
        self._count = 0
        self._sizes: set[tuple[int, ...]] = set()

    def seen(
        self, infos: Sequence[LayerInfo], scores: int, convolutions: frozenset[str], convolving: frozenset[str]
    ) -> Seen:
        """All of it."""
        return Seen(infos, self.order, self._bits, self._mappings, self._outputs, scores, convolutions, convolving)

    def finished(self, name: str, module: nn.Module, _: Any, output: Any) -> None:
        self.order[name] = self._count
        self._count += 1
        self.layers.pop(name, None)
        runs = self.runs.setdefault(name, [])
        runs.append(None)
        self.reasons.pop(name, None)
        self.tracker.mark(output, self._bits[name])
        if self._inside is not None and name == self._inside.name:
            # It copies pictures into one tensor, row by row or resized: where that is a copy, it is our input.
            self.tracker.adopt(output[0].tensors, exact=self._inside.leaves(self._size))
        if isinstance(output, Mapping) and output and all(map(_are_maps, output.values())):
            self._mappings[name] = [self.tracker.marks(maps) for maps in output.values()]
        shape = self._shape(output)
        if isinstance(shape, str):
            self.reasons[name] = shape
        else:
            field = self.tracker.of(output).field
            self.layers[name] = LayerInfo(name, type(module).__name__, shape, self.order[name], field)
            self._outputs[name] = self.tracker.marks(output)
            window = self.windows.of(output)
            if window is not None:
                run = replace(self.layers[name], name=f"{name}@{len(runs)}", window=None if whole(window) else window)
                runs[-1] = run

    def _shape(self, output: Any) -> tuple[int, int, int] | str:
        """Channels, height and width, or why the output holds no maps."""
        if not isinstance(output, Tensor):
            return f"it returns a {type(output).__name__}"
        if self.tracker.marks(output) & CUT_OUT:
            return "it runs for each box, not for each picture"
        seen = f"it returns a tensor of shape {tuple(output.shape)}"
        maps = as_maps(output)
        if maps is None:
            return seen
        channels, *size = maps.shape[1:]
        axes = self.tracker.of(output).axes
        if axes is not None and len(output.shape) == 4:
            # Known from how it came about; a picture that the engine would read otherwise must not be offered.
            if [output.shape[axis] for axis in axes] != size:
                return seen
            self._sizes.add(tuple(size))
        elif tuple(size) not in self._sizes:
            # Rows and columns were lost (attention works on lists of positions), and these sizes are no map's:
            # MaxViT's windows and their positions look like one.
            return seen
        return (channels, size[0], size[1])


def _are_maps(value: Any) -> bool:
    return isinstance(value, Tensor) and as_maps(value) is not None
