"""Receptive fields, the layout of maps and what depends on what, followed from tensor to tensor while the network runs.

Each tensor that depends on the input carries a `Track`. A convolution or a pooling widens its field, a padding shifts
it, a sum of two tensors covers both, and so on. An operation that `rules` does not name, or that mixes positions in a
way no box of one size describes (attention, a global pool, a resampling), makes it global: None.

Beside it goes a `Spread`, whose bits say what the tensor depends on: each layer that has marked its output, and whether
it was cut out around boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from cnnviz_cli.core.layers import ReceptiveField
from cnnviz_cli.core.network_errors import passes_on
from cnnviz_cli.models.dependence import Known, Operation, Run, Spread, source
from cnnviz_cli.models.dependence_rules import MADE_LIKE, SHAPED_LIKE, after, cut, projections, spread_out
from cnnviz_cli.models.rules import RULES, Call, Track, pointwise

_PIXEL = ReceptiveField((1.0, 1.0), (1.0, 1.0), (0.0, 0.0))
_LOST = Track(None, None)

CUT_OUT = 1
"""The bit of tensors that hold something for each box instead of for each picture."""

_CUTTING = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool")


class Tracker(TorchFunctionMode):
    """Follows one input through whatever runs inside ``with``.

    Args:
        source: (B, C, H, W).

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
        """Follow a tensor as what the source became by a way that cannot be followed.

        Args:
            tensor: (B, C, h, w), rows and columns of the source.
            exact: whether it is the source, pixel for pixel; what a pixel sees is not known otherwise.
        """
        self._tracks[tensor] = Track(_PIXEL if exact else None, (-2, -1))
        self._spreads[tensor] = source()

    def bridge(self, inputs: Any, output: Any) -> None:
        """Take what a module returned and nothing followed there (a program, a function of somebody's own with its own
        gradient) as something that depends on all that the module was given."""
        lost = [tensor for tensor in tensors_in(output) if tensor not in self._spreads]
        given = [self._spreads[tensor] for tensor in tensors_in(inputs) if tensor in self._spreads]
        if not lost or not given:
            return
        bits = 0
        for spread in given:
            bits |= spread.bits
        if not all(spread.even for spread in given):
            self.losses.append("a module")
        for tensor in lost:
            self._spreads[tensor] = source(bits)

    def mark(self, output: Any, bits: int) -> None:
        """Everything that comes from tensors in `output` from now on has `bits`."""
        for tensor in tensors_in(output):
            if tensor in self._spreads:
                self._spreads[tensor] = self._spreads[tensor].marked(bits)

    def mark_positions(self, output: Tensor, bits: int, skipped: int, grid: tuple[int, int]) -> None:
        """What comes from the positions of the maps in `output` from now on has `bits`.

        Args:
            skipped: of a list of tokens (B, N, C), how many come before those positions.
            grid: rows and columns.
        """
        spread = self._spreads.get(output)
        if spread is None:
            return
        if output.dim() != 3:
            self._spreads[output] = replace(
                spread, runs=tuple(run._replace(bits=run.bits | bits) for run in spread.runs)
            )
            return
        count = output.shape[1]
        runs = spread.runs if spread.axis == -2 else (Run(count, spread.bits),)
        before, positions = cut(runs, 0, skipped), cut(runs, skipped, count)
        marked = tuple(run._replace(bits=run.bits | bits) for run in positions)
        if len(marked) == 1:
            marked = (marked[0]._replace(grid=grid),)
        self._spreads[output] = replace(spread, axis=-2, runs=(*before, *marked))

    def marks(self, tensor: Any) -> int:
        """The bits of `tensor`."""
        return self.spread(tensor).bits

    def spread(self, tensor: Any) -> Spread:
        """What `tensor` depends on, position by position; nothing, if it does not come from the source."""
        return self._spreads.get(tensor) or source() if isinstance(tensor, Tensor) else source()

    def of(self, tensor: Tensor) -> Track:
        """What is known of `tensor`; nothing, if it does not come from the source."""
        return self._tracks.get(tensor, _LOST)  # type: ignore[no-any-return]

    @passes_on
    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = operation_name(func)
        # Looked up first: an operation in place overwrites its input's track.
        counting = () if name in MADE_LIKE else args[:1] if name in SHAPED_LIKE else (args, kwargs)
        known = {
            id(x): Known(self._spreads[x], self._tracks.get(x, _LOST), tuple(x.shape))
            for x in tensors_in(counting)
            if x in self._spreads
        }
        result = func(*args, **kwargs)
        if known:
            self.max_pooled |= "max_pool" in name
            self._follow(name, args, kwargs, known, result)
        return result

    def _follow(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], known: Mapping[int, Known], result: Any
    ) -> None:
        if name == "setitem":
            self._tracks[args[0]] = _LOST
        outputs = list(tensors_in(args[0] if name == "setitem" else result))
        if outputs:
            self.operations.append(name)
        shapes = [tuple(output.shape) for output in outputs]
        tracks = [(one.track, one.shape) for one in known.values()]
        for index, output in enumerate(outputs):
            operation = Operation(name, tuple(args), kwargs, known, shapes, index, self.losses)
            try:
                self.projections |= projections(operation)
                spread = after(operation)
                track = _after(name, args, kwargs, tracks, output.shape)
            except Exception:  # an operation of somebody's that bears the name of one of torch's, with other arguments
                self.losses.append(name)
                spread, track = source(operation.bits), _LOST
            if name in _CUTTING:
                spread = spread.marked(CUT_OUT)
            axes = spread_out(operation, spread) if track.axes is None else None
            self._tracks[output] = Track(None, axes) if axes else track
            self._spreads[output] = spread
            self.listed = self.listed or any(run.grid is not None for run in spread.runs)


def operation_name(func: Any) -> str:
    """Without underscores: relu_ and F.relu, x + y and torch.add are one. Of an attribute of tensors its name."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", "")
    return name.strip("_")


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)


def _after(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], known: list[tuple[Track, Any]], output: Any
) -> Track:
    rule = RULES.get(name)
    # Only what is pointwise may have several inputs: a kernel that depends on the source looks at all of it.
    if rule is None or (len(known) > 1 and rule is not pointwise):
        return _LOST
    return rule(Call(tuple(args[1:]), kwargs, known, output))
