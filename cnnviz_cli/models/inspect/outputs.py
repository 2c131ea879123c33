"""What a network returns: scores, maps of scores or boxes; and whether its numbers are logits or probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.scores import ValueKind, named_tensors, select_part, top_level_parts
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.models.inspect.heads import zero_input
from cnnviz_cli.models.inspect.receptive import tensors_in

OutputKind = Literal["scores", "maps", "boxes"]
"""(B, K) or (B, K, 1, 1) class scores, of one class also (B,); (B, K, H, W) maps of class scores; or for each image a
mapping with ``boxes`` (n, 4), ``scores`` (n,) and ``labels`` (n,). Scores and maps may be a part of the output."""

# In the names of what networks return beside their scores.
_AUXILIARY_NAMES = ("loss", "hidden", "attention", "feature", "embed", "past_key", "pooler", "aux")

_MAX_HEADS_LISTED = 8

StatedValues = Literal["auto", "logits", "probabilities", "log-probabilities"]
"""What a network is said to return; auto is found out."""


@dataclass(frozen=True, slots=True)
class ExpectedOutput:
    """What is known of a network's output beforehand: its head (see `NetworkOutput.from_output`), and its values."""

    head: str | None = None
    returns: StatedValues = "auto"


NOTHING_EXPECTED = ExpectedOutput()


@dataclass(frozen=True, slots=True)
class HeadShape:
    """A part of an output that may hold scores: its name (see `core.scores`), and its shape for one image."""

    name: str
    shape: tuple[int, ...]

    @property
    def kind(self) -> OutputKind:
        return "maps" if len(self.shape) == 4 and self.shape[2:] != (1, 1) else "scores"

    @property
    def classes(self) -> int:
        return self.shape[1] if len(self.shape) > 1 else 1

    @property
    def description(self) -> str:
        values = f"{self.classes:,} value{'s' if self.classes > 1 else ''}"
        return f"{values} at {self.shape[2]} x {self.shape[3]} positions" if self.kind == "maps" else values


@dataclass(frozen=True, slots=True)
class NetworkOutput:
    """What a network returned for one image.

    Attributes:
        kind: None if nothing in it can be explained, or several parts of which none has been chosen.
        classes: how many have a score; 0 of boxes, which do not tell.
        head: the name of the part that is explained, see `core.scores`; "" of the whole output.
        heads: every part that may hold scores.
        values: what the numbers of the head are, and in words `why`.
        exclusive: whether probabilities of an image, or of a position, add up to 1.
        bounds: the lowest and the highest value of the head in all trial inputs; None without trials.
    """

    kind: OutputKind | None
    classes: int
    description: str
    head: str = ""
    heads: tuple[HeadShape, ...] = ()
    values: ValueKind = "logits"
    exclusive: bool = True
    bounds: tuple[float, float] | None = None
    why: str = ""

    @classmethod
    def from_output(cls, output: Any, head: str | None = None) -> NetworkOutput:
        """What an output for one image is.

        `head` is the part to be explained: its name, its last word, or its place from 0; None decides where there is
        one that it must be. Raises UsageError if there is no such part, or it holds nothing that can be explained.
        """
        seen = _describe(output)
        if isinstance(output, list | tuple) and output and all(map(_has_boxes, output)):
            if head is not None:
                raise UsageError("a detector's boxes are no heads", where="--head", fix="Leave it out.")
            return cls("boxes", 0, seen)
        heads = tuple(
            HeadShape(name, tuple(part.shape)) for name, part in _named_tensors(output) if _may_hold_scores(name, part)
        )
        found = _default_head(heads) if head is None else _requested_head(output, heads, head)
        if found is None:
            return cls(None, 0, seen, heads=heads)
        # torchvision's segmentation networks return maps, also where these have one position.
        kind: OutputKind = "maps" if found.name == "out" and len(found.shape) == 4 else found.kind
        return cls(kind, found.classes, seen, found.name, heads)

    def require_kind(self, model: str) -> OutputKind:
        """Its kind; raises UsageError if nothing in it can be explained, or several parts and none is chosen."""
        if self.kind is not None:
            return self.kind
        if self.heads:
            what = (
                f"{escape_text(model, 100)} returns {self.description}, in which {len(self.heads)} parts may be meant"
            )
            fix = f"Choose one: --head {escape_text(self.heads[0].name, 60)}"
            raise UsageError(what, where="--model", excerpt=_list_heads(self.heads), fix=fix)
        what = f"{escape_text(model, 100)} returns {self.description}, so it is no classifier, nor anything else known"
        fix = (
            "Networks may return (batch, classes) scores or (batch, classes, height, width) maps of scores, alone or "
            "in a tuple, a list or a mapping, for instance as 'out' or 'logits'; or for each image a mapping with "
            "boxes, scores and labels."
        )
        raise UsageError(what, where="--model", fix=fix)


