"""What the process does with the memory that a batch took."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

KEEPING = """
import resource, sys, torch
from cnnviz_cli.engine.device import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    keep_freed_memory()
def batch():
    return [torch.empty(18 * 2**20, dtype=torch.uint8).fill_(1) for _ in range(4)]
batch(); batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    batch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_the_memory_of_a_batch_is_kept_for_the_next_one() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", KEEPING, how], capture_output=True, check=True).stdout)
        for how in ("kept", "returned")
    }
    assert faults["kept"] < 1000 < faults["returned"], faults
