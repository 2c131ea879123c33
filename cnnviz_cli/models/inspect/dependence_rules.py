"""How each operation passes on what its inputs depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import accumulate
from math import prod
from operator import or_
from types import EllipsisType
from typing import Any

from torch import Tensor

from cnnviz_cli.models.inspect.dependence import Operation, PositionRun, Spread, source_spread
from cnnviz_cli.models.inspect.receptive_rules import POINTWISE

SpreadRule = Callable[[Operation], Spread | None]
"""To the spread of an operation's result; None where it cannot be told, and then every position gets everything."""


def propagate_spread(operation: Operation) -> Spread:
    """What a result of an operation depends on; where that cannot be told, a loss is noted.

    Only where different positions depend on different things can anything be lost.
    """
    rule = RULES.get(operation.name)
    spread = rule(operation) if rule is not None else None
    if spread is None:
        if not all(one.spread.is_even for one in operation.known.values()):
            operation.losses.append(operation.name)
        spread = source_spread(operation.bits)
    raw, weighed = _carry_weights(operation)
    return replace(spread, raw=raw, weighed=weighed, paired=_is_paired(operation))


def attention_projections(operation: Operation) -> int:
    """Layers that made nothing but the operands of an attention: of two tensors that both depend on the source."""
    if operation.name not in _ATTENTION or len(operation.known) < 2 - (operation.name in _WHOLE_ATTENTION):
        return 0
    return reduce(or_, (one.spread.raw for one in operation.known.values()), 0)


def _is_paired(operation: Operation) -> bool:
    paired = [one.spread.paired for one in operation.known.values()]
    if operation.name in _WHOLE_ATTENTION or operation.name == "scaled_dot_product_attention":
        return operation.index > 0
    if operation.name in _ATTENTION and len(paired) > 1:
        return not any(paired)
    return all(paired)  # a sum with features is one of features


def _carry_weights(operation: Operation) -> tuple[int, bool]:
    """`raw` and `weighed`."""
    if operation.name in _CONCAT_OPS:
        fresh = [one.spread.raw for one in operation.known.values() if one.spread.weighed]
        if fresh:
            return reduce(or_, fresh), True
    states = {(one.spread.raw, one.spread.weighed) for one in operation.known.values()}
    if len(states) > 1 or (operation.name in _ATTENTION and len(operation.known) > 1):
        return 0, False  # a sum of features, or a gate
    ((raw, weighed),) = states
    if operation.name in _LINEAR_OPS:
        return (raw if weighed else 0), True
    return raw, weighed and operation.name not in _NONLINEAR_OPS


def grid_axes(operation: Operation, spread: Spread) -> tuple[int, int] | None:
    """The axes of rows and columns, if the operation turned a list of positions into them; else None."""
    if spread.axis is not None or len(operation.known) != 1 or operation.name not in RESHAPE_OPS:
        return None
    before, _, shape = operation.first_known
    if before.axis is None or len(before.runs) != 1 or before.runs[0].grid is None:
        return None
    output, behind = operation.output, _numel_behind(shape, before.axis)
    for j in range(len(output) - 1):
        if output[j : j + 2] == before.runs[0].grid and prod(output[j + 2 :]) == behind:
            return j - len(output), j + 1 - len(output)
    return None


def _pointwise(operation: Operation) -> Spread | None:
    """Each position of the result depends on the same position of every input, sizes of 1 standing for all."""
    axis: int | None = None
    runs: tuple[PositionRun, ...] = ()
    everywhere = 0
    for spread, _, shape in operation.known.values():
        at = spread.axis
        if at is None or shape[at] == 1:
            everywhere |= spread.bits
        elif len(operation.output) < -at or operation.output[at] != shape[at]:
            return None
        elif axis is None:
            axis, runs = at, spread.runs
        elif at == axis:
            runs = _merge_runs(runs, spread.runs)
        elif spread.is_even:
            everywhere |= spread.bits
        else:
            return None
    if axis is None:
        return source_spread(everywhere)
    return _add_bits(Spread(axis, runs), everywhere)


def _add_bits(spread: Spread, bits: int) -> Spread:
    """The same, and every position depends on `bits`, too."""
    return replace(spread, runs=tuple(run._replace(bits=run.bits | bits) for run in spread.runs))


