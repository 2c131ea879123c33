"""How each operation passes on what its inputs depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from math import prod
from types import EllipsisType, NoneType
from typing import Any

from torch import Tensor

from cnnviz_cli.models.inspect.dependence import (
    CONCAT_OPS,
    POINTWISE,
    Operation,
    PositionRun,
    Spread,
    find_axis,
    full_index,
    numel_behind,
    rules_by_name,
    slice_runs,
    source_spread,
    union,
    words,
)

SpreadRule = Callable[[Operation], Spread | None]
"""To the spread of an operation's result; None where it cannot be told, and then every position gets everything."""


def propagate_spread(operation: Operation) -> Spread:
    """What a result of an operation depends on; a loss is noted where positions can no longer be told apart."""
    rule = RULES.get(operation.name)
    spread = rule(operation) if rule is not None else None
    if spread is None:
        if not all(one.spread.is_even for one in operation.known.values()):
            operation.losses.append(operation.name)
        spread = operation.mixed
    raw, weighed = _carry_weights(operation)
    return replace(spread, raw=raw, weighed=weighed, paired=_is_paired(operation))


def attention_projections(operation: Operation) -> int:
    """Layers that made nothing but the operands of an attention: of two tensors that both depend on the source."""
    if operation.name not in _ATTENTION or len(operation.known) < 2 - (operation.name == _WHOLE_ATTENTION):
        return 0
    return union(one.spread.raw for one in operation.known.values())


def _is_paired(operation: Operation) -> bool:
    paired = [one.spread.paired for one in operation.known.values()]
    if operation.name in (_WHOLE_ATTENTION, "scaled_dot_product_attention"):
        return operation.index > 0
    if operation.name in _ATTENTION and len(paired) > 1:
        return not any(paired)
    return all(paired)  # a sum with features is one of features


def _carry_weights(operation: Operation) -> tuple[int, bool]:
    states = {(one.spread.raw, one.spread.weighed) for one in operation.known.values()}
    if operation.name in CONCAT_OPS:
        fresh = [raw for raw, weighed in states if weighed]
        if fresh:
            return union(fresh), True
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
    output, behind = operation.output, numel_behind(shape, before.axis)
    for j in range(len(output) - 1):
        if output[j : j + 2] == before.runs[0].grid and prod(output[j + 2 :]) == behind:
            return j - len(output), j + 1 - len(output)
    return None


def _pointwise(operation: Operation) -> Spread | None:
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
    return source_spread(everywhere) if axis is None else Spread(axis, runs).add(everywhere)


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


def _along(axis: int, runs: Sequence[PositionRun]) -> Spread:
    return Spread(axis, tuple(runs)) if runs else source_spread()


def _mixing(dims: Callable[[Operation], Any]) -> SpreadRule:
    """Of some axes every position depends on every position; None means all axes."""

    def rule(operation: Operation) -> Spread | None:
        axis, mixed = operation.first_known.spread.axis, dims(operation)
        everything = axis is None or mixed is None or axis in operation.axes(mixed)
        return operation.mixed if everything else _pointwise(operation)

    return rule


def _reduce(operation: Operation) -> Spread | None:
    spread, _, shape = operation.first_known
    dims = operation.get(1, "dim", operation.kwargs.get("axis"))
    if isinstance(dims, Tensor):  # torch.max of two tensors
        return _pointwise(operation)
    if spread.axis is None or dims is None or not isinstance(dims, int | tuple | list):
        return operation.mixed
    gone = operation.axes(dims)
    if spread.axis in gone or not gone:
        return operation.mixed
    kept = len(operation.output) == len(shape)
    return replace(spread, axis=spread.axis if kept else spread.axis + sum(dim > spread.axis for dim in gone))


