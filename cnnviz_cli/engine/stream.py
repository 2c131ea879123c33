"""Send variants through the network in chunks, and keep sums alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import MemoryShortError
from cnnviz_cli.core.needs import (
    INPUT,
    Evidence,
    Gradient,
    GradientOver,
    KeyedVariants,
    Need,
    Scores,
    WeightedVariants,
)
from cnnviz_cli.core.network import explain_memory_errors, match_memory_format
from cnnviz_cli.engine.answers import PassContext
from cnnviz_cli.engine.compiled import run_compiled
from cnnviz_cli.engine.device import (
    LARGEST_BLOCK,
    MEMORY_SHARE,
    Footprint,
    chunk_size,
    free_memory,
    measure_footprint,
)
from cnnviz_cli.engine.graph import Tail, make_tails
from cnnviz_cli.engine.passes import Pass, answer, run_pass
from cnnviz_cli.engine.plan import Stream
from cnnviz_cli.engine.twins import find_twin, run_on

T = TypeVar("T")

MOST_INPUTS = 32
"""Variants of the input in a chunk at the most: more is not faster, and takes memory."""

MOST_BYTES = LARGEST_BLOCK // 2
"""Of a chunk of a layer's variants at the most: they are there twice, as they are made and as the layer returns them.
Measured on the 1,280 maps of the bundled network's last layer, one thread: 64 together take 64 ms, 8 take 76 and 128
take 69."""

_FOOTPRINTS: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], Footprint]] = WeakKeyDictionary()
"""What a variant takes in each network, by where it enters, its shape and how it is carried out."""


def run_stream(context: PassContext, stream: Stream) -> dict[Need, Tensor]:
    """The answers to all that is asked of one set of variants."""
    variants = stream.variants
    first = stream.scores[0] if stream.scores else stream.sums[0]
    evidence = context.evidence.only(first.sources)
    images = range(len(context.batch))
    tails = [None for _ in images] if variants.at == INPUT else make_tails(context, variants.at)
    found = [ImageStream(context, stream, evidence, image, tails[image]).run() for image in images]
    answers: dict[Need, Tensor] = {}
    for score in stream.scores:
        answers[score] = torch.stack([scores[score] for scores, _ in found])
    for need in stream.sums:
        total = torch.stack([sums[need] for _, sums in found])
        answers[need] = total if need.weighted else total / variants.count
    return answers


class ImageStream:
    """What is asked of one image's variants, see `run`; those of a layer pass `tail`."""

    def __init__(
        self, context: PassContext, stream: Stream, evidence: Evidence, image: int, tail: Tail | None = None
    ) -> None:
        self.context, self.stream, self.evidence, self.image = context, stream, evidence, image
        self.plan = stream.passes
        self.tail = tail
        # Once for all chunks: to find it is to look at all weights.
        folds = tail is None and context.folds
        self.twin = find_twin(context.net, context.batch, self.plan.layers) if folds else None
        self.compiles = (
            context.execution.compile
            and stream.variants.at == INPUT
            and not self.plan.backwards
            and not self.plan.layers
            and not context.alone
        )
        # Of a chunk, if there are as many variants.
        self.size = 1

    def _on_network(self, run: Callable[[Callable[[Tensor], Any], nn.Module], T]) -> T:
        """What `run` gives of what variants pass, and of the network whose modules that runs."""
        if self.tail is not None:
            return run(self.tail, self.tail.modules)
        return run_on(self.context.net, self.twin, lambda net: run(net, net))

    def run(self) -> tuple[dict[Scores, Tensor], dict[GradientOver, Tensor]]:
        """Scores of all variants in order, and sums of gradients."""
        equals = self._find_equals()
        total, numbers = self.stream.variants.count, list(equals)
        size = self._chunk_size()
        self.size = min(size, total)
        scores: dict[Scores, list[Tensor]] = {need: [] for need in self.stream.scores}
        sums: dict[GradientOver, Tensor] = {}
        start = done = 0
        while start < len(numbers):
            chunk = {number: equals[number] for number in numbers[start : start + size]}
            made, parts = self._chunk(chunk)
            if made is None:
                size = max(len(chunk) // 2, 1)
                continue
            for score, values in scores.items():
                values.append(answer(score.of.value(made)))
            for need, part in parts.items():
                sums[need] = sums[need] + part if need in sums else part
            start += len(chunk)
            done += sum(map(len, chunk.values()))
            self.context.tick(done, total)
        dtype = self.context.logits.dtype
        return (
            {score: _spread(torch.cat(values), equals, total) for score, values in scores.items()},
            {need: total.to(dtype) for need, total in sums.items()},
        )

    def _find_equals(self) -> dict[int, list[int]]:
        """For the first of each group of equal variants the numbers of all of it, in order."""
        variants = self.stream.variants
        keys: Sequence[Hashable] = range(variants.count)
        # Alone, a network may be no function of its input.
        if isinstance(variants, KeyedVariants) and not self.context.alone:
            keys = variants.keys(self.evidence, self.image)
        groups: dict[Hashable, list[int]] = {}
        for number, key in enumerate(keys):
            groups.setdefault(key, []).append(number)
        return {group[0]: group for group in groups.values()}

    def _chunk(self, chunk: Mapping[int, Sequence[int]]) -> tuple[Pass | None, dict[GradientOver, Tensor]]:
        """One chunk of variants, each with those that it stands for; None if it does not fit and can be halved."""
        try:
            with explain_memory_errors(1):
                made = self._run_pass(list(chunk))
                return made, {need: self.sum_gradients(need, made, chunk) for need in self.stream.sums}
        except MemoryShortError:
            if len(chunk) == 1:
                raise
        return None, {}

    def _run_pass(self, numbers: Sequence[int]) -> Pass:
        def run(net: Callable[[Tensor], Any], modules: nn.Module) -> Pass:
            return run_pass(
                net,
                modules,
                self._make_variants(numbers),
                self.plan,
                self.context.targets_for(self.image, len(numbers)),
                self.context.execution,
                readout=self.context.readout,
                anchor=self.context.anchor_of(self.image, len(numbers)),
                owned=True,
            )

        net, batch = self.context.net, self.context.batch
        # Of other sizes there are few, and each would be compiled for itself.
        if self.compiles and len(numbers) == self.size:
            shape = torch.Size((len(numbers), *batch.shape[1:]))
            made = run_compiled(net, shape, self.context.execution, lambda call: run(call, net))
            if made is not None:
                return made
        return self._on_network(run)

    def _make_variants(self, numbers: Sequence[int]) -> Tensor:
        made = made_in_runs(partial(self.stream.variants.make, self.evidence, self.image), numbers)
        batch = self.context.batch
        made = made.to(batch.device, batch.dtype)
        return match_memory_format(made, batch) if self.stream.variants.at == INPUT else made

    def sum_gradients(self, need: GradientOver, made: Pass, chunk: Mapping[int, Sequence[int]]) -> Tensor:
        """What is kept of the gradients of a chunk, by number of the variant; the parts of all chunks are added up."""
        powers = made.answers[Gradient(need.at, need.of, need.through)] ** need.moment
        if need.weighted:
            powers = powers * self._weights(cast("WeightedVariants", need.over), chunk).to(powers)
        elif any(len(group) > 1 for group in chunk.values()):
            counts = [len(group) for group in chunk.values()]
            powers = powers * powers.new_tensor(counts).view(-1, *[1] * (powers.dim() - 1))
        # Sums of many small terms in double precision, where there is any, so that the chunks leave no trace.
        return powers.sum(0) if powers.device.type == "mps" else powers.sum(0, dtype=torch.float64)

    def _weights(self, variants: WeightedVariants, chunk: Mapping[int, Sequence[int]]) -> Tensor:
        """(n, ...) for each variant of a chunk the sum of the weights of all that are equal to it."""
        weigh = partial(variants.weight, self.evidence, self.image)
        if all(len(group) == 1 for group in chunk.values()):
            return made_in_runs(weigh, list(chunk))
        sums = [weigh(first, first + 1) for first in chunk]
        for place, group in enumerate(chunk.values()):
            for number in group[1:]:
                sums[place] = sums[place] + weigh(number, number + 1)
        return torch.cat(sums)

    def _chunk_size(self) -> int:
        if self.context.alone:
            return 1
        device = self.context.batch.device
        budget = self.context.memory
        if budget is None:
            budget = free_memory(device) // MEMORY_SHARE
        one = self._make_variants([0])
        footprint = self._on_network(partial(self._footprint, one))
        most = MOST_INPUTS if self.stream.variants.at == INPUT else max(MOST_BYTES // one.nbytes, 1)
        if device.type == "cpu":
            most = chunk_size(LARGEST_BLOCK - 1, footprint.largest, most)
        return chunk_size(budget, footprint.item(one.nbytes, recorded=bool(self.plan.backwards)), most)

    def _footprint(self, one: Tensor, net: Callable[[Tensor], Any], modules: nn.Module) -> Footprint:
        known = _FOOTPRINTS.setdefault(modules, {})
        key = self.stream.variants.at, one.shape, one.dtype, self.context.execution
        if key not in known:
            with self.context.execution.autocast(one.device):
                known[key] = measure_footprint(modules, net, one)
        return known[key]


def made_in_runs(make: Callable[[int, int], Tensor], numbers: Sequence[int]) -> Tensor:
    """What `make` gives from one number to before another, for ascending numbers: one call for each run of them."""
    ends = [at for at in range(1, len(numbers)) if numbers[at] != numbers[at - 1] + 1]
    parts = [make(numbers[first], numbers[last - 1] + 1) for first, last in pairwise((0, *ends, len(numbers)))]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _spread(values: Tensor, equals: Mapping[int, Sequence[int]], total: int) -> Tensor:
    """(total,) the values of the first of each group, given to all of it."""
    if len(values) == total:
        return values
    places = torch.empty(total, dtype=torch.int64, device="cpu")
    for place, group in enumerate(equals.values()):
        places[list(group)] = place
    return values[places.to(values.device)]
