"""The machine that is measured: which kind it is, and the most arithmetic that it does in a second."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import torch

from cnnviz_cli.core.process import usable_cores
from cnnviz_cli.engine.device import arithmetic_of, multiplication_speed, synchronize

_FAST = 1.3
"""Times as fast as fp32: a processor is far below or far above."""
_MATMUL_SIZE = 2048
_MATMUL_SECONDS = 1.0
_PACKAGES = ("torch", "torchvision", "captum", "grad-cam")


@dataclass(frozen=True)
class Kind:
    """What sets one machine's figures apart from another's; docs/benchmarks.md has a column for each.

    Attributes:
        cpu: the instructions that torch computes with, as it names them.
        bf16: whether the processor multiplies bfloat16 faster than float32.
    """

    cpu: str
    bf16: bool
    cores: int

    def __str__(self) -> str:
        return f"{self.cpu}, bf16 {'faster' if self.bf16 else 'no faster'} than fp32, {self.cores} cores"


def machine_kind() -> Kind:
    """The kind of this machine."""
    return Kind(torch.backends.cpu.get_cpu_capability(), bf16_is_fast(), usable_cores())


@cache
def bf16_is_fast() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32, as measured: not all that have instructions for
    it do, and where it is imitated, a pass takes many times as long."""
    return multiplication_speed("bf16") > _FAST


def matmul_rate(
    kind: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seconds: float = 1.0,
    size: int = _MATMUL_SIZE,
) -> float:
    """The best rate of a multiplication of two `size` x `size` matrices within `seconds`, in GFLOP/s."""
    left, right = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    synchronize(left.device)
    best, end, rounds = float("inf"), time.perf_counter() + seconds, 0
    while rounds < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(left, right)
        synchronize(left.device)
        best, rounds = min(best, time.perf_counter() - start), rounds + 1
    return 2 * size**3 / best / 1e9


@cache
def cpu_matmul_rate(kind: torch.dtype = torch.float32) -> float:
    """`matmul_rate` of the processor with torch's threads, measured once a process."""
    return matmul_rate(kind, seconds=_MATMUL_SECONDS)


def package_versions() -> dict[str, str]:
    """Of what is measured and of the peers."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def conditions() -> dict[str, str]:
    """What the numbers depend on, and the limit of the machine."""
    rates = {"fp32": torch.float32}
    if arithmetic_of(torch.device("cpu"), "bf16") != "none":
        rates["bf16"] = torch.bfloat16
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
        "binding": os.environ.get("OMP_PROC_BIND", "none"),
        **package_versions(),
        **{f"matmul {name} GFLOP/s": f"{cpu_matmul_rate(kind):.0f}" for name, kind in rates.items()},
    }
