"""How scores are read from what a network returns, and what the score of a class is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


Score = Literal["logit", "softmax", "sigmoid"]
"""What the network returns; or its probability, by a softmax over all classes, or by the sigmoid of each by itself."""


def class_scores(logits: Tensor, score: Score) -> Tensor:
    """(B, K) the score of each class, for (B, K) logits."""
    return logits if score == "logit" else logits.softmax(1) if score == "softmax" else logits.sigmoid()


def rounding_magnitudes(logits: Tensor, score: Score) -> Tensor:
    """(B, K) how large the terms are that the rounding of each class's score is relative to, for (B, K) logits.

    Of a logit that is its magnitude. A probability p is rounded as p is, and moved by the rounding of each logit z: of
    its own by (1 - p) |z| p, under a softmax of every other class j by p_j |z_j| p.
    """
    if score == "logit":
        return logits.abs()
    found, sizes = class_scores(logits, score), logits.abs()
    moved = (1 - found) * sizes
    if score == "softmax":
        shares = found * sizes
        moved = moved + shares.sum(1, keepdim=True) - shares
    return found * moved.clamp(min=1)


# Whether what was measured is more than rounding. A score is the sum of very many products, and so is each slope of it:
# what differs by less than SLACK units in the last place of the score is noise, however well it could be drawn.

SLACK = 32
"""Units in the last place that rounding may add up to in a network."""

HALF_ULP = {"bf16": 2.0**-7, "fp16": 2.0**-10}
"""A unit in the last place of 1 by the short formats in which a network may run."""

HALF_SLACK = 2
"""As `SLACK`, of the short formats: sums are kept in long ones, and only what comes out is rounded to a short one."""


def resolution(values: Tensor, precision: str = "fp32") -> float:
    """The relative difference below which numbers of this kind are equal but for rounding; `precision` is the
    network's: bf16, fp16, or fp32 for that of the values."""
    import torch

    return max(SLACK * float(torch.finfo(values.dtype).eps), HALF_SLACK * HALF_ULP.get(precision, 0.0))


def find_cancelled(values: Tensor, terms: Tensor) -> Tensor:
    """(B,) whether all of a map (B, 1, h, w) is what rounding left of sums over `terms` (B, C, h, w)."""
    largest = terms.abs().sum(1).flatten(1).amax(1)
    return (values.abs().flatten(1).amax(1) <= resolution(values) * largest) & (largest > 0)


ValueKind = Literal["logits", "probabilities", "log-probabilities"]
"""What numbers a network returns for its classes."""


def to_logits(values: Tensor, kind: ValueKind, *, exclusive: bool) -> Tensor:
    """(B, K, ...) values for which softmax, or a sigmoid of each, gives the probabilities that a network returned.

    Of classes that exclude each other that is log p, and of others the logit, log p - log(1 - p). A probability of 0
    is taken for the smallest normal number, and one of 1 for the largest number below 1, so that all are finite; there
    the gradient is zero, as it is where a sigmoid has saturated.

    Args:
        kind: what that is; logits are returned as they are.
        exclusive: whether the probabilities along the second axis add up to 1.
    """
    import torch

    if kind == "logits":
        return values
    exclusive = exclusive and values.shape[1] > 1
    if kind == "log-probabilities" and exclusive:
        return values
    exact = values if values.dtype == torch.float64 else values.float()
    limits = torch.finfo(exact.dtype)
    if kind == "log-probabilities":
        highest = exact.clamp(max=-limits.eps / 2)
        return highest - torch.log(-torch.expm1(highest))
    logs = exact.clamp(min=limits.tiny).log()
    return logs if exclusive else logs - (1 - exact).clamp(min=limits.eps / 2).log()


def score_name(score: Score) -> str:
    """The name of a score, for captions and messages."""
    return "score" if score == "logit" else "probability"


def to_two_classes(scores: Tensor) -> Tensor:
    """(B, K) scores as they are; of one score z, a question of yes or no, (B, 2): -z for no, z for yes."""
    import torch

    return torch.cat([-scores, scores], 1) if scores.shape[1] == 1 else scores


def rank_second_first(scores: Tensor) -> Tensor:
    """(B, 2) by what the two sides are ranked where the second comes first whatever its score."""
    import torch

    return torch.zeros_like(scores).index_fill(1, torch.tensor([1], dtype=torch.int64, device=scores.device), 1)


def probabilities(logits: Tensor, *, sigmoid: bool) -> Tensor:
    """(B, K) on the CPU; not a number where a score is not finite. Sigmoids are in double precision, in which high
    scores that float32 rounds to 1 keep their order."""
    if not sigmoid:
        return logits.softmax(1).cpu()
    exact = logits.cpu().double()
    return exact.sigmoid().where(exact.isfinite(), float("nan"))


def highest(numbers: NDArray[Any], count: int) -> list[int]:
    """The places of the `count` highest, highest first; minus infinity is what is not there."""
    import numpy as np

    order: list[int] = np.argsort(-numbers, kind="stable")[:count].tolist()
    return [index for index in order if numbers[index] > -np.inf]


def round_score(number: float, low: float = 0.0) -> float:
    """A probability, a share or a cosine to six digits: more would make the manifest depend on a sum's last bit."""
    return round(min(1.0, max(low, number)), 6)


_MAX_DEPTH = 4
_MAX_TENSORS = 64


