"""Receptive fields, the layout of maps, what depends on what and over which part of the input a tensor lies.

All of it is followed from tensor to tensor while the network runs. Each tensor that depends on the input carries a
`Track`: a convolution or a pooling widens its field, a padding shifts it, a sum of two tensors covers both. An
operation that `receptive_rules` does not name, or that mixes positions in a way no box of one size describes
(attention, a global pool, a resampling), makes it global: None. Beside it goes a `Spread`, whose bits say what the
tensor depends on: each layer that has marked its output, and whether it was cut out around boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from cnnviz_cli.core.geometry import Box
from cnnviz_cli.core.layers import ReceptiveField
from cnnviz_cli.core.network import pass_through
from cnnviz_cli.models.inspect.dependence import (
    CONCAT_OPS,
    UNKNOWN_TRACK,
    KnownTensor,
    Operation,
    PositionRun,
    Spread,
    Track,
    full_index,
    slice_runs,
    source_spread,
    union,
    words,
)
from cnnviz_cli.models.inspect.dependence_rules import (
    MADE_LIKE,
    SHAPED_LIKE,
    attention_projections,
    grid_axes,
    propagate_spread,
)
from cnnviz_cli.models.inspect.receptive_rules import propagate_track

_PIXEL = ReceptiveField((1.0, 1.0), (1.0, 1.0), (0.0, 0.0))

ROI_BIT = 1  # of tensors that hold something for each box instead of for each image
_ROI_OPS = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool")


class ReceptiveFieldTracker(TorchFunctionMode):
    """Follows one input (B, C, H, W) through whatever runs inside ``with``.

    Attributes:
        max_pooled: whether a max-pooling was among it.
        losses: names of the operations after which positions with different marks could not be told apart.
        projections: the marks of layers that did nothing but make what an attention read.
        listed: whether the positions of a map were laid out in a list.
        operations: names of the operations so far that had to do with the source.
    """

    def __init__(self, source: Tensor) -> None:
        super().__init__()
        # Weak: a tensor's entry goes with the tensor, so that activations are freed as they always are.
        self._tracks: Any = WeakTensorKeyDictionary()
        self._spreads: Any = WeakTensorKeyDictionary()
        self.adopt(source, exact=True)
        self.max_pooled = False
        self.losses: list[str] = []
        self.projections = 0
        self.listed = False
        self.operations: list[str] = []

    def adopt(self, tensor: Tensor, *, exact: bool) -> None:
        """Follow a tensor (B, C, h, w), rows and columns of the source, as what the source became.

        `exact` says that it is the source, pixel for pixel; what a pixel sees is not known otherwise.
        """
        self._tracks[tensor] = Track(_PIXEL if exact else None, (-2, -1))
        self._spreads[tensor] = source_spread()

    def bridge(self, inputs: Any, output: Any) -> None:
        """Take what a module returned and nothing followed there (a program, a function with a gradient of its own) as
        something that depends on all that the module was given."""
        lost = [tensor for tensor in tensors_in(output) if tensor not in self._spreads]
        given = [self._spreads[tensor] for tensor in tensors_in(inputs) if tensor in self._spreads]
        if not lost or not given:
            return
        if not all(spread.is_even for spread in given):
            self.losses.append("a module")
        for tensor in lost:
            self._spreads[tensor] = source_spread(union(spread.bits for spread in given))

    def mark(self, output: Any, bits: int) -> None:
        """Everything that comes from tensors in `output` from now on has `bits`."""
        for tensor in tensors_in(output):
            if tensor in self._spreads:
                self._spreads[tensor] = self._spreads[tensor].mark(bits)

    def mark_positions(self, output: Tensor, bits: int, skipped: int, grid: tuple[int, int]) -> None:
        """What comes from the positions of the maps in `output` from now on has `bits`.

        Of a list of tokens (B, N, C), `skipped` come before those positions; `grid` is rows and columns.
        """
        spread = self._spreads.get(output)
        if spread is None:
            return
        if output.dim() != 3:
            self._spreads[output] = spread.add(bits)
            return
        count = output.shape[1]
        runs = spread.runs if spread.axis == -2 else (PositionRun(count, spread.bits),)
        marked = [run._replace(bits=run.bits | bits) for run in slice_runs(runs, skipped, count)]
        if len(marked) == 1:
            marked = [marked[0]._replace(grid=grid)]
        self._spreads[output] = replace(spread, axis=-2, runs=(*slice_runs(runs, 0, skipped), *marked))

    def bits_of(self, tensor: Any) -> int:
        return self.spread_of(tensor).bits

    def spread_of(self, tensor: Any) -> Spread:
        """What `tensor` depends on, position by position; nothing, if it does not come from the source."""
        return (isinstance(tensor, Tensor) and self._spreads.get(tensor)) or source_spread()

    def track_of(self, tensor: Tensor) -> Track:
        """What is known of `tensor`; nothing, if it does not come from the source."""
        return self._tracks.get(tensor, UNKNOWN_TRACK)  # type: ignore[no-any-return]

    @pass_through
    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = operation_name(func)
        # Looked up first: an operation in place overwrites its input's track.
        counting = () if name in MADE_LIKE else args[:1] if name in SHAPED_LIKE else (args, kwargs)
        with unfollowed():
            known = {
                id(x): KnownTensor(spread, self._tracks.get(x, UNKNOWN_TRACK), tuple(x.shape))
                for x in tensors_in(counting)
                if (spread := self._spreads.get(x)) is not None
            }
        result = func(*args, **kwargs)
        if known:
            self.max_pooled |= "max_pool" in name
            with unfollowed():
                self._follow(name, args, kwargs, known, result)
        return result

    def _follow(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], known: Mapping[int, KnownTensor], result: Any
    ) -> None:
        if name == "setitem":
            self._tracks[args[0]] = UNKNOWN_TRACK
        outputs = list(tensors_in(args[0] if name == "setitem" else result))
        if outputs:
            self.operations.append(name)
        shapes = [tuple(output.shape) for output in outputs]
        for index, output in enumerate(outputs):
            operation = Operation(name, tuple(args), kwargs, known, shapes, index, self.losses)
            try:
                self.projections |= attention_projections(operation)
                spread, track = propagate_spread(operation), propagate_track(operation)
            except Exception:  # an operation of another library with the name of one of torch's and other arguments
                self.losses.append(name)
                spread, track = operation.mixed, UNKNOWN_TRACK
            if name in _ROI_OPS:
                spread = spread.mark(ROI_BIT)
            axes = grid_axes(operation, spread) if track.axes is None else None
            self._tracks[output] = Track(None, axes) if axes else track
            self._spreads[output] = spread
            self.listed = self.listed or any(run.grid is not None for run in spread.runs)


def operation_name(func: Any) -> str:
    """Without underscores: relu_ and F.relu, x + y and torch.add are one. Of an attribute of tensors its name."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", "")
    return name.strip("_")


