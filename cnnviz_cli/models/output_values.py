"""Whether the numbers that a network returns are logits, probabilities or their logarithms, told by trying."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnnviz_cli.core.outputs import pick
from cnnviz_cli.core.scores import Values
from cnnviz_cli.models.like import zeros_for
from cnnviz_cli.models.receptive import tensors_in
from cnnviz_cli.models.returned import Returned, Told

TRIALS = 4
"""Inputs beside the one of zeros."""

_SUM = 1e-3
"""By how much a sum of probabilities may differ from 1: what half precision makes of a thousand classes."""

_EDGE = 1e-6
"""By how much rounding may take a number out of its range."""

_SPAN = (0.1, 0.9)
"""Below and above which numbers have to come before they are taken for shares by themselves."""

_SOFTMAX, _SIGMOID, _LOG_SOFTMAX, _LOG_SIGMOID = "softmax", "sigmoid", "log-softmax", "log-sigmoid"
_HARD, _CLAMP, _TANH = "hard sigmoid", "clamp to [0, 1]", "tanh"

_MAKE = {
    "aten::_softmax": _SOFTMAX,
    "aten::_log_softmax": _LOG_SOFTMAX,
    "aten::sigmoid": _SIGMOID,
    "aten::sigmoid_": _SIGMOID,
    "aten::hardsigmoid": _HARD,
    "aten::hardsigmoid_": _HARD,
    "aten::log_sigmoid_forward": _LOG_SIGMOID,
    "aten::tanh": _TANH,
    "aten::tanh_": _TANH,
}

_KEEP = (
    "view _unsafe_view reshape squeeze unsqueeze permute transpose t select slice expand clone _to_copy detach alias "
    "cat stack split split_with_sizes unbind chunk index index_select gather contiguous flatten mean amax amin max min "
    "mul rsub sub add div exp clamp upsample_bilinear2d upsample_nearest2d upsample_bicubic2d avg_pool2d lift_fresh "
    "_adaptive_avg_pool2d max_pool2d_with_indices copy_ squeeze_ unsqueeze_ transpose_ t_"
)
"""What moves, picks, enlarges, averages or mixes numbers: whether they stay from 0 to 1 is seen from the numbers."""


_ARITHMETIC = frozenset(f"aten::{name}" for name in ["mul", "rsub", "sub", "add", "div", "clamp"])
"""What may move the numbers of a tanh from [-1, 1] into [0, 1]."""

_KEPT = frozenset(f"aten::{name}" for name in _KEEP.split())


def read_values(net: nn.Module, shape: tuple[int, int, int], returned: Returned, told: Told = "auto") -> Returned:
    """`returned` with what the numbers of its head are.

    One forward of zeros says that they are logits if any is outside of what probabilities and their logarithms can be,
    as nearly always; only otherwise the network is run on `TRIALS` further inputs, from small to very large numbers,
    and watched for the operation that its output comes from. The numbers are

    - log-probabilities, if none is positive and the exponentials of each row add up to 1;
    - probabilities that exclude each other, if all are from 0 to 1 and each row adds up to 1;
    - probabilities each by itself, if all are from 0 to 1 and come out of a sigmoid, a hard sigmoid or a clamp to that
      range, or if they go through most of it and never leave it however large the input;
    - logits otherwise, also if they happen to lie from 0 to 1 in all trials, as the numbers of a tanh may.

    Args:
        net: in eval mode.
        shape: channels, height and width of the input.
        returned: by shape, what the network returned; boxes are left as they are.
        told: what somebody says they are; of probabilities the trials still tell whether they add up to 1.
    """
    if returned.kind not in ("scores", "maps") or told == "logits":
        return replace(returned, why="--returns says so") if told == "logits" else returned
    first = _rows(net, zeros_for(net, shape), returned.head)
    if first.is_meta:  # a network without weights, of which only the layers are listed
        return returned
    if told == "auto" and not (_are_shares([first]) or _are_logarithms([first])):
        return replace(returned, bounds=_bounds([first]))
    origins = _Origins()
    with torch.random.fork_rng(devices=[]):
        trials = [_rows(net, one, returned.head, origins) for one in _inputs(net, shape)]
    # A number so large that it overflows says nothing.
    rows = [first, *(row for row in trials if row.isfinite().all())]
    bounds = _bounds(rows)
    if told != "auto":
        exclusive = _add_up([row.exp() for row in rows] if told == "log-probabilities" else rows)
        return replace(returned, values=told, exclusive=exclusive, bounds=bounds, why="--returns says so")
    values, exclusive, why = _told_by(rows, origins.found)
    return replace(returned, values=values, exclusive=exclusive, bounds=bounds, why=why)


def _told_by(rows: Sequence[Tensor], origins: Iterable[str]) -> tuple[Values, bool, str]:
    made = set(origins)
    several = rows[0].shape[1] > 1
    if several and _are_logarithms(rows) and _add_up([row.exp() for row in rows]):
        return "log-probabilities", True, "their exponentials add up to 1 in every trial"
    if several and _are_shares(rows) and _add_up(rows):
        return "probabilities", True, "they lie in [0, 1] and add up to 1 in every trial"
    if _are_logarithms(rows) and made == {_LOG_SIGMOID}:
        return "log-probabilities", False, "they come out of a log-sigmoid"
    return _told_apart(rows, made)


def _told_apart(rows: Sequence[Tensor], made: Set[str]) -> tuple[Values, bool, str]:
    """Whether numbers that do not add up to 1 are probabilities, each by itself."""
    if not _are_shares(rows):
        return "logits", True, ""
    if made and made <= {_SIGMOID, _SOFTMAX, _HARD, _CLAMP}:
        return (
            "probabilities",
            False,
            f"they lie in [0, 1] in every trial and come out of a {' and a '.join(sorted(made))}",
        )
    if made == {_TANH}:
        return "logits", True, "they come out of a tanh, which goes from -1 to 1"
    low, high = _bounds(rows)
    if low < _SPAN[0] and high > _SPAN[1]:
        return "probabilities", False, "they lie in [0, 1] however large the input, and go through most of it"
    return "logits", True, "they lie in [0, 1] in every trial, but not all of it, and come out of no sigmoid"


def _are_shares(rows: Sequence[Tensor]) -> bool:
    return all(bool(((row >= -_EDGE) & (row <= 1 + _EDGE)).all()) for row in rows)


def _are_logarithms(rows: Sequence[Tensor]) -> bool:
    return all(bool((row <= _EDGE).all()) for row in rows)


def _add_up(rows: Sequence[Tensor]) -> bool:
    return all(bool(((row.sum(1) - 1).abs() <= _SUM).all()) for row in rows)


def _bounds(rows: Sequence[Tensor]) -> tuple[float, float]:
    return min(float(row.min()) for row in rows), max(float(row.max()) for row in rows)


def _rows(net: Callable[[Tensor], Any], image: Tensor, head: str, origins: _Origins | None = None) -> Tensor:
    """(N, K) float64: the numbers of each image, or of each position of its maps."""
    with torch.no_grad():
        found = pick(net(image), head) if origins is None else origins.watch(net, image, head)
    numbers: Tensor = found.double()
    if numbers.dim() < 2:
        return numbers.reshape(-1, 1)
    return numbers.flatten(2).transpose(1, 2).flatten(0, 1) if numbers.dim() == 4 else numbers


def _inputs(net: nn.Module, shape: tuple[int, int, int]) -> Iterable[Tensor]:
    """`TRIALS` inputs, the same every time: noise, coarse noise, and both of them much too large."""
    like, draws = zeros_for(net, shape), torch.Generator(device="cpu").manual_seed(0)
    for scale, step in ((1.0, 1), (1.0, 8), (1e3, 8), (1e6, 1)):
        sides = [-(-side // step) for side in shape[1:]]
        noise = torch.randn(1, shape[0], *sides, generator=draws, dtype=torch.float32, device="cpu")
        noise = noise.repeat_interleave(step, 2).repeat_interleave(step, 3)
        yield (scale * noise[:, :, : shape[1], : shape[2]]).to(like)


class _Origins(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows tensors from the operation that brought their numbers into [0, 1], or made logarithms of them.

    Attributes:
        found: what each output came from; "" where from something else.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []
        self._known: dict[int, tuple[Tensor, str]] = {}

    def watch(self, net: Callable[[Tensor], Any], image: Tensor, head: str) -> Any:
        """The head of what the network returns for an image; what it came from is written down."""
        try:
            with self:
                found = pick(net(image), head)
            self.found.append(self._of(found))
        except Exception:  # not every kind of tensor can be followed
            self.found.append("")
            found = pick(net(image), head)
        self._known.clear()
        return found

    def _of(self, tensor: Tensor) -> str:
        known = self._known.get(id(tensor))
        return known[1] if known is not None else ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name
        origin = _MAKE.get(name, "")
        if not origin and (name in ("aten::clamp", "aten::clamp_", "aten::hardtanh", "aten::hardtanh_")):
            origin = _CLAMP if tuple(args[1:3]) == (0, 1) else ""
        if not origin and name in _KEPT:
            given = {self._of(one) for one in tensors_in(args)}
            origin = given.pop() if len(given) == 1 else ""
            if name in _ARITHMETIC and origin == _TANH:
                origin = ""
            if name == "aten::exp":
                origin = {_LOG_SOFTMAX: _SOFTMAX, _LOG_SIGMOID: _SIGMOID}.get(origin, "")
        # A tensor that was written into is no longer what it was.
        for one in tensors_in(result if isinstance(result, tuple | list) else (result,)):
            if origin:
                self._known[id(one)] = one, origin  # kept alive, or another might get its number
            else:
                self._known.pop(id(one), None)
        return result
