"""How the passes of a plan are carried out: what changes their speed and their last bits, not what they mean."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Execution:
    """How passes are carried out.

    Attributes:
        precision: fp32, or bf16 / fp16 for autocast. Answers are float32 (float64 for a float64 network) either way.
        fold: whether batch normalisations may be folded into the convolutions before them.
    """

    precision: Precision = "fp32"
    fold: bool = True

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context in which the network runs: autocast below fp32."""
        dtype = AUTOCAST.get(self.precision)
        return torch.autocast(device.type, dtype) if dtype else nullcontext()


DEFAULT_EXECUTION = Execution()
