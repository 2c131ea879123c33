"""Whether what was measured is more than the rounding of the numbers it was measured by.

A network's score is the sum of very many products, and so is each slope of it. What differs by less than `SLACK` units
in the last place of the score says nothing: a map of such differences is noise, however well it could be drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cnnviz_cli.core.evidence import INPUT, Activation, Need

if TYPE_CHECKING:
    from torch import Tensor

SLACK = 32
"""Units in the last place that rounding may add up to in a network."""

HALF_ULP = {"bf16": 2.0**-7, "fp16": 2.0**-10}
"""A unit in the last place of 1 by the short formats in which a network may run."""

HALF_SLACK = 2
"""As `SLACK`, of the short formats: sums are kept in long ones, and only what comes out is rounded to a short one."""


def resolution(values: Tensor, precision: str = "fp32") -> float:
    """The relative difference below which numbers of this kind are equal but for rounding.

    Args:
        precision: fp32 where the network ran in the kind of the values, or bf16 or fp16.
    """
    import torch

    return max(SLACK * float(torch.finfo(values.dtype).eps), HALF_SLACK * HALF_ULP.get(precision, 0.0))


def measures_change(need: Need) -> bool:
    """Whether a need asks how the score of a target changes; biases move it too, but are no part of the image."""
    of = need.objective
    return need.change != "none" and of is not None and of.follows_target and not of.layers()


def find_unchanged(
    need: Need, answers: Mapping[Need, Tensor], inputs: Tensor, terms: Tensor, precision: str = "fp32"
) -> Tensor | None:
    """Of each image whether an answer shows no change of the score beyond its rounding; None where that is not known.

    Scores of altered inputs are compared with each other. Slopes are multiplied by what they are slopes by: by no more
    than that could the score change between nothing and what is there.

    Args:
        need: one that `measures_change`.
        answers: the batch's; of a gradient at a layer the layer's maps are looked up.
        inputs: (B, C, H, W) the network's input.
        terms: (B,) `core.objectives.magnitude_of` the objective.
        precision: in which the network ran, see `resolution`.

    Returns:
        (B,) bool.
    """
    answer = answers[need]
    unit = resolution(answer, precision)
    if need.change == "values":
        flat = answer.flatten(1)
        return flat.amax(1) - flat.amin(1) <= unit * flat.abs().amax(1).maximum(terms.to(flat))
    if need.change == "shares":
        reach = answer.abs().flatten(1).sum(1)
    elif need.change == "slopes":
        at = need.place
        by = inputs if at == INPUT else answers.get(Activation(at))
        if by is None:
            return None
        power = getattr(need, "moment", 1)
        slopes = answer if power == 1 else answer.abs().pow(1 / power)
        length = _norms(by)
        if at == INPUT:
            length = length.clamp(min=by[0].numel() ** 0.5)
        reach = _norms(slopes) * length  # no less than the sum of the slopes, which of weighted ones are shares
    else:
        return None
    return reach <= unit * terms.to(reach)


def find_cancelled(values: Tensor, terms: Tensor) -> Tensor:
    """(B,) whether all of a map is what rounding left of sums whose terms took each other away.

    Args:
        values: (B, 1, h, w) the sums.
        terms: (B, C, h, w) what was added up over the second dimension.
    """
    largest = terms.abs().sum(1).flatten(1).amax(1)
    return (values.abs().flatten(1).amax(1) <= resolution(values) * largest) & (largest > 0)


def _norms(values: Tensor) -> Tensor:
    """(B,) Euclidean lengths; squares of tiny numbers do not vanish."""
    flat = values.flatten(1)
    top = flat.abs().amax(1, keepdim=True)
    unit = flat / top.where(top > 0, 1)
    return unit.square().sum(1).sqrt() * top.squeeze(1)
