"""How the passes of a plan are carried out: what changes their speed and their last bits, not what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

Precision = Literal["fp32", "bf16", "fp16"]

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Execution:
    """How passes are carried out.

    Attributes:
        precision: fp32, or bf16 / fp16 for autocast. Answers are float32 (float64 for a float64 network) either way.
        fold: whether batch normalisations may be folded into the convolutions before them.
        compile: whether streams of scores run through a network that torch has compiled, see `engine.compiled`.
    """

    precision: Precision = "fp32"
    fold: bool = True
    compile: bool = False

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context in which the network runs: autocast below fp32."""
        dtype = AUTOCAST.get(self.precision)
        return torch.autocast(device.type, dtype) if dtype else nullcontext()

    @contextmanager
    def applied_to(self, net: nn.Module, device: torch.device) -> Iterator[None]:
        """The same, in which autocast finds the weights of `net` converted already."""
        dtype = AUTOCAST.get(self.precision)
        with _cast_weights(net, dtype) if dtype else nullcontext(), self.autocast(device):
            yield

    def repeats(self, scores: Tensor, expected: Tensor) -> bool:
        """Whether another way to run a network gives its scores; never where one of them is not a number."""
        # Of the largest score: far above what rounding does. One that is infinite would allow for anything.
        tolerance = 5e-2 if self.precision != "fp32" else 1e-9 if expected.dtype == torch.float64 else 1e-4
        largest = float(expected.nan_to_num(0, 0, 0).abs().max())
        return torch.allclose(scores.to(expected.dtype), expected, rtol=tolerance, atol=tolerance * largest)


DEFAULT_EXECUTION = Execution()


class Note(NamedTuple):
    """What a user is told; a warning if something that was asked for is not done."""

    text: str
    is_warning: bool


_NOTES: list[Note] = []


def note(text: str, *, is_warning: bool = False) -> None:
    """Have a user told how passes are carried out."""
    _NOTES.append(Note(text, is_warning))


def take_notes() -> list[Note]:
    """What there is to be told since the last call."""
    found = _NOTES.copy()
    _NOTES.clear()
    return found


_CAST_TYPES = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
"""Modules all of whose parameters autocast converts. A class made from one of them may do more with its weights."""


@dataclass
class _CastParameters:
    """Parameters of a module in a shorter format, and what they were made from."""

    state: list[Any]
    parameters: dict[str, nn.Parameter | None]


_CAST: WeakKeyDictionary[nn.Module, _CastParameters] = WeakKeyDictionary()


@contextmanager
def _cast_weights(net: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Within, convolutions and linear layers have their parameters in `dtype`: the numbers that autocast would round
    them to at every forward, which takes as long as a small network's own work.

    Converted once and kept, as long as the weights stay what they are: half their memory again.
    """
    replaced = []
    try:
        for module in net.modules():
            if type(module) in _CAST_TYPES:
                own = module._parameters
                if all(one is None or one.dtype == torch.float32 for one in own.values()):
                    module._parameters = _cast_parameters(module, dtype)
                    replaced.append((module, own))
        yield
    finally:
        for module, own in replaced:
            module._parameters = own


def _cast_parameters(module: nn.Module, dtype: torch.dtype) -> dict[str, nn.Parameter | None]:
    own = module._parameters
    state = [dtype, *((name, _state(one)) for name, one in own.items())]
    known = _CAST.get(module)
    if known is None or known.state != state:
        with torch.no_grad():
            made = {
                name: None if one is None else nn.Parameter(one.detach().to(dtype), requires_grad=False)
                for name, one in own.items()
            }
        known = _CAST[module] = _CastParameters(state, made)
    return known.parameters


def _state(parameter: Tensor | None) -> tuple[int, int, int] | None:
    """Changes when a parameter is replaced, loaded, moved or rewritten."""
    return None if parameter is None else (id(parameter), parameter.data_ptr(), parameter._version)