def _has_boxes(one: Any) -> bool:
    return isinstance(one, Mapping) and all(isinstance(one.get(name), Tensor) for name in ("boxes", "scores", "labels"))


def _named_tensors(output: Any) -> list[tuple[str, Tensor]]:
    found = named_tensors(output)
    logits = None if isinstance(output, Tensor) else getattr(output, "logits", None)
    if isinstance(logits, Tensor) and all(name != "logits" for name, _ in found):
        found.append(("logits", logits))
    return found


def _may_hold_scores(name: str, part: Tensor) -> bool:
    if not part.is_floating_point():
        return False
    if part.dim() == 0:
        return not name  # `y.squeeze()` of one image's one value; in a structure it is a loss
    return part.dim() in (1, 2, 4) and part.shape[0] == 1 and part.numel() > 0


def _default_head(heads: Sequence[HeadShape]) -> HeadShape | None:
    """The one head that it must be: the only one, the one called ``logits``, or maps that a mapping calls ``out``.

    Losses, auxiliary outputs, features, hidden states do not count beside others, nor do maps beside scores.
    """
    for name in ("logits", "out"):
        same = [head for head in heads if head.name == name or head.name.endswith(f".{name}")]
        if len(same) == 1 and (name == "logits" or len(same[0].shape) == 4):
            return same[0]
    left = [head for head in heads if not any(word in head.name.casefold() for word in _AUXILIARY_NAMES)] or list(heads)
    scores = [head for head in left if head.kind == "scores"]
    found = scores or left
    return found[0] if len(found) == 1 else None


def _requested_head(output: Any, heads: Sequence[HeadShape], head: str) -> HeadShape:
    top = [name for name, _ in top_level_parts(output)]
    place = int(head) if head.isascii() and head.isdigit() and len(head) < 4 else -1
    name = top[place] if head not in top and 0 <= place < len(top) else head
    fitting = [one for one in heads if one.name == name]
    fitting = fitting or [one for one in heads if one.name.rpartition(".")[2] == name]
    fitting = fitting or [one for one in heads if one.name.startswith(f"{name}.")]
    if len(fitting) == 1:
        return fitting[0]
    shown, names = escape_text(head, 60), [one.name for one in heads]
    if names == [""]:
        raise UsageError("the network returns one tensor, which has no heads", where="--head", fix="Leave it out.")
    if fitting:
        what = f"'{shown}' names several heads"
        raise UsageError(what, where="--head", excerpt=_list_heads(fitting), fix="Name one.")
    there = {name for name, _ in _named_tensors(output)}
    what = f"'{shown}' holds no scores that can be explained" if name in there else f"there is no head '{shown}'"
    fix = did_you_mean(head, names) or (
        f"For instance: --head {escape_text(names[0], 60)}" if names else "Leave it out."
    )
    raise UsageError(what, where="--head", excerpt=_list_heads(heads), fix=fix)


def _list_heads(heads: Sequence[HeadShape]) -> str:
    lines = [f"  {escape_text(head.name, 60)}: {head.description}, {tuple(head.shape)}" for head in heads]
    more = [f"  and {len(heads) - _MAX_HEADS_LISTED} more"] if len(heads) > _MAX_HEADS_LISTED else []
    return "\n".join([*lines[:_MAX_HEADS_LISTED], *more])