def _reshape(operation: Operation) -> Spread | None:
    """An axis survives where one of its size has as much behind it; rows and columns may become one axis."""
    spread, track, shape = operation.first_known
    output = operation.output
    if spread.axis is not None:
        at = find_axis(output, shape[spread.axis], numel_behind(shape, spread.axis))
        if at is not None:
            return replace(spread, axis=at)
    elif track.axes is not None and track.axes[1] == track.axes[0] + 1 and len(shape) >= -track.axes[0]:
        grid = (shape[track.axes[0]], shape[track.axes[1]])
        at = find_axis(output, prod(grid), numel_behind(shape, track.axes[1]))
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


def _permute(operation: Operation) -> Spread | None:
    spread, _, shape = operation.first_known
    if spread.axis is None:
        return spread
    rank = len(shape)
    places = [dim % rank for dim in operation.permutation()]
    return replace(spread, axis=places.index(spread.axis % rank) - rank)


_INDICES = (int, slice, EllipsisType, NoneType, list)


def _index(operation: Operation, index: Any) -> Spread | None:
    spread, _, shape = operation.first_known
    if spread.axis is None:
        return spread
    given = index if isinstance(index, tuple) else (index,)
    items = full_index(tuple(list(i) if isinstance(i, tuple) else i for i in given), len(shape), _INDICES)
    if items is None or sum(isinstance(item, list) for item in items) > 1:
        return None
    dim, new = 0, 0
    axis, runs = None, spread.runs
    for item in items:
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
    return source_spread(union(run.bits for run in runs)) if axis is None else _along(axis - new, runs)


def _pick_runs(runs: Sequence[PositionRun], wanted: Sequence[int], size: int) -> tuple[PositionRun, ...]:
    if isinstance(wanted, range) and wanted.step == 1:
        return slice_runs(runs, wanted.start, wanted.stop)
    ends = list(accumulate(run.size for run in runs))
    bits = [next(run.bits for run, end in zip(runs, ends, strict=True) if place % size < end) for place in wanted]
    return tuple(PositionRun(1, one) for one in bits)


def _getitem(operation: Operation) -> Spread | None:
    if operation.known_of(operation.args[0]) is None:  # a table, looked up by what depends on the source
        return None
    return _index(operation, operation.args[1])


def _at(operation: Operation, dim: int, item: Any) -> Spread | None:
    return _index(operation, (*[slice(None)] * (dim % len(operation.shape)), item))


def _narrow(operation: Operation) -> Spread | None:
    start, length = operation.get(2, "start"), operation.get(3, "length")
    return _at(operation, operation.get(1, "dim"), slice(start, start + length))


def _split(operation: Operation) -> Spread | None:
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
        if one is not None and one.spread.axis == dim:
            runs.extend(one.spread.runs)
        elif one is None or one.spread.is_even:
            runs.append(PositionRun(tensor.shape[dim], one.spread.bits if one else 0))
        else:
            return None
    return _along(dim, runs)


def _product(operation: Operation) -> Spread | None:
    """A product of matrices: rows of the first, columns of the second, and what is summed over is mixed."""
    operands = [operation.known_of(value) for value in operation.args[-2:]]
    if operation.name == "rmatmul":
        operands.reverse()
    rows, columns = operands if len(operands) == 2 else (None, None)
    if rows is not None and rows.spread.axis is not None and rows.spread.axis != -1:
        return rows.spread.add(columns.spread.bits if columns else 0)
    if columns is not None and columns.spread.axis not in (None, -2):
        return columns.spread.add(rows.spread.bits if rows else 0)
    return operation.mixed


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
    return source_spread(rest) if kept is None else kept.add(rest)


def _attention(operation: Operation) -> Spread | None:
    query, *others = (operation.known_of(operation.get(at, name)) for at, name in enumerate(("query", "key", "value")))
    axis = query.spread.axis if query is not None else None
    if operation.index > 0 or query is None or axis is None or query.shape[axis] != operation.output[axis]:
        return operation.mixed
    return query.spread.add(union(one.spread.bits for one in others if one is not None))


