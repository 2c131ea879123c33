"""Where the network runs, and how many variants fit into its memory at a time."""

from __future__ import annotations

import ctypes
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnnviz_cli.core.control_groups import memory_left, read_system_file
from cnnviz_cli.core.errors import DeviceError
from cnnviz_cli.core.network import MemoryFormat, convert_weights
from cnnviz_cli.core.process import usable_cores
from cnnviz_cli.engine.execution import AUTOCAST


def select_device(name: str, local_rank: int | None = None) -> torch.device:
    """The device for ``auto`` (CUDA, else MPS, else the CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; `local_rank`
    says which CUDA device where none is named. Raises DeviceError if it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return _local_cuda(local_rank)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise DeviceError("torch sees no CUDA device here", where="--device", fix="Use --device cpu or auto.")
        if (device.index or 0) >= count:
            raise DeviceError(
                f"there is no {name}: torch sees {count}", where="--device", fix=f"Use cuda:0 to cuda:{count - 1}."
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("torch sees no MPS device here", where="--device", fix="Use --device cpu or auto.")
    return _local_cuda(local_rank) if name == "cuda" else device


def _local_cuda(local_rank: int | None) -> torch.device:
    return torch.device("cuda" if local_rank is None else f"cuda:{local_rank % torch.cuda.device_count()}")


def move_to_device(net: nn.Module, device: torch.device, memory_format: MemoryFormat = "channels_last") -> nn.Module:
    """The network on its device, its weights in a layout: channels_last takes a 2-core CPU half the time."""
    net.to(device=device)
    convert_weights(net, memory_format)
    return net


def use_threads(count: int | Literal["auto"]) -> None:
    """Compute with so many threads on the CPU; ``auto`` is one for each usable core, unless OMP_NUM_THREADS says how
    many.

    It does not follow the load: another number of threads moves last bits, and a run gives the same bytes each time.
    """
    if count != "auto":
        torch.set_num_threads(count)
    elif "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > usable_cores():
        torch.set_num_threads(usable_cores())  # OpenMP knows nothing of a container's quota


Arithmetic = Literal["own", "traffic", "none"]

_WIDE = {"bf16": "amx_bf16", "fp16": "amx_fp16"}
"""Units of an x86 processor that multiply so many more numbers of a short format at a time."""

_NARROW = {"bf16": "avx512_bf16", "fp16": "avx512_fp16"}
"""Instructions for a short format that on many processors multiply no faster than those for fp32."""


def arithmetic_of(device: torch.device, precision: str) -> Arithmetic:
    """What is known of a precision below fp32 on a device: ``none`` for a processor that imitates it, which takes many
    times as long; ``traffic`` for one that may save nothing but memory traffic. `multiplication_speed` measures it."""
    named = getattr(torch.cpu, "get_capabilities", None)
    if device.type != "cpu" or precision not in _WIDE or named is None:
        return "own"
    known = named()
    if known.get("architecture") != "x86_64" or known.get(_WIDE[precision]):
        return "own"
    return "traffic" if known.get(_NARROW[precision]) else "none"


_SPEED_SIZE = 256
_SPEED_ROUNDS = 4


def multiplication_speed(precision: str) -> float:
    """How many times as fast as in fp32 a thread of the processor multiplies matrices; takes some milliseconds."""
    best: dict[torch.dtype, float] = {torch.float32: math.inf, AUTOCAST[precision]: math.inf}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(_SPEED_ROUNDS):
            for kind, least in best.items():
                matrix = torch.full((_SPEED_SIZE, _SPEED_SIZE), 0.5, dtype=kind, device="cpu")
                start = time.perf_counter()
                torch.mm(matrix, matrix)
                best[kind] = min(least, time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return best[torch.float32] / best[AUTOCAST[precision]]


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST_KEPT = 2**27


def keep_freed_memory() -> None:
    """Have glibc keep what a batch took for the next one, up to 128 MiB, in this process and its forks.

    By default it returns most of it to the system, and the kernel clears it page by page for the next batch. For
    Grad-CAM with the bundled network that is 13,000 faults a batch of 4 and 88 ms; so it is 2,500 and 73 ms. The peak
    is the same.
    """
    with suppress(AttributeError, OSError, TypeError):  # another system, or another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, LARGEST_BLOCK)
        libc.mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def release_freed_memory() -> None:
    """Have glibc return what is free: pieces of a pass at one size, between which blocks of another size find no
    room."""
    with suppress(AttributeError, OSError, TypeError):  # another system, or another C library
        ctypes.CDLL(None).malloc_trim(0)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def use_deterministic_kernels() -> None:
    """Ask for kernels that give the same bits every time, and for full float32 on a GPU: TF32 keeps 10 bits of
    mantissa, and cuDNN's autotuner picks by speed and so by chance."""
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


