"""The machine that is measured: which kind it is, and the most arithmetic that it does in a second."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from cnnviz_cli.core.process import usable_cores
from cnnviz_cli.engine.device import synchronize

_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""What Linux calls it on x86-64 and on ARM."""
_MATMUL_SIZE = 2048
_MATMUL_SECONDS = 1.0
_PACKAGES = ("torch", "torchvision", "captum", "grad-cam")


@dataclass(frozen=True)
class Kind:
    """What sets one machine's figures apart from another's; docs/benchmarks.md has a column for each.

    Attributes:
        cpu: the instructions that torch computes with, as it names them.
        bf16: whether the processor multiplies bfloat16 itself.
    """

    cpu: str
    bf16: bool
    cores: int

    def __str__(self) -> str:
        return f"{self.cpu}, {'with' if self.bf16 else 'no'} bf16 arithmetic, {self.cores} cores"


def machine_kind() -> Kind:
    """The kind of this machine."""
    return Kind(torch.backends.cpu.get_cpu_capability(), bf16_is_fast(), usable_cores())


def bf16_is_fast() -> bool:
    """Whether the processor multiplies bfloat16 itself; where it is imitated, a pass takes many times as long."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return not _BF16_FLAGS.isdisjoint(flags.split())


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
    rates = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if bf16_is_fast() else {})
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
        "binding": os.environ.get("OMP_PROC_BIND", "none"),
        **package_versions(),
        **{f"matmul {name} GFLOP/s": f"{cpu_matmul_rate(kind):.0f}" for name, kind in rates.items()},
    }
