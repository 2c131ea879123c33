"""What each operation does to a receptive field and to the place of rows and columns.

The arithmetic of size, stride and start is that of Dumoulin & Visin, 2016, https://arxiv.org/abs/1603.07285.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from types import EllipsisType
from typing import Any, NamedTuple

from cnnviz_cli.core.layers import ReceptiveField

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Track:
    """What is known of a tensor.

    Attributes:
        field: of one position; None if it sees the whole input, or nothing is known.
        axes: its rows and its columns as negative dimensions; None if they are no dimensions of their own.
    """

    field: ReceptiveField | None
    axes: tuple[int, int] | None


class Call(NamedTuple):
    """An operation that was carried out.

    Attributes:
        args: positional arguments after the first.
        known: the inputs that depend on the source, with their shapes.
        output: the shape of the result.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    known: list[tuple[Track, Any]]
    output: Any

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by name, or by its position after the first."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    @property
    def track(self) -> Track:
        return self.known[0][0]

    @property
    def shape(self) -> Any:
        return self.known[0][1]

    def sides(self, axes: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the result."""
        return _sides(self.output, axes)


TrackRule = Callable[[Call], Track]


def _sides(shape: Any, axes: tuple[int, int]) -> tuple[int, int]:
    return (shape[axes[0]], shape[axes[1]]) if len(shape) >= -axes[0] else (-1, -1)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, tuple | list):
        return (value[0], value[-1])
    return (value, value)


def slide(track: Track, kernel: Pair, stride: Pair, before: Pair) -> Track:
    """A window of `kernel` positions (dilation included) moves by `stride`, after `before` positions of padding.

    Whatever came before, what it slides over are rows and columns.
    """
    field = track.field
    if field is None or track.axes != (-2, -1):
        return Track(None, (-2, -1))
    both = range(2)
    size = [field.size[i] + (kernel[i] - 1) * field.stride[i] for i in both]
    step = [field.stride[i] * stride[i] for i in both]
    start = [field.start[i] - before[i] * field.stride[i] for i in both]
    return Track(ReceptiveField((size[0], size[1]), (step[0], step[1]), (start[0], start[1])), (-2, -1))


def conv2d(call: Call) -> Track:
    kernel, dilation = call.get(0, "weight").shape[-2:], _pair(call.get(4, "dilation", 1))
    span = [(kernel[i] - 1) * dilation[i] + 1 for i in range(2)]
    padding = call.get(3, "padding", 0)
    if padding == "same":  # of an odd sum the larger half goes right and below
        padding = [(side - 1) // 2 for side in span]
    elif padding == "valid":
        padding = 0
    return slide(call.track, (span[0], span[1]), _pair(call.get(2, "stride", 1)), _pair(padding))


def max_pool2d(call: Call) -> Track:
    kernel, dilation = _pair(call.get(0, "kernel_size")), _pair(call.get(3, "dilation", 1))
    span = ((kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1)
    return slide(call.track, span, _pair(call.get(1, "stride") or kernel), _pair(call.get(2, "padding", 0)))


def avg_pool2d(call: Call) -> Track:
    kernel = _pair(call.get(0, "kernel_size"))
    return slide(call.track, kernel, _pair(call.get(1, "stride") or kernel), _pair(call.get(2, "padding", 0)))


def adaptive_pool2d(call: Call) -> Track:
    """Windows of one size where the output divides the input; one window over everything is global."""
    inputs, outputs = _sides(call.shape, (-2, -1)), call.sides((-2, -1))
    if outputs == (1, 1) or any(inputs[i] % outputs[i] for i in range(2)):
        return Track(None, (-2, -1))
    window = (inputs[0] // outputs[0], inputs[1] // outputs[1])
    return slide(call.track, window, window, (0, 0))


def pad(call: Call) -> Track:
    """Only a constant lies outside; a reflected border would depend on pixels that the box does not reach."""
    axes, field = call.track.axes, call.track.field
    if field is None or axes is None or call.get(1, "mode", "constant") != "constant":
        return Track(None, axes)
    amounts = tuple(call.get(0, "pad"))  # last dimension first, before and after
    before = [amounts[2 * (-axis - 1)] if 2 * -axis <= len(amounts) else 0 for axis in axes]
    start = (field.start[0] - before[0] * field.stride[0], field.start[1] - before[1] * field.stride[1])
    return Track(replace(field, start=start), axes)


def pointwise(call: Call) -> Track:
    """Each position of the result depends on the same position of every input."""
    axes = next((track.axes for track, _ in call.known if track.axes is not None), None)
    if axes is None:
        return Track(None, None)
    sides = call.sides(axes)
    whole = [track for track, shape in call.known if track.axes == axes and _sides(shape, axes) == sides]
    if not whole:  # joined or cut along rows or columns
        return Track(None, None)
    # An input that is spread over all positions (a squeeze-and-excite gate), or of unknown layout, is global.
    return Track(_union(track.field for track in whole) if len(whole) == len(call.known) else None, axes)


def _union(fields: Any) -> ReceptiveField | None:
    """The box around all fields; global if they move at different strides, for then no box of one size is enough."""
    known = list(fields)
    if None in known or len({field.stride for field in known}) != 1:
        return None
    start = [min(field.start[i] for field in known) for i in range(2)]
    size = [max(field.start[i] + field.size[i] for field in known) - start[i] for i in range(2)]
    return ReceptiveField((size[0], size[1]), known[0].stride, (start[0], start[1]))


def _mix_last(count: Callable[[Call], int]) -> TrackRule:
    """Pointwise in space if the last `count` dimensions, which are mixed, are neither rows nor columns."""

    def rule(call: Call) -> Track:
        axes = call.track.axes
        mixed = axes is not None and max(axes) >= -count(call)
        return Track(None, axes) if mixed else pointwise(call)

    return rule


def batch_norm(call: Call) -> Track:
    """With stored statistics; without them it looks at all positions."""
    return Track(None, call.track.axes) if call.get(4, "training", False) else pointwise(call)


def reshape(call: Call) -> Track:
    """An axis survives where one of its size has as much behind it.

    Rows and columns that are cut into patches become those of the patches, and what lies in a patch becomes channels.
    """
    if call.track.axes is None or len(call.shape) < -call.track.axes[0]:
        return Track(None, None)
    rows, columns = (
        _find_axis(call.output, call.shape[axis], _numel_behind(call.shape, axis)) for axis in call.track.axes
    )
    if rows is not None and columns is not None and rows < columns:
        return Track(call.track.field, (rows, columns))
    return Track(None, _patches(call))


def _numel_behind(shape: Any, axis: int) -> int:
    return prod(shape[axis + 1 :]) if axis != -1 else 1


def _find_axis(shape: Any, size: int, behind: int) -> int | None:
    """The axis of so many positions with so many numbers for each behind it."""
    found = (axis for axis in range(-len(shape), 0) if shape[axis] == size and _numel_behind(shape, axis) == behind)
    return next(found, None)


def _patches(call: Call) -> tuple[int, int] | None:
    """Rows and columns of patches, where both axes fall into two."""
    found = []
    for axis in call.track.axes or ():
        behind = _numel_behind(call.shape, axis)
        place = next((at for at in range(-len(call.output), 0) if _numel_behind(call.output, at) == behind), None)
        if place is None or place - 1 < -len(call.output):
            return None
        if call.output[place] * call.output[place - 1] != call.shape[axis]:
            return None
        found.append(place - 1)
    return (found[0], found[1])


def pixel_unshuffle(call: Call) -> Track:
    side = call.get(0, "downscale_factor")
    return slide(call.track, (side, side), (side, side), (0, 0))


def unfold_axis(call: Call) -> Track:
    """Tensor.unfold: windows along one axis, what lies in a window behind everything else."""
    axes = call.track.axes
    alone = len(call.output) == len(call.shape) + 1  # torch.nn.functional.unfold is another
    return Track(None, (axes[0] - 1, axes[1] - 1) if axes is not None and alone else None)


def permute(call: Call) -> Track:
    order = call.get(0, "dims")
    return _permute_axes(call, list(order if isinstance(order, tuple | list) else call.args))


def transpose(call: Call) -> Track:
    order = list(range(len(call.shape)))
    one, other = call.get(0, "dim0"), call.get(1, "dim1")
    order[one], order[other] = order[other], order[one]
    return _permute_axes(call, order)


def _permute_axes(call: Call, order: list[int]) -> Track:
    if call.track.axes is None:
        return call.track
    count = len(order)
    places = [(dim % count) - count for dim in order]
    rows, columns = (places.index(axis) - count for axis in call.track.axes)
    # Columns before rows are a transposed picture, whose field would be, too.
    return Track(call.track.field, (rows, columns)) if rows < columns else Track(None, None)


def getitem(call: Call) -> Track:
    """Slices, numbers and an ellipsis; a start moves the field, a step its stride."""
    index = list(call.args[0]) if isinstance(call.args[0], tuple) else [call.args[0]]
    axes, field, rank = call.track.axes, call.track.field, len(call.shape)
    if axes is None or not all(type(item) in (int, slice, EllipsisType) for item in index):
        return Track(None, None)
    at = index.index(...) if ... in index else len(index)
    index[at : at + 1] = [slice(None)] * (rank - len(index) + (at < len(index)))
    cuts = [index[axis] for axis in axes]
    if any(isinstance(cut, int) for cut in cuts):
        return Track(None, None)
    # Numbers take their dimension away; those after an axis bring it nearer to the end.
    rows, columns = (axis + sum(isinstance(item, int) for item in index[axis:]) for axis in axes)
    if field is None:
        return Track(None, (rows, columns))
    steps = [cut.indices(side) for cut, side in zip(cuts, _sides(call.shape, axes), strict=True)]
    start = (field.start[0] + steps[0][0] * field.stride[0], field.start[1] + steps[1][0] * field.stride[1])
    stride = (field.stride[0] * steps[0][2], field.stride[1] * steps[1][2])
    return Track(ReceptiveField(field.size, stride, start), (rows, columns))


_POINTWISE = """
    add iadd radd sub isub rsub mul imul rmul div idiv rdiv truediv itruediv rtruediv true_divide pow neg abs exp log
    sqrt rsqrt square maximum minimum clamp clamp_min clamp_max where masked_fill addcmul addcdiv lerp
    relu relu6 hardtanh leaky_relu rrelu prelu elu selu celu gelu silu mish softplus softsign logsigmoid sigmoid
    hardsigmoid hardswish hardshrink softshrink tanhshrink tanh threshold
    dropout dropout1d dropout2d alpha_dropout feature_dropout feature_alpha_dropout local_response_norm
    clone contiguous detach to type float double half bfloat16 requires_grad
"""

POINTWISE = tuple(_POINTWISE.split())
"""Operations of which each position of the result depends on the same position of every input."""

# By the function's name without underscores: relu_ and F.relu, x + y and torch.add are one.
RULES: Mapping[str, TrackRule] = {
    **dict.fromkeys((*POINTWISE, "cat", "concat", "concatenate", "chunk", "split"), pointwise),
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"), reshape),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), transpose),
    **dict.fromkeys(("adaptive_avg_pool2d", "adaptive_max_pool2d"), adaptive_pool2d),
    **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices"), max_pool2d),
    "avg_pool2d": avg_pool2d,
    "conv2d": conv2d,
    "pixel_unshuffle": pixel_unshuffle,
    "unfold": unfold_axis,
    "pad": pad,
    "permute": permute,
    "getitem": getitem,
    "batch_norm": batch_norm,
    "linear": _mix_last(lambda _: 1),
    "layer_norm": _mix_last(lambda call: len(call.get(0, "normalized_shape"))),
}