MEMORY_SHARE = 2
"""Streams of variants take one part in so many of the memory that is free; a chunk that would take more is smaller."""

LARGEST_BLOCK = 2**25
"""Bytes that the largest activation of a batch or a chunk stays below on a CPU. A block up to this size is memory that
glibc hands out again; a larger one is mapped anew each time, and the kernel clears it page by page (M_MMAP_THRESHOLD in
mallopt(3)). Measured on the bundled network, folded, 4.6 MiB an image, one thread: 4 images together cause no page
faults, 8 cause 1,200 an image, 16 2,400 and 32 4,500, which take 1.5, 3 and 6 of 17 to 20 ms. Smaller batches read the
weights more often. The rule's 4 images for it and for MobileNet V2, 8 for ResNet-18 and 2 for VGG-16 are within 10 % of
the best of 1, 2, 4, 8, 16 and 32."""

MOST_IMAGES = 8
"""Images in a batch of a CPU at the most: more is not faster, and takes memory and longer to a first figure."""

MOST_IMAGES_OF_ACCELERATORS = 32


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on the device; of a container or a job its limit counts."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    free, left = _available_memory(), memory_left()
    return free if left is None else min(free, left)


def _available_memory() -> int:
    for line in read_system_file("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that one item takes on its way through a network: its largest tensor, and what its modules give in all."""

    largest: int
    total: int

    def item(self, own: int, *, recorded: bool) -> int:
        """Bytes, roughly, that an item of `own` bytes takes; if `recorded`, with what autograd keeps."""
        # Functional operations are not seen: twice what the modules give is near what autograd keeps, and without it
        # a layer's input, output and a copy are there at a time. The item itself is made from parts of its size.
        return 4 * own + (2 * self.total if recorded else 3 * self.largest)


def measure_footprint(modules: nn.Module, run: Callable[[Tensor], Any], item: Tensor) -> Footprint:
    """What `item` (1, ...) takes in `run`, a part of `modules`: one forward."""
    sizes = [item.nbytes]

    def weigh(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.nbytes)

    # TorchScript takes no hooks: its output is what is seen of it.
    leaves = [m for m in modules.modules() if not any(m.children()) and not isinstance(m, torch.jit.ScriptModule)]
    hooks = [m.register_forward_hook(weigh) for m in leaves]
    try:
        with torch.no_grad():
            run(item)
    finally:
        for hook in hooks:
            hook.remove()
    return Footprint(max(sizes), sum(sizes[1:]))


def batch_for(device: torch.device, largest: int) -> int:
    """How many images pass the network together, where the largest activation of one takes `largest` bytes. It depends
    on nothing that changes from run to run, since a batch's company moves last bits."""
    if device.type != "cpu":
        return MOST_IMAGES_OF_ACCELERATORS
    return chunk_size(LARGEST_BLOCK - 1, largest, MOST_IMAGES)


def chunk_size(budget: int, item: int, most: int) -> int:
    """The largest power of two that is at most `most` and fits; at least 1. A little more or less free memory then
    rarely changes the last bits of a sum."""
    fitting = max(min(budget // max(item, 1), most), 1)
    return 1 << (fitting.bit_length() - 1)
