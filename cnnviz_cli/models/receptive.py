"""Receptive fields, the layout of maps and what depends on what, followed from tensor to tensor while the network runs.

Each tensor that depends on the input carries a `Track`. A convolution or a pooling widens its field, a padding shifts
it, a sum of two tensors covers both, and so on. An operation that `rules` does not name, or that mixes positions in a
way no box of one size describes (attention, a global pool, a resampling), makes it global: None.

Beside it goes a number whose bits say what the tensor depends on: each layer that has marked its output, and whether
it was cut out around boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any

from torch import Size, Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from cnnviz_cli.core.layers import ReceptiveField
from cnnviz_cli.core.network_errors import passes_on
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
    """

    def __init__(self, source: Tensor) -> None:
        super().__init__()
        # Weak: a tensor's entry goes with the tensor, so that activations are freed as they always are.
        self._tracks: Any = WeakTensorKeyDictionary()
        self._marks: Any = WeakTensorKeyDictionary()
        self.adopt(source, exact=True)
        self.max_pooled = False

    def adopt(self, tensor: Tensor, *, exact: bool) -> None:
        """Follow a tensor as what the source became by a way that cannot be followed.

        Args:
            tensor: (B, C, h, w), rows and columns of the source.
            exact: whether it is the source, pixel for pixel; what a pixel sees is not known otherwise.
        """
        self._tracks[tensor] = Track(_PIXEL if exact else None, (-2, -1))
        self._marks[tensor] = 0

    def mark(self, output: Any, bit: int) -> None:
        """Everything that comes from tensors in `output` from now on has `bit`."""
        for tensor in _tensors(output):
            if tensor in self._marks:
                self._marks[tensor] |= bit

    def marks(self, tensor: Tensor) -> int:
        """The bits of `tensor`."""
        return self._marks.get(tensor, 0)  # type: ignore[no-any-return]

    def of(self, tensor: Tensor) -> Track:
        """What is known of `tensor`; nothing, if it does not come from the source."""
        return self._tracks.get(tensor, _LOST)  # type: ignore[no-any-return]

    @passes_on
    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # Looked up first: an operation in place overwrites its input's track.
        known = [(self._tracks[x], x.shape) for x in _tensors((args, kwargs)) if x in self._tracks]
        marks = [self._marks[x] for x in _tensors((args, kwargs)) if x in self._marks]
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if marks:
            whole = reduce(or_, marks, CUT_OUT if name in _CUTTING else 0)
            for output in _tensors(args[0] if name == "__setitem__" else result):
                self._marks[output] = whole
        if known:
            self.max_pooled |= "max_pool" in name
            if name == "__setitem__":
                self._tracks[args[0]] = _LOST
            for output in _tensors(result):
                self._tracks[output] = _after(name, args, kwargs, known, output.shape)
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _after(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], known: list[tuple[Track, Size]], output: Size
) -> Track:
    rule = RULES.get(name.strip("_"))
    # Only what is pointwise may have several inputs: a kernel that depends on the source looks at all of it.
    if rule is None or (len(known) > 1 and rule is not pointwise):
        return _LOST
    return rule(Call(tuple(args[1:]), kwargs, known, output))
