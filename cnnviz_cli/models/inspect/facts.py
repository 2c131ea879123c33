"""What a network does, found out by a few forwards before the first image: layout, randomness, images of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnnviz_cli.core.global_rng import random_state, seeded_rng
from cnnviz_cli.core.network import (
    MemoryFormat,
    convert_weights,
    describe_error,
    is_out_of_memory,
    match_memory_format,
    network_errors,
    to_memory_format,
    without_checkpoints,
)
from cnnviz_cli.core.scores import named_tensors
from cnnviz_cli.models.inspect.heads import noise_input

Randomness = Literal["none", "seeded", "free"]
"""Whether two forwards on one input differ: never; unless torch's, numpy's and Python's generators start at the same
number; or even then, as those of a network that counts its calls do."""

Batching = Literal["independent", "coupled", "single"]
"""What the other images of a batch do to an image's output: nothing; something; or the network takes one alone."""


@dataclass(frozen=True)
class NetworkFacts:
    """What a network did in the trial forwards.

    Attributes:
        memory_format: the layout of weights and inputs in which it runs.
        why_contiguous: why that is not channels_last, in the network's own words where it has failed; else empty.
        kept_training: modules that its ``train`` and ``eval`` leave in training mode; they were put in eval mode.
        no_gradient: why no gradient reaches its input; empty where one does, or without a trial.
        tried: whether it was run for this at all; torchvision's networks are known.
    """

    memory_format: MemoryFormat = "channels_last"
    why_contiguous: str = ""
    randomness: Randomness = "none"
    batching: Batching = "independent"
    kept_training: tuple[str, ...] = ()
    no_gradient: str = ""
    tried: bool = False

    @cached_property
    def one_at_a_time(self) -> bool:
        """Whether images have to pass it one by one, for an image's output to be its own."""
        return self.randomness != "none" or self.batching != "independent"

    def as_json(self) -> dict[str, Any]:
        return {
            "memory_format": self.memory_format,
            "randomness": self.randomness,
            "batching": self.batching,
            "kept_training": list(self.kept_training),
        }

    def warnings(self) -> list[str]:
        """What the user should know before looking at a figure, a line each."""
        lines = []
        if self.kept_training:
            count = len(self.kept_training)
            modules = f"{count} module{'s' if count > 1 else ''} (first '{self.kept_training[0]}')"
            lines.append(f"its own train() keeps {modules} in training mode; cnnviz puts them in eval mode")
        if self.randomness == "seeded":
            lines.append(
                "it draws random numbers in eval mode: two forwards on one image differ. Each forward starts "
                "from --seed and the image, one image at a time; another --seed gives another figure"
            )
        if self.randomness == "free":
            lines.append("two forwards on one image differ, whatever the seed: the same command may give other figures")
        if self.randomness == "none" and self.batching == "coupled":
            lines.append(
                "the other images of a batch change what it returns for an image (batch statistics?): "
                "images pass it one at a time"
            )
        return lines

    def notes(self) -> list[str]:
        """What is of interest under ``-v``, a line each."""
        lines = []
        if self.why_contiguous:
            lines.append(f"it runs in its own memory layout, not in channels_last: {self.why_contiguous}")
        if self.randomness == "none" and self.batching == "single":
            lines.append("it takes one image at a time")
        return lines


STANDARD_FACTS = NetworkFacts()  # of a network that needs no trial

# Of the largest value of an output: far above what another order of summation does on any processor.
_TOLERANCE = 1e-3
# Of a gradient's length: kinks of rectifiers move some of it, wrong code all.
_GRADIENT_TOLERANCE = 0.5


@dataclass(frozen=True)
class _Run:
    """What one forward gave for its first image of how many, and whether it drew random numbers.

    `gradient` is that of the sum of all outputs at the input; None if none was asked for or none reaches it.
    """

    outputs: tuple[Tensor, ...]
    images: int
    drew: bool
    gradient: Tensor | None = None
    no_gradient: str = ""

    def equals(self, other: _Run) -> bool:
        """Whether the outputs are the same to the bit; NaN equals NaN."""
        return _same_shapes(self, other) and all(map(_equal, self.outputs, other.outputs))

    def agrees(self, other: _Run) -> bool:
        """Whether the outputs, and the gradients if there are, are the same up to rounding."""
        if not _same_shapes(self, other) or not all(map(_close, self.outputs, other.outputs)):
            return False
        if self.gradient is None or other.gradient is None:
            return True
        return float((self.gradient - other.gradient).norm()) <= _GRADIENT_TOLERANCE * float(other.gradient.norm())