def _convolve(operation: Operation) -> Spread | None:
    spread, _, shape = operation.first_known
    weight = operation.get(1, "weight")
    if spread.axis is None or not isinstance(weight, Tensor):
        return operation.mixed
    spatial = spread.axis >= 2 - len(shape)
    if spread.axis == -len(shape):
        return spread  # patches that are images of their own
    if spatial and set(weight.shape[2:]) == {1} and operation.output[spread.axis] == shape[spread.axis]:
        return spread
    return operation.mixed


def _gather(operation: Operation) -> Spread | None:
    """index_select, gather: the positions of another axis are chosen, or sorted."""
    axis, dim = operation.first_known.spread.axis, operation.get(1, "dim")
    if axis is None:
        return operation.mixed
    return _pointwise(operation) if isinstance(dim, int) and axis not in operation.axes(dim) else None


def _roll(operation: Operation) -> Spread | None:
    spread = operation.first_known.spread
    dims = operation.get(1 + (operation.name == "roll"), "dims")
    if spread.axis is None or spread.axis not in operation.axes(operation.args[1:] if dims is None else dims):
        return spread
    if not spread.is_even:
        return None
    return replace(spread, runs=tuple(run._replace(grid=None) for run in spread.runs))


_CONVOLUTIONS = "conv1d conv2d conv3d conv_transpose1d conv_transpose2d"
_PRODUCTS = "matmul rmatmul bmm mm baddbmm addmm"
_WHOLE_ATTENTION = "multi_head_attention_forward"
_ATTENTION = words(f"{_PRODUCTS} {_WHOLE_ATTENTION} einsum scaled_dot_product_attention")
_LINEAR_OPS = words(f"{_CONVOLUTIONS} {_PRODUCTS} linear einsum")

_NONLINEAR_OPS = words("""
    relu relu6 hardtanh leaky_relu rrelu prelu elu selu celu gelu silu mish softplus softsign logsigmoid sigmoid
    hardsigmoid hardswish hardshrink softshrink tanhshrink tanh threshold glu
    layer_norm group_norm instance_norm rms_norm normalize softmax log_softmax
""")

RESHAPE_OPS = words("view reshape flatten unflatten squeeze unsqueeze reshape_as view_as")

# Operations that take nothing but a shape or a type from their second argument, and those that do so from any.
SHAPED_LIKE = words("expand_as view_as reshape_as type_as")
MADE_LIKE = words("""
    zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty new_tensor
""")

_MORE_POINTWISE = """
    sin cos sign erf log1p expm1 reciprocal floor round nan_to_num lt gt le ge eq ne logical_and logical_or type_as cpu
    expand expand_as broadcast_to identity positive alias data
"""

RULES = rules_by_name(
    {
        f"{POINTWISE} {_MORE_POINTWISE} batch_norm": _pointwise,
        "cat concat concatenate": _concatenate,
        "chunk split tensor_split split_with_sizes": _split,
        " ".join(RESHAPE_OPS): _reshape,
        "permute transpose swapaxes swapdims t T mT": _permute,
        "unfold": _unfold,
        "getitem": _getitem,
        "select": lambda operation: _at(operation, operation.get(1, "dim"), operation.get(2, "index")),
        "narrow": _narrow,
        "unbind": lambda operation: _at(operation, operation.get(1, "dim", 0), operation.index),
        "index_select gather take_along_dim": _gather,
        "roll flip": _roll,
        "mean sum amax amin max min std var norm logsumexp prod nanmean": _reduce,
        _PRODUCTS: _product,
        "einsum": _einsum,
        "scaled_dot_product_attention multi_head_attention_forward": _attention,
        _CONVOLUTIONS: _convolve,
        "softmax log_softmax glu cumsum": _mixing(lambda operation: operation.get(1, "dim")),
        "normalize": _mixing(lambda operation: operation.get(2, "dim", 1)),
        "linear": _mixing(lambda _: -1),
        "layer_norm rms_norm": _mixing(lambda operation: range(-len(operation.get(1, "normalized_shape")), 0)),
        "group_norm instance_norm": _mixing(lambda operation: range(1 - len(operation.shape), 0)),
    }
)