def unfollowed() -> AbstractContextManager[None]:
    """Inside, operations are ours and not the network's: nothing follows them, which would take most of the time."""
    return torch._C.DisableTorchFunction()


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            if not isinstance(item, int | float | str | None):
                yield from tensors_in(item)
    elif isinstance(value, Mapping):
        yield from tensors_in(tuple(value.values()))


WHOLE_INPUT: Box = (0.0, 0.0, 1.0, 1.0)

# Operations after which rows and columns are no longer where they were.
_MOVING_OPS = words("flip fliplr flipud rot90 roll grid_sample fold unfold gather take")
# Those of them that leave the maps behind turned or bent, unless it is done again; a roll mostly is.
_TURNING_OPS = words("flip rot90 grid_sample")
# Operations after which rows and columns may be other dimensions than the last two, or others in number.
_RESHAPE_OPS = words("""
    view reshape flatten unflatten permute transpose swapaxes swapdims movedim moveaxis squeeze unsqueeze unbind stack t
    mT pad
""")
_SPLIT_OPS = words("chunk split tensor_split narrow")


def is_whole(box: Box) -> bool:
    """Whether a box is all of the input, but for rounding."""
    return all(abs(side - other) < 1e-6 for side, other in zip(box, WHOLE_INPUT, strict=True))


