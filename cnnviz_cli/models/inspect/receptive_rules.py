"""What each operation does to a receptive field and to the place of rows and columns.

The arithmetic of size, stride and start is that of Dumoulin & Visin, 2016, https://arxiv.org/abs/1603.07285.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cnnviz_cli.core.layers import ReceptiveField
from cnnviz_cli.models.inspect.dependence import (
    POINTWISE,
    UNKNOWN_TRACK,
    Operation,
    Track,
    find_axis,
    full_index,
    numel_behind,
    rules_by_name,
)

Pair = tuple[float, float]
TrackRule = Callable[[Operation], Track]

_LAST_TWO = (-2, -1)


def propagate_track(operation: Operation) -> Track:
    """What a position of an operation's result sees."""
    rule = RULES.get(operation.name)
    # Only what is pointwise may have several inputs: a kernel that depends on the source looks at all of it.
    if rule is None or (len(operation.known) > 1 and rule is not _pointwise):
        return UNKNOWN_TRACK
    return rule(operation)


def _sides(shape: Sequence[int], axes: tuple[int, int]) -> tuple[int, int]:
    return (shape[axes[0]], shape[axes[1]]) if len(shape) >= -axes[0] else (-1, -1)


def _pair(value: Any) -> tuple[int, int]:
    return (value[0], value[-1]) if isinstance(value, tuple | list) else (value, value)


def _slide(track: Track, kernel: Pair, stride: Pair, before: Pair) -> Track:
    """A window of `kernel` positions (dilation included) moves by `stride`, after `before` positions of padding."""
    field = track.field
    if field is None or track.axes != _LAST_TWO:
        return Track(None, _LAST_TWO)  # whatever came before, a window slides over rows and columns
    both = range(2)
    size = [field.size[i] + (kernel[i] - 1) * field.stride[i] for i in both]
    step = [field.stride[i] * stride[i] for i in both]
    start = [field.start[i] - before[i] * field.stride[i] for i in both]
    return Track(ReceptiveField((size[0], size[1]), (step[0], step[1]), (start[0], start[1])), _LAST_TWO)


