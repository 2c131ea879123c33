"""What the process does with the memory that a batch took."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

KEEPING = """
import ctypes, resource, sys
libc = ctypes.CDLL(None)
libc.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: one fault would bring 2 MiB
libc.mallopt(-3, 2**17)  # M_MMAP_THRESHOLD as glibc begins; set, it does not follow what is freed by chance
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
if sys.argv[1] == "kept":
    from cnnviz_cli.engine.device import keep_freed_memory
    keep_freed_memory()
def batch():
    blocks = [libc.malloc(18 * 2**20) for _ in range(4)]
    for block in blocks:
        ctypes.memset(block, 1, 18 * 2**20)
    for block in reversed(blocks):
        libc.free(block)
for _ in range(3):
    batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    batch()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_the_memory_of_a_batch_is_kept_for_the_next_one() -> None:
    mapped = {
        how: int(subprocess.run([sys.executable, "-c", KEEPING, how], capture_output=True, check=True).stdout)
        for how in ("kept", "returned")
    }
    assert mapped["returned"] >= 5 * 4 * 18 * 2**20
    assert mapped["kept"] < 4 * 18 * 2**20, mapped  # less than one batch
