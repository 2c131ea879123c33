"""The rules by which a linear operation shares relevance out among its inputs.

A rule is a list of terms. Each term is the operation on one part of the input with one part of the weights; with z the
sum of the terms, s = R / (z + epsilon sign(z)), and the input gets the sum over terms of part * (the operation's
transpose on s). Where no bias takes part, what arrives is what is handed on, but for epsilon. A bias that is to take
nothing is left out of the terms; the output, whose sign the gamma rule goes by, has it all the same.

Bach et al., 2015, https://doi.org/10.1371/journal.pone.0130140 (epsilon; z-plus is their alpha 1, beta 0);
Montavon et al., 2017, https://arxiv.org/abs/1512.02479 (z-box); Lapuschkin et al., 2019,
https://arxiv.org/abs/1902.10178 (flat); Montavon et al., 2019, https://doi.org/10.1007/978-3-030-28954-6_10 (gamma),
for inputs of either sign Andeol et al., 2021, https://arxiv.org/abs/2106.13008.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-6
GAMMA = 0.25


@dataclass(frozen=True)
class Linear:
    """A linear operation.

    Attributes:
        op: (input, weight, bias or None) -> output; weight and bias are detached.
        convolves: whether its weights are shared between positions.
        folds: whether the weight's first dimension counts outputs, so that a scale of them can be multiplied in.
        takes: whether the bias takes its share of the relevance.
    """

    op: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    weight: Tensor
    bias: Tensor | None
    convolves: bool = False
    folds: bool = False
    takes: bool = True

    @property
    def share(self) -> Tensor | None:
        """The bias, where it takes part in the terms."""
        return self.bias if self.takes else None

    def with_scale(self, scale: Tensor, shift: Tensor) -> Linear:
        """The same followed by a scale and a shift of each output channel, as one linear operation."""
        weight = self.weight * scale.view(-1, *[1] * (self.weight.dim() - 1))
        bias = shift if self.bias is None else self.bias * scale + shift
        return Linear(self.op, weight, bias, self.convolves, takes=self.takes)


Rule = Callable[[Linear, Tensor, Tensor], Tensor]
"""(operation, its input, relevance of its output) -> relevance of its input."""

_Term = tuple[Tensor, Tensor, "Tensor | None"]


def stabilize(values: Tensor) -> Tensor:
    """Moved away from zero by epsilon, zero itself upwards."""
    return values + torch.where(values < 0, -EPSILON, EPSILON).to(values)


def epsilon(linear: Linear, x: Tensor, relevance: Tensor) -> Tensor:
    """In proportion to each input's part in the output."""
    return _distribute(linear, relevance, [(x, linear.weight, linear.share)])


def z_plus(linear: Linear, x: Tensor, relevance: Tensor) -> Tensor:
    """In proportion to what raised the output, leaving out what lowered it."""
    w, b = linear.weight, linear.share
    terms: list[_Term] = [(_upper(x), _upper(w), None if b is None else _upper(b)), (_lower(x), _lower(w), None)]
    return _distribute(linear, relevance, terms)


def gamma(linear: Linear, x: Tensor, relevance: Tensor) -> Tensor:
    """As epsilon, with what speaks for the output's own sign made larger by a share of GAMMA."""
    w, b = linear.weight, linear.share
    with torch.no_grad():
        output = linear.op(x, w, linear.bias)
    given = torch.zeros_like(x)
    for chosen, same, other in ((output > 0, _upper, _lower), (output < 0, _lower, _upper)):
        arriving = relevance * chosen
        if not arriving.any():  # as below a rectifier, where nothing arrives at what it cut off
            continue
        bias = None if b is None else b + GAMMA * same(b)
        terms: list[_Term] = [(_upper(x), w + GAMMA * same(w), bias), (_lower(x), w + GAMMA * other(w), None)]
        given = given + _distribute(linear, arriving, terms)
    return given


def flat(linear: Linear, x: Tensor, relevance: Tensor) -> Tensor:
    """The same to every input that takes part."""
    return _distribute(linear, relevance, [(torch.ones_like(x), torch.ones_like(linear.weight), None)])


def z_box(linear: Linear, x: Tensor, relevance: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
    """In proportion to how far each input could have lowered the output between `ends`, the least and the most."""
    low, high = torch.minimum(*ends), torch.maximum(*ends)
    w, b = linear.weight, linear.share
    terms: list[_Term] = [
        (x, w, b),
        (low, -_upper(w), None if b is None else -_upper(b)),
        (high, -_lower(w), None if b is None else -_lower(b)),
    ]
    return _distribute(linear, relevance, terms)


def proportional(op: Callable[[Tensor], Tensor], x: Tensor, relevance: Tensor) -> Tensor:
    """The epsilon rule of a linear operation without weights."""
    return epsilon(Linear(lambda value, _w, _b: op(value), x.new_empty(0), None), x, relevance)


def _upper(values: Tensor) -> Tensor:
    return values.clamp(min=0)


def _lower(values: Tensor) -> Tensor:
    return values.clamp(max=0)


def _distribute(linear: Linear, relevance: Tensor, terms: list[_Term]) -> Tensor:
    # A term of zeros adds nothing: after a rectifier, that of the negative inputs.
    terms = [term for term in terms if term[2] is not None or term[0].any()] or terms[:1]
    with torch.enable_grad():
        parts = [part.detach().requires_grad_() for part, _, _ in terms]
        outputs = [linear.op(part, w, b) for part, (_, w, b) in zip(parts, terms, strict=True)]
        total = sum(outputs[1:], outputs[0])
    slopes = torch.autograd.grad(total, parts, relevance / stabilize(total.detach()))
    given = [part.detach() * slope for part, slope in zip(parts, slopes, strict=True)]
    return sum(given[1:], given[0])
