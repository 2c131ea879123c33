"""Finds a network's layers by running it once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cnnviz_cli.core.layers import LayerInfo, as_maps, input_proportions, token_grid
from cnnviz_cli.core.network import without_checkpoints
from cnnviz_cli.core.scores import maps_in, part_of
from cnnviz_cli.models.input.builtin_transform import BuiltinTransform
from cnnviz_cli.models.inspect.default_layers import ForwardTrace, default_layers, drop_unreached, find_backbone
from cnnviz_cli.models.inspect.dependence_rules import RESHAPE_OPS
from cnnviz_cli.models.inspect.heads import zero_input
from cnnviz_cli.models.inspect.layers import ModelLayers
from cnnviz_cli.models.inspect.outputs import NetworkOutput
from cnnviz_cli.models.inspect.receptive import ROI_BIT, ReceptiveFieldTracker, WindowTracker, is_whole, unfollowed


def probe_layers(net: nn.Module, shape: tuple[int, int, int], model: str, head: str | None = None) -> ModelLayers:
    """The layers of a network that have maps, by a forward of one image of zeros without gradients.

    The network must be in eval mode, and is left as it was. `shape` is channels, height and width of the input; for
    `head`, and UsageError if there is none, see `NetworkOutput.from_output`.
    """
    image = zero_input(net, shape)
    modules = {name: module for name, module in net.named_modules() if name}
    watch = _ProbeHooks(
        ReceptiveFieldTracker(image), WindowTracker(image), modules, BuiltinTransform.find(net), shape[1:]
    )
    hooks = []
    try:
        for name, module in modules.items():
            if isinstance(module, torch.jit.ScriptModule):
                watch.reasons[name] = "it is TorchScript, inside which nothing can be read"  # nor hooked
                continue
            hooks.append(module.register_forward_pre_hook(partial(watch.on_start, name)))
            hooks.append(module.register_forward_hook(partial(watch.on_finish, name)))
        with torch.no_grad(), without_checkpoints(), watch.windows, watch.tracker, input_proportions(*shape[1:]):
            output = net(image)
        returned = NetworkOutput.from_output(output, head)
        chosen = returned.head if returned.kind is not None else None
        read = maps_in if returned.kind == "maps" else part_of
        scores = watch.tracker.bits_of(read(output, chosen))
    finally:
        for hook in hooks:
            hook.remove()

    infos = sorted(map(watch.in_its_window, watch.layers.values()), key=lambda info: info.order)
    convolutions = {name for name, module in modules.items() if isinstance(module, nn.Conv2d)}
    named = frozenset(convolutions & watch.layers.keys())
    trace = watch.trace(infos, scores, named)
    backbone = find_backbone(trace, returned)
    if watch.tracker.losses and backbone is None and image.device.type != "meta":
        trace = drop_unreached(net, shape, trace, chosen)
    candidates, why = default_layers(trace) if backbone is None else (backbone.layers, backbone.why)
    return ModelLayers(
        model=model,
        infos=tuple(infos),
        convolutions=named if backbone is None or backbone.part is None else named & backbone.part,
        candidates=candidates,
        why=why,
        kinds={name: type(module).__name__ for name, module in modules.items()},
        not_layers={
            name: watch.reasons.get(name, "it does not run by itself") for name in modules if name not in watch.layers
        },
        max_pooled=watch.tracker.max_pooled,
        rotations={name: turn for name, turn in watch.turns.items() if turn and len(watch.runs[name]) == 1},
        returned=returned,
        whole=getattr(net, "whole", ""),
        runs={name: tuple(runs) for name, runs in watch.runs.items() if len(runs) > 1 and name in watch.layers},
    )


_PASSIVE_WORDS = ("pool", "dropout", "pad", "interpolate", "upsample", "pixel_shuffle", "channel_shuffle")
_REARRANGING_OPS = RESHAPE_OPS | {"permute", "transpose", "movedim", "getitem", "contiguous", "clone", "size", "to"}


def _is_passive(operation: str) -> bool:
    """Whether it only thins out, repeats or rearranges what there is."""
    return operation in _REARRANGING_OPS or any(word in operation for word in _PASSIVE_WORDS)


class _ProbeHooks:
    """What the hooks saw. Of a module that runs several times, the last run stays."""

    def __init__(
        self,
        tracker: ReceptiveFieldTracker,
        windows: WindowTracker,
        modules: Mapping[str, nn.Module],
        transform: BuiltinTransform | None,
        size: tuple[int, int],
    ) -> None:
        self.tracker = tracker
        self.windows = windows
        self.runs: dict[str, list[LayerInfo | None]] = {}
        self.turns: dict[str, str] = {}
        self.order: dict[str, int] = {}
        self.layers: dict[str, LayerInfo] = {}
        self.reasons: dict[str, str] = {}
        self._bits = {name: 2 * ROI_BIT << place for place, name in enumerate(modules)}
        self._outputs: dict[str, int] = {}
        self._positions: dict[str, int] = {}
        self._leading: dict[str, int] = {}
        self._active: set[str] = set()
        self._started: dict[str, list[int]] = {}
        self._next = 2 * ROI_BIT << len(modules)
        self._mappings: dict[str, list[int]] = {}
        self._transform, self._size = transform, size
        self._count = 0
        self._sizes: set[tuple[int, ...]] = set()
        self._raw: dict[str, int] = {}

    def trace(self, infos: Sequence[LayerInfo], scores: int, convolutions: frozenset[str]) -> ForwardTrace:
        projections = self.tracker.projections
        return ForwardTrace(
            infos,
            self.order,
            self._bits,
            self._mappings,
            self._outputs,
            scores,
            convolutions,
            live=frozenset(name for name, bit in self._positions.items() if bit & scores),
            active=frozenset(self._active),
            projections=frozenset(
                name for name, bit in self._bits.items() if (bit | self._raw.get(name, 0)) & projections
            ),
            leading=self._leading,
        )

    def in_its_window(self, info: LayerInfo) -> LayerInfo:
        """Of a layer that runs once in a network that looks at a part of its input, the maps over that part."""
        (*earlier, run) = self.runs[info.name]
        return info if earlier or run is None else replace(info, window=run.window)

    def on_start(self, name: str, _module: nn.Module, _inputs: Any) -> None:
        self._started.setdefault(name, []).append(len(self.tracker.operations))

    def on_finish(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        with unfollowed():
            self._finish(name, module, inputs, output)

    def _finish(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        self.order[name] = self._count
        self._count += 1
        self.layers.pop(name, None)
        runs = self.runs.setdefault(name, [])
        runs.append(None)
        self.reasons.pop(name, None)
        self._positions.pop(name, None)
        since = self._started[name].pop() if self._started.get(name) else 0
        if not all(map(_is_passive, self.tracker.operations[since:])) or any(True for _ in module.parameters()):
            self._active.add(name)
        self.tracker.bridge(inputs, output)
        self._raw[name] = self.tracker.spread_of(output).raw
        self.tracker.mark(output, self._bits[name])
        if self._transform is not None and name == self._transform.name:
            # It copies images into one tensor, row by row or resized: where that is a copy, it is our input.
            self.tracker.adopt(output[0].tensors, exact=self._transform.leaves_unchanged(self._size))
        if isinstance(output, Mapping) and output and all(map(_are_maps, output.values())):
            self._mappings[name] = [self.tracker.bits_of(maps) for maps in output.values()]
        shape = self._shape(output)
        if isinstance(shape, str):
            self.reasons[name] = shape
        else:
            field = self.tracker.track_of(output).field
            self.layers[name] = LayerInfo(name, type(module).__name__, shape, self.order[name], field)
            self._outputs[name] = self.tracker.bits_of(output)
            if len(output) > 1:
                self._active.discard(name)  # it runs for each part of the image
            self.turns[name] = ", ".join(sorted(self.windows.turns_of(output)))
            window = self.windows.window_of(output)
            if window is not None:
                window = None if is_whole(window) else window
                runs[-1] = replace(self.layers[name], name=f"{name}@{len(runs)}", window=window)
            self._leading[name] = output.shape[1] - shape[1] * shape[2] if output.dim() == 3 else 0
            self._positions[name] = self._next  # of this run: an earlier one may go another way
            self.tracker.mark_positions(output, self._next, self._leading[name], shape[1:])
            self._next <<= 1

    def _shape(self, output: Any) -> tuple[int, int, int] | str:
        if not isinstance(output, Tensor):
            return f"it returns a {type(output).__name__}"
        if output.is_quantized:
            return "it returns quantised numbers, which are not read"
        if self.tracker.bits_of(output) & ROI_BIT:
            return "it runs for each box, not for each image"
        seen = f"it returns a tensor of shape {tuple(output.shape)}"
        maps = as_maps(output)
        if maps is None or self.tracker.spread_of(output).paired:
            return seen
        channels, *size = maps.shape[1:]
        if not self._in_place(output, (size[0], size[1])):
            return seen
        self._sizes.add((size[0], size[1]))
        return (channels, size[0], size[1])

    def _in_place(self, output: Tensor, size: tuple[int, int]) -> bool:
        """Whether what passes for positions by its shape are those of the image; no other must be offered."""
        axes = self.tracker.track_of(output).axes
        if axes is not None and output.dim() == 4:
            return (output.shape[axes[0]], output.shape[axes[1]]) == size
        if len(output) > 1:
            return False  # windows, or what lies within each patch
        known = self._grid(output)
        if known is not None:
            return known == token_grid(output.shape[1])
        if self.tracker.listed and output.dim() == 3:
            return False  # the order in which they stood was lost since then, as where windows become lists
        # Rows and columns were lost, as where attention works on lists of positions: the size has to be a map's.
        # MaxViT's windows and their positions look like one.
        return size in self._sizes

    def _grid(self, output: Tensor) -> tuple[int, int, int] | None:
        """Of a list of tokens how many lead, and height and width of the grid behind them, as they came about."""
        spread = self.tracker.spread_of(output)
        grids = [place for place, run in enumerate(spread.runs) if run.grid is not None]
        if output.dim() != 3 or spread.axis != -2 or len(grids) != 1:
            return None
        (place,) = grids
        grid = spread.runs[place].grid
        assert grid is not None
        behind = sum(run.size for run in spread.runs[place + 1 :])
        return (sum(run.size for run in spread.runs[:place]) if not behind else -1, *grid)


def _are_maps(value: Any) -> bool:
    return isinstance(value, Tensor) and as_maps(value) is not None
