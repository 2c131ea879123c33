"""How many variants fit into memory at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SHARE = 4
"""Streams of variants take one part in so many of the memory that is free."""

_CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on the device; of a container the limit counts."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    free = _available()
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((_CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return max(free, 0)


def _available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def footprint(modules: nn.Module, run: Callable[[Tensor], Any], item: Tensor, *, recorded: bool) -> int:
    """Bytes that one variant takes on its way through the network, roughly.

    Args:
        run: the network, or its tail; its modules are among those of `modules`.
        item: (1, ...) one variant.
        recorded: whether autograd keeps what it passes.
    """
    sizes: list[int] = []

    def weigh(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.nelement() * output.element_size())

    hooks = [m.register_forward_hook(weigh) for m in modules.modules() if not any(m.children())]
    try:
        with torch.no_grad():
            run(item)
    finally:
        for hook in hooks:
            hook.remove()
    own = item.nelement() * item.element_size()
    # Functional operations are not seen: twice what the modules give is near what autograd keeps, and without it
    # a layer's input, output and a copy are there at a time. The variant itself is made from parts of its size.
    return 4 * own + (2 * sum(sizes) if recorded else 3 * max(sizes, default=0))


def chunk_size(budget: int, item: int, most: int) -> int:
    """The largest power of two that is at most `most` and fits; at least 1.

    Powers of two, so that a little more or less free memory rarely changes the last bits of a sum.
    """
    fitting = max(min(budget // max(item, 1), most), 1)
    return 1 << (fitting.bit_length() - 1)