def _merge_runs(one: Sequence[PositionRun], other: Sequence[PositionRun]) -> tuple[PositionRun, ...]:
    """Both, position by position."""
    ends = sorted({*accumulate(run.size for run in one), *accumulate(run.size for run in other)})
    merged, start = [], 0
    for end in ends:
        (a,), (b,) = slice_runs(one, start, end), slice_runs(other, start, end)
        grid = a.grid if b.grid in (None, a.grid) else b.grid if a.grid is None else None
        merged.append(PositionRun(end - start, a.bits | b.bits, grid))
        start = end
    return tuple(merged)


def slice_runs(runs: Sequence[PositionRun], start: int, stop: int) -> tuple[PositionRun, ...]:
    """Positions from `start` to `stop`. Part of a grid is none."""
    found, at = [], 0
    for run in runs:
        count = min(stop, at + run.size) - max(start, at)
        if count > 0:
            found.append(run if count == run.size else PositionRun(count, run.bits))
        at += run.size
    return tuple(found)


def _along(axis: int, runs: Sequence[PositionRun]) -> Spread:
    return Spread(axis, tuple(runs)) if runs else source_spread()


def _mixing(dims: Callable[[Operation], Iterable[int] | None]) -> SpreadRule:
    """Of some axes every position depends on every position; None means all axes."""

    def rule(operation: Operation) -> Spread | None:
        spread, _, shape = operation.first_known
        mixed = dims(operation)
        if spread.axis is None or mixed is None or spread.axis in {dim - len(shape) * (dim >= 0) for dim in mixed}:
            return source_spread(operation.bits)
        return _pointwise(operation)

    return rule


def _reduce(operation: Operation) -> Spread | None:
    """mean, sum and the like: axes go, or stay with a size of 1."""
    spread, _, shape = operation.first_known
    dims = operation.get(1, "dim", operation.kwargs.get("axis"))
    if isinstance(dims, Tensor):  # torch.max of two tensors
        return _pointwise(operation)
    if spread.axis is None or dims is None or not isinstance(dims, int | tuple | list):
        return source_spread(operation.bits)
    gone = {dim - len(shape) * (dim >= 0) for dim in (dims if isinstance(dims, tuple | list) else (dims,))}
    if spread.axis in gone or not gone:
        return source_spread(operation.bits)
    kept = len(operation.output) == len(shape)
    return replace(spread, axis=spread.axis if kept else spread.axis + sum(dim > spread.axis for dim in gone))


def _reshape(operation: Operation) -> Spread | None:
    """An axis survives where one of its size has as much behind it; rows and columns may become one axis."""
    spread, track, shape = operation.first_known
    output = operation.output

    def place(size: int, behind: int) -> int | None:
        found = (j - len(output) for j, side in enumerate(output) if side == size and prod(output[j + 1 :]) == behind)
        return next(found, None)

    if spread.axis is not None:
        at = place(shape[spread.axis], _numel_behind(shape, spread.axis))
        if at is not None:
            return replace(spread, axis=at)
    elif track.axes is not None and track.axes[1] == track.axes[0] + 1 and len(shape) >= -track.axes[0]:
        grid = (shape[track.axes[0]], shape[track.axes[1]])
        at = place(prod(grid), _numel_behind(shape, track.axes[1]))
        # Of a single row or column it is not known whether anything became one.
        if at is not None and (len(output) < len(shape) or output[at - 1 :][:2] != grid):
            return Spread(at, (PositionRun(prod(grid), spread.bits, grid),))
    return source_spread(spread.bits) if spread.is_even else None


