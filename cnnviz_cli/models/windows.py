"""Which part of the input a tensor lies over, followed from tensor to tensor while the network runs.

A network may cut its input into parts that pass the same layers one after the other. The maps of each run then lie over
a part of the input, which this follows: slices, chunks and the like change it, everything else hands it on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from cnnviz_cli.core.geometry import Box
from cnnviz_cli.core.network_errors import passes_on
from cnnviz_cli.models.receptive import operation_name, tensors_in

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

_MOVES = frozenset(("flip", "fliplr", "flipud", "rot90", "roll", "grid_sample", "fold", "unfold", "gather", "take"))
"""Operations after which rows and columns are no longer where they were."""

_TURNS = frozenset(("flip", "rot90", "grid_sample"))
"""Those of them that leave the maps behind turned or bent, unless it is done again; a roll mostly is."""

_RESHAPES = frozenset(
    [
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "permute",
        "transpose",
        "swapaxes",
        "swapdims",
        "movedim",
        "moveaxis",
        "squeeze",
        "unsqueeze",
        "unbind",
        "stack",
        "t",
        "mT",
        "pad",
    ]
)
"""Operations after which rows and columns may be other dimensions than the last two, or others in number."""

_CUTS = frozenset(("chunk", "split", "tensor_split", "narrow"))
_JOINS = frozenset(("cat", "concat", "concatenate"))


def whole(box: Box) -> bool:
    """Whether a box is all of the input, but for rounding."""
    return all(abs(side - other) < 1e-6 for side, other in zip(box, WHOLE, strict=True))


class Windows(TorchFunctionMode):
    """Follows one input through whatever runs inside ``with``.

    Args:
        source: (B, C, H, W).
    """

    def __init__(self, source: Tensor) -> None:
        super().__init__()
        # By tensor the box in shares of the input, None where it is lost; and whether the last two dimensions are rows
        # and columns.
        self._known: Any = WeakTensorKeyDictionary()
        self._known[source] = (WHOLE, True)
        self._turns: Any = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> Box | None:
        """Left, top, right and bottom as shares of the input; None where that is not known."""
        found: tuple[Box | None, bool] = self._known.get(tensor, (None, False))
        return found[0]

    def turns(self, tensor: Tensor) -> frozenset[str]:
        """By what operations rows and columns were turned or bent on the way to `tensor`."""
        found: frozenset[str] = self._turns.get(tensor, frozenset())
        return found

    @passes_on
    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        known = [(self._known[one], one) for one in tensors_in((args, kwargs)) if one in self._known]
        result = func(*args, **kwargs)
        if known:
            name = operation_name(func)
            boxes = {box for (box, _), _ in known}
            placed = all(usual for (_, usual), _ in known) and name not in _RESHAPES
            box = next(iter(boxes)) if len(boxes) == 1 and name not in _MOVES else None
            outputs = list(tensors_in(result))
            parts = [box] * len(outputs)
            first = known[0][1]
            if name == "getitem":
                parts = [_sliced(box if placed else None, first, args[1])] * len(outputs)
            elif name in _CUTS and outputs:
                parts = _pieces(box, placed, first, outputs, args, kwargs)
            elif name in _JOINS and outputs and outputs[0].shape[-2:] != first.shape[-2:]:
                parts = [None] * len(outputs)
            turns = frozenset().union(*(self.turns(one) for _, one in known))
            if name in _TURNS and (turn := _turn(name, first, args, kwargs)):
                turns = turns ^ {turn} if name == "flip" else turns | {turn}
            for output, part in zip(outputs, parts, strict=True):
                self._known[output] = (part, placed)
                if turns:
                    self._turns[output] = turns
        return result


def _turn(name: str, tensor: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """An operation with the dimensions it turns, "" where rows and columns are not among them."""
    if name == "grid_sample":
        return name
    given = kwargs.get("dims", args[1:] if name == "flip" else args[2] if len(args) > 2 else (0, 1))
    flat = [axis for one in (given if isinstance(given, tuple | list) else (given,)) for axis in _axes(one)]
    turned = sorted({axis if axis < 0 else axis - tensor.dim() for axis in flat} & {-2, -1})
    return f"{name} of {' and '.join('rows' if axis == -2 else 'columns' for axis in turned)}" if turned else ""


def _axes(value: Any) -> Sequence[int]:
    return value if isinstance(value, tuple | list) else (value,)


def _sliced(box: Box | None, tensor: Tensor, index: Any) -> Box | None:
    """What slices leave of a box; None where rows or columns are taken by anything but a slice."""
    items = list(index) if isinstance(index, tuple) else [index]
    if box is None or not all(type(item) in (int, slice, EllipsisType) for item in items):
        return None
    at = items.index(...) if ... in items else len(items)
    items[at : at + 1] = [slice(None)] * (tensor.dim() - len(items) + (at < len(items)))
    if len(items) < 2 or not all(isinstance(item, slice) for item in items[-2:]):
        return None
    for axis in (-2, -1):
        start, stop, _ = items[axis].indices(tensor.shape[axis])
        box = _cut(box, axis, start, stop, tensor.shape[axis])
    return box


def _pieces(
    box: Box | None, placed: bool, tensor: Tensor, outputs: list[Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[Box | None]:
    """The boxes of what a tensor was cut into."""
    changed = [axis for axis in range(-tensor.dim(), 0) if outputs[0].shape[axis] != tensor.shape[axis]]
    if box is None or not changed or changed[0] < -2:
        return [box] * len(outputs)  # cut into channels or images
    if not placed or len(changed) > 1 or (len(outputs) == 1 and "start" not in kwargs and len(args) < 3):
        return [None] * len(outputs)
    (axis,) = changed
    start = int(kwargs.get("start", args[2] if len(args) > 2 else 0)) if len(outputs) == 1 else 0
    boxes: list[Box | None] = []
    for output in outputs:
        boxes.append(_cut(box, axis, start, start + output.shape[axis], tensor.shape[axis]))
        start += output.shape[axis]
    return boxes


def _cut(box: Box, axis: int, start: int, stop: int, count: int) -> Box:
    left, top, right, bottom = box
    if axis == -1:
        width = (right - left) / max(count, 1)
        return (left + start * width, top, left + stop * width, bottom)
    height = (bottom - top) / max(count, 1)
    return (left, top + start * height, right, top + stop * height)
