"""How relevance passes the operations that have no weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

from cnnviz_cli.core.needs import Composite, Relevance
from cnnviz_cli.core.scores import to_two_classes
from cnnviz_cli.engine import operations as ops
from cnnviz_cli.engine import relevance_rules as rules
from cnnviz_cli.engine.answers import PassContext, answers
from cnnviz_cli.engine.operations import Call, OperationMode, Step
from cnnviz_cli.engine.passes import Pass, answer
from cnnviz_cli.engine.relevance_rules import Linear, Rule


def average_positions(call: Call) -> Tensor:
    """A sum or mean over positions: in proportion."""
    (source,), again = call.taking("input")
    if len(call.signals) > 1:
        call.refuse("relevance")
    return Step(again, partial(_proportional, again), ops.keep_copies)(source)


def _proportional(op: Callable[[Tensor], Tensor], relevance: Tensor, source: Tensor) -> tuple[Tensor]:
    return (rules.proportional(op, source, relevance),)


def pass_on(call: Call) -> Tensor:
    """A function of one signal alone, perhaps with a constant that takes nothing: all to the signal."""
    if len(call.signals) > 1:
        call.refuse("relevance")
    (one, other), both = call.taking("input", "other")
    if isinstance(one, Tensor) and ops.is_signal(one):
        (_,), again = call.taking("input")
        shape = one.shape
        return Step(again, lambda relevance: (relevance.sum_to_size(shape),), in_place=call.in_place)(one)
    straight = call.name in ops.SUMS | ops.DIFFERENCES | ops.PRODUCTS
    if not isinstance(other, Tensor) or not ops.is_signal(other) or not straight or call.in_place:
        call.refuse("relevance")
    place = other.shape
    return Step(lambda x: both(one, x), lambda relevance: (relevance.sum_to_size(place),))(other)


def add_signals(call: Call) -> Tensor:
    """The sum or difference of two signals: in proportion to what each brings."""
    if len(call.signals) == 1:
        return pass_on(call)
    (one, other), again = call.taking("input", "other")
    factor = call.kwargs.get("alpha", 1) * (-1 if call.name in ops.DIFFERENCES else 1)
    shapes = (one.shape, other.shape)

    def parts(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        total = rules.stabilize(one + factor * other)
        return one / total, factor * other / total

    def share(relevance: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        return tuple((relevance * part).sum_to_size(shape) for part, shape in zip(parts, shapes, strict=True))

    return Step(again, share, parts, call.in_place)(one, other)


def gate_product(call: Call, gates: Sequence[bool]) -> Tensor:
    """The product of a signal and a gate: all to the signal. Where `gates` is true of both or of neither, the smaller
    counts as the gate, for a gate is spread over what it weighs."""
    (one, other), again = call.taking("input", "other")
    if gates[0] == gates[1]:
        gates = [one.numel() < other.numel(), other.numel() < one.numel()]
    if gates[0] == gates[1]:
        call.refuse("relevance")
    shapes = (one.shape, other.shape)

    def share(relevance: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(None if gate else relevance.sum_to_size(shape) for gate, shape in zip(gates, shapes, strict=True))

    return Step(again, share, in_place=call.in_place)(one, other)


def add_to_bins(call: Call) -> Tensor:
    """Values added up in bins: to each in proportion. What was in the bins takes nothing."""
    (bins, dim, index, source), again = call.taking("input", "dim", "index", "src")
    if len(call.signals) > 1 or not isinstance(source, Tensor) or not ops.is_signal(source) or call.in_place:
        call.refuse("relevance")
    share = partial(_proportional, partial(again, bins.new_zeros(bins.shape), dim, index))
    return Step(partial(again, bins, dim, index), share, ops.keep_copies)(source)


STEPS: Mapping[str, Callable[[Call], Any]] = {
    # Their gradient brings back what arrives, and that of a maximum gives it all to the winner.
    **dict.fromkeys(ops.MOVES | ops.MAXIMA, Call.plain),
    **dict.fromkeys(ops.AVERAGES, average_positions),
    **dict.fromkeys(ops.ACTIVATIONS | ops.QUOTIENTS | {"maximum", "fmax", "rsub", "neg"}, pass_on),
    **dict.fromkeys(ops.SUMS | ops.DIFFERENCES, add_signals),
    "scatter_add": add_to_bins,
}
"""By name of the operation."""


_GATES = frozenset(("sigmoid", "hardsigmoid", "tanh", "relu6", "hardtanh", "clamp"))
"""Bounded activations: where one meets another signal in a product, it is the gate."""

_WEIGHTED = ops.CONVOLUTIONS | ops.MATRIX_PRODUCTS | {"linear"}


@answers(Relevance)
def run_relevance(context: PassContext, need: Relevance) -> Tensor:
    """(B, 3, H, W) relevance of the input; it starts as each class score times the objective's slope by that score.
    Raises UsageError for operations without a rule, or that cannot be seen."""
    ops.check_visible(context.net)
    leaf = context.batch.clone().requires_grad_()
    with torch.enable_grad():
        source = leaf.clone()
        with RelevanceMode(need, source):
            output = context.net(source)
            scores = context.readout.scores(output, context.anchor)
        ops.check_recorded(scores)
        logits = scores.detach().requires_grad_()
        value = need.of.value(Pass(to_two_classes(logits), context.targets, {}, {})).sum()
        (slope,) = torch.autograd.grad(value, logits)
    (found,) = torch.autograd.grad(scores, leaf, slope * logits.detach())
    return answer(found)


class RelevanceMode(OperationMode):
    """Record a forward whose backward propagates relevance to its input, `source` (B, C, H, W), no leaf of autograd."""

    def __init__(self, need: Relevance, source: Tensor) -> None:
        super().__init__()
        self.composite: Composite = need.composite
        self.biases = need.biases
        # What is still the input itself, moved or scaled: what it is at the lowest and at the highest input.
        self._raw: MutableMapping[Tensor, tuple[Tensor, Tensor]] = WeakTensorKeyDictionary()
        self._gates: MutableMapping[Tensor, bool] = WeakTensorKeyDictionary()
        # Results of layers: the layer's input, its version, the layer, the result's version.
        self._layers: MutableMapping[Tensor, tuple[Tensor, int, Linear, int]] = WeakTensorKeyDictionary()
        low, high = (source.new_tensor(end or (0.0,)).view(-1, 1, 1) for end in (need.low, need.high))
        self._raw[source] = (low.expand_as(source).clone(), high.expand_as(source).clone())

    def record(self, call: Call) -> Any:
        result = self._run(call)
        self._mark(call, [tensor for tensor in ops.tensors_in(result) if ops.is_signal(tensor)])
        return result

    def _mark(self, call: Call, results: list[Tensor]) -> None:
        """Remember which results are still the input itself, and which are gates."""
        if not results:
            return
        follows = call.name not in _WEIGHTED and (len(call.signals) == 1 or call.name in ops.JOINS)
        bounds: list[Any] = [None] * len(results)
        if follows and all(signal in self._raw for signal in call.signals):
            with torch.no_grad():
                low = call.with_signals(lambda signal: self._raw[signal][0]).plain()
                high = call.with_signals(lambda signal: self._raw[signal][1]).plain()
            bounds = list(zip(ops.tensors_in(low), ops.tensors_in(high), strict=True))
        gate = call.name in _GATES or (follows and all(signal in self._gates for signal in call.signals))
        for tensor, pair in zip(results, bounds, strict=True):
            # In place a result is a tensor that was known as something else.
            self._raw.pop(tensor, None)
            self._gates.pop(tensor, None)
            if pair is not None:
                self._raw[tensor] = pair
            if gate:
                self._gates[tensor] = True

    def _run(self, call: Call) -> Any:
        if call.name in STEPS:
            return STEPS[call.name](call)
        if call.name in _LAYERS:
            return _LAYERS[call.name](self, call)
        return call.plain_or_refuse("relevance")

    def _linear(self, call: Call) -> Tensor:
        (source, weight, bias), op = call.taking("input", "weight", "bias")
        if len(call.signals) > 1 or not ops.is_signal(source):
            call.refuse("relevance")
        linear = Linear(
            op,
            weight.detach(),
            None if bias is None else bias.detach(),
            convolves=call.name in ops.CONVOLUTIONS,
            folds="transpose" not in call.name,
            takes=self.biases,
        )
        result = self._step(linear, source, lambda x: op(x, weight, bias))
        self._layers[result] = (source, source._version, linear, result._version)
        return result

    def _product(self, call: Call) -> Tensor:
        (one, other), op = call.taking("input", "other")
        if not isinstance(one, Tensor) or not isinstance(other, Tensor) or len(call.signals) > 1:
            call.refuse("relevance")
        if ops.is_signal(one):
            return self._step(Linear(lambda x, w, _b: op(x, w), other.detach(), None), one, lambda x: op(x, other))
        return self._step(Linear(lambda x, w, _b: op(w, x), one.detach(), None), other, lambda x: op(one, x))

    def _batch_norm(self, call: Call) -> Tensor:
        mean, variance = call.get(1, "running_mean"), call.get(2, "running_var")
        usable = call.func is functional.batch_norm and mean is not None and variance is not None
        if not usable or call.get(5, "training", False) or len(call.signals) > 1:
            call.refuse("relevance")
        (source,), again = call.taking("input")
        with torch.no_grad():
            scale = (variance + call.get(7, "eps", 1e-5)).rsqrt()
            weight, bias = call.get(3, "weight"), call.get(4, "bias")
            scale = scale if weight is None else scale * weight
            shift = -mean * scale if bias is None else bias - mean * scale
        before = self._layers.get(source)
        if before is not None:
            origin, version, linear, unchanged = before
            if linear.folds and (origin._version, source._version) == (version, unchanged):
                with torch.no_grad():
                    value = again(source)
                return self._step(linear.with_scale(scale, shift), origin, lambda _x: value)
        shape = (1, -1, *[1] * (source.dim() - 2))

        def op(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
            return x * w.view(shape) + (0 if b is None else b.view(shape))

        linear = Linear(op, scale, shift, takes=self.biases)
        return Step(again, partial(_share, rules.epsilon, linear), _identity)(source)

    def _step(self, linear: Linear, source: Tensor, call: Callable[[Tensor], Tensor]) -> Tensor:
        """A linear operation under the composite's rule for it."""
        first = self._raw.get(source)
        rule: Rule = rules.epsilon
        if self.composite != "epsilon":
            gamma = self.composite == "epsilon-gamma-box"
            if first is not None:
                rule = partial(rules.z_box, ends=first) if gamma else rules.flat
            elif linear.convolves:
                rule = rules.gamma if gamma else rules.z_plus
        return Step(call, partial(_share, rule, linear), _identity)(source)

    def _gate(self, call: Call) -> Tensor:
        if len(call.signals) == 1:
            return pass_on(call)
        return gate_product(call, [signal in self._gates for signal in call.signals])


def _identity(source: Tensor) -> tuple[Tensor, ...]:
    return (source,)


def _share(rule: Rule, linear: Linear, relevance: Tensor, source: Tensor) -> tuple[Tensor]:
    return (rule(linear, source, relevance),)


_LAYERS: Mapping[str, Callable[[RelevanceMode, Call], Tensor]] = {
    **dict.fromkeys(ops.CONVOLUTIONS | {"linear"}, RelevanceMode._linear),
    **dict.fromkeys(ops.MATRIX_PRODUCTS, RelevanceMode._product),
    **dict.fromkeys(ops.PRODUCTS, RelevanceMode._gate),
    "batch_norm": RelevanceMode._batch_norm,
}