def _describe(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    named = isinstance(output, tuple) and hasattr(output, "_fields")
    if named or isinstance(output, Mapping):
        keys = ", ".join(escape_text(str(key), 40) for key in list(output._fields if named else output)[:5])
        return f"a {'named tuple' if named else 'mapping'} with {keys or 'nothing'}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}"
    return f"a {type(output).__name__}"


TRIAL_COUNT = 4  # of inputs beside the one of zeros
_SUM_TOLERANCE = 1e-3  # of a sum of probabilities against 1: what half precision makes of a thousand classes
_RANGE_TOLERANCE = 1e-6  # by how much rounding may take a number out of its range
_SPAN = (0.1, 0.9)  # below and above which numbers have to come before they are taken for shares by themselves

_SOFTMAX, _SIGMOID, _LOG_SOFTMAX, _LOG_SIGMOID = "softmax", "sigmoid", "log-softmax", "log-sigmoid"
_HARD, _CLAMP, _TANH = "hard sigmoid", "clamp to [0, 1]", "tanh"

_PRODUCERS = {  # operations of ATen's, in place or not
    "_softmax": _SOFTMAX,
    "_log_softmax": _LOG_SOFTMAX,
    "sigmoid": _SIGMOID,
    "hardsigmoid": _HARD,
    "log_sigmoid_forward": _LOG_SIGMOID,
    "tanh": _TANH,
}

# What moves, picks, enlarges, averages or mixes numbers: whether they stay from 0 to 1 is seen from the numbers.
_SHAPE_OPS = (
    "view _unsafe_view reshape squeeze unsqueeze permute transpose t select slice expand clone _to_copy detach alias "
    "cat stack split split_with_sizes unbind chunk index index_select gather contiguous flatten mean amax amin max min "
    "mul rsub sub add div exp clamp upsample_bilinear2d upsample_nearest2d upsample_bicubic2d avg_pool2d lift_fresh "
    "_adaptive_avg_pool2d max_pool2d_with_indices copy_ squeeze_ unsqueeze_ transpose_ t_"
)
_KEPT = frozenset(_SHAPE_OPS.split())
_ARITHMETIC = ("mul", "rsub", "sub", "add", "div", "clamp")  # may move the numbers of a tanh from [-1, 1] into [0, 1]


def find_values(
    net: nn.Module, shape: tuple[int, int, int], returned: NetworkOutput, told: StatedValues = "auto"
) -> NetworkOutput:
    """`returned` with what the numbers of its head are.

    One forward of zeros says that they are logits if any is outside of what probabilities and their logarithms can be,
    as nearly always; only otherwise the network is run on `TRIAL_COUNT` further inputs, from small to very large
    numbers, and watched for the operation that its output comes from. The numbers are

    - log-probabilities, if none is positive and the exponentials of each row add up to 1;
    - probabilities that exclude each other, if all are from 0 to 1 and each row adds up to 1;
    - probabilities each by itself, if all are from 0 to 1 and come out of a sigmoid, a hard sigmoid or a clamp to that
      range, or if they go through most of it and never leave it however large the input;
    - logits otherwise, also if they happen to lie from 0 to 1 in all trials, as the numbers of a tanh may.

    Args:
        shape: channels, height and width of the input.
        told: what they are said to be; of probabilities the trials still tell whether they add up to 1.
    """
    if returned.kind not in ("scores", "maps") or told == "logits":
        return replace(returned, why="--returns says so") if told == "logits" else returned
    first = _score_rows(net, zero_input(net, shape), returned.head)
    if first.is_meta:  # a network without weights, of which only the layers are listed
        return returned
    if told == "auto" and not (_are_probabilities([first]) or _are_log_probabilities([first])):
        return replace(returned, bounds=_bounds([first]))
    origins = _OriginTracker()
    with torch.random.fork_rng(devices=[]):
        trials = [_score_rows(net, one, returned.head, origins) for one in _trial_inputs(net, shape)]
    # A number so large that it overflows says nothing.
    rows = [first, *(row for row in trials if row.isfinite().all())]
    bounds = _bounds(rows)
    if told != "auto":
        exclusive = _sum_to_one([row.exp() for row in rows] if told == "log-probabilities" else rows)
        return replace(returned, values=told, exclusive=exclusive, bounds=bounds, why="--returns says so")
    values, exclusive, why = _classify_values(rows, origins.found)
    return replace(returned, values=values, exclusive=exclusive, bounds=bounds, why=why)


def _classify_values(rows: Sequence[Tensor], origins: Iterable[str]) -> tuple[ValueKind, bool, str]:
    made = set(origins)
    several = rows[0].shape[1] > 1
    if several and _are_log_probabilities(rows) and _sum_to_one([row.exp() for row in rows]):
        return "log-probabilities", True, "their exponentials add up to 1 in every trial"
    if several and _are_probabilities(rows) and _sum_to_one(rows):
        return "probabilities", True, "they lie in [0, 1] and add up to 1 in every trial"
    if _are_log_probabilities(rows) and made == {_LOG_SIGMOID}:
        return "log-probabilities", False, "they come out of a log-sigmoid"
    return _classify_independent(rows, made)


def _classify_independent(rows: Sequence[Tensor], made: Set[str]) -> tuple[ValueKind, bool, str]:
    if not _are_probabilities(rows):
        return "logits", True, ""
    if made and made <= {_SIGMOID, _SOFTMAX, _HARD, _CLAMP}:
        why = f"they lie in [0, 1] in every trial and come out of a {' and a '.join(sorted(made))}"
        return "probabilities", False, why
    if made == {_TANH}:
        return "logits", True, "they come out of a tanh, which goes from -1 to 1"
    low, high = _bounds(rows)
    if low < _SPAN[0] and high > _SPAN[1]:
        return "probabilities", False, "they lie in [0, 1] however large the input, and go through most of it"
    return "logits", True, "they lie in [0, 1] in every trial, but not all of it, and come out of no sigmoid"


def _are_probabilities(rows: Sequence[Tensor]) -> bool:
    return all(bool(((row >= -_RANGE_TOLERANCE) & (row <= 1 + _RANGE_TOLERANCE)).all()) for row in rows)


def _are_log_probabilities(rows: Sequence[Tensor]) -> bool:
    return all(bool((row <= _RANGE_TOLERANCE).all()) for row in rows)


def _sum_to_one(rows: Sequence[Tensor]) -> bool:
    return all(bool(((row.sum(1) - 1).abs() <= _SUM_TOLERANCE).all()) for row in rows)


def _bounds(rows: Sequence[Tensor]) -> tuple[float, float]:
    return min(float(row.min()) for row in rows), max(float(row.max()) for row in rows)


def _score_rows(
    net: Callable[[Tensor], Any], image: Tensor, head: str, origins: _OriginTracker | None = None
) -> Tensor:
    """(N, K) float64: the numbers of each image, or of each position of its maps."""
    with torch.no_grad():
        found = select_part(net(image), head) if origins is None else origins.watch(net, image, head)
    numbers: Tensor = found.double()
    if numbers.dim() < 2:
        return numbers.reshape(-1, 1)
    return numbers.flatten(2).transpose(1, 2).flatten(0, 1) if numbers.dim() == 4 else numbers


def _trial_inputs(net: nn.Module, shape: tuple[int, int, int]) -> Iterable[Tensor]:
    """`TRIAL_COUNT` inputs, the same every time: noise, coarse noise, and both of them much too large."""
    like, draws = zero_input(net, shape), torch.Generator(device="cpu").manual_seed(0)
    for scale, step in ((1.0, 1), (1.0, 8), (1e3, 8), (1e6, 1)):
        sides = [-(-side // step) for side in shape[1:]]
        noise = torch.randn(1, shape[0], *sides, generator=draws, dtype=torch.float32, device="cpu")
        noise = noise.repeat_interleave(step, 2).repeat_interleave(step, 3)
        yield (scale * noise[:, :, : shape[1], : shape[2]]).to(like)


class _OriginTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows tensors from the operation that brought their numbers into [0, 1], or made logarithms of them.

    `found` has what each output came from; "" where from something else.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []
        self._known: dict[int, tuple[Tensor, str]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch would import its compiler to keep it from this class, which takes a second."""
        return False

    def watch(self, net: Callable[[Tensor], Any], image: Tensor, head: str) -> Any:
        try:
            with self:
                found = select_part(net(image), head)
            self.found.append(self._of(found))
        except Exception:  # not every kind of tensor can be followed
            self.found.append("")
            found = select_part(net(image), head)
        self._known.clear()
        return found

    def _of(self, tensor: Tensor) -> str:
        return self._known.get(id(tensor), (tensor, ""))[1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        origin = _PRODUCERS.get(name.removesuffix("_"), "")
        if not origin and name.removesuffix("_") in ("clamp", "hardtanh"):
            origin = _CLAMP if tuple(args[1:3]) == (0, 1) else ""
        if not origin and name in _KEPT:
            given = {self._of(one) for one in tensors_in(args)}
            origin = given.pop() if len(given) == 1 else ""
            if name in _ARITHMETIC and origin == _TANH:
                origin = ""
            if name == "exp":
                origin = {_LOG_SOFTMAX: _SOFTMAX, _LOG_SIGMOID: _SIGMOID}.get(origin, "")
        # A tensor that was written into is no longer what it was.
        for one in tensors_in(result if isinstance(result, tuple | list) else (result,)):
            if origin:
                self._known[id(one)] = one, origin  # kept alive, or another might get its number
            else:
                self._known.pop(id(one), None)
        return result