def _conv2d(operation: Operation) -> Track:
    kernel, dilation = operation.get(1, "weight").shape[-2:], _pair(operation.get(5, "dilation", 1))
    span = [(kernel[i] - 1) * dilation[i] + 1 for i in range(2)]
    padding = operation.get(4, "padding", 0)
    if padding == "same":  # of an odd sum the larger half goes right and below
        padding = [(side - 1) // 2 for side in span]
    elif padding == "valid":
        padding = 0
    return _slide(operation.track, (span[0], span[1]), _pair(operation.get(3, "stride", 1)), _pair(padding))


def _pool2d(operation: Operation) -> Track:
    kernel = _pair(operation.get(1, "kernel_size"))
    dilation = _pair(operation.get(4, "dilation", 1)) if "max" in operation.name else (1, 1)
    span = ((kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1)
    stride, padding = operation.get(2, "stride") or kernel, operation.get(3, "padding", 0)
    return _slide(operation.track, span, _pair(stride), _pair(padding))


def _adaptive_pool2d(operation: Operation) -> Track:
    """Windows of one size where the output divides the input; one window over everything is global."""
    inputs, outputs = _sides(operation.shape, _LAST_TWO), _sides(operation.output, _LAST_TWO)
    if outputs == (1, 1) or any(inputs[i] % outputs[i] for i in range(2)):
        return Track(None, _LAST_TWO)
    window = (inputs[0] // outputs[0], inputs[1] // outputs[1])
    return _slide(operation.track, window, window, (0, 0))


def _pad(operation: Operation) -> Track:
    """Only a constant lies outside; a reflected border would depend on pixels that the box does not reach."""
    axes, field = operation.track.axes, operation.track.field
    if field is None or axes is None or operation.get(2, "mode", "constant") != "constant":
        return Track(None, axes)
    amounts = tuple(operation.get(1, "pad"))  # last dimension first, before and after
    before = [amounts[2 * (-axis - 1)] if 2 * -axis <= len(amounts) else 0 for axis in axes]
    start = (field.start[0] - before[0] * field.stride[0], field.start[1] - before[1] * field.stride[1])
    return Track(replace(field, start=start), axes)


def _pointwise(operation: Operation) -> Track:
    known = operation.known.values()
    axes = next((one.track.axes for one in known if one.track.axes is not None), None)
    if axes is None:
        return UNKNOWN_TRACK
    sides = _sides(operation.output, axes)
    whole = [one.track for one in known if one.track.axes == axes and _sides(one.shape, axes) == sides]
    if not whole:  # joined or cut along rows or columns
        return UNKNOWN_TRACK
    # An input that is spread over all positions (a squeeze-and-excite gate), or of unknown layout, is global.
    return Track(_union([track.field for track in whole]) if len(whole) == len(known) else None, axes)


def _union(fields: Sequence[ReceptiveField | None]) -> ReceptiveField | None:
    """The box around all fields; global if they move at different strides, for then no box of one size is enough."""
    known = [field for field in fields if field is not None]
    if len(known) < len(fields) or len({field.stride for field in known}) != 1:
        return None
    start = [min(field.start[i] for field in known) for i in range(2)]
    size = [max(field.start[i] + field.size[i] for field in known) - start[i] for i in range(2)]
    return ReceptiveField((size[0], size[1]), known[0].stride, (start[0], start[1]))


def _mix_last(count: Callable[[Operation], int]) -> TrackRule:
    """Pointwise in space if the last `count` dimensions, which are mixed, are neither rows nor columns."""

    def rule(operation: Operation) -> Track:
        axes = operation.track.axes
        mixed = axes is not None and max(axes) >= -count(operation)
        return Track(None, axes) if mixed else _pointwise(operation)

    return rule


def _batch_norm(operation: Operation) -> Track:
    """With stored statistics; without them it looks at all positions."""
    return Track(None, operation.track.axes) if operation.get(5, "training", False) else _pointwise(operation)


def _reshape(operation: Operation) -> Track:
    """An axis survives where one of its size has as much behind it.

    Rows and columns that are cut into patches become those of the patches, and what lies in a patch becomes channels.
    """
    axes, shape, output = operation.track.axes, operation.shape, operation.output
    if axes is None or len(shape) < -axes[0]:
        return UNKNOWN_TRACK
    rows, columns = (find_axis(output, shape[axis], numel_behind(shape, axis)) for axis in axes)
    if rows is not None and columns is not None and rows < columns:
        return Track(operation.track.field, (rows, columns))
    patches = []
    for axis in axes:  # each falls into two: rows and columns of patches, and of what is in a patch
        behind = numel_behind(shape, axis)
        place = next((at for at in range(-len(output), 0) if numel_behind(output, at) == behind), None)
        if place is None or place == -len(output) or output[place] * output[place - 1] != shape[axis]:
            return UNKNOWN_TRACK
        patches.append(place - 1)
    return Track(None, (patches[0], patches[1]))


def _pixel_unshuffle(operation: Operation) -> Track:
    side = operation.get(1, "downscale_factor")
    return _slide(operation.track, (side, side), (side, side), (0, 0))


def _unfold(operation: Operation) -> Track:
    """Tensor.unfold: windows along one axis, what lies in a window behind everything else."""
    axes = operation.track.axes
    alone = len(operation.output) == len(operation.shape) + 1  # torch.nn.functional.unfold is another
    return Track(None, (axes[0] - 1, axes[1] - 1) if axes is not None and alone else None)


def _permute(operation: Operation) -> Track:
    track, order = operation.track, operation.permutation()
    if track.axes is None:
        return track
    count = len(order)
    places = [(dim % count) - count for dim in order]
    rows, columns = (places.index(axis) - count for axis in track.axes)
    # Columns before rows are a transposed image, whose field would be, too.
    return Track(track.field, (rows, columns)) if rows < columns else UNKNOWN_TRACK


def _getitem(operation: Operation) -> Track:
    axes, field = operation.track.axes, operation.track.field
    index = full_index(operation.args[1], len(operation.shape))
    if axes is None or index is None:
        return UNKNOWN_TRACK
    cuts = [index[axis] for axis in axes]
    if any(isinstance(cut, int) for cut in cuts):
        return UNKNOWN_TRACK
    # Numbers take their dimension away; those after an axis bring it nearer to the end.
    rows, columns = (axis + sum(isinstance(item, int) for item in index[axis:]) for axis in axes)
    if field is None:
        return Track(None, (rows, columns))
    steps = [cut.indices(side) for cut, side in zip(cuts, _sides(operation.shape, axes), strict=True)]
    start = (field.start[0] + steps[0][0] * field.stride[0], field.start[1] + steps[1][0] * field.stride[1])
    stride = (field.stride[0] * steps[0][2], field.stride[1] * steps[1][2])
    return Track(ReceptiveField(field.size, stride, start), (rows, columns))


RULES = rules_by_name(
    {
        f"{POINTWISE} cat concat concatenate chunk split": _pointwise,
        "view reshape flatten unflatten squeeze unsqueeze": _reshape,
        "permute transpose swapaxes swapdims": _permute,
        "adaptive_avg_pool2d adaptive_max_pool2d": _adaptive_pool2d,
        "avg_pool2d max_pool2d max_pool2d_with_indices": _pool2d,
        "conv2d": _conv2d,
        "pixel_unshuffle": _pixel_unshuffle,
        "unfold": _unfold,
        "pad": _pad,
        "getitem": _getitem,
        "batch_norm": _batch_norm,
        "linear": _mix_last(lambda _: 1),
        "layer_norm": _mix_last(lambda operation: len(operation.get(1, "normalized_shape"))),
    }
)