class WindowTracker(TorchFunctionMode):
    """Follows one input (B, C, H, W) through whatever runs inside ``with``."""

    def __init__(self, source: Tensor) -> None:
        super().__init__()
        # By tensor the box in shares of the input, None where it is lost; and whether the last two dimensions are rows
        # and columns.
        self._known: Any = WeakTensorKeyDictionary()
        self._known[source] = (WHOLE_INPUT, True)
        self._turns: Any = WeakTensorKeyDictionary()

    def window_of(self, tensor: Tensor) -> Box | None:
        """Left, top, right and bottom as shares of the input; None where that is not known."""
        found: tuple[Box | None, bool] = self._known.get(tensor, (None, False))
        return found[0]

    def turns_of(self, tensor: Tensor) -> frozenset[str]:
        """By what operations rows and columns were turned or bent on the way to `tensor`."""
        found: frozenset[str] = self._turns.get(tensor, frozenset())
        return found

    @pass_through
    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with unfollowed():
            known = [(found, one) for one in tensors_in((args, kwargs)) if (found := self._known.get(one))]
        result = func(*args, **kwargs)
        if known:
            with unfollowed():
                self._place(func, args, kwargs, known, result)
        return result

    def _place(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], known: Sequence[Any], result: Any
    ) -> None:
        name = operation_name(func)
        boxes = {box for (box, _), _ in known}
        placed = all(usual for (_, usual), _ in known) and name not in _RESHAPE_OPS
        box = next(iter(boxes)) if len(boxes) == 1 and name not in _MOVING_OPS else None
        outputs = list(tensors_in(result))
        parts = [box] * len(outputs)
        first = known[0][1]
        if name == "getitem":
            parts = [_slice_box(box if placed else None, first, args[1])] * len(outputs)
        elif name in _SPLIT_OPS and outputs:
            parts = _split_box(box, placed, first, outputs, args, kwargs)
        elif name in CONCAT_OPS and outputs and outputs[0].shape[-2:] != first.shape[-2:]:
            parts = [None] * len(outputs)
        turns = frozenset().union(*(self.turns_of(one) for _, one in known))
        if name in _TURNING_OPS and (turn := _describe_turn(name, first, args, kwargs)):
            turns = turns ^ {turn} if name == "flip" else turns | {turn}
        for output, part in zip(outputs, parts, strict=True):
            self._known[output] = (part, placed)
            if turns:
                self._turns[output] = turns


def _describe_turn(name: str, tensor: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """An operation with the dimensions it turns, "" where rows and columns are not among them."""
    if name == "grid_sample":
        return name
    given = kwargs.get("dims", args[1:] if name == "flip" else args[2] if len(args) > 2 else (0, 1))
    flat = [axis for one in _as_sequence(given) for axis in _as_sequence(one)]
    turned = sorted({axis if axis < 0 else axis - tensor.dim() for axis in flat} & {-2, -1})
    return f"{name} of {' and '.join('rows' if axis == -2 else 'columns' for axis in turned)}" if turned else ""


def _as_sequence(value: Any) -> Sequence[int]:
    return value if isinstance(value, tuple | list) else (value,)


def _slice_box(box: Box | None, tensor: Tensor, index: Any) -> Box | None:
    items = full_index(index, tensor.dim())
    if box is None or items is None or len(items) < 2 or not all(isinstance(item, slice) for item in items[-2:]):
        return None
    for axis in (-2, -1):
        start, stop, _ = items[axis].indices(tensor.shape[axis])
        box = _cut_box(box, axis, start, stop, tensor.shape[axis])
    return box


def _split_box(
    box: Box | None, placed: bool, tensor: Tensor, outputs: list[Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[Box | None]:
    changed = [axis for axis in range(-tensor.dim(), 0) if outputs[0].shape[axis] != tensor.shape[axis]]
    if box is None or not changed or changed[0] < -2:
        return [box] * len(outputs)  # cut into channels or images
    if not placed or len(changed) > 1 or (len(outputs) == 1 and "start" not in kwargs and len(args) < 3):
        return [None] * len(outputs)
    (axis,) = changed
    start = int(kwargs.get("start", args[2] if len(args) > 2 else 0)) if len(outputs) == 1 else 0
    boxes: list[Box | None] = []
    for output in outputs:
        boxes.append(_cut_box(box, axis, start, start + output.shape[axis], tensor.shape[axis]))
        start += output.shape[axis]
    return boxes


def _cut_box(box: Box, axis: int, start: int, stop: int, count: int) -> Box:
    ends = list(box)
    first, last = (0, 2) if axis == -1 else (1, 3)
    step = (ends[last] - ends[first]) / max(count, 1)
    ends[first], ends[last] = ends[first] + start * step, ends[first] + stop * step
    return (ends[0], ends[1], ends[2], ends[3])
