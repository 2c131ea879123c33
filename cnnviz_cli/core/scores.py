"""What the score of a class is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
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


ValueKind = Literal["logits", "probabilities", "log-probabilities"]
"""What numbers a network returns for its classes."""


def to_logits(values: Tensor, kind: ValueKind, *, exclusive: bool) -> Tensor:
    """(B, K, ...) values for which softmax, or a sigmoid of each, gives the probabilities that a network returned.

    Of classes that exclude each other that is log p, and of others the logit, log p - log(1 - p). A probability of 0
    is taken for the smallest normal number, and one of 1 for the largest number below 1, so that all are finite; there
    the gradient is zero, as it is where a sigmoid has saturated.

    Args:
        values: what the network returned.
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
    """The word for it."""
    return "score" if score == "logit" else "probability"


def to_two_classes(scores: Tensor) -> Tensor:
    """(B, K) scores as they are; of a network with one score z, a question of yes or no, (B, 2): -z for no, z for yes.

    Sigmoids of the two add up to 1, and the higher of them says what the network takes the image for.
    """
    import torch

    return torch.cat([-scores, scores], 1) if scores.shape[1] == 1 else scores


def rank_second_first(scores: Tensor) -> Tensor:
    """(B, 2) by what the two sides are ranked where the second comes first whatever its score."""
    import torch

    return torch.zeros_like(scores).index_fill(1, torch.tensor([1], dtype=torch.int64, device=scores.device), 1)


def probabilities(logits: Tensor, *, sigmoid: bool) -> Tensor:
    """(B, K) the probability of each class, on the CPU; not a number where a score is not finite.

    Sigmoids come in double precision, in which high scores that float32 rounds to 1 keep their order.
    """
    if not sigmoid:
        return logits.softmax(1).cpu()
    exact = logits.cpu().double()
    return exact.sigmoid().where(exact.isfinite(), float("nan"))