def run_trials(
    net: nn.Module,
    shape: tuple[int, int, int],
    *,
    memory_format: MemoryFormat | None = None,
    gradients: bool = True,
    kept_training: tuple[str, ...] = (),
) -> NetworkFacts:
    """Find out what a network does, and bring its weights into the layout in which it runs.

    Three forwards of noise, and up to five more where they differ. The network must be in eval mode.

    Args:
        shape: channels, height and width of the input.
        memory_format: None to find it.
        gradients: whether to compare gradients too; of boxes, of which there may be none, that makes no sense.

    Raises:
        NetworkError: the network fails on noise.
    """
    if memory_format is not None:
        convert_weights(net, memory_format)
    image = to_memory_format(noise_input(net, shape), memory_format or "contiguous")
    with network_errors():
        first = _run_once(net, image, gradients=gradients)
        randomness: Randomness = "none"
        # In the same mode, since without gradients torch's transformer layers take another path, and round otherwise.
        if first.drew and not first.equals(_run_once(net, image, seed=1, recorded=gradients)):
            randomness = "seeded" if first.equals(_run_once(net, image, recorded=gradients)) else "free"
        elif not first.equals(_run_once(net, image, recorded=gradients)):
            randomness = "free"
    chosen, why = memory_format, ""
    if chosen is None:
        chosen, why = _find_layout(net, image, first, gradients=gradients, comparable=randomness == "none")
    batching = _find_batching(net, to_memory_format(image, chosen), first, comparable=randomness == "none")
    return NetworkFacts(chosen, why, randomness, batching, kept_training, first.no_gradient, tried=True)


def _find_layout(
    net: nn.Module, image: Tensor, first: _Run, *, gradients: bool, comparable: bool
) -> tuple[MemoryFormat, str]:
    """channels_last where the network does the same in it, else its own layout and why."""
    if not comparable:
        return "contiguous", ""  # draws fall in the order of memory, and could not be compared
    convert_weights(net, "channels_last")
    try:
        again = _run_once(net, to_memory_format(image, "channels_last"), gradients=gradients)
        if again.no_gradient == first.no_gradient and again.agrees(first):
            return "channels_last", ""
        why = again.no_gradient if again.no_gradient != first.no_gradient else "its output differs there"
    except Exception as error:  # whatever a network's code raises
        if is_out_of_memory(error):
            raise
        why = describe_error(error)[0]
    convert_weights(net, "contiguous")
    return "contiguous", why


def _find_batching(net: nn.Module, image: Tensor, first: _Run, *, comparable: bool) -> Batching:
    pair = torch.cat([image, -image.flip(-1)])
    try:
        both = _run_once(net, match_memory_format(pair, image))
    except Exception as error:  # whatever a network's code raises
        if is_out_of_memory(error):
            raise
        return "single"
    if both.images != 2:
        return "single"
    return "independent" if not comparable or both.agrees(first) else "coupled"


def _run_once(
    net: nn.Module, batch: Tensor, *, seed: int = 0, gradients: bool = False, recorded: bool | None = None
) -> _Run:
    """One forward; `recorded` is whether autograd records it, by default where gradients are asked for."""
    recorded = gradients if recorded is None else recorded
    leaf = batch.clone().requires_grad_(recorded)
    with seeded_rng(seed), torch.set_grad_enabled(recorded), without_checkpoints():
        before = random_state()
        returned = net(leaf.clone())
        drew = random_state() != before
        images, outputs = _first_image(returned, len(batch))
        gradient, why = _input_gradient(outputs, leaf) if gradients else (None, "")
    return _Run(tuple(output.detach() for output in outputs), images, drew, gradient, why)


def _input_gradient(outputs: tuple[Tensor, ...], leaf: Tensor) -> tuple[Tensor | None, str]:
    try:
        (found,) = torch.autograd.grad([output.sum() for output in outputs], leaf)
    except Exception as error:  # nothing of the kind is recorded, or a backward of the network's own fails
        if is_out_of_memory(error):
            raise
        return None, describe_error(error)[0]
    return found, ""


def _first_image(returned: Any, count: int) -> tuple[int, tuple[Tensor, ...]]:
    """How many images a network has answered for, and each tensor of numbers in its answer for the first.

    An answer has a row for each image in each of its tensors, or is a list with one for each image (boxes).
    """
    several = isinstance(returned, list | tuple) and len(returned) == count
    if several and all(isinstance(one, Mapping) for one in returned):
        return count, tuple(_floating_tensors(returned[0]))
    found = list(_floating_tensors(returned))
    rows = [tensor for tensor in found if tensor.dim() and len(tensor) == count]
    if not found or not rows:
        return 0, tuple(found)
    return count, tuple(tensor[:1] for tensor in rows)


def _floating_tensors(value: Any) -> Iterator[Tensor]:
    return (tensor for _, tensor in named_tensors(value) if tensor.is_floating_point())


def _same_shapes(one: _Run, other: _Run) -> bool:
    return [output.shape for output in one.outputs] == [output.shape for output in other.outputs]


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.nan_to_num(), other.nan_to_num())


def _close(one: Tensor, other: Tensor) -> bool:
    size = float(other.nan_to_num().abs().max()) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=0.0, atol=_TOLERANCE * size, equal_nan=True)