def _unfold(operation: Operation) -> Spread | None:
    """Windows of a map in a list, row by row (torch.nn.functional.unfold); Tensor.unfold leaves axes alone."""
    spread, track, shape = operation.first_known
    if spread.axis is not None or track.axes != (-2, -1) or len(operation.output) != 3 or len(shape) != 4:
        return source_spread(spread.bits) if spread.is_even else None
    names = (("kernel_size", None), ("dilation", 1), ("padding", 0), ("stride", 1))
    given = [operation.get(place, name, default) for place, (name, default) in enumerate(names, 1)]
    kernel, dilation, padding, stride = ((one, one) if isinstance(one, int) else tuple(one) for one in given)
    rows, columns = (
        (shape[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(2)
    )
    return Spread(-1, (PositionRun(rows * columns, spread.bits, (rows, columns)),))


def _numel_behind(shape: Sequence[int], axis: int) -> int:
    return prod(shape[axis + 1 :]) if axis != -1 else 1


def _permute_axes(order: Callable[[Operation], Sequence[int]]) -> SpreadRule:
    def rule(operation: Operation) -> Spread | None:
        spread, _, shape = operation.first_known
        if spread.axis is None:
            return spread
        rank = len(shape)
        places = [dim % rank for dim in order(operation)]
        return replace(spread, axis=places.index(spread.axis % rank) - rank)

    return rule


def _permutation(operation: Operation) -> Sequence[int]:
    dims = operation.get(1, "dims")
    return list(dims) if isinstance(dims, tuple | list) else list(operation.args[1:])


def _exchange(one: int, other: int) -> Callable[[Operation], Sequence[int]]:
    def order(operation: Operation) -> Sequence[int]:
        dims = list(range(len(operation.first_known.shape)))
        names = ("dim0", "axis0"), ("dim1", "axis1")
        places = [
            operation.get(1 + i, names[i][0], operation.kwargs.get(names[i][1], default))
            for i, default in enumerate((one, other))
        ]
        dims[places[0]], dims[places[1]] = dims[places[1]], dims[places[0]]
        return dims

    return order


def _reverse_dims(operation: Operation) -> Sequence[int]:
    return list(range(len(operation.first_known.shape)))[::-1]


def _swap_last_dims(operation: Operation) -> Sequence[int]:
    dims = list(range(len(operation.first_known.shape)))
    return [*dims[:-2], dims[-1], dims[-2]]


def _index(operation: Operation, index: Sequence[Any]) -> Spread | None:
    """Slices, numbers, lists of numbers and an ellipsis."""
    spread, _, shape = operation.first_known
    if spread.axis is None:
        return spread
    index = [list(item) if isinstance(item, tuple) else item for item in index]
    if not all(item is None or type(item) in (int, slice, EllipsisType, list) for item in index):
        return None
    if sum(isinstance(item, list) for item in index) > 1:
        return None
    taken = sum(item is not None and item is not ... for item in index)
    at = next((place for place, item in enumerate(index) if item is ...), len(index))
    index[at : at + 1] = [slice(None)] * (len(shape) - taken)
    dim, new = 0, 0
    axis, runs = None, spread.runs
    for item in index:
        if item is None:
            new += 1
            continue
        if dim == spread.axis + len(shape):
            if isinstance(item, int):
                runs = slice_runs(runs, item % shape[dim], item % shape[dim] + 1)
            else:
                axis = new
                wanted = item if isinstance(item, list) else range(*item.indices(shape[dim]))
                runs = _pick_runs(runs, wanted, shape[dim])
        dim, new = dim + 1, new + (not isinstance(item, int))
    if axis is None:
        return source_spread(reduce(or_, (run.bits for run in runs), 0))
    return _along(axis - new, runs)


def _pick_runs(runs: Sequence[PositionRun], wanted: Sequence[int], size: int) -> tuple[PositionRun, ...]:
    if isinstance(wanted, range) and wanted.step == 1:
        return slice_runs(runs, wanted.start, wanted.stop)
    ends = list(accumulate(run.size for run in runs))
    bits = [next(run.bits for run, end in zip(runs, ends, strict=True) if place % size < end) for place in wanted]
    return tuple(PositionRun(1, one) for one in bits)


def _getitem(operation: Operation) -> Spread | None:
    index = operation.args[1]
    if operation.known_of(operation.args[0]) is None:  # a table, looked up by what depends on the source
        return None
    return _index(operation, list(index) if isinstance(index, tuple) else [index])


def _at(operation: Operation, dim: int, item: Any) -> Spread | None:
    rank = len(operation.first_known.shape)
    return _index(operation, [*[slice(None)] * (dim % rank), item])


def _select(operation: Operation) -> Spread | None:
    return _at(operation, operation.get(1, "dim"), operation.get(2, "index"))


def _narrow(operation: Operation) -> Spread | None:
    start, length = operation.get(2, "start"), operation.get(3, "length")
    return _at(operation, operation.get(1, "dim"), slice(start, start + length))


def _unbind(operation: Operation) -> Spread | None:
    return _at(operation, operation.get(1, "dim", 0), operation.index)


def _split(operation: Operation) -> Spread | None:
    """One of several parts along an axis."""
    dim = operation.get(2, "dim", 0)
    sizes = [shape[dim] for shape in operation.outputs]
    start = sum(sizes[: operation.index])
    return _at(operation, dim, slice(start, start + sizes[operation.index]))


def _concatenate(operation: Operation) -> Spread | None:
    """Lists of tokens one after the other; anything else next to each other."""
    tensors = operation.get(0, "tensors")
    rank = len(operation.output)
    dim = operation.get(1, "dim", operation.kwargs.get("axis", 0))
    dim -= rank * (dim >= 0)
    found = [operation.known_of(tensor) for tensor in tensors]
    if not any(one is not None and one.spread.axis == dim for one in found) and (rank, dim) != (3, -2):
        return _pointwise(operation)
    runs: list[PositionRun] = []
    for tensor, one in zip(tensors, found, strict=True):
        if one is None or one.spread.axis != dim:
            if one is not None and not one.spread.is_even:
                return None
            runs.append(PositionRun(tensor.shape[dim], one.spread.bits if one else 0))
        else:
            runs.extend(one.spread.runs)
    return _along(dim, runs)


def _product(operation: Operation) -> Spread | None:
    """A product of matrices: rows of the first, columns of the second, and what is summed over is mixed."""
    operands = [operation.known_of(value) for value in operation.args[-2:]]
    if operation.name == "rmatmul":
        operands.reverse()
    rows, columns = operands if len(operands) == 2 else (None, None)
    if rows is not None and rows.spread.axis is not None and rows.spread.axis != -1:
        return _add_bits(rows.spread, columns.spread.bits if columns else 0)
    if columns is not None and columns.spread.axis not in (None, -2):
        return _add_bits(columns.spread, rows.spread.bits if rows else 0)
    return source_spread(operation.bits)


def _einsum(operation: Operation) -> Spread | None:
    equation, *operands = operation.args
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = list(operands[0])
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        return None
    inputs, output = equation.replace(" ", "").split("->")
    kept: Spread | None = None
    rest = 0
    for letters, operand in zip(inputs.split(","), operands, strict=True):
        one = operation.known_of(operand)
        if one is None:
            continue
        letter = letters[one.spread.axis] if one.spread.axis is not None else ""
        if kept is None and letter and letter in output:
            kept = replace(one.spread, axis=output.index(letter) - len(output))
        else:
            rest |= one.spread.bits
    return source_spread(rest) if kept is None else _add_bits(kept, rest)


def _attention(operation: Operation) -> Spread | None:
    """Each query is answered from all keys and values."""
    query, *others = (operation.known_of(operation.get(at, name)) for at, name in enumerate(("query", "key", "value")))
    rest = reduce(or_, (one.spread.bits for one in others if one is not None), 0)
    axis = query.spread.axis if query is not None else None
    if operation.index > 0 or query is None or axis is None or query.shape[axis] != operation.output[axis]:
        return source_spread(operation.bits)
    return _add_bits(query.spread, rest)


def _convolve(operation: Operation) -> Spread | None:
    """A kernel of one position mixes channels alone."""
    spread, _, shape = operation.first_known
    weight = operation.get(1, "weight")
    if spread.axis is None or not isinstance(weight, Tensor):
        return source_spread(operation.bits)
    spatial = spread.axis >= 2 - len(shape)
    if spread.axis == -len(shape):
        return spread  # patches that are images of their own
    if spatial and set(weight.shape[2:]) == {1} and operation.output[spread.axis] == shape[spread.axis]:
        return spread
    return source_spread(operation.bits)


def _gather(operation: Operation) -> Spread | None:
    """index_select, gather: the positions of another axis are chosen, or sorted."""
    spread, _, shape = operation.first_known
    dim = operation.get(1, "dim")
    if spread.axis is None:
        return source_spread(operation.bits)
    if not isinstance(dim, int) or dim - len(shape) * (dim >= 0) == spread.axis:
        return None
    return _pointwise(operation)


def _roll(operation: Operation) -> Spread | None:
    spread, _, shape = operation.first_known
    dims = operation.get(1 + (operation.name == "roll"), "dims")
    dims = dims if isinstance(dims, tuple | list) else operation.args[1:] if dims is None else (dims,)
    if spread.axis is None or spread.axis not in {dim - len(shape) * (dim >= 0) for dim in dims}:
        return spread
    if not spread.is_even:
        return None
    return replace(spread, runs=tuple(run._replace(grid=None) for run in spread.runs))


def _last(count: Callable[[Operation], int]) -> Callable[[Operation], Iterable[int]]:
    return lambda operation: range(-count(operation), 0)


def _beyond_channels(operation: Operation) -> Iterable[int]:
    return range(1 - len(operation.first_known.shape), 0)


def _dim(position: int) -> Callable[[Operation], Iterable[int] | None]:
    def dims(operation: Operation) -> Iterable[int] | None:
        dim = operation.get(position, "dim")
        return None if dim is None else dim if isinstance(dim, tuple | list) else (dim,)

    return dims


_CONCAT_OPS = ("cat", "concat", "concatenate")
_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d")
_PRODUCTS = ("matmul", "rmatmul", "bmm", "mm", "baddbmm", "addmm")
_WHOLE_ATTENTION = ("multi_head_attention_forward",)
_ATTENTION = frozenset((*_PRODUCTS, *_WHOLE_ATTENTION, "einsum", "scaled_dot_product_attention"))
_LINEAR_OPS = frozenset((*_CONVOLUTIONS, *_PRODUCTS, "linear", "einsum"))
_NORMS = ("layer_norm", "group_norm", "instance_norm", "rms_norm", "normalize", "softmax", "log_softmax")

_ACTIVATIONS = """
    relu relu6 hardtanh leaky_relu rrelu prelu elu selu celu gelu silu mish softplus softsign logsigmoid sigmoid
    hardsigmoid hardswish hardshrink softshrink tanhshrink tanh threshold glu
"""

_NONLINEAR_OPS = frozenset((*_ACTIVATIONS.split(), *_NORMS))

RESHAPE_OPS = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "reshape_as", "view_as")

_MORE_POINTWISE = """
    sin cos sign erf log1p expm1 reciprocal floor round nan_to_num lt gt le ge eq ne logical_and logical_or type_as cpu
    expand expand_as broadcast_to identity positive alias data
"""

SHAPED_LIKE = frozenset(("expand_as", "view_as", "reshape_as", "type_as"))
"""Operations that take nothing but a shape or a type from their second argument."""

_MADE_LIKE = """
    zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty
    new_tensor
"""
MADE_LIKE = frozenset(_MADE_LIKE.split())
"""Operations that take nothing but a shape or a type from any."""

RULES: Mapping[str, SpreadRule] = {
    **dict.fromkeys((*POINTWISE, *_MORE_POINTWISE.split(), "batch_norm"), _pointwise),
    **dict.fromkeys(_CONCAT_OPS, _concatenate),
    **dict.fromkeys(("chunk", "split", "tensor_split", "split_with_sizes"), _split),
    **dict.fromkeys(RESHAPE_OPS, _reshape),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), _permute_axes(_exchange(0, 1))),
    "t": _permute_axes(_reverse_dims),
    "T": _permute_axes(_reverse_dims),
    "mT": _permute_axes(_swap_last_dims),
    "unfold": _unfold,
    "permute": _permute_axes(_permutation),
    "getitem": _getitem,
    "select": _select,
    "narrow": _narrow,
    "unbind": _unbind,
    **dict.fromkeys(("index_select", "gather", "take_along_dim"), _gather),
    **dict.fromkeys(("roll", "flip"), _roll),
    **dict.fromkeys(
        ("mean", "sum", "amax", "amin", "max", "min", "std", "var", "norm", "logsumexp", "prod", "nanmean"), _reduce
    ),
    **dict.fromkeys(_PRODUCTS, _product),
    "einsum": _einsum,
    **dict.fromkeys(("scaled_dot_product_attention", "multi_head_attention_forward"), _attention),
    **dict.fromkeys(_CONVOLUTIONS, _convolve),
    **dict.fromkeys(("softmax", "log_softmax", "glu", "cumsum"), _mixing(_dim(1))),
    "normalize": _mixing(lambda operation: (operation.get(2, "dim", 1),)),
    "linear": _mixing(_last(lambda _: 1)),
    **dict.fromkeys(
        ("layer_norm", "rms_norm"), _mixing(_last(lambda operation: len(operation.get(1, "normalized_shape"))))
    ),
    **dict.fromkeys(("group_norm", "instance_norm"), _mixing(_beyond_channels)),
}