def named_tensors(output: Any) -> list[tuple[str, Tensor]]:
    """Every tensor in a tuple, a list, a mapping, a named tuple, a dataclass, or any nesting of them, with its name.

    Names are keys, fields or places, joined by dots: ``logits``, ``0``, ``heads.age``. A tensor alone has the name "".
    At most 64, at most 4 levels deep.
    """
    found: list[tuple[str, Tensor]] = []
    for name, tensor in _walk(output, "", _MAX_DEPTH):
        found.append((name, tensor))
        if len(found) == _MAX_TENSORS:
            break
    return found


def select_part(output: Any, head: str) -> Any:
    """The part of an output that has this name, see `named_tensors`. Raises KeyError if there is none."""
    if not head:
        return output
    for name, part in top_level_parts(output):
        if name == head:
            return part
        if head.startswith(f"{name}."):
            return select_part(part, head[len(name) + 1 :])
    found = getattr(output, head, None)
    if _is_tensor(found):
        return found
    raise KeyError(head)


def top_level_parts(output: Any) -> list[tuple[str, Any]]:
    """What an output is packed from, one level deep; nothing of a tensor, a number or a text."""
    if isinstance(output, Mapping):
        return [(str(key), value) for key, value in output.items()]
    if isinstance(output, tuple | list):
        names = getattr(output, "_fields", None) or map(str, range(len(output)))
        return list(zip(names, output, strict=False))
    if is_dataclass(output) and not isinstance(output, type):
        return [(item.name, getattr(output, item.name)) for item in fields(output)]
    if _is_tensor(output) or callable(output):
        return []
    return [(name, value) for name, value in getattr(output, "__dict__", {}).items() if not name.startswith("_")]


def _walk(value: Any, name: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if _is_tensor(value):
        yield name, value
    elif depth:
        for key, part in top_level_parts(value):
            yield from _walk(part, f"{name}.{key}" if name else key, depth - 1)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "dim") and hasattr(value, "shape") and hasattr(value, "dtype")


@value
class Readout:
    """One score for each thing that can be explained of an image. Frozen and hashable."""

    def hold(self, _output: Any, _masks: Tensor | None, /) -> Tensor | None:
        """(B, ...) the anchor, detached: what is read of the images as they are; None where there is none.

        A region or a box is found once, so that the scores of altered inputs are scores of the same thing.

        Args:
            _masks: (B, h, w) a mask of each image, if the run has masks.
        """
        return None

    def scores(self, output: Any, anchor: Tensor | None, /) -> Tensor:
        """(B, K) scores, attached to autograd; `anchor` is from `hold`. Raises UsageError for an output of another
        kind."""
        raise NotImplementedError

    def order(self, scores: Tensor, _anchor: Tensor | None, /) -> Tensor:
        """(B, K) of detached scores: the higher, the earlier it is among top1, top2 and so on; minus infinity for what
        is not there."""
        return scores


@value
class Classes(Readout):
    """The class scores of a classifier, (B, K) or (B, K, 1, 1), of one class also (B,).

    Attributes:
        head: the name of the part of the output that holds them, see `core.scores`; None takes ``logits``, or the
            first of several values.
        returns: what they are. Of probabilities the logarithm is read, or the logit, see `to_logits`.
        exclusive: whether probabilities of an image add up to 1.
    """

    head: str | None = None
    returns: ValueKind = "logits"
    exclusive: bool = True

    def scores(self, output: Any, _anchor: Tensor | None, /) -> Tensor:
        scores = rows_of(output, self.head)
        if scores is None:
            raise UsageError(
                "the network does not return one (batch, classes) tensor of scores, so it is no classifier"
            )
        return to_logits(scores, self.returns, exclusive=self.exclusive)


CLASSES = Classes()


def main_output(output: Any) -> Any:
    """What counts of a network's output: its ``logits``, if it has such, and of several values the first."""
    found = getattr(output, "logits", output)
    return found[0] if isinstance(found, tuple | list) and found else found


def part_of(output: Any, head: str | None) -> Any:
    """The part of an output with this name; for None, `main_output`. Raises UsageError if there is none."""
    if head is None:
        return main_output(output)
    try:
        return select_part(output, head)
    except KeyError:
        raise UsageError(f"the network returned no '{head}' this time", where="--head") from None


def rows_of(output: Any, head: str | None = None) -> Tensor | None:
    """(B, K) numbers that a network returned for B images, also as (B, K, 1, 1); of one number for an image also (B,),
    and () for one image. None if it returned something else. `head` as in `part_of`."""
    found = part_of(output, head)
    shape = tuple(getattr(found, "shape", (0, 0, 0)))
    if len(shape) == 4 and shape[2:] == (1, 1):
        found = found[:, :, 0, 0]
    elif len(shape) < 2:
        found = found.reshape(-1, 1)
    elif len(shape) != 2:
        return None
    rows: Tensor = found
    return rows


def maps_in(output: Any, head: str | None = None) -> Any:
    """What a network returned as maps of scores, if it returned such; `head` as in `part_of`."""
    if head is not None:
        return part_of(output, head)
    found = getattr(output, "logits", output)
    return found.get("out") if isinstance(found, Mapping) else main_output(found)


def embedding(output: Any, head: str | None = None) -> Tensor:
    """(B, D) what a network returned for B images; `head` as in `part_of`. Raises UsageError if it is not that."""
    vectors = rows_of(output, head)
    if vectors is None or part_of(output, head).dim() < 2:
        raise UsageError(
            "the network does not return one (batch, numbers) tensor of embeddings, so images cannot be compared",
            fix="Use a classifier, or a network that returns (batch, numbers)",
        )
    return vectors
